"""From what was measured of each stage, the wall time of the whole VOC run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sfc.params import Params

TRAIN, VAL = 10_582, 1_449  # images of VOC 2012


@dataclass(frozen=True)
class Measured:
    """One stage on the machine at hand.

    Attributes:
        units: steps, or images, of the whole run.
        device: seconds a unit of the GPU's work, 0 for a stage of the CPU alone.
        loading: seconds a unit in which the loader, on all cores, reads its images.
        host: core seconds a unit in worker processes, such as the CRF's.
        serial: seconds a unit of the stage's own process, while the GPU waits.
    """

    units: int
    device: float
    loading: float
    host: float = 0.0
    serial: float = 0.0


def units(params: Params) -> dict[str, int]:
    """Steps or images of each stage in the whole VOC run."""
    cam, irn = params.get("train_cam"), params.get("irn")
    return {
        "train_cam": TRAIN // cam.batch_size * cam.epochs,
        "infer_cam": TRAIN,
        "crf": TRAIN,
        "train_irn": TRAIN // irn.batch_size * irn.epochs,
        "pseudo_labels": TRAIN,
        "train_seg": params.get("seg").steps,
        "predict": VAL,
    }


def reckoned(measured: Measured, *, cores: int, start: float) -> tuple[float, str]:
    """Wall seconds of a stage, and what limits it.

    The GPU with the stage's own process, and the workers on the cores, go on side by side: the slower side decides.
    What a stage spends before its first unit is added.

        seconds = start + units * max(device + serial, loading + host / cores)

    Args:
        cores: of the machine.
        start: seconds from the command to the first unit.
    """
    sides = {"GPU": measured.device, "own process": measured.serial, "loading": measured.loading}
    sides["workers"] = measured.host / cores
    here, beside = measured.device + measured.serial, measured.loading + sides["workers"]
    deciding = ("GPU", "own process") if here >= beside else ("loading", "workers")
    return start + measured.units * max(here, beside), max(deciding, key=sides.get)


def table(stages: Mapping[str, Measured], *, cores: int, start: float) -> list[str]:
    """Markdown lines: each stage, and their sum."""
    lines = [
        "| stage | units | ms a unit: GPU | own process | loading | workers | limit | minutes |",
        "| -- | -- | -- | -- | -- | -- | -- | -- |",
    ]
    total = 0.0
    for name, found in stages.items():
        seconds, limit = reckoned(found, cores=cores, start=start)
        total += seconds
        parts = (found.device, found.serial, found.loading, found.host / cores)
        milliseconds = " | ".join(f"{1000 * part:,.1f}" if part else "-" for part in parts)
        lines.append(f"| {name} | {found.units:,} | {milliseconds} | {limit} | {seconds / 60:,.1f} |")
    lines.append(f"| all | | | | | | | {total / 60:,.1f} |")
    return lines


def pays(plain: float, compiled: float, start_up: float, count: int) -> bool:
    """Whether a form that takes `start_up` seconds first is faster over `count` units than the plain one."""
    return start_up + count * compiled < count * plain
