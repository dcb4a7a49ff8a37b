"""The figures of the last run as one table, from metrics/; no DVC stage, `make demo` ends with it."""

from __future__ import annotations

import json
from pathlib import Path

import click

PRODUCTS = {
    "cam": "CAM",
    "crf": "CRF",
    "pseudo_labels": "pseudo-labels",
    "seg": "segmentation",
}
COLUMNS = {"miou": "mIoU", "pixel_accuracy": "pixels right", "baseline_all_background": "all background"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--metrics", default="metrics", show_default=True, help="Folder of the metric files.")
def main(metrics: str) -> None:
    """Print what each step of the last run measures, in percent.

    Each row is one product on one split, by a fixed protocol: no threshold is chosen on the masks. The last column is
    the mIoU of the trivial answer on the same images.
    """
    rows = []
    for product, name in PRODUCTS.items():
        path = Path(metrics) / f"{product}.json"
        if not path.exists():
            raise click.ClickException(f"{path}: no such file; run `dvc repro`")
        for split, figures in json.loads(path.read_text(encoding="utf-8")).items():
            rows += _rows(name, split, figures)
    sets = list(dict.fromkeys(key for _, _, figures in rows for key in figures if key.startswith("miou_")))
    columns = {"miou": COLUMNS["miou"], **{key: key.removeprefix("miou_") for key in sets}, **COLUMNS}
    table = [["product", "split", *columns.values()]]
    table += [[name, split, *(_percent(figures.get(key)) for key in columns)] for name, split, figures in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        names = [text.ljust(width) for text, width in zip(line[:2], widths[:2], strict=True)]
        numbers = [text.rjust(width) for text, width in zip(line[2:], widths[2:], strict=True)]
        click.echo("  ".join(names + numbers))


def _rows(name: str, split: str, figures: dict) -> list[tuple[str, str, dict]]:
    """One row of a product, or one for each method where it has several (dictionaries with a `miou` of their own)."""
    methods = {key: value for key, value in figures.items() if isinstance(value, dict) and "miou" in value}
    if not methods:
        return [(name, split, figures)]
    return [(f"{name}, {method}", split, {**figures, **found}) for method, found in methods.items()]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
