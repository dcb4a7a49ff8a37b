"""What the CAM networks of all methods share: trunk and classifier, its CAM (Eq. 2), and inference on whole images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.backbone import build_trunk
from sfc.calibration import cams

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


class HierarchicalSides(nn.ModuleList):
    """Projections of layer1 .. layer4, which get no gradient from here, as one feature: L of Eq. 3.

    Args:
        channels: of the four levels.
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__(nn.Conv2d(c, out, 1, bias=False) for c, out in zip(channels, SIDE_CHANNELS, strict=True))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Four (B, C_i, H_i, W_i) to (B, 768, H_3, W_3) float32: layer3 gives the size."""
        sides = [side(level.detach()) for side, level in zip(self, levels, strict=True)]
        return cams.hierarchical_feature(sides, levels[2].shape[2:])


class CamNetwork(nn.Module):
    """Trunk and classifier, with the classifier-weight CAM of Eq. 2 before any pixel correlation.

    The network of a method adds heads and overrides `cam_weight`, `_semantic`, `_hierarchy` and `_cams`.

    Args:
        arch, frozen_stages, batch_norm: of the trunk, see `sfc.backbone.build_trunk`; output stride 16.
        num_classes: foreground classes C.

    Attributes:
        kinds: names of the CAMs that `infer` gives.
        fused: those whose weighted sum stands for the method when its CAMs are measured and made into labels.
        config: keyword arguments that build the network again.
        correlated: whether there is a pixel correlation, whose products `pcm_iters` counts.
        seed_pcm_iters: how many of them the map has that prototypes take their seeds from, where a method has such
            prototypes; None: as many as `pcm_iters`. May be set to read the CAMs otherwise.
    """

    kinds: tuple[str, ...] = ("classifier",)
    fused: tuple[str, ...] = ("classifier",)
    correlated = False
    seed_pcm_iters: int | None = None

    def __init__(self, *, arch: str, num_classes: int, frozen_stages: int, batch_norm: str):
        super().__init__()
        trunk = {"arch": arch, "frozen_stages": frozen_stages, "batch_norm": batch_norm}
        self.config = {**trunk, "num_classes": num_classes}
        self.backbone = build_trunk(**trunk, output_stride=16)
        self.classifier = nn.Conv2d(self.backbone.channels[-1], num_classes, 1, bias=False)

    def heads(self) -> list[nn.Parameter]:
        """The parameters outside the trunk; they learn at a higher rate."""
        return [p for name, p in self.named_parameters() if not name.startswith("backbone.")]

    def forward(self, images: Tensor, *, hierarchy: bool = True) -> Maps:
        """One pass over (B, 3, H, W) normalised images; without `hierarchy` there can be no prototype CAM."""
        _, *levels = self.backbone(images)
        hierarchical = self._hierarchy(levels) if hierarchy else None
        return self._maps(_resized(images, levels[-1]), levels[-1], hierarchical)

    def infer(self, images: Tensor, labels: Tensor, *, flip: bool, mask_absent: bool) -> Tensor:
        """The CAMs of whole images.

        Args:
            images: (B, 3, H, W) float32, normalised.
            labels: (B, C) 0 or 1; absent classes get no prototype.
            flip: add the classifier map, features and image of the mirrored images before anything is rectified
                or normalised, as the released code does.
            mask_absent: clear the maps of absent classes before the pixel correlation or the seeds, as training
                does; the released inference does not.

        Returns:
            (B, len(kinds), 1 + C, H / 16, W / 16) float32.
        """
        return self.read(self.whole(images, flip=flip), labels, mask_absent=mask_absent)

    def whole(self, images: Tensor, *, flip: bool) -> Maps:
        """The first half of `infer`: what the CAMs are read from."""
        if flip:
            images = torch.cat([images, images.flip(3)])
        _, *levels = self.backbone(images)
        parts = _resized(images, levels[-1]), levels[-1], self._hierarchy(levels)
        if flip:
            parts = (None if part is None else _unflipped_sum(part) for part in parts)
        return self._maps(*parts)

    def read(self, maps: Maps, labels: Tensor, *, mask_absent: bool) -> Tensor:
        """The second half of `infer`: the CAMs of `maps` by `pcm_iters` and `seed_pcm_iters` as they are now."""
        present = cams.with_background(labels)[:, :, None, None]
        return torch.stack(self._cams(maps, present if mask_absent else torch.ones_like(present), present), dim=1)

    def cam_weight(self, maps: Maps, mask: Tensor) -> Tensor:
        """Classifier-weight CAM, (B, 1 + C, H, W) float32 in 0..1; `mask` (broadcastable) clears it."""
        return cams.prepend_background(cams.normalised_cam(maps.class_logits)) * mask

    def _maps(self, image: Tensor, layer4: Tensor, hierarchical: Tensor | None) -> Maps:
        semantic = self._semantic(image.to(layer4.dtype), layer4)
        return Maps(self.classifier(layer4), semantic, hierarchical)

    def _semantic(self, image: Tensor, layer4: Tensor) -> Tensor:
        """The feature whose cosines correlate pixels."""
        return layer4

    def _hierarchy(self, levels: list[Tensor]) -> Tensor | None:
        """The hierarchical feature of layer1 .. layer4, where the method has one."""
        return None

    def _cams(self, maps: Maps, mask: Tensor, present: Tensor) -> list[Tensor]:
        """The CAM of each of `kinds`; `mask` clears the classifier's, only `present` channels have prototypes."""
        return [self.cam_weight(maps, mask)]


class CorrelatedCamNetwork(CamNetwork):
    """A CAM network whose classifier-weight CAM goes through the pixel correlation module (PCM, Eq. 2).

    Args:
        pcm_iters: products with the pixel correlation; 2 in the released code, 0 leaves the CAM as it is.
        bkg_before_pcm: the background channel is made before the correlation and refined with the others (released
            code), or made from the refined foreground (as Eq. 2 is printed).
        trunk: keyword arguments of `CamNetwork`.

    Attributes:
        pcm_iters: may be set to read the CAMs of a trained network with other products than it was trained with: what
            its losses need of the correlation, and what it gives the finished maps, are two questions.
    """

    correlated = True

    def __init__(self, *, pcm_iters: int, bkg_before_pcm: bool, **trunk):
        super().__init__(**trunk)
        self.config |= {"pcm_iters": pcm_iters, "bkg_before_pcm": bkg_before_pcm}
        self.pcm_iters, self.bkg_before_pcm = pcm_iters, bkg_before_pcm

    def cam_weight(self, maps: Maps, mask: Tensor, *, iters: int | None = None) -> Tensor:
        """As in `CamNetwork`, refined by `iters` products (None: `pcm_iters`); `mask` clears the CAM before them."""
        iters = self.pcm_iters if iters is None else iters
        foreground = cams.normalised_cam(maps.class_logits)
        if self.bkg_before_pcm:
            masked = cams.prepend_background(foreground) * mask
            return cams.pixel_correlation(masked, maps.semantic, iters=iters)
        masked = foreground * mask[:, 1:]
        return cams.prepend_background(cams.pixel_correlation(masked, maps.semantic, iters=iters))

    def _semantic(self, image: Tensor, layer4: Tensor) -> Tensor:
        return torch.cat([image, layer4], dim=1)


def _resized(images: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(images, size=like.shape[2:], mode="bilinear", align_corners=True)


def _unflipped_sum(x: Tensor) -> Tensor:
    plain, mirrored = x.chunk(2)
    return plain + mirrored.flip(3)
