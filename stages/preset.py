"""Write params.yaml from presets/, where voc12 is complete and the others say what differs from it; no DVC stage."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from sfc.errors import UserError
from sfc.params import parse_params, read_text, read_yaml
from stages._errors import errors_as_lines
from stages._overlay import overlaid
from stages._stage import output

PARAMS, PRESETS, COMPLETE = Path("params.yaml"), Path("presets"), "voc12"
ABSENT = "-"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="Overwrite edits of params.yaml that git does not have.")
def main(name: str | None, force: bool) -> None:
    """Make params.yaml the preset NAME and print which params change; without NAME, list the presets.

    presets/voc12.yaml is a complete params file. Every other one says what differs from it; params.yaml is then
    presets/voc12.yaml with these values and their comments.
    """
    presets = {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}
    if name is None:
        for stem, path in presets.items():
            click.echo(f"{stem:14} {_summary(path)}")
        return
    with errors_as_lines():
        if name not in presets:
            raise UserError(f"there is no preset {name}; there are {', '.join(presets) or 'none in presets/'}")
        source = str(presets[name])
        text = preset_text(presets[name])
        values = read_yaml(text, source=source)
        parse_params(values, source=source)
        if not force and _would_be_lost(presets.values()):
            raise UserError("params.yaml has edits that git does not have; commit them, or overwrite them by --force")
        old, new = _old_values(), _flat(values)
        with output(PARAMS) as path:
            path.write_bytes(text.encode())
    changes = [key for key in {**new, **old} if old.get(key, ABSENT) != new.get(key, ABSENT)]
    for key in changes:
        click.echo(f"{key}: {_shown(old.get(key, ABSENT))} -> {_shown(new.get(key, ABSENT))}")
    click.echo(f"params.yaml is now the preset {name}: {len(changes)} of {len(new)} params changed", err=True)


def preset_text(path: Path) -> str:
    """The complete params file that a preset stands for, comments included; not checked.

    Raises:
        UserError: it cannot be read; there is a slip in the complete preset beside it; or as `overlaid`.
    """
    if path.stem == COMPLETE:
        return read_text(path)
    complete = path.with_stem(COMPLETE)
    base = read_text(complete)
    parse_params(read_yaml(base, source=str(complete)), source=str(complete))  # it may have been edited
    return overlaid(base, read_text(path), source=str(path))


def _summary(path: Path) -> str:
    """The first sentence of the comment a preset begins with, or why it cannot be read."""
    lines = []
    try:
        text = read_text(path)
    except (UserError, OSError) as error:
        return f"(cannot be read: {error})"
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return re.split(r"\.(?: +(?=[A-Z])|$)", " ".join(lines))[0]


def _would_be_lost(presets: Iterable[Path]) -> bool:
    """True if the text of params.yaml is in no commit and no preset's."""
    if not PARAMS.exists():
        return False
    try:
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", str(PARAMS)], capture_output=True, text=True, check=False
        )
        kept = not status.returncode and not status.stdout  # no repository: nothing keeps the edits
    except FileNotFoundError:  # no git
        kept = False
    return not kept and PARAMS.read_bytes() not in map(_text_or_none, presets)


def _text_or_none(path: Path) -> bytes | None:
    """As `preset_text`; None for one that is broken, as somebody's own may be."""
    try:
        return preset_text(path).encode()
    except (UserError, OSError):
        return None


def _old_values() -> dict[str, Any]:
    """Params by dotted name of the file that is there; empty where there is none that can be read."""
    try:
        return _flat(read_yaml(read_text(PARAMS), source=str(PARAMS)))
    except UserError:
        return {}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Params by dotted name; empty for what is no mapping."""
    if not isinstance(value, dict) or (name and not value):
        return {name: value} if name else {}
    return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}".lstrip(".")).items()}


def _shown(value: Any) -> str:
    """As YAML writes it in one line."""
    if isinstance(value, str):
        return value
    yaml, text = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style, yaml.width = True, 1 << 20
    yaml.dump(value, text)
    return text.getvalue().removesuffix("\n").removesuffix("...").strip()


if __name__ == "__main__":
    main()
