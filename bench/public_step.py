"""The whole SFC training step in the public form beside ours, from the loader's batch to the changed weights."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.inputs import cam_network, uniform
from bench.measure import Pair, Row
from bench.public_network import EPS, PublicNetwork
from sfc.calibration.image_bank import ImageBank
from sfc.data.images import box_masks, normalise
from sfc.methods.sfc import SfcObjective
from sfc.training.optim import sgd

_LOSS = {"w_proto": 1.6, "w_scale": 0.8}
_OPTIMISER = {"lr": 1e-3, "weight_decay": 1e-4}


def public_step(
    device: torch.device,
    *,
    arch: str,
    batch: int,
    classes: int,
    crop: int,
    draws: int,
    plain_bf16: bool,
    ours_bf16: bool,
    drawn_seeds: bool = True,
) -> Pair:
    """The total loss, its three parts and the norm of all gradients, of one step with the same images drawn."""
    network = cam_network(arch, classes, drawn_seeds=drawn_seeds)
    dc = uniform(classes, seed=2) + 0.5
    bank = {"image": _pictures(classes, crop, seed=3), "label": torch.eye(classes), "box": _boxes(classes, crop)}
    given = {"image": _pictures(batch, crop, seed=4), "label": _labels(batch, classes), "box": _boxes(batch, crop)}
    plain = _Public(network, dc, bank, draws=draws, device=device)
    loaded = plain.loaded(given)
    ours = _ours(network, dc, bank, given, draws=draws, device=device, bf16=ours_bf16)
    return Pair(partial(plain.step, loaded, bf16=plain_bf16), ours)


def _pictures(count: int, crop: int, *, seed: int) -> Tensor:
    return (uniform(count, 3, crop, crop, seed=seed) * 255).to(torch.uint8)


def _boxes(count: int, crop: int) -> Tensor:
    return torch.tensor([[crop // 8, 0, crop, crop - crop // 8]]).expand(count, 4).clone()


def _labels(batch: int, classes: int) -> Tensor:
    """Two classes an image."""
    rows = torch.arange(batch)
    labels = torch.zeros(batch, classes)
    labels[rows, rows % classes] = labels[rows, (rows * 3 + 1) % classes] = 1
    return labels


class _Public:
    """The public step: float images, masks of the crop's size, a bank of both on the host.

    The bank is shuffled as a whole, the result is thrown away, all of it goes to the device, and a few rows are taken.
    Three losses are read back in every step.
    """

    def __init__(self, network: nn.Module, dc: Tensor, bank: dict[str, Tensor], *, draws: int, device: torch.device):
        self.network = PublicNetwork(network).to(device)
        self.dc, self.device = dc.to(device), device
        self.bank = self.loaded(bank)
        # draws rest on what is filled alone, so a bank of one pixel draws the slots that ours does
        self.drawn = ImageBank(
            num_classes=len(dc), crop=1, draws=draws, replacement=True, exclude_batch=False, allow_empty=False, seed=0
        )
        pixel = torch.zeros(len(dc), 3, 1, 1, dtype=torch.uint8)
        self.drawn.update({"image": pixel, "box": bank["box"], "label": bank["label"]})
        self.params = list(self.network.parameters())
        self.optimiser = sgd([{"params": self.params, **_OPTIMISER}], momentum=1e-4)

    def loaded(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the public loader gives: normalised images, and a 0 or 1 for every pixel of every channel."""
        boxes, crop = rows["box"], rows["image"].shape[2:]
        inside = box_masks(boxes, canvas=crop, size=crop).float()
        channels = 1 + rows["label"].shape[1]
        return {
            "image": normalise(rows["image"], boxes, mean=self.network.mean, std=self.network.std),
            "mask": inside[:, None].expand(-1, channels, -1, -1).contiguous(),
            "label": rows["label"].clone(),
        }

    def step(self, batch: dict[str, Tensor], *, bf16: bool) -> tuple:
        images, masks, labels = self._with_bank(batch)
        masks[:, 1:] = masks[:, 1:] * labels[:, :, None, None]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            parts = self._losses(images, masks, labels)
        loss = sum(parts)
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimiser.step()
        logged = [part.item() for part in parts]
        return loss.detach(), *logged, norm

    def _with_bank(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        for row, label in enumerate(batch["label"]):
            for shown in label.nonzero().flatten().tolist():
                for name, slots in self.bank.items():
                    slots[shown] = batch[name][row]
        order = torch.randperm(len(self.bank["label"]))
        for slots in self.bank.values():
            slots[order]
        on_device = {name: slots.to(self.device) for name, slots in self.bank.items()}
        index = self.drawn.draw()["label"].argmax(dim=1)
        return tuple(torch.cat([batch[n].to(self.device), on_device[n][index]]) for n in ("image", "mask", "label"))

    def _losses(self, images: Tensor, masks: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classification, Eq. 5 and Eq. 7, the last two with their weights."""
        half = F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=True)
        score, cam, prototype = self.network(images, _resized(masks, images), prototypes=True)
        score_half, cam_half, _ = self.network(half, _resized(masks, half), prototypes=False)
        cls = (F.multilabel_soft_margin_loss(score, labels) + F.multilabel_soft_margin_loss(score_half, labels)) / 2
        prototype = prototype / (F.adaptive_max_pool2d(prototype, 1) + EPS)
        dc = F.pad(self.dc, (1, 0), value=1.0)[:, None, None]
        proto = _LOSS["w_proto"] * torch.mean(torch.abs(cam - prototype) * dc)
        large = F.interpolate(cam, size=cam_half.shape[2:], mode="bilinear", align_corners=True)
        shown = labels[:, :, None, None]
        apart = torch.abs(large[:, 1:] * shown - cam_half[:, 1:] * shown) * self.dc[:, None, None]
        return cls, proto, _LOSS["w_scale"] * torch.mean(apart)


def _resized(masks: Tensor, images: Tensor) -> Tensor:
    size = [-(-side // 16) for side in images.shape[2:]]
    return F.interpolate(masks, size=size, mode="nearest")


def _ours(
    network: nn.Module,
    dc: Tensor,
    bank: dict[str, Tensor],
    given: dict[str, Tensor],
    *,
    draws: int,
    device: torch.device,
    bf16: bool,
):
    """The step of `sfc.training.loop`."""
    slots = ImageBank(
        num_classes=len(dc),
        crop=given["image"].shape[2],
        draws=draws,
        replacement=True,
        exclude_batch=False,
        allow_empty=False,
        seed=0,
    )
    slots.update(bank)
    rules = {"proto_norm": "max", "empty": "zero", "reduction": "mean", "detach_large": False}
    objective = SfcObjective(network, bank=slots, dc=dc, dc_proto=True, dc_scale=True, **_LOSS, **rules)
    objective = objective.to(device, memory_format=torch.channels_last).train()
    params = [p for p in objective.parameters() if p.requires_grad]
    optimiser = sgd([{"params": params, **_OPTIMISER}], momentum=1e-4)

    def step() -> tuple:
        batch = {name: rows.to(device) for name, rows in given.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            losses = objective(batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(params, 1.0)
        optimiser.step()
        return *(losses[name].detach() for name in ("loss", "cls", "proto", "scale")), norm

    return step


_SIZES = {
    "tiny": {"arch": "resnet18", "batch": 2, "classes": 5, "crop": 64, "draws": 4},
    "small": {"arch": "resnet50", "batch": 4, "classes": 20, "crop": 192, "draws": 4},
    "full": {"arch": "resnet50", "batch": 4, "classes": 20, "crop": 384, "draws": 4},
}

ROWS = (
    Row(
        "sfc-step-fp32",
        "public SFC step -> ours, fp32",
        partial(public_step, plain_bf16=False, ours_bf16=False),
        _SIZES,
        tolerance=1e-3,
    ),
    Row(
        "sfc-step-autocast",
        "public SFC step under bf16 autocast -> ours in bf16",
        partial(public_step, plain_bf16=True, ours_bf16=True),
        _SIZES,
        tolerance=0.1,
    ),
    Row(
        "sfc-step-bf16",
        "public SFC step as released, fp32 -> ours in bf16",
        partial(public_step, plain_bf16=False, ours_bf16=True),
        _SIZES,
        tolerance=0.1,
    ),
)
