"""The table of networks whose CAMs were read as the params of their run say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench import markdown

_COLUMNS = ("run", "step", "CAM", "images", "mIoU", "few", "oracle: best threshold")


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of what was measured: a row for each network and CAM.

    Args:
        measured: of each network "run", "step" and "metrics", as `evaluate` writes them of a split.
    """
    rows = [
        _cells(found, name, found["metrics"][name], found["metrics"]["images"])
        for found in measured
        for name in ("classifier", "prototype", "sum")
        if name in found["metrics"]
    ]
    notes = (
        "mIoU in percent, with its interval over images, where the largest map wins by the fixed rule of "
        "bench/photographs.yaml over presets/voc12.yaml; the oracle's threshold is chosen on the measured masks and is "
        "no result."
    )
    return f"{markdown.table(_COLUMNS, rows)}\n\n{notes}"


def _cells(found: Mapping[str, Any], name: str, figures: Mapping[str, Any], images: int) -> list[str]:
    interval = f" [{figures['miou_low']:.1f}, {figures['miou_high']:.1f}]" if "miou_low" in figures else ""
    few, oracle = figures.get("miou_few"), figures["oracle"]
    return [
        found["run"],
        f"{found['step']:,}",
        name,
        str(images),
        f"{figures['miou']:.1f}{interval}",
        "-" if few is None else f"{few:.1f}",
        f"{oracle['miou']:.1f} at {oracle['threshold']:.2f}",
    ]
