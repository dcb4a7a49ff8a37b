"""What train_irn minimises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sfc.data.images import normalise, resize_labels
from sfc.irn.network import IrnNetwork
from sfc.irn.pair_loss import pair_loss


class IrnObjective(nn.Module):
    """The loss on the affinities between the pixels of a crop.

    Args:
        network: trained in place.
        radius: partners of a pixel are closer than this, in pixels of the edge map.
    """

    def __init__(self, network: IrnNetwork, *, radius: int):
        super().__init__()
        self.network = network
        self.radius = radius

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch: "image" (B, 3, crop, crop) uint8, "box" (B, 4) int64, "mask" (B, crop, crop) uint8.

        Returns:
            Scalars "loss", "positive", "negative", see `pair_loss`.
        """
        trunk = self.network.backbone
        images = normalise(batch["image"], batch["box"], mean=trunk.mean, std=trunk.std)
        images = images.contiguous(memory_format=torch.channels_last)
        edge = self.network(images).sigmoid()
        labels = resize_labels(batch["mask"], edge.shape[1:])
        return pair_loss(edge, labels, self.radius)._asdict()
