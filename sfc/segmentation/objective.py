"""The segmentation loss on label maps: one term per scale and one for the pixelwise maximum over the scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.data.images import IGNORE, normalise, resize_labels
from sfc.segmentation.dropout import start_step
from sfc.segmentation.pyramid import merged, pyramid_logits, resized
from sfc.segmentation.segmenter import Segmenter
from sfc.training.distributed import global_mean


def pixel_loss(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """Cross-entropy of the labelled pixels of the global batch.

    Args:
        logits: (B, K, h, w) float32.
        labels: (B, h, w) uint8; 0 is background, 255 counts nowhere.
        kind: "ce" is the mean over the pixels. "balanced_ce" is the average of two means, one over the background
            and one over the foreground pixels, each over its own count, 0 where there is none: the balanced seed
            loss of DSRG (Huang et al., 2018) in the halved form of AFA (Ru et al., 2022).

    Returns:
        Scalar >= 0 whose average over the processes is the value on the global batch.
    """
    loss = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none")
    labelled = labels != IGNORE
    parts = [labelled] if kind == "ce" else [labels == 0, labelled & (labels != 0)]
    masks = torch.stack(parts).flatten(1)
    return global_mean((loss.flatten() * masks).sum(1), masks.sum(1)).mean()


class SegmentationObjective(nn.Module):
    """What train_seg minimises: the sum of `pixel_loss` over the scales and over their maximum (MSC).

    Args:
        network: trained in place.
        train_scales: of the crop, beside the full crop; none leaves a single loss.
        loss: kind for `pixel_loss`.
        seed: of the network's dropout, where it has any.
        batch_size: of the global batch.
    """

    def __init__(self, network: Segmenter, *, train_scales: Sequence[float], loss: str, seed: int, batch_size: int):
        super().__init__()
        self.network = network
        self._scales = (1.0, *train_scales)
        self._loss = loss
        self._seed, self._batch_size, self._step = seed, batch_size, 0

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"loss"} of a batch {"image": (B, 3, H, W) uint8, "box": (B, 4), "mask": (B, H, W) uint8}."""
        trunk = self.network.backbone
        images = normalise(batch["image"], batch["box"], mean=trunk.mean, std=trunk.std)
        images = images.contiguous(memory_format=torch.channels_last)
        if self.training:
            start_step(
                self.network, seed=self._seed, step=self._step, batch_size=self._batch_size, device=images.device
            )
            self._step += 1
        pyramid = pyramid_logits(self.network, images, self._scales)
        if len(pyramid) > 1:
            pyramid.append(merged(pyramid, merge="max", align_corners=self.network.align_corners))
        losses = [self._term(logits, batch["mask"]) for logits in pyramid]
        return {"loss": torch.stack(losses).sum()}

    def _term(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.network.full_size_loss:
            logits = resized(logits, labels.shape[1:], align_corners=self.network.align_corners)
        return pixel_loss(logits, resize_labels(labels, logits.shape[2:]), self._loss)

    def get_extra_state(self) -> dict:
        return {"step": self._step}

    def set_extra_state(self, state: dict) -> None:
        self._step = state["step"]
