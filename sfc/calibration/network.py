"""The CAM network: trunk, classifier, pixel-correlation head and side projections, and its two CAMs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.backbone import Backbone
from sfc.calibration import cams
from sfc.model_file import load_model, save_model

SIDE_CHANNELS = (128, 128, 256, 256)  # of layer1 .. layer4, public implementation


@dataclass(frozen=True)
class Maps:
    """What one forward pass gives the CAMs; all at the trunk's output stride.

    class_logits (B, C, H, W); semantic (B, D, H, W) correlation feature; hierarchical (B, D', H, W) float32, or None.
    """

    class_logits: Tensor
    semantic: Tensor
    hierarchical: Tensor | None

    @property
    def score(self) -> Tensor:
        """(B, C) float32 logits: the classifier's map averaged over all pixels."""
        return self.class_logits.float().mean(dim=(2, 3))


class CamNetwork(nn.Module):
    """Network of SFC.

    Args:
        arch, frozen_stages, batch_norm: of the trunk, see `sfc.backbone.Backbone`; output stride 16.
        num_classes: foreground classes C.
        pcm_iters: products with the pixel correlation; 2 in the released code, 0 leaves the CAM as it is.
        bkg_before_pcm: the background channel is made before the correlation and refined with the others (released
            code), or made from the refined foreground (as Eq. 2 is printed).
        seed_mode, seed_bkg_scale, seed_threshold: see `cams.prototype_seeds`.
    """

    kinds = ("classifier", "prototype")

    def __init__(
        self,
        *,
        arch: str,
        num_classes: int,
        frozen_stages: int,
        batch_norm: str,
        pcm_iters: int,
        bkg_before_pcm: bool,
        seed_mode: str,
        seed_bkg_scale: float,
        seed_threshold: float,
    ):
        super().__init__()
        self.config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.backbone = Backbone(arch=arch, frozen_stages=frozen_stages, batch_norm=batch_norm)
        *_, last = channels = self.backbone.channels
        self.classifier = nn.Conv2d(last, num_classes, 1, bias=False)
        self.f9 = nn.Conv2d(3 + last, last, 1, bias=False)
        self.sides = nn.ModuleList(
            nn.Conv2d(c, out, 1, bias=False) for c, out in zip(channels[1:], SIDE_CHANNELS, strict=True)
        )
        self.pcm_iters, self.bkg_before_pcm = pcm_iters, bkg_before_pcm
        self._seeds = {"mode": seed_mode, "bkg_scale": seed_bkg_scale, "threshold": seed_threshold}

    def heads(self) -> list[nn.Parameter]:
        """The parameters outside the trunk; they learn at a higher rate."""
        return [p for name, p in self.named_parameters() if not name.startswith("backbone.")]

    def forward(self, images: Tensor, *, hierarchy: bool = True) -> Maps:
        """One pass over (B, 3, H, W) normalised images; without `hierarchy` there can be no prototype CAM."""
        _, *levels = self.backbone(images)
        hierarchical = self._hierarchy(levels) if hierarchy else None
        return self._maps(self._resized(images, levels[-1]), levels[-1], hierarchical)

    def infer(self, images: Tensor, labels: Tensor, *, flip: bool, mask_absent: bool) -> Tensor:
        """The CAMs of whole images.

        Args:
            images: (B, 3, H, W) float32, normalised.
            labels: (B, C) 0 or 1; absent classes get no prototype.
            flip: add the classifier map, features and image of the mirrored images before anything is rectified
                or normalised, as the released code does.
            mask_absent: clear the maps of absent classes before the pixel correlation, as training does; the
                released inference does not.

        Returns:
            (B, len(kinds), 1 + C, H / 16, W / 16) float32.
        """
        if flip:
            images = torch.cat([images, images.flip(3)])
        _, *levels = self.backbone(images)
        image, semantic, hierarchy = self._resized(images, levels[-1]), levels[-1], self._hierarchy(levels)
        if flip:
            image, semantic, hierarchy = (_unflipped_sum(x) for x in (image, semantic, hierarchy))
        maps = self._maps(image, semantic, hierarchy)
        present = cams.with_background(labels)[:, :, None, None]
        weight = self.cam_weight(maps, present if mask_absent else torch.ones_like(present))
        return torch.stack([weight, self.cam_prototype(maps, weight, present)], dim=1)

    def cam_weight(self, maps: Maps, mask: Tensor) -> Tensor:
        """Classifier-weight CAM of Eq. 2, (B, 1 + C, H, W) float32; `mask` (broadcastable) clears it before PCM."""
        foreground = cams.normalised_cam(maps.class_logits)
        if self.bkg_before_pcm:
            masked = cams.prepend_background(foreground) * mask
            return cams.pixel_correlation(masked, maps.semantic, iters=self.pcm_iters)
        masked = foreground * mask[:, 1:]
        return cams.prepend_background(cams.pixel_correlation(masked, maps.semantic, iters=self.pcm_iters))

    def cam_prototype(self, maps: Maps, cam_weight: Tensor, mask: Tensor) -> Tensor:
        """Prototype CAM of Eq. 4 from the seeds in `cam_weight`, (B, 1 + C, H, W) float32 in 0..1."""
        return cams.prototype_cam(maps.hierarchical, cams.prototype_seeds(cam_weight, mask, **self._seeds))

    def _maps(self, image: Tensor, semantic: Tensor, hierarchy: Tensor | None) -> Maps:
        correlation = self.f9(torch.cat([image.to(semantic.dtype), semantic], dim=1))
        return Maps(self.classifier(semantic), correlation, hierarchy)

    def _resized(self, images: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(images, size=like.shape[2:], mode="bilinear", align_corners=True)

    def _hierarchy(self, levels: list[Tensor]) -> Tensor:
        """Projections of the levels, which get no gradient from here; layer3 gives the size."""
        sides = [side(level.detach()) for side, level in zip(self.sides, levels, strict=True)]
        return cams.hierarchical_feature(sides, levels[2].shape[2:])


def _unflipped_sum(x: Tensor) -> Tensor:
    plain, mirrored = x.chunk(2)
    return plain + mirrored.flip(3)


def save_cam_network(network: CamNetwork, path: Path | str, *, method: str) -> None:
    """Write weights and what rebuilds the network to one file."""
    save_model(network, path, config={"method": method, "network": network.config})


def load_cam_network(path: Path | str, device: torch.device | str) -> CamNetwork:
    """The network of a file by `save_cam_network`, in evaluation mode on `device`; raises UserError as `load_model`."""
    return load_model(path, lambda config: CamNetwork(**config["network"]), device, stage="train_sfc")
