"""What every trunk offers the network that stands on it."""

from __future__ import annotations

from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # torchvision's, for RGB in 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)


class Trunk(nn.Module):
    """Images to five feature maps.

    Attributes:
        channels: of the five maps.
        mean, std: by which images are normalised for it, RGB in 0..1, see `sfc.data.images.normalise`. They come with
            the architecture and are no part of the weights.
        frozen_stages: this many leading stages (stem, then four levels) get no gradient and run without autograd.
        batch_norm: "frozen" uses the running statistics (scale and shift still learn outside frozen stages), "train"
            the batch's; frozen stages always use the running statistics.
    """

    channels: tuple[int, ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    frozen_stages: int
    batch_norm: str

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) float, normalised, to five (B, C_i, H_i, W_i); C_i = `self.channels[i]`."""
        raise NotImplementedError
