"""The plots of dvc.yaml, filled by DVC's own code as `dvc plots show` fills them."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.render.match import match_defs_renderers
from PIL import Image

from sfc.errors import UserError
from sfc.report.page import Plot
from stages._runs import Read, rows_of

TEMPLATES = ".dvc/plots"
_TABLES = {".csv": ",", ".tsv": "\t"}
_IMAGES = (".png", ".jpg", ".jpeg", ".gif")


def filled_plots(entries: list, reads: Mapping[str, Read], *, leave_out: str) -> list[Plot]:
    """Every plot that has data, in the order of dvc.yaml; images as JPEG, those of each run.

    Args:
        entries: `plots` of dvc.yaml.
        reads: name of each run -> its files.
        leave_out: folder whose images are shown elsewhere.

    Raises:
        UserError: a plot's data or template cannot be read, or do not belong together.
    """
    plots = []
    for entry in entries:
        title, props = _title_and_props(entry)
        if props is None and Path(title).suffix not in (*_TABLES, ".json"):
            plots += [] if title.startswith(leave_out) else _images(title, reads)
        elif (spec := _filled(title, props or {}, reads)) is not None:
            plots.append(Plot(title, spec=spec))
    return plots


def _title_and_props(entry: Any) -> tuple[str, dict[str, Any] | None]:
    items = [(entry, None)] if isinstance(entry, str) else list(entry.items())
    title, props = items[0] if len(items) == 1 else (None, None)
    if isinstance(title, str) and (props is None or isinstance(props, dict)):
        axes = [axis for name in "xy" if isinstance(axis := (props or {}).get(name), dict)]
        if all(isinstance(path, str) for axis in axes for path in axis):
            return title, props
    raise UserError(f"dvc.yaml: plots: {entry!r} is neither a file nor a title with template, x and y; put git's back")


def _filled(title: str, props: dict[str, Any], reads: Mapping[str, Read]) -> dict[str, Any] | None:
    y = props.get("y")
    sources = [*(y if isinstance(y, dict) else [title]), *(props["x"] if isinstance(props.get("x"), dict) else [])]
    data = {}
    for name, read in reads.items():
        rows = {path: {"data": _rows(path, content)} for path in sources if (content := read(path)) is not None}
        definition = {"data": {"dvc.yaml": {"data": {title: props}}}}
        data[name] = {"definitions": definition, "sources": {"data": rows}}
    try:
        (matched,) = match_defs_renderers(data, templates_dir=TEMPLATES)
        for error in matched.definition_errors.values():
            raise error
        return matched.renderer.get_filled_template() if matched.renderer.datapoints else None
    except UserError:
        raise
    except Exception as error:  # all of it DVC's code at work on these files, which raises anything for damaged ones
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"dvc.yaml: plot {title!r}: {said}") from error


def _rows(path: str, content: bytes) -> Any:
    delimiter = _TABLES.get(Path(path).suffix)
    try:
        return rows_of(content, delimiter) if delimiter else json.loads(content)
    except (ValueError, RecursionError, csv.Error):
        raise UserError(f"{path}: not the table that dvc.yaml plots") from None


def _images(path: str, reads: Mapping[str, Read]) -> list[Plot]:
    files = sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)]
    found = []
    for file in files:
        if file.suffix in _IMAGES:
            shown = {name: content for name, read in reads.items() if (content := read(file.as_posix())) is not None}
            found += [
                Plot(f"{file}, {name}" if len(reads) > 1 else str(file), image=_jpeg(file, content))
                for name, content in shown.items()
            ]
    return found


def _jpeg(path: Path, content: bytes) -> str:
    try:
        image, file = Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "GIF")), io.BytesIO()
        image.convert("RGB").save(file, format="JPEG", quality=80, optimize=True)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise UserError(f"{path}: not an image that can be read") from None
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
