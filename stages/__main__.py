"""The command `sfc`, also `python -m stages`: the commands of this package by name, imported when asked for."""

from __future__ import annotations

import ast
import importlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from sfc.errors import nearest
from stages._text import first_sentence


class _Found(NamedTuple):
    """What the source of a command's module says of it, read without importing what it computes with."""

    summary: str
    in_pipeline: bool


class _Commands(click.Group):
    """Every module of this package that has a function `main` and no underscore before its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.replace("-", "_")
        found = _commands().get(name)
        if found is None:
            return None
        try:
            return importlib.import_module(f"stages.{name}").main
        except SyntaxError as error:
            raise click.ClickException(f"{error.filename}: line {error.lineno}: {error.msg}") from None
        except ModuleNotFoundError as error:
            if error.name != f"stages.{name}":
                raise
            raise click.ClickException(f"{Path(__file__).with_name(name)}.py: {found.summary}") from None  # no file

    def resolve_command(self, ctx: click.Context, args: list[str]):
        name = args[0].replace("-", "_")
        if name not in _commands() and not args[0].startswith("-") and not ctx.resilient_parsing:
            shown = args[0] or repr("")
            ctx.fail(f"there is no command {shown}{nearest(name, _commands(), otherwise='sfc --help lists them')}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, in_pipeline in (("Commands", False), ("Stages of the pipeline, which dvc repro runs", True)):
            rows = [(name, found.summary) for name, found in _commands().items() if found.in_pipeline == in_pipeline]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names without their imports, which take seconds; options as click completes them."""
        names = [
            CompletionItem(name, help=found.summary)
            for name, found in _commands().items()
            if name.startswith(incomplete.replace("-", "_")) and not incomplete.startswith("-")
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def _commands() -> dict[str, _Found]:
    # not what editors and systems leave beside them either, .#crf.py and ._crf.py
    paths = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith(("_", ".")))
    found = {path.stem: _found(path) for path in paths}
    return {name: command for name, command in found.items() if command}


def _found(path: Path) -> _Found | None:
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:  # of a person's own, half-written; the others run
        return _Found(f"cannot be read: {error.strerror if isinstance(error, OSError) else error}", False)
    main = next((node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "main"), None)
    if main is None:
        return None
    calls = [call for call in main.decorator_list if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]
    stage = next((call for call in calls if call.func.id == "stage"), None)
    help = stage.args[0].value if stage and isinstance(stage.args[0], ast.Constant) else ast.get_docstring(main)
    paragraph = (help or ast.get_docstring(module) or "").partition("\n\n")[0]
    return _Found(first_sentence(paragraph), stage is not None)


def _version() -> str:
    try:
        return version("sfc")
    except PackageNotFoundError:  # a checkout that was not installed
        return "not installed"


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="sfc")
def main() -> None:
    """Shared Feature Calibration: semantic segmentation from image-level labels.

    `sfc NAME` is `python -m stages.NAME`; `sfc NAME --help` says what it reads and writes. Names may be written with
    hyphens too.
    """


if __name__ == "__main__":
    main(prog_name="python -m stages")
