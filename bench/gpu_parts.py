"""The work that each of the GPU stages gives its device, on random images, as the stage gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import torch
from torch import Tensor, nn

from bench.inputs import regions, smooth, uniform
from sfc.backbone import fold_batch_norm
from sfc.calibration.method import Setup
from sfc.config import Irn, Seg, TrainCam
from sfc.data.images import normalise, resize_image, scaled_size
from sfc.fusion import fuse, normalise_scales
from sfc.irn.network import IrnNetwork, IrnObjective
from sfc.localization.multiscale import ready
from sfc.methods import METHODS
from sfc.params import Params
from sfc.segmentation.inference import image_logits, ready_segmenter
from sfc.segmentation.models import MODELS
from sfc.segmentation.objective import SegmentationObjective
from sfc.training.loop import train
from sfc.training.optim import sgd
from sfc.walk.walk_labels import walk_labels

CLASSES = 20
PRESENT = (0, 1)  # classes of each image; VOC's have 1.6


@dataclass(frozen=True)
class Part:
    """What one stage does over and over.

    Attributes:
        unit: "step" of a training, or "image".
        images: that one repetition takes.
        run: does so many repetitions; None when it has been measured.
        trunk: of the network, for torch.compile; None where images come in many sizes, each of which it would compile.
    """

    stage: str
    what: str
    unit: str
    images: int
    run: Callable[[int], object] | None
    trunk: nn.Module | None = None

    @property
    def units(self) -> int:
        """Steps or images of one repetition."""
        return 1 if self.unit == "step" else self.images


def train_cam(params: Params, device: torch.device, size: tuple[int, int]) -> Part:
    """A step of the chosen method, image bank, clipping and optimiser included."""
    section: TrainCam = params.get("train_cam")
    method = METHODS[section.method]
    trunk = {"num_classes": CLASSES, **section.backbone.model_dump(exclude={"weights"})}
    setup = Setup(trunk=trunk, crop=section.crop, random_seed=0, dc=torch.ones(CLASSES))
    torch.manual_seed(0)
    objective = method.objective(setup, **params.method_sections())
    group = {"params": list(objective.network.parameters()), "lr": 1e-3, "weight_decay": section.weight_decay}
    batch = _crops(section.batch_size, section.crop)
    batch["label"] = torch.eye(CLASSES)[torch.arange(section.batch_size) % CLASSES]
    run = _training(objective, group, batch, section, device, clip_norm=section.clip_norm)
    bank = f" + {params.get('ibr').n} of the bank" if "ibr" in method.sections else ""
    what = f"{method.name}, {section.batch_size}{bank}, crop {section.crop}"
    return Part("train_cam", what, "step", section.batch_size, run, objective.network.backbone)


def infer_cam(params: Params, device: torch.device, size: tuple[int, int]) -> Part:
    """Raw CAMs of a batch at all scales, and back to the host."""
    section = params.get("cam")
    method = METHODS[params.get("train_cam.method")]
    torch.manual_seed(0)
    network = method.objective(
        Setup(
            trunk={"num_classes": CLASSES, **params.get("train_cam").backbone.model_dump(exclude={"weights"})},
            crop=64,
            random_seed=0,
            dc=torch.ones(CLASSES),
        ),
        **params.method_sections(),
    ).network
    network = ready(
        network.eval().to(device),
        pcm_iters=section.pcm_iters,
        seed_pcm_iters=section.seed_pcm_iters,
        precision=section.precision,
    )
    images = [_pinned(scaled, device) for scaled in _images(section.batch_size, size, section.scales)]
    labels = torch.zeros(section.batch_size, CLASSES, device=device)
    labels[:, list(PRESENT)] = 1
    trunk = network.backbone

    @torch.inference_mode()
    def run(count: int) -> None:
        for _ in range(count):
            with _autocast(device, section.precision):
                on_device = (scaled.to(device, non_blocking=True) for scaled in images)
                normalised = (normalise(scaled, None, mean=trunk.mean, std=trunk.std) for scaled in on_device)
                cams = [
                    network.infer(x, labels, flip=section.flip, mask_absent=section.mask_absent) for x in normalised
                ]
            for scaled in cams:
                scaled.float().cpu()

    what = f"{section.batch_size} of {_by(size)}, {len(section.scales)} scales{', mirrored too' * section.flip}"
    return Part("infer_cam", what, "image", section.batch_size, run)


def train_irn(params: Params, device: torch.device, size: tuple[int, int]) -> Part:
    """A step of IRN's network."""
    section: Irn = params.get("irn")
    torch.manual_seed(0)
    objective = IrnObjective(IrnNetwork(**section.backbone.model_dump(exclude={"weights"})), radius=section.radius)
    group = {"params": list(objective.parameters()), "lr": 1e-3, "weight_decay": section.weight_decay}
    batch = _crops(section.batch_size, section.crop)
    batch["mask"] = regions(section.batch_size, 4, section.crop, section.crop)
    run = _training(objective, group, batch, section, device, clip_norm=section.clip_norm)
    what = f"{section.batch_size}, crop {section.crop}, radius {section.radius}"
    return Part("train_irn", what, "step", section.batch_size, run, objective.network.backbone)


def pseudo_labels(params: Params, device: torch.device, size: tuple[int, int]) -> Part:
    """Fusion, edge maps and random walk of a batch, and back to the host."""
    section, fusion = params.get("walk"), params.get("fusion.{method}.walk")
    rule = {"foreground_power", "background", "whole_power"}
    weights = fusion.model_dump(exclude=rule)
    torch.manual_seed(0)
    network = IrnNetwork(**params.get("irn").backbone.model_dump(exclude={"weights"})).eval().to(device)
    fold_batch_norm(network.backbone)
    if section.precision == "bf16":
        network.backbone.to(torch.bfloat16)
    (images,) = _images(section.batch_size, size, [section.scale])
    kinds, channels, trunk = tuple(fusion.weights), 1 + len(PRESENT), network.backbone
    maps = [smooth(len(kinds), channels, *(-(-side // 16) for side in shape)) for shape in _sizes(params, size)]
    walk = section.model_dump(include={"radius", "beta", "steps"}) | fusion.model_dump(include=rule)

    @torch.inference_mode()
    def run(count: int) -> None:
        for _ in range(count):
            raw = ([scaled.to(device) for scaled in maps] for _ in range(section.batch_size))
            cams = [fuse(normalise_scales(each, size), kinds, **weights) for each in raw]
            normalised = normalise(images.to(device), None, mean=trunk.mean, std=trunk.std)
            with _autocast(device, section.precision):
                edge = network.edges(normalised, flip=section.flip)
            for labels in walk_labels(cams, edge, seen=tuple(images.shape[2:]), **walk):
                labels.cpu()

    what = f"{section.batch_size} of {_by(size)}, {section.steps} steps of the walk"
    return Part("pseudo_labels", what, "image", section.batch_size, run)


def train_seg(params: Params, device: torch.device, size: tuple[int, int]) -> Part:
    """A step of the segmentation model."""
    section: Seg = params.get("seg")
    objective = SegmentationObjective(
        _segmenter(section), train_scales=section.train_scales, loss=section.loss, seed=0, batch_size=section.batch_size
    )
    group = {"params": list(objective.parameters()), "lr": 1e-4, "weight_decay": section.weight_decay}
    batch = _crops(section.batch_size, section.crop)
    batch["mask"] = regions(section.batch_size, 4, section.crop, section.crop)
    run = _training(objective, group, batch, section, device, clip_norm=None)
    what = f"{section.backbone.arch}, {section.batch_size}, crop {section.crop}, {1 + len(section.train_scales)} scales"
    return Part("train_seg", what, "step", section.batch_size, run)  # every scale is another size


def predict(params: Params, device: torch.device, size: tuple[int, int]) -> Part:
    """Logits of a batch at all scales, and back to the host, where the CRF is."""
    section = params.get("predict")
    network = ready_segmenter(_segmenter(params.get("seg")).eval().to(device), precision=section.precision)
    (images,) = _images(section.batch_size, size, [1.0])
    images = _pinned(images, device)

    def run(count: int) -> None:
        for _ in range(count):
            with _autocast(device, section.precision):
                logits = image_logits(
                    network,
                    images.to(device, non_blocking=True),
                    scales=section.scales,
                    merge=section.merge,
                    flip=section.flip,
                )
            logits.cpu()

    what = f"{section.batch_size} of {_by(size)}, {len(section.scales)} scales"
    return Part("predict", what, "image", section.batch_size, run)


PARTS = {build.__name__: build for build in (train_cam, infer_cam, train_irn, pseudo_labels, train_seg, predict)}


def _training(
    objective: nn.Module, group: dict, batch: dict[str, Tensor], section, device: torch.device, *, clip_norm
) -> Callable[[int], object]:
    """So many steps of the loop that all trainings share, on one batch that comes from the host each time."""
    objective = objective.to(device, memory_format=torch.channels_last)
    batch = {name: _pinned(value, device) for name, value in batch.items()}
    return partial(
        _steps,
        objective,
        batch,
        optimiser=sgd([group], momentum=section.momentum),
        clip_norm=clip_norm,
        precision=section.precision,
        device=device,
    )


def _steps(objective: nn.Module, batch: dict[str, Tensor], count: int, **settings) -> None:
    def endless(first: int) -> Iterator[dict[str, Tensor]]:
        yield from repeat(batch)

    train(
        objective,
        batches=endless,
        steps=count,
        lr_factor=lambda step: 1.0,
        checkpoint=None,
        progress=lambda items, **_: items,
        **settings,
    )


def _segmenter(section: Seg) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[section.model](
        arch=section.backbone.arch,
        num_classes=1 + CLASSES,
        atrous_rates=section.atrous_rates,
        image_scale=section.image_scale,
        frozen_stages=section.backbone.frozen_stages,
        batch_norm=section.backbone.batch_norm,
    )


def _crops(batch: int, crop: int) -> dict[str, Tensor]:
    image = (uniform(batch, 3, crop, crop) * 255).to(torch.uint8)
    return {"image": image, "box": torch.tensor([[0, 0, crop, crop]]).repeat(batch, 1)}


def _images(batch: int, size: tuple[int, int], scales) -> list[Tensor]:
    """(B, 3, h, w) uint8 of each scale, channels last in memory, as `read_scaled` gives them."""
    image = (smooth(1, 3, *size)[0] * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    scaled = (resize_image(image, *scaled_size(image.shape, scale)) for scale in scales)
    return [torch.tensor(x).repeat(batch, 1, 1, 1).permute(0, 3, 1, 2) for x in scaled]


def _sizes(params: Params, size: tuple[int, int]) -> list[tuple[int, int]]:
    return [scaled_size(size, scale) for scale in params.get("cam").scales]


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
