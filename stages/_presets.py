"""Presets as complete params files, and params by dotted name, to be compared and shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sfc.params import parse_params, read_text, read_yaml
from stages._overlay import overlaid

PRESETS, COMPLETE = Path("presets"), "voc12"
INSTALLED = Path(__file__).with_name("presets")  # in a checkout a link to the folder presets/


def preset_paths() -> dict[str, Path]:
    """Presets by name: those in the folder presets/ here, and of this package those that it lacks."""
    found = {path.stem: path for folder in (INSTALLED, PRESETS) for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def preset_text(path: Path) -> str:
    """The complete params file that a preset stands for, comments included; not checked.

    Raises:
        UserError: it cannot be read; there is a slip in the complete preset (beside it, else the packaged one); or as
            `overlaid`.
    """
    if path.stem == COMPLETE:
        return read_text(path)
    beside = path.with_stem(COMPLETE)
    complete = beside if beside.exists() else preset_paths().get(COMPLETE, beside)
    base = read_text(complete)
    parse_params(read_yaml(base, source=str(complete)), source=str(complete))  # it may have been edited
    return overlaid(base, read_text(path), source=str(path))


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Params by dotted name; empty for what is no mapping."""
    if not isinstance(value, dict) or (name and not value):
        return {name: value} if name else {}
    return {k: v for key, item in value.items() for k, v in flat(item, f"{name}.{key}".lstrip(".")).items()}


def shown(value: Any) -> str:
    """As YAML writes it in one line."""
    if isinstance(value, str):
        return value
    yaml, text = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style, yaml.width = True, 1 << 20
    yaml.dump(value, text)
    return text.getvalue().removesuffix("\n").removesuffix("...").strip()
