"""CAMs and confident labels of image files, in the public form beside ours: from file to file."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from bench.inputs import cam_network, regions, smooth, uniform
from bench.measure import Pair, Row
from bench.public_network import EPS, PublicNetwork
from sfc.backbone import IMAGENET_MEAN, IMAGENET_STD
from sfc.data.images import IGNORE, read_record
from sfc.data.manifest import Record, label_keys
from sfc.dense_crf import DenseCrf, label_energy, refine_cams
from sfc.fusion import background_rule, fuse, normalise_scales
from sfc.label_archive import LabelArchiveWriter
from sfc.localization.multiscale import infer_cams, ready
from sfc.localization.store import CamStore, CamWriter

_KINDS = ("classifier", "prototype")
_RULE = {"fg_gain": 2.0, "bg_offset": 0.4}
_WEIGHTS = {"classifier": 1.0, "prototype": 0.7}
_PAIRWISE = {
    "gaussian_sxy": 3.0,
    "gaussian_compat": 3.0,
    "bilateral_sxy": 50.0,
    "bilateral_srgb": 5.0,
    "bilateral_compat": 10.0,
}


def cams_of_files(
    device: torch.device,
    *,
    arch: str,
    images: int,
    classes: int,
    size: tuple[int, int],
    scales: tuple[float, ...],
    bf16: bool,
    drawn_seeds: bool = True,
) -> Pair:
    """Maps of all scales and flips as they stand for an image, after the background rule, (images, kinds, 3, H, W).

    The plain form takes one image at a time, resizes all channels of every scale on the host and writes full-size
    float maps in a pickle; ours takes batches and writes raw maps, which the next stage would resize: that is in the
    time, too.
    """
    folder = tempfile.TemporaryDirectory()
    records = _photographs(Path(folder.name), images, size)
    network = cam_network(arch, classes, drawn_seeds=drawn_seeds).eval()
    plain = PublicNetwork(network).to(device)
    ours = ready(network.to(device), pcm_iters=None, seed_pcm_iters=None, precision="bf16" if bf16 else "fp32")
    return Pair(
        partial(_public_cams, plain, records, Path(folder.name), classes, scales, device, bf16),
        partial(_our_cams, ours, records, Path(folder.name), classes, scales, device, bf16),
        close=folder.cleanup,
    )


def _photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Record]:
    """JPEG files with soft regions and some noise, each of the first two classes."""
    records = []
    for number in range(count):
        picture = smooth(1, 3, *size, seed=number)[0] * 230 + uniform(3, *size, seed=number) * 25
        path = folder / f"{number}.jpg"
        Image.fromarray(picture.permute(1, 2, 0).to(torch.uint8).numpy()).save(path, quality=95)
        records.append(Record(str(number), "train", path, None, *size, (0, 1), "", "table"))
    return records


@torch.inference_mode()
def _public_cams(
    network: PublicNetwork, records: list[Record], folder: Path, classes: int, scales, device: torch.device, bf16: bool
) -> tuple:
    found = []
    for record in records:
        label = torch.zeros(classes)
        label[list(record.labels)] = 1
        totals = [0.0, 0.0]
        for scaled in _public_scales(record.image, scales):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                maps = network.infer(scaled.to(device), label.to(device))
            for kind, cam in enumerate(maps):
                cam = cam.float().cpu()[None]
                size = (record.height, record.width)
                totals[kind] = totals[kind] + F.interpolate(cam, size=size, mode="bilinear", align_corners=False)[0]
        keys = np.array(label_keys(record.labels))
        ruled = []
        for total in totals:
            cam = total / (F.adaptive_max_pool2d(total, 1) + EPS)
            cam[1:] = cam[1:] * _RULE["fg_gain"]
            cam[0] = cam[0] + _RULE["bg_offset"]
            ruled.append(cam.numpy()[keys])
        weight, prototype = ruled
        np.savez(folder / f"{record.id}.npz", keys=keys, IS_CAM=prototype, IS_CAM1=weight)
        found.append(np.stack(ruled))
    return (np.stack(found),)


def _public_scales(path: Path, scales: tuple[float, ...]) -> Iterator[torch.Tensor]:
    """Of each scale the normalised image and its mirror image, (2, 3, h, w)."""
    image = np.asarray(Image.open(path, formats=("JPEG", "PNG")).convert("RGB"))
    for scale in scales:
        height, width = (round(side * scale) for side in image.shape[:2])
        scaled = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)) / 255.0
        normalised = ((scaled - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).transpose(2, 0, 1)
        yield torch.from_numpy(np.stack([normalised, np.flip(normalised, 2)]))


def _our_cams(
    network, records: list[Record], folder: Path, classes: int, scales, device: torch.device, bf16: bool
) -> tuple:
    writer = CamWriter(folder, kinds=_KINDS, scales=scales, ids=[record.id for record in records], fused=_KINDS)
    maps = infer_cams(
        network,
        [records],
        num_classes=classes,
        scales=scales,
        flip=True,
        mask_absent=False,
        batch_size=8,
        precision="bf16" if bf16 else "fp32",
        device=device,
        workers=1,
    )
    for id, cams in maps:
        writer.write(id, cams)
    writer.finish()
    store, found = CamStore(folder), []
    for record in records:
        normalised = normalise_scales(store.fused_of(record), (record.height, record.width))
        found.append(background_rule(normalised, **_RULE).numpy())
    return (np.stack(found),)


def crf_of_files(device: torch.device, *, images: int, size: tuple[int, int], iterations: int) -> Pair:
    """Confident label maps (images, H, W); the plain form reads full-size maps and builds a CRF for each unary."""
    folder = tempfile.TemporaryDirectory()
    home = Path(folder.name)
    records = _photographs(home, images, size)
    writer = CamWriter(home, kinds=_KINDS, scales=(1.0, 0.5), ids=[record.id for record in records], fused=_KINDS)
    for number, record in enumerate(records):
        maps = [_clear_maps(side, number) for side in ([-(-s // 16) for s in size], [-(-s // 32) for s in size])]
        writer.write(record.id, maps)
        ruled = background_rule(normalise_scales(maps, size), **_RULE).numpy()
        np.savez(home / f"{record.id}.npz", keys=np.arange(3), IS_CAM=ruled[1], IS_CAM1=ruled[0])
    writer.finish()
    return Pair(
        partial(_public_labels, records, home, iterations),
        partial(_our_labels, records, home, iterations),
        close=folder.cleanup,
    )


def _clear_maps(size: list[int], seed: int) -> np.ndarray:
    """Raw CAMs (kinds, 3, h, w) of a background and two classes that each have a part of the image."""
    shown = regions(1, 3, *size)[0] == torch.arange(3)[:, None, None]
    return (shown * 0.7 + 0.3 * smooth(2, 3, *size, seed=seed)).float().numpy()


def _public_labels(records: list[Record], folder: Path, iterations: int) -> tuple:
    found = []
    for record in records:
        image = np.asarray(Image.open(record.image, formats=("JPEG", "PNG")).convert("RGB"))
        stored = np.load(folder / f"{record.id}.npz")  # released: the same arrays pickled
        keys, cam = stored["keys"], stored["IS_CAM1"] + np.float32(_WEIGHTS["prototype"]) * stored["IS_CAM"]

        def refined(labels: np.ndarray, image: np.ndarray = image, keys: np.ndarray = keys) -> np.ndarray:
            crf = DenseCrf(image, len(keys), **_PAIRWISE)
            return keys[crf.infer(label_energy(labels, len(keys), 0.7), iterations).argmax(axis=0)]

        foreground = refined(cam.argmax(axis=0))
        cam[0] *= 0.5
        background = refined(cam.argmax(axis=0))
        labels = foreground.copy()
        labels[foreground == 0] = IGNORE
        labels[(foreground == 0) & (background == 0)] = 0
        png = io.BytesIO()
        Image.fromarray(labels.astype(np.uint8)).save(png, format="PNG")
        (folder / f"{record.id}.png").write_bytes(png.getvalue())
        found.append(labels)
    return (np.stack(found),)


def _our_labels(records: list[Record], folder: Path, iterations: int) -> tuple:
    found, store = [], CamStore(folder)
    settings = {"mode": "label", "gt_prob": 0.7, "confident_bg_scale": 0.5, "iterations": iterations, **_PAIRWISE}
    with LabelArchiveWriter(folder / "labels.zip") as archive:
        for record in records:
            normalised = normalise_scales(store.fused_of(record), (record.height, record.width))
            fused = fuse(normalised, store.fused, weights=_WEIGHTS, **_RULE).numpy()
            _, labels = refine_cams(read_record(record), fused, label_keys(record.labels), **settings)
            archive.write(record.id, labels)
            found.append(labels)
    return (np.stack(found),)


_CAM_SIZES = {
    "tiny": {"arch": "resnet18", "images": 2, "classes": 3, "size": (64, 96), "scales": (1.0, 2.0)},
    "small": {"arch": "resnet50", "images": 4, "classes": 20, "size": (256, 320), "scales": (1.0, 0.5, 1.5, 2.0)},
    "full": {"arch": "resnet50", "images": 8, "classes": 20, "size": (375, 500), "scales": (1.0, 0.5, 1.5, 2.0)},
}
_CRF_SIZES = {
    "tiny": {"images": 2, "size": (48, 64), "iterations": 2},
    "small": {"images": 2, "size": (240, 320), "iterations": 10},
    "full": {"images": 4, "size": (375, 500), "iterations": 10},
}

ROWS = (
    Row(
        "cam-files-fp32",
        "public CAM inference, image files to files -> ours, fp32",
        partial(cams_of_files, bf16=False),
        _CAM_SIZES,
        tolerance=1e-3,
    ),
    Row(
        "cam-files-bf16",
        "public CAM inference under bf16 autocast -> ours with bf16 weights",
        partial(cams_of_files, bf16=True),
        _CAM_SIZES,
        tolerance=0.1,
    ),
    Row(
        "crf-files",
        "public confident labels, a CRF for each unary -> ours; one core an image",
        crf_of_files,
        _CRF_SIZES,
        tolerance=0,
        cpu_only=True,
    ),
)
