"""What classes share in the features of a trained CAM network: weights and prototypes on one another's pixels.

The paper explains over- and under-activation by Eq. 11 to 16: pixels A, weights W and prototypes P are vectors in the
space of the features F that the classifier reads, and a common class's weight holds more of the part that classes
share. The prototypes of Eq. 3 live elsewhere, in the projected hierarchical feature, where no weight can be compared
with them. So here a prototype is what Conclusion 3 calls it: the mean of F over the pixels that its class activates.

All activations are cosines, so that those of weights and of prototypes can be compared. Features are rectified:
cosines with a prototype are never negative, and those with a weight are where the weight holds the opposite.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfc.calibration import cams
from sfc.calibration.seeds import prototype_seeds

EPS = 1e-8


@dataclass(frozen=True)
class SharedFeatures:
    """Cosines, float64 on the host; NaN where a class has no pixel, or a prototype no seed.

    Attributes:
        weight_on_pixels: (1 + C, C), A W of Eq. 13 to 16: mean cosine of the pixels of class k (row, background
            first) and the classifier weight of class c (column).
        prototype_on_pixels: (1 + C, C), A P: the same with the prototype of class c.
        weight_and_prototype: (C, C), cosine of the prototype of class k (row) and the weight of class c (column).
        pixels: (1 + C,) feature pixels of each class.
    """

    weight_on_pixels: Tensor
    prototype_on_pixels: Tensor
    weight_and_prototype: Tensor
    pixels: Tensor


class FeatureSums:
    """Adds up the features of images, as much as the cosines need: a mean cosine is the cosine with a sum.

    Args:
        weight: (C, D) the classifier's weights.
        bkg_scale: of the background in the seeds, see `sfc.calibration.seeds.prototype_seeds`.
    """

    def __init__(self, weight: Tensor, *, bkg_scale: float):
        self._weight = weight.double()
        self._bkg_scale = bkg_scale
        classes, channels = weight.shape
        self._units = self._weight.new_zeros(1 + classes, channels)  # unit features of each class's pixels
        self._pixels = self._weight.new_zeros(1 + classes)
        self._prototypes = self._weight.new_zeros(classes, channels)  # features of each class's seeds

    def seeds(self, feature: Tensor, labels: Tensor) -> Tensor:
        """(B, 1 + C, H, W) 0 or 1: every pixel to the strongest classifier-weight CAM of its image's classes.

        As in Eq. 3, but with the CAM before pixel correlation, so that networks of every method are read alike.

        Args:
            feature: (B, D, H, W), what the classifier reads.
            labels: (B, C) 0 or 1.
        """
        logits = torch.einsum("cd,bdhw->bchw", self._weight.float(), feature.float())
        cam = cams.prepend_background(cams.normalised_cam(logits) * labels[:, :, None, None])
        present = cams.with_background(labels)[:, :, None, None]
        return prototype_seeds(cam, present, mode="argmax", bkg_scale=self._bkg_scale, threshold=0.0, seed_range="none")

    def add(self, feature: Tensor, seeds: Tensor, regions: Tensor) -> None:
        """Count images.

        Args:
            feature: (B, D, H, W).
            seeds: (B, 1 + C, H, W) from `seeds`; what prototypes average, without the background.
            regions: (B, 1 + C, H, W) 0 or 1, which pixels belong to which class: the truth where there is one,
                else the seeds.
        """
        pixels = feature.double().flatten(2).transpose(1, 2)
        self._units += (regions.double().flatten(2) @ F.normalize(pixels, dim=2, eps=EPS)).sum(0)
        self._pixels += regions.double().sum(dim=(0, 2, 3))
        self._prototypes += (seeds[:, 1:].double().flatten(2) @ pixels).sum(0)

    def result(self) -> SharedFeatures:
        """The cosines over all images so far."""
        weights, prototypes = (_unit_rows(vectors) for vectors in (self._weight, self._prototypes))
        mean = self._units / self._pixels[:, None]  # 0 / 0 is the NaN of a class without pixels
        found = (mean @ weights.T, mean @ prototypes.T, prototypes @ weights.T, self._pixels)
        return SharedFeatures(*(values.cpu() for values in found))


def _unit_rows(vectors: Tensor) -> Tensor:
    """Rows at unit length; NaN for a row of zeros, which points nowhere."""
    return vectors / vectors.norm(dim=1, keepdim=True)


def region_map(label: Tensor, num_classes: int) -> Tensor:
    """(H, W) label map (255: no class) to (K, H, W) float32, 0 or 1, one map a class of `num_classes`."""
    return (label[None] == torch.arange(num_classes, device=label.device)[:, None, None]).float()
