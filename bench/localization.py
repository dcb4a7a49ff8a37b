"""CAMs of whole images and their fusion."""

from __future__ import annotations

import copy
from functools import partial

import torch
import torch.nn.functional as F

from bench.inputs import cam_network, smooth
from bench.measure import Pair, Row
from sfc.backbone import fold_batch_norm
from sfc.calibration import cams
from sfc.calibration.network import Maps
from sfc.fusion import EPS, normalise_scales


def cam_inference(
    device: torch.device, *, arch: str, batch: int, classes: int, size: tuple[int, int], precision: torch.dtype
) -> Pair:
    """CAMs of images and their mirror images at one scale; the plain form is one float32 pass each."""
    network = cam_network(arch, classes).eval().to(device, memory_format=torch.channels_last)
    folded = copy.deepcopy(network)
    fold_batch_norm(folded.backbone)
    folded = folded.to(dtype=precision, memory_format=torch.channels_last)
    images = 4 * smooth(batch, 3, *size).to(device, memory_format=torch.channels_last) - 2
    labels = torch.zeros(batch, classes, device=device)
    labels[:, :2] = 1
    present = cams.with_background(labels)[:, :, None, None]

    @torch.inference_mode()
    def plain() -> tuple:
        straight, mirrored = network(images), network(images.flip(3))
        maps = Maps(
            straight.class_logits + mirrored.class_logits.flip(3),
            straight.semantic + mirrored.semantic.flip(3),
            straight.hierarchical + mirrored.hierarchical.flip(3),
        )
        weight = network.cam_weight(maps, torch.ones_like(present))
        return weight, network.cam_prototype(maps, weight, present)

    @torch.inference_mode()
    def ours() -> tuple:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            return folded.infer(images, labels, flip=True, mask_absent=False).unbind(1)

    return Pair(plain, ours)


def scale_fusion(device: torch.device, *, channels: int, size: tuple[int, int], scales: tuple[float, ...]) -> Pair:
    """Maps of several scales, resized to the image, added, divided by their maxima."""
    sizes = [[-(-round(side * scale) // 16) for side in size] for scale in scales]
    maps = [smooth(2, channels, *shape, seed=i).to(device) for i, shape in enumerate(sizes)]

    def plain() -> tuple:
        total = sum(F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps)
        return (total / (total.amax(dim=(2, 3), keepdim=True) + EPS),)

    return Pair(plain, lambda: (normalise_scales(maps, size),))


_INFERENCE_SIZES = {
    "tiny": {"arch": "resnet18", "batch": 1, "classes": 3, "size": (48, 64)},
    "small": {"arch": "resnet50", "batch": 2, "classes": 20, "size": (256, 320)},
    "full": {"arch": "resnet50", "batch": 8, "classes": 20, "size": (375, 500)},
}

ROWS = (
    Row(
        "cam-inference-fp32",
        "a pass for each flip -> both in one batch, batch norm folded",
        partial(cam_inference, precision=torch.float32),
        _INFERENCE_SIZES,
        tolerance=1e-3,
    ),
    Row(
        "cam-inference-bf16",
        "the same in fp32 -> with bf16 weights",
        partial(cam_inference, precision=torch.bfloat16),
        _INFERENCE_SIZES,
        tolerance=0.1,
    ),
    Row(
        "scale-fusion",
        "resize each scale and add -> two matrix products",
        scale_fusion,
        {
            "tiny": {"channels": 2, "size": (40, 50), "scales": (1.0, 0.5)},
            "small": {"channels": 3, "size": (240, 320), "scales": (1.0, 0.5, 1.5, 2.0)},
            "full": {"channels": 3, "size": (375, 500), "scales": (1.0, 0.5, 1.5, 2.0)},
        },
        tolerance=1e-5,
    ),
)
