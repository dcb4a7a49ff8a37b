"""Write params.yaml from presets/, where voc12 is complete and the others say what differs from it; no DVC stage."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from sfc.errors import UserError
from sfc.params import parse_params, read_text, read_yaml
from stages._command import writing_alone
from stages._presets import flat, preset_paths, preset_text, shown
from stages._stage import output
from stages._text import first_sentence

PARAMS = Path("params.yaml")
ABSENT = "-"


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(n, help=_summary(path)) for n, path in preset_paths().items() if n.startswith(incomplete)]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False, shell_complete=_complete)
@click.option("--force", is_flag=True, help="Overwrite edits of params.yaml that git does not have.")
def main(name: str | None, force: bool) -> None:
    """Make params.yaml the preset NAME and print which params change; without NAME, list the presets.

    presets/voc12.yaml is a complete params file. Every other one says what differs from it; params.yaml is then
    presets/voc12.yaml with these values and their comments.
    """
    presets = preset_paths()
    if name is None:
        for stem, path in presets.items():
            click.echo(f"{stem:14} {_summary(path)}")
        return
    with writing_alone("preset", PARAMS):
        if name not in presets:
            raise UserError(f"there is no preset {name}; there are {', '.join(presets)}")
        source = str(presets[name])
        text = preset_text(presets[name])
        values = read_yaml(text, source=source)
        parse_params(values, source=source)
        if not force and _would_be_lost(presets.values()):
            raise UserError("params.yaml has edits that git does not have; commit them, or overwrite them by --force")
        old, new = _old_values(), flat(values)
        with output(PARAMS) as path:
            path.write_bytes(text.encode())
    if not old:
        click.echo(f"params.yaml is now the preset {name}, of {len(new)} params", err=True)
        return
    changes = [key for key in {**new, **old} if old.get(key, ABSENT) != new.get(key, ABSENT)]
    for key in changes:
        click.echo(f"{key}: {shown(old.get(key, ABSENT))} -> {shown(new.get(key, ABSENT))}")
    click.echo(f"params.yaml is now the preset {name}: {len(changes)} of {len(new)} params changed", err=True)


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
    return first_sentence(" ".join(lines))


def _would_be_lost(presets: Iterable[Path]) -> bool:
    """True if the text of params.yaml is in no commit and no preset's."""
    if not PARAMS.exists() or PARAMS.is_symlink():  # a link is replaced, and what it leads to stays
        return False
    return not _committed() and PARAMS.read_bytes() not in map(_text_or_none, presets)


def _committed() -> bool:
    """Whether HEAD has params.yaml as it is; git's status says nothing of files that it ignores or skips."""
    hashes = ["hash-object", str(PARAMS)], ["hash-object", "--no-filters", str(PARAMS)]  # ends of lines may be changed
    try:
        committed, *here = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout
            for words in (["rev-parse", "--verify", "--quiet", f"HEAD:./{PARAMS}"], *hashes)
        )
    except FileNotFoundError:  # no git
        return False
    return bool(committed) and committed in here


def _text_or_none(path: Path) -> bytes | None:
    """As `preset_text`; None for one that is broken, as somebody's own may be."""
    try:
        return preset_text(path).encode()
    except (UserError, OSError):
        return None


def _old_values() -> dict[str, Any]:
    """Params by dotted name of the file that is there; empty where there is none that can be read."""
    try:
        return flat(read_yaml(read_text(PARAMS), source=str(PARAMS)))
    except UserError:
        return {}


if __name__ == "__main__":
    main()
