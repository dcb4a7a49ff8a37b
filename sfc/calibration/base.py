"""Base: the classifier alone, and what the networks and objectives of all methods share with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.backbone import Trunk, build_trunk
from sfc.calibration import cams, losses
from sfc.calibration.gradients import GradientRecord
from sfc.data.images import normalise
from sfc.training import distributed

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


class BaseNetwork(nn.Module):
    """Trunk and classifier, with the classifier-weight CAM of Eq. 2: the paper's Base, `sfc.method: cam`.

    The pixel correlation of Base compares [image, layer4] itself. SFC projects that by f9 first, which only its
    consistency losses train. The released code has no Base; without those losses its f9 keeps its random start, and a
    random projection to as many channels keeps the cosines it projects, up to noise. On photographs and an ImageNet
    trunk that noise moves the refined map by 0.3 % and no label. So f9 is left out, and nothing untrained takes part.

    Subclasses add heads and override `_semantic`, `_hierarchy` and `_cams`.

    Args:
        arch, frozen_stages, batch_norm: of the trunk, see `sfc.backbone.build_trunk`; output stride 16.
        num_classes: foreground classes C.
        pcm_iters: products with the pixel correlation; 2 in the released code, 0 leaves the CAM as it is.
        bkg_before_pcm: the background channel is made before the correlation and refined with the others (released
            code), or made from the refined foreground (as Eq. 2 is printed).

    Attributes:
        kinds: names of the CAMs that `infer` gives.
        fused: those whose sum stands for the method when its CAMs are measured and made into labels.
        config: keyword arguments that build the network again.
    """

    kinds: tuple[str, ...] = ("classifier",)
    fused: tuple[str, ...] = ("classifier",)

    def __init__(
        self,
        *,
        arch: str,
        num_classes: int,
        frozen_stages: int,
        batch_norm: str,
        pcm_iters: int,
        bkg_before_pcm: bool,
    ):
        super().__init__()
        self.config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.backbone = build_trunk(arch, output_stride=16, frozen_stages=frozen_stages, batch_norm=batch_norm)
        self.classifier = nn.Conv2d(self.backbone.channels[-1], num_classes, 1, bias=False)
        self.pcm_iters, self.bkg_before_pcm = pcm_iters, bkg_before_pcm

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
        if flip:
            images = torch.cat([images, images.flip(3)])
        _, *levels = self.backbone(images)
        parts = _resized(images, levels[-1]), levels[-1], self._hierarchy(levels)
        if flip:
            parts = (None if part is None else _unflipped_sum(part) for part in parts)
        maps = self._maps(*parts)
        present = cams.with_background(labels)[:, :, None, None]
        return torch.stack(self._cams(maps, present if mask_absent else torch.ones_like(present), present), dim=1)

    def cam_weight(self, maps: Maps, mask: Tensor) -> Tensor:
        """Classifier-weight CAM of Eq. 2, (B, 1 + C, H, W) float32; `mask` (broadcastable) clears it before PCM."""
        foreground = cams.normalised_cam(maps.class_logits)
        if self.bkg_before_pcm:
            masked = cams.prepend_background(foreground) * mask
            return cams.pixel_correlation(masked, maps.semantic, iters=self.pcm_iters)
        masked = foreground * mask[:, 1:]
        return cams.prepend_background(cams.pixel_correlation(masked, maps.semantic, iters=self.pcm_iters))

    def _maps(self, image: Tensor, layer4: Tensor, hierarchical: Tensor | None) -> Maps:
        semantic = self._semantic(image.to(layer4.dtype), layer4)
        return Maps(self.classifier(layer4), semantic, hierarchical)

    def _semantic(self, image: Tensor, layer4: Tensor) -> Tensor:
        """The feature whose cosines are the pixel correlation."""
        return torch.cat([image, layer4], dim=1)

    def _hierarchy(self, levels: list[Tensor]) -> Tensor | None:
        """The hierarchical feature of layer1 .. layer4, where the method has one."""
        return None

    def _cams(self, maps: Maps, mask: Tensor, present: Tensor) -> list[Tensor]:
        """The CAM of each of `kinds`; `mask` clears the classifier's, only `present` channels have prototypes."""
        return [self.cam_weight(maps, mask)]


def _resized(images: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(images, size=like.shape[2:], mode="bilinear", align_corners=True)


def _unflipped_sum(x: Tensor) -> Tensor:
    plain, mirrored = x.chunk(2)
    return plain + mirrored.flip(3)


class Objective(nn.Module):
    """What the objectives of all methods share.

    Args:
        network: trained in place.

    Attributes:
        gradients: a `GradientRecord` that takes note of the scores of each step, or None; it changes no loss.
    """

    def __init__(self, network: BaseNetwork):
        super().__init__()
        self.network = network
        self.gradients: GradientRecord | None = None

    def classification(self, maps: Maps, labels: Tensor) -> Tensor:
        """Eq. 1 of each image, (B,), taken note of; for the full-size images, once a step."""
        if self.gradients is not None:
            self.gradients.add(maps.score, labels)
        return losses.classification_loss(maps.score, labels)


class BaseObjective(Objective):
    """One batch of crops to the loss of the classifier alone (Eq. 1); neither CAM nor second scale takes part."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch: this process's share of the global batch: "image" (B, 3, crop, crop) uint8, "box" (B, 4) int64,
                "label" (B, C) float32.

        Returns:
            Scalars "loss" and its parts, here "cls".
        """
        maps = self.network(batch_images(batch, self.network.backbone), hierarchy=False)
        return total({"cls": self.classification(maps, batch["label"])})


def batch_images(batch: dict[str, Tensor], trunk: Trunk) -> Tensor:
    """The images of a batch, normalised for `trunk`, (B, 3, crop, crop) float32, 0 outside their boxes."""
    images = normalise(batch["image"], batch["box"], mean=trunk.mean, std=trunk.std)
    return images.contiguous(memory_format=torch.channels_last)


def total(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of one value an image, (B,), as means over the global batch, with their sum as "loss" in front."""
    means = {name: distributed.global_mean(rows.sum(), len(rows)) for name, rows in parts.items()}
    return {"loss": sum(means.values()), **means}
