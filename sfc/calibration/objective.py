"""The training objective of SFC: bank, two scales, two CAMs, three losses (Eq. 8)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sfc.calibration import cams, losses
from sfc.calibration.base import Objective, batch_images, total
from sfc.calibration.image_bank import FIELDS, ImageBank
from sfc.calibration.network import CamNetwork
from sfc.training import distributed


class SfcObjective(Objective):
    """One batch of crops to the losses of SFC.

    Args:
        network: trained in place.
        bank: image bank, or None to train on the batch alone.
        dc: (C,) distribution coefficients.
        w_proto, w_scale: weights of Eq. 5 and Eq. 7 in the total.
        dc_proto, dc_scale: weigh Eq. 5 (Eq. 7) by `dc`; False weighs all classes alike.
        proto_norm: "max" divides the prototype CAM by its maximum before Eq. 5 (released code), "none" does not.
        reduction, detach_large: see `sfc.calibration.losses`.
    """

    def __init__(
        self,
        network: CamNetwork,
        *,
        bank: ImageBank | None,
        dc: Tensor,
        w_proto: float,
        w_scale: float,
        dc_proto: bool,
        dc_scale: bool,
        proto_norm: str,
        reduction: str,
        detach_large: bool,
    ):
        super().__init__(network)
        self.bank = bank
        self.w_proto, self.w_scale = w_proto, w_scale
        self.proto_norm, self.reduction, self.detach_large = proto_norm, reduction, detach_large
        # heads that no loss reaches get no gradient: the optimiser and the processes' average must not wait for one
        network.sides.requires_grad_(bool(w_proto))
        network.f9.requires_grad_(bool(network.pcm_iters and (w_proto or w_scale)))
        self.register_buffer("dc_proto", dc if dc_proto else torch.ones_like(dc), persistent=False)
        self.register_buffer("dc_scale", dc if dc_scale else torch.ones_like(dc), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch: this process's share of the global batch: "image" (B, 3, crop, crop) uint8, "box" (B, 4) int64,
                "label" (B, C) float32.

        Returns:
            Scalars "loss", "cls", "proto", "scale"; the last two with their weights.
        """
        batch = self._with_bank(batch)
        boxes, labels = batch["box"], batch["label"]
        crop = batch["image"].shape[2:]
        images = batch_images(batch, self.network.backbone)
        maps = self.network(images, hierarchy=bool(self.w_proto))
        mask = cams.valid_mask(boxes, labels, crop=crop, size=maps.class_logits.shape[2:])
        cam_weight = self.network.cam_weight(maps, mask)
        parts = {"cls": self.classification(maps, labels)}
        if self.w_proto:
            cam_prototype = self.network.cam_prototype(maps, cam_weight, mask)
            parts["proto"] = self.w_proto * self._prototype_loss(cam_weight, cam_prototype)
        half = F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=True)
        maps_half = self.network(half, hierarchy=False)
        parts["cls"] = (parts["cls"] + losses.classification_loss(maps_half.score, labels)) / 2
        if self.w_scale:
            mask_half = cams.valid_mask(boxes, labels, crop=crop, size=maps_half.class_logits.shape[2:])
            cam_half = self.network.cam_weight(maps_half, mask_half)
            parts["scale"] = self.w_scale * self._scale_loss(cam_weight, cam_half, labels)
        return total(parts)

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

    def _prototype_loss(self, cam_weight: Tensor, cam_prototype: Tensor) -> Tensor:
        if self.proto_norm == "max":
            cam_prototype = cams.max_normalised(cam_prototype)
        return losses.prototype_consistency(cam_weight, cam_prototype, self.dc_proto, reduction=self.reduction)

    def _scale_loss(self, cam_weight: Tensor, cam_half: Tensor, labels: Tensor) -> Tensor:
        return losses.scale_consistency(
            cam_weight, cam_half, labels, self.dc_scale, reduction=self.reduction, detach_large=self.detach_large
        )
