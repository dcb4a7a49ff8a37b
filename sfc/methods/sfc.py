"""SFC (Zhao et al. 2024): image bank, two scales, two CAMs, and the three losses of Eq. 8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.calibration import cams, losses, measures
from sfc.calibration.image_bank import FIELDS, ImageBank
from sfc.calibration.method import Method, Setup
from sfc.calibration.network import CorrelatedCamNetwork, HierarchicalSides, Maps
from sfc.calibration.objective import Objective, batch_images, total
from sfc.calibration.seeds import prototype_seeds
from sfc.config import Dc, Ibr
from sfc.config_types import Fraction, NonNegative, Positive, Products, Section
from sfc.training import distributed

MEASURES = (
    "no_background_seed",  # share of images
    "empty_prototypes",  # share of the prototypes of background and present classes
    "cam_range",  # of a present class's map in an image, after the correlation
    "pcm_share",  # of the pixels, that one product with the correlation averages
)
DYING = 0.5  # share of images without background seed above which a training is said to go wrong


class SfcPrototype(Section):
    """Which pixels a class prototype averages, Eq. 3."""

    mode: Literal["argmax", "threshold", "structure"]
    bkg_scale: Positive  # background channel (structure: its likeness) times this before the argmax
    threshold: Fraction  # only for mode threshold
    # of a class without any: zero, a prototype CAM of 0 that Eq. 5 pulls the classifier's to; skip, no term in Eq. 5
    empty: Literal["zero", "skip"]
    seed_range: Literal["none", "image"]  # image: from the map scaled to its own range in the image


class SfcParams(Section):
    """Network and prototypes of SFC."""

    pcm_iters: Products  # 0: no pixel correlation
    bkg_before_pcm: bool
    seed_pcm_iters: Products | None  # of the map that seeds are taken from; null: as pcm_iters
    proto_norm: Literal["max", "none"]
    prototype: SfcPrototype


class Msdw(Section):
    """Multi-scaled distribution-weighted consistency loss, Eq. 5, 7, 8."""

    w_proto: NonNegative
    w_scale: NonNegative
    dc_proto: bool  # false: weight 1 for every class in Eq. 5
    dc_scale: bool  # the same in Eq. 7
    reduction: Literal["mean", "sum"]
    detach_large: bool


class SfcNetwork(CorrelatedCamNetwork):
    """Network of SFC: the pixel correlation has a projection of its own, f9, and classes have prototypes.

    Args:
        prototype: keyword arguments of `seeds.prototype_seeds`.
        seed_pcm_iters: products with the pixel correlation of the map that seeds are taken from; None: as `pcm_iters`
            (released code). 0 takes them from the CAM as it is, which a correlation that has not learned yet blurs.
        correlated: those of `CorrelatedCamNetwork`.
    """

    kinds = fused = ("classifier", "prototype")

    def __init__(self, *, prototype: dict[str, Any], seed_pcm_iters: int | None = None, **correlated):
        super().__init__(**correlated)
        self.config |= {"prototype": prototype, "seed_pcm_iters": seed_pcm_iters}
        self.seed_pcm_iters = seed_pcm_iters
        *_, last = channels = self.backbone.channels
        self.f9 = nn.Conv2d(3 + last, last, 1, bias=False)
        self.sides = HierarchicalSides(channels[1:])
        self._prototype = prototype

    def cam_prototype(self, maps: Maps, cam: Tensor, mask: Tensor) -> Tensor:
        """Prototype CAM of Eq. 4 from the seeds in `cam`, (B, 1 + C, H, W) float32 in 0..1."""
        return cams.prototype_cam(maps.hierarchical, self.seeds(maps, cam, mask))

    def seed_cam(self, maps: Maps, cam_weight: Tensor, mask: Tensor) -> Tensor:
        """The map that seeds are taken from: `cam_weight`, or the CAM after `seed_pcm_iters`, cleared by `mask`."""
        if self.seed_pcm_iters is None:
            return cam_weight
        with torch.no_grad():
            return self.cam_weight(maps, mask, iters=self.seed_pcm_iters)

    def seeds(self, maps: Maps, cam: Tensor, mask: Tensor) -> Tensor:
        """The seeds of Eq. 3 in `cam`, (B, 1 + C, H, W) float32, 0 or 1; none where `mask` is 0."""
        return prototype_seeds(cam, mask, **self._prototype, feature=maps.hierarchical)

    @property
    def structured(self) -> bool:
        """Whether seeds need the hierarchical feature."""
        return self._prototype["mode"] == "structure"

    def _semantic(self, image: Tensor, layer4: Tensor) -> Tensor:
        return self.f9(super()._semantic(image, layer4))

    def _hierarchy(self, levels: list[Tensor]) -> Tensor:
        return self.sides(levels)

    def _cams(self, maps: Maps, mask: Tensor, present: Tensor) -> list[Tensor]:
        weight = self.cam_weight(maps, mask)
        return [weight, self.cam_prototype(maps, self.seed_cam(maps, weight, mask), present)]


class SfcObjective(Objective):
    """One batch of crops to the losses of SFC.

    Args:
        network: trained in place.
        bank: image bank, or None to train on the batch alone.
        dc: (C,) distribution coefficients.
        w_proto, w_scale: weights of Eq. 5 and Eq. 7 in the total.
        dc_proto, dc_scale: weigh Eq. 5 (Eq. 7) by `dc`; False weighs all classes alike.
        proto_norm: "max" divides the prototype CAM by its maximum before Eq. 5 (released code), "none" does not.
        empty: Eq. 3 divides by the number of seeds. Where there is none, "zero" takes 0 for the prototype (released
            code), so that Eq. 5 pulls the classifier's map to 0 all over the image; on the background, which loses its
            seeds first, that makes everything foreground. "skip" leaves that channel of that image out of Eq. 5.
        reduction, detach_large: see `sfc.calibration.losses`.
    """

    def __init__(
        self,
        network: SfcNetwork,
        *,
        bank: ImageBank | None,
        dc: Tensor,
        w_proto: float,
        w_scale: float,
        dc_proto: bool,
        dc_scale: bool,
        proto_norm: str,
        empty: str,
        reduction: str,
        detach_large: bool,
    ):
        super().__init__(network)
        self.bank = bank
        self.w_proto, self.w_scale = w_proto, w_scale
        self.proto_norm, self.empty = proto_norm, empty
        self.reduction, self.detach_large = reduction, detach_large
        # heads that no loss reaches get no gradient: the optimiser and the processes' average must not wait for one
        network.sides.requires_grad_(bool(w_proto))
        network.f9.requires_grad_(bool(network.pcm_iters and (w_proto or w_scale)))
        self.register_buffer("dc_proto", dc if dc_proto else torch.ones_like(dc), persistent=False)
        self.register_buffer("dc_scale", dc if dc_scale else torch.ones_like(dc), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars "loss", "cls", "proto", "scale", the last two with their weights; and `MEASURES`."""
        batch = self._with_bank(batch)
        boxes, labels = batch["box"], batch["label"]
        crop = batch["image"].shape[2:]
        images = batch_images(batch, self.network.backbone)
        maps = self.network(images, hierarchy=bool(self.w_proto) or self.network.structured)
        mask = cams.valid_mask(boxes, labels, crop=crop, size=maps.class_logits.shape[2:])
        cam_weight = self.network.cam_weight(maps, mask)
        seeds = self.network.seeds(maps, self.network.seed_cam(maps, cam_weight, mask), mask)
        parts = {"cls": self.classification(maps, labels)}
        if self.w_proto:
            cam_prototype = cams.prototype_cam(maps.hierarchical, seeds)
            parts["proto"] = self.w_proto * self._prototype_loss(cam_weight, cam_prototype, seeds)
        half = F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=True)
        maps_half = self.network(half, hierarchy=False)
        parts["cls"] = (parts["cls"] + losses.classification_loss(maps_half.score, labels)) / 2
        if self.w_scale:
            mask_half = cams.valid_mask(boxes, labels, crop=crop, size=maps_half.class_logits.shape[2:])
            cam_half = self.network.cam_weight(maps_half, mask_half)
            parts["scale"] = self.w_scale * self._scale_loss(cam_weight, cam_half, labels)
        return total(parts) | self._measures(maps, cam_weight, seeds, mask)

    def _measures(self, maps: Maps, cam_weight: Tensor, seeds: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """`MEASURES`; without correlation it has no share."""
        found = {
            "no_background_seed": measures.no_background_seed(seeds, mask),
            "empty_prototypes": measures.empty_prototypes(seeds, mask),
            "cam_range": measures.cam_range(cam_weight, mask),
        }
        if self.network.pcm_iters:
            found["pcm_share"] = measures.effective_share(maps.semantic)
        return measures.averaged(found)

    def _with_bank(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch followed by images of the bank, which every process updates with the whole global batch."""
        batch = {name: batch[name] for name in FIELDS}
        if self.bank is None:
            return batch
        whole = {name: distributed.gather_rows(rows) for name, rows in batch.items()}
        self.bank.update(whole)
        drawn = self.bank.draw()
        joined = {name: torch.cat([whole[name], drawn[name]]) for name in FIELDS}
        mine = distributed.share(len(joined["label"]))
        return {name: rows[mine] for name, rows in joined.items()}

    def _prototype_loss(self, cam_weight: Tensor, cam_prototype: Tensor, seeds: Tensor) -> Tensor:
        if self.proto_norm == "max":
            cam_prototype = cams.max_normalised(cam_prototype)
        kept = seeds.amax(dim=(2, 3)) if self.empty == "skip" else None
        return losses.prototype_consistency(
            cam_weight, cam_prototype, self.dc_proto, reduction=self.reduction, kept=kept
        )

    def _scale_loss(self, cam_weight: Tensor, cam_half: Tensor, labels: Tensor) -> Tensor:
        return losses.scale_consistency(
            cam_weight, cam_half, labels, self.dc_scale, reduction=self.reduction, detach_large=self.detach_large
        )


def _objective(setup: Setup, *, sfc: SfcParams, ibr: Ibr, dc: Dc, msdw: Msdw) -> SfcObjective:
    network = SfcNetwork(**setup.trunk, **sfc.model_dump(exclude={"proto_norm": True, "prototype": {"empty"}}))
    bank = None
    if ibr.n:
        settings = ibr.model_dump(exclude={"n"})
        bank = ImageBank(
            num_classes=setup.num_classes, crop=setup.crop, draws=ibr.n, seed=setup.random_seed, **settings
        )
    of_prototypes = {"proto_norm": sfc.proto_norm, "empty": sfc.prototype.empty}
    return SfcObjective(network, bank=bank, dc=setup.dc, **of_prototypes, **msdw.model_dump())


def _warning(row: Mapping[str, float]) -> str | None:
    share = row["no_background_seed"]
    if share <= DYING:
        return None
    return (
        f"in {100 * share:.0f} % of the images no pixel is a seed of the background, so its prototype is undefined "
        "and, with sfc.prototype.empty zero, everything becomes foreground; see sfc.pcm_iters, sfc.seed_pcm_iters, "
        "sfc.prototype"
    )


SFC = Method(
    "sfc",
    {"sfc": SfcParams, "ibr": Ibr, "dc": Dc, "msdw": Msdw},
    SfcNetwork,
    _objective,
    losses=("cls", "proto", "scale"),
    measures=MEASURES,
    warning=_warning,
)
