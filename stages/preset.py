"""Write params.yaml from a file of presets/; no DVC stage."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import click
import yaml

from sfc.errors import UserError
from sfc.params import Yaml12Loader, load_params
from stages._stage import output

PARAMS, PRESETS = Path("params.yaml"), Path("presets")
ABSENT = "-"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="Overwrite edits of params.yaml that git does not have.")
def main(name: str | None, force: bool) -> None:
    """Make params.yaml the preset NAME and print which params change; without NAME, list the presets."""
    presets = {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}
    if name is None:
        for stem, path in presets.items():
            click.echo(f"{stem:12} {_summary(path)}")
        return
    try:
        if name not in presets:
            raise UserError(f"there is no preset {name}; there are {', '.join(presets) or 'none in presets/'}")
        load_params(presets[name])
        if not force and _would_be_lost(presets.values()):
            raise UserError("params.yaml has edits that git does not have; commit them, or overwrite them by --force")
    except UserError as error:
        raise click.ClickException(str(error)) from None
    old = _flat(PARAMS) if PARAMS.exists() else {}
    new = _flat(presets[name])
    with output(PARAMS) as path:
        path.write_bytes(presets[name].read_bytes())
    changes = [key for key in {**new, **old} if old.get(key, ABSENT) != new.get(key, ABSENT)]
    for key in changes:
        click.echo(f"{key}: {_shown(old.get(key, ABSENT))} -> {_shown(new.get(key, ABSENT))}")
    click.echo(f"params.yaml is now presets/{name}.yaml: {len(changes)} of {len(new)} params changed", err=True)


def _summary(path: Path) -> str:
    """The first sentence of the comment a preset begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return re.split(r"\.(?: +(?=[A-Z])|$)", " ".join(lines))[0]


def _would_be_lost(presets) -> bool:
    """True if the text of params.yaml is in no commit and in no preset."""
    if not PARAMS.exists() or PARAMS.read_bytes() in [path.read_bytes() for path in presets]:
        return False
    try:
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", str(PARAMS)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # no git
        return True
    return bool(status.returncode or status.stdout)  # no repository: nothing keeps the edits


def _flat(path: Path) -> dict[str, Any]:
    """Params by dotted name; empty for a file that is no YAML mapping in UTF-8."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=Yaml12Loader)
    except (UnicodeDecodeError, yaml.YAMLError):
        return {}
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), item)
        elif prefix:
            flat[prefix] = value

    walk("", values)
    return flat


def _shown(value: Any) -> str:
    """As YAML writes it in one line."""
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=1 << 20)
    return text.removesuffix("\n").removesuffix("...").strip()


if __name__ == "__main__":
    main()
