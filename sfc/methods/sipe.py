"""SIPE (Chen et al. 2022), the method SFC grew out of: structure-aware seeds, image-specific CAM, consistency."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from sfc.calibration import cams
from sfc.calibration.method import Method, Setup
from sfc.calibration.network import CamNetwork, HierarchicalSides, Maps
from sfc.calibration.objective import Objective, batch_images, total
from sfc.calibration.seeds import structure_seeds
from sfc.config_types import NonNegative, Positive, Section


class SipePrototype(Section):
    """Which pixels a class prototype averages."""

    bkg_scale: Positive  # background likeness times this before the argmax


class SipeParams(Section):
    """What SIPE alone reads."""

    prototype: SipePrototype
    infer_feature: Literal["hierarchical", "semantic"]  # what the seeds correlate at inference
    w_gsc: NonNegative  # weight of the general-specific consistency loss


class SipeNetwork(CamNetwork):
    """Network of SIPE: no pixel correlation, but the image-specific CAM, which stands for the method.

    Args:
        bkg_scale: see `structure_seeds`.
        infer_feature: what the seeds of `infer` correlate: "hierarchical", the feature of the prototypes (released
            inference), or "semantic", layer4 as in training (paper).
        trunk: keyword arguments of `CamNetwork`.
    """

    kinds = ("classifier", "prototype")
    fused = ("prototype",)

    def __init__(self, *, bkg_scale: float, infer_feature: str, **trunk):
        super().__init__(**trunk)
        self.config |= {"bkg_scale": bkg_scale, "infer_feature": infer_feature}
        self.sides = HierarchicalSides(self.backbone.channels[1:])
        self._bkg_scale, self._infer_feature = bkg_scale, infer_feature

    def cam_specific(self, maps: Maps, cam: Tensor, feature: Tensor, mask: Tensor) -> Tensor:
        """Image-specific CAM, (B, 1 + C, H, W) float32 in 0..1, whose seeds correlate `feature` (B, D, H, W)."""
        seeds = structure_seeds(cam, feature, mask, bkg_scale=self._bkg_scale)
        return cams.prototype_cam(maps.hierarchical, seeds)

    def _hierarchy(self, levels: list[Tensor]) -> Tensor:
        return self.sides(levels)

    def _cams(self, maps: Maps, mask: Tensor, present: Tensor) -> list[Tensor]:
        cam = self.cam_weight(maps, mask)
        feature = maps.hierarchical if self._infer_feature == "hierarchical" else maps.semantic
        return [cam, self.cam_specific(maps, cam, feature, present)]


class SipeObjective(Objective):
    """One batch of crops to the losses of SIPE: classification and general-specific consistency (GSC).

    Args:
        network: trained in place.
        w_gsc: weight of GSC in the total; 1 in the released code.
    """

    def __init__(self, network: SipeNetwork, *, w_gsc: float):
        super().__init__(network)
        self.w_gsc = w_gsc
        network.sides.requires_grad_(bool(w_gsc))  # else no loss reaches them, and nothing must wait for a gradient

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars "loss", "cls" and "proto".

        The last is GSC with its weight, which is SFC's prototype consistency (Eq. 5) with every class weighted alike.
        """
        maps = self.network(batch_images(batch, self.network.backbone), hierarchy=bool(self.w_gsc))
        parts = {"cls": self.classification(maps, batch["label"])}
        if self.w_gsc:
            size, crop = maps.class_logits.shape[2:], batch["image"].shape[2:]
            mask = cams.valid_mask(batch["box"], batch["label"], crop=crop, size=size)
            cam = self.network.cam_weight(maps, mask)
            specific = self.network.cam_specific(maps, cam, maps.semantic, mask)
            parts["proto"] = self.w_gsc * (cam - cams.max_normalised(specific)).abs().mean(dim=(1, 2, 3))
        return total(parts)


def _objective(setup: Setup, *, sipe: SipeParams) -> SipeObjective:
    network = SipeNetwork(**setup.trunk, bkg_scale=sipe.prototype.bkg_scale, infer_feature=sipe.infer_feature)
    return SipeObjective(network, w_gsc=sipe.w_gsc)


SIPE = Method("sipe", {"sipe": SipeParams}, SipeNetwork, _objective, losses=("cls", "proto"))
