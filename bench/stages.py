"""`python -m bench.stages PHOTOGRAPHS`: stages end to end on image files, and what takes their time.

Networks have random weights, since what they cost does not depend on them, and every image is said to show one class
or two. All else is presets/voc12.yaml.
"""

from __future__ import annotations

import cProfile
import inspect
import json
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import click
import torch

from bench import markdown
from bench.inputs import cam_network
from bench.measure import machine
from sfc.calibration.network import CamNetwork
from sfc.data import images as image_files
from sfc.data.manifest import Manifest, Record, write_manifest
from sfc.dense_crf import DenseCrf
from sfc.errors import UserError
from sfc.fusion import fuse, normalise_scales
from sfc.irn.network import IrnNetwork, save_irn
from sfc.label_archive import LabelArchiveWriter
from sfc.localization.store import CamWriter
from sfc.methods import save_cam_network
from sfc.params import read_text, read_yaml
from sfc.sealed import sealed
from sfc.segmentation.inference import image_logits
from sfc.segmentation.models import MODELS, save_segmenter
from sfc.segmentation.pyramid import resized
from sfc.walk.walk_labels import walk_labels
from stages import crf, infer_cam, predict, pseudo_labels
from stages._errors import errors_as_lines
from stages._labels import LabelShards
from stages._presets import preset_paths

CLASSES = tuple(f"class{number}" for number in range(20))
STAGES = {"infer_cam": infer_cam, "crf": crf, "pseudo_labels": pseudo_labels, "predict": predict}
PARTS: Mapping[str, tuple[Callable, ...]] = {  # none of them calls another
    "decoding": (image_files.decode_image, image_files.read_content),
    "resizing": (image_files.resize_image,),
    "network": (CamNetwork.infer, IrnNetwork.edges, image_logits),
    "CRF": (DenseCrf.__init__, DenseCrf.infer),
    "walk": (walk_labels,),
    "maps": (normalise_scales, fuse, resized),
    "writing": (CamWriter.write, LabelArchiveWriter.write, LabelShards.join, sealed),
}
PREDICTED = 3  # label-map values that come out of predict
SETTINGS: dict[str, dict[str, Any]] = {
    "tiny": {"arch": ("resnet18", "resnet18"), "scales": [1.0], "iterations": 1},
    "full": {"arch": ("resnet50", "resnet101"), "scales": None, "iterations": 10},
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("photographs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--images", type=click.IntRange(min=1), default=64, show_default=True, help="How many, evenly chosen.")
@click.option(
    "--precision", multiple=True, type=click.Choice(["fp32", "bf16"]), default=["fp32", "bf16"], help="May be repeated."
)
@click.option("--scale", type=click.Choice(list(SETTINGS)), default="full", show_default=True, help="Tiny: for tests.")
def main(photographs: Path, images: int, precision: tuple[str, ...], scale: str) -> None:
    """Time infer_cam, crf, pseudo_labels and predict on the images in the folder PHOTOGRAPHS.

    Each stage runs twice: as it is, for its images a second, and once more without workers, so that what it does comes
    one after the other, for the shares of the time. They are in percent; "maps" are CAMs and logits resized and added.
    """
    with errors_as_lines():
        found = sorted(path for path in photographs.iterdir() if path.suffix.lower() in image_files.SUFFIXES)
        if not found:
            raise UserError(f"{photographs}: no image in this folder")
        chosen = [found[i * len(found) // images].absolute() for i in range(min(images, len(found)))]
        click.echo(f"{machine(torch.device('cpu'))}, {len(chosen)} photographs, scale {scale}\n")
        click.echo(markdown.head(["stage", "precision", "images/s", *PARTS, "rest"]))
        for name in precision:
            with tempfile.TemporaryDirectory() as folder, chdir(folder):
                write_project(chosen, precision=name, **SETTINGS[scale])
                for stage, module in STAGES.items():
                    seconds = _seconds(module)
                    shares = _shares(module)
                    cells = [f"{100 * shares[part]:.0f}" if part in shares else "" for part in (*PARTS, "rest")]
                    click.echo(markdown.row([stage, name, f"{len(chosen) / seconds:.2f}", *cells]))


def write_project(photographs: list[Path], *, precision: str, arch: tuple[str, str], scales, iterations: int) -> None:
    """Params, manifest and untrained models in this folder, in which the stages then run."""
    Path("out").mkdir()
    values = read_yaml(read_text(preset_paths()["voc12"]), source="voc12")
    for section in ("cam", "walk", "predict"):
        values[section] |= {"precision": precision}
    for section in ("cam", "predict"):
        values[section] |= {"scales": scales} if scales else {}
    values["crf"]["iterations"] = values["predict"]["crf"]["iterations"] = iterations
    values["predict"]["split"] = "train"
    values["evaluate"]["class_sets"] = {}
    Path("params.yaml").write_text(json.dumps(values), encoding="utf-8")
    records = tuple(_record(number, path) for number, path in enumerate(photographs))
    write_manifest(Manifest(records, CLASSES), "out/manifest.csv", "out/classes.json")
    trunk = {"arch": arch[0], "batch_norm": "frozen"}
    save_cam_network(
        cam_network(arch[0], len(CLASSES)), "out/cam.safetensors", method="sfc", classes=CLASSES, params={}
    )
    save_irn(IrnNetwork(**trunk), "out/irn.safetensors", params={})
    seg = values["seg"]
    rest = {"frozen_stages": 0, "batch_norm": "frozen", "image_scale": seg["image_scale"]}
    network = MODELS[seg["model"]](arch=arch[1], num_classes=1 + len(CLASSES), atrous_rates=seg["atrous_rates"], **rest)
    for branch in network.head():  # a trained network leaves the CRF about so many classes, a random one eleven
        branch.bias.data[PREDICTED:] = -torch.inf
    save_segmenter(network, "out/seg.safetensors", classes=CLASSES, params={})


def _record(number: int, path: Path) -> Record:
    height, width = image_files.image_size(path)
    labels = sorted({number % len(CLASSES), (number * (1 + number % 2) * 7) % len(CLASSES)})
    return Record(f"{number}_{path.stem}", "train", path, None, height, width, tuple(labels), "", "table")


def _seconds(module: Any) -> float:
    started = time.perf_counter()
    module.main.callback()
    return time.perf_counter() - started


def _shares(module: Any) -> dict[str, float]:
    """Share of a run's time of each of `PARTS`, as far as it has any, and of the rest."""
    profiler = cProfile.Profile()
    with _no_workers():
        started = time.perf_counter()
        profiler.runcall(module.main.callback)
        whole = time.perf_counter() - started
    stats = pstats.Stats(profiler).stats
    taken = {part: sum(_cumulative(stats, function) for function in functions) for part, functions in PARTS.items()}
    shares = {part: seconds / whole for part, seconds in taken.items() if seconds}
    return shares | {"rest": 1 - sum(shares.values())}


def _cumulative(stats: dict, function: Callable) -> float:
    code = inspect.unwrap(function).__code__
    return stats.get((code.co_filename, code.co_firstlineno, code.co_name), (0, 0, 0, 0.0))[3]


@contextmanager
def _no_workers() -> Iterator[None]:
    before = os.environ.get("SFC_WORKERS")
    os.environ["SFC_WORKERS"] = "0"
    try:
        yield
    finally:
        del os.environ["SFC_WORKERS"]
        os.environ |= {"SFC_WORKERS": before} if before is not None else {}


if __name__ == "__main__":
    main()
