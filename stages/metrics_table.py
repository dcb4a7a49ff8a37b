"""The figures of the last run as one table, from metrics/; no DVC stage, `make demo` ends with it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sfc.errors import UserError
from sfc.params import load_params

PRODUCTS = {
    "cam": "CAM",
    "crf": "CRF",
    "pseudo_labels": "pseudo-labels",
    "seg": "segmentation",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Print what each step of the last run measures, in percent.

    A row is one product on one split, by a fixed rule: no threshold is chosen on the masks. Its figures are the mIoU,
    the same over each class set, the pixels that are right, and the mIoU of the trivial answer on the same images.
    """
    try:
        sets = load_params().get("evaluate").class_sets
    except UserError as error:
        raise click.ClickException(str(error)) from None
    columns = {"miou": "mIoU", **{f"miou_{name}": name for name in sets}}
    columns |= {"pixel_accuracy": "pixels right", "baseline_all_background": "all background"}
    table = [["product", "split", *columns.values()]]
    for product, name in PRODUCTS.items():
        path = Path("metrics") / f"evaluate_{product}.json"
        if not path.exists():
            raise click.ClickException(f"{path}: no such file; run `dvc repro`")
        for split, figures in json.loads(path.read_text(encoding="utf-8")).items():
            for row, found in _rows(name, figures).items():
                table.append([row, split, *(_percent(found.get(key)) for key in columns)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        names = [text.ljust(width) for text, width in zip(line[:2], widths[:2], strict=True)]
        numbers = [text.rjust(width) for text, width in zip(line[2:], widths[2:], strict=True)]
        click.echo("  ".join(names + numbers))


def _rows(name: str, figures: dict) -> dict[str, dict]:
    """The product's figures, or those of each method where it has several (dictionaries with a `miou` of their own)."""
    methods = {key: value for key, value in figures.items() if isinstance(value, dict) and "miou" in value}
    return {f"{name}, {method}": figures | found for method, found in methods.items()} or {name: figures}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
