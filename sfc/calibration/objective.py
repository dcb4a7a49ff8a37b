"""What the training objectives of all methods share: the classification loss, and means over the global batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sfc.backbone import Trunk
from sfc.calibration import losses
from sfc.calibration.gradients import GradientRecord
from sfc.calibration.network import CamNetwork, Maps
from sfc.data.images import normalise
from sfc.training import distributed


class Objective(nn.Module):
    """Called with one batch, returns named scalars: "loss" in front, its parts, and measures that are in no loss.

    A batch is this process's share of the global one: "image" (B, 3, crop, crop) uint8, "box" (B, 4) int64, "label"
    (B, C) float32.

    Args:
        network: trained in place.

    Attributes:
        gradients: a `GradientRecord` that takes note of the scores of each step, or None; it changes no loss.
    """

    def __init__(self, network: CamNetwork):
        super().__init__()
        self.network = network
        self.gradients: GradientRecord | None = None

    def classification(self, maps: Maps, labels: Tensor) -> Tensor:
        """Eq. 1 of each image, (B,), taken note of; for the full-size images, once a step."""
        if self.gradients is not None:
            self.gradients.add(maps.score, labels)
        return losses.classification_loss(maps.score, labels)


def batch_images(batch: dict[str, Tensor], trunk: Trunk) -> Tensor:
    """The images of a batch, normalised for `trunk`, (B, 3, crop, crop) float32, 0 outside their boxes."""
    images = normalise(batch["image"], batch["box"], mean=trunk.mean, std=trunk.std)
    return images.contiguous(memory_format=torch.channels_last)


def total(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of one value an image, (B,), as means over the global batch, with their sum as "loss" in front.

    Raises:
        ValueError: a part is called "loss" itself.
    """
    if "loss" in parts:
        raise ValueError('a part of an objective is called "loss", which is the name of their sum')
    means = {name: distributed.global_mean(rows.sum(), len(rows)) for name, rows in parts.items()}
    return {"loss": sum(means.values()), **means}
