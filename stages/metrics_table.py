"""The figures of the last run as one table, from metrics/; no DVC stage, `make demo` ends with it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sfc.config_evaluation import Bootstrap
from sfc.errors import UserError
from sfc.params import load_params
from sfc.report.forms import check_metrics
from stages._errors import errors_as_lines
from stages._paper import PRODUCTS


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Print what each step of the last run measures, in percent.

    A row is one product on one split, by a fixed rule: no threshold is chosen on the masks. Its figures are the number
    of images with a mask, the mIoU and its interval over resamples of these images, the mean IoU of each class set, the
    pixels that are right, and the mIoU of the trivial answer on the same images.
    """
    with errors_as_lines():
        evaluate = load_params().get("evaluate")
        rows = [row for product in PRODUCTS for row in _rows(product)]
    columns = {f"miou_{name}": name for name in evaluate.class_sets}
    columns |= {"pixel_accuracy": "pixels right", "baseline_all_background": "all background"}
    table = [["product", "split", "images", "mIoU", *columns.values()]]
    for name, split, found in rows:
        figures = [_miou(found), *(_percent(found.get(key)) for key in columns)]
        table.append([name, split, f"{found['images']:,}", *figures])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        names = [text.ljust(width) for text, width in zip(line[:2], widths[:2], strict=True)]
        numbers = [text.rjust(width) for text, width in zip(line[2:], widths[2:], strict=True)]
        click.echo("  ".join(names + numbers))
    for note in _notes(rows, evaluate.bootstrap):
        click.echo(note)


def _rows(product: str) -> list[tuple[str, str, dict]]:
    """(name, split, figures) of the product, or of each of its maps (dictionaries with a `miou` of their own)."""
    path = Path("metrics") / f"evaluate_{product}.json"
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        check_metrics(path.stem, splits, str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro`") from None
    except (OSError, ValueError, RecursionError, UserError):
        splits = None
    if not splits:
        raise UserError(f"{path}: not what the stage evaluate@{product} writes; run `dvc repro -f evaluate@{product}`")
    rows, name = [], PRODUCTS[product]
    for split, figures in splits.items():
        maps = {key: value for key, value in figures.items() if isinstance(value, dict) and "miou" in value}
        rows += [(f"{name}, {map_name}", split, figures | found) for map_name, found in maps.items()]
        rows += [] if maps else [(name, split, figures)]
    return rows


def _notes(rows: list[tuple[str, str, dict]], bootstrap: Bootstrap) -> list[str]:
    """What the figures rest on: which images were resampled, and what was tried or chosen on masks, and on which."""
    notes = []
    if any(found.get("miou_low") is not None for _, _, found in rows):
        notes.append(
            f"[low, high]: {100 * bootstrap.level:g} % of {bootstrap.resamples:,} resamples of the row's images, drawn "
            "alike for all rows on the same images; how far another training seed may be off is not in it"
        )
    if used := next((found["tried_on_masks_of"] for _, _, found in rows if "tried_on_masks_of" in found), None):
        shown = ", ".join(f"{count:,} of {split}" for split, count in used.items())
        notes.append(
            f"tried or chosen on masks: background offsets, on those of {shown} (dataset.tuning), which no row counts; "
            "every other rule is fixed in params.yaml"
        )
    elif any(found["images"] for _, _, found in rows):
        notes.append("chosen on masks by this run: nothing in this table; every rule is fixed in params.yaml")
    oracles = {split: f"{found['images']:,} of {split}" for _, split, found in rows if "oracle" in found}
    if oracles:
        notes.append(
            "oracle entries of metrics/evaluate_cam.json: best constant background, chosen on the images they are "
            f"measured on ({', '.join(oracles.values())}); never results"
        )
    return notes


def _miou(found: dict) -> str:
    low, high = found.get("miou_low"), found.get("miou_high")
    return _percent(found.get("miou")) + ("" if low is None or high is None else f" [{low:.1f}, {high:.1f}]")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
