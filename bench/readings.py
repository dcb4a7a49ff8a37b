"""In which ways the CAMs of one network are read and measured, and the table of what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.sizes import changed
from sfc.methods import METHODS


@dataclass(frozen=True)
class Reading:
    """How CAMs are inferred and measured.

    Attributes:
        params: by dotted name, `{method}` for the method; all others are those of the run.
    """

    name: str
    params: Mapping[str, Any]

    def applied(self, params: dict) -> dict:
        """The params of a run with those of this reading."""
        method = params["train_cam"]["method"]
        return changed(params, {name.format(method=method): value for name, value in self.params.items()})


_LOG = {  # of the released training log
    "cam.scales": [1.0],
    "cam.flip": False,
    "cam.mask_absent": True,
    "fusion.{method}.eval.fg_gain": 1.0,
    "fusion.{method}.eval.bg_offset": 0.0,
}


def readings(method: str) -> list[Reading]:
    """By the log's rule (one scale, no flip, no constant, absent classes masked before PCM) and by the preset's.

    A method with a pixel correlation is read with 0, 1 and 2 products of it; where it has prototypes, too, also with
    their seeds from the map before the correlation.
    """
    network = METHODS[method].network
    preset = Reading("preset", {})
    if not network.correlated:
        return [Reading("log", _LOG), preset]
    found = [Reading(f"log, PCM {count}", {**_LOG, "cam.pcm_iters": count}) for count in range(3)]
    if "prototype" in network.kinds:
        found.append(Reading("log, PCM 2, seeds before", {**found[-1].params, "cam.seed_pcm_iters": 0}))
    return [*found, preset]


_COLUMNS = ("run", "step", "reading", "CAM", "images", "mIoU", "few", "oracle: best threshold")


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of what was measured: a row for each network, reading and CAM.

    Args:
        measured: of each network and reading "run", "step", "reading" and "metrics", as `evaluate` writes them of a
            split.
    """
    lines = [_line(_COLUMNS), _line(["--"] * len(_COLUMNS))]
    for found in measured:
        metrics = found["metrics"]
        for name in ("classifier", "prototype", "sum"):
            if name in metrics:
                lines.append(_line(_cells(found, name, metrics[name], metrics["images"])))
    notes = (
        "mIoU in percent, with its interval over images, where the largest map wins by the reading's fixed rule; the "
        "oracle's threshold is chosen on the measured masks and is no result. log: one scale, no flip, no constant, "
        "absent classes masked before PCM; preset: bench/photographs.yaml over presets/voc12.yaml."
    )
    return "\n".join([*lines, "", notes])


def _cells(found: Mapping[str, Any], name: str, figures: Mapping[str, Any], images: int) -> list[str]:
    interval = f" [{figures['miou_low']:.1f}, {figures['miou_high']:.1f}]" if "miou_low" in figures else ""
    few, oracle = figures.get("miou_few"), figures["oracle"]
    return [
        found["run"],
        f"{found['step']:,}",
        found["reading"],
        name,
        str(images),
        f"{figures['miou']:.1f}{interval}",
        "-" if few is None else f"{few:.1f}",
        f"{oracle['miou']:.1f} at {oracle['threshold']:.2f}",
    ]


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"
