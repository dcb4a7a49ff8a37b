"""IRN's network (Ahn et al., 2019): where two neighbouring pixels belong to different things.

Only the boundary branch: the displacement branch shares nothing with it but the frozen trunk, and semantic labels do
not use it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.backbone import build_trunk
from sfc.data.images import normalise, resize_labels
from sfc.irn.pair_loss import pair_loss
from sfc.model_file import IRN, ModelFacts, load_model, save_model

_STRIDE = 16  # of the trunk: images are padded to a multiple of it
_WIDTH, _GROUPS = 32, 4  # channels of a stage's head, and of its group norm


class IrnNetwork(nn.Module):
    """Heads on the five stages of a trunk of output stride 16, brought to stride 4 and mixed to one logit.

    Args:
        arch, frozen_stages, batch_norm: see `sfc.backbone.build_trunk`. The public network freezes all five stages.
    """

    def __init__(self, *, arch: str, frozen_stages: int = 5, batch_norm: str = "frozen"):
        super().__init__()
        self.config = {"arch": arch, "frozen_stages": frozen_stages, "batch_norm": batch_norm}
        self.backbone = build_trunk(
            arch, output_stride=16, stem_stride=4, frozen_stages=frozen_stages, batch_norm=batch_norm
        )
        self.heads = nn.ModuleList(nn.Conv2d(c, _WIDTH, 1, bias=False) for c in self.backbone.channels)
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, _WIDTH) for _ in self.heads)
        self.mix = nn.Conv2d(_WIDTH * len(self.heads), 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W), any size, to edge logits (B, ceil(H / 4), ceil(W / 4)) float32."""
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % _STRIDE, 0, -height % _STRIDE))
        projected = [head(x) for head, x in zip(self.heads, self.backbone(padded), strict=True)]
        size = projected[0].shape[2:]
        with torch.autocast(images.device.type, enabled=False):
            features = [norm(x.float()) for norm, x in zip(self.norms, projected, strict=True)]
            features = [F.interpolate(x, size=size, mode="bilinear", align_corners=False).relu() for x in features]
            logits = self.mix(torch.cat(features, dim=1))[:, 0]
        return logits[:, : -(-height // 4), : -(-width // 4)]

    def edges(self, images: Tensor, *, flip: bool) -> Tensor:
        """Edge maps (B, ceil(H / 4), ceil(W / 4)) float32 in 0..1; `flip` averages logits with the mirror image's."""
        if not flip:
            return self(images).sigmoid()
        plain, mirrored = self(torch.cat([images, images.flip(3)])).chunk(2)
        return (plain / 2 + mirrored.flip(2) / 2).sigmoid()


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


def save_irn(network: IrnNetwork, path: Path | str, *, params: dict[str, Any]) -> None:
    """Write weights and facts to one file; `params`: the sections that made it, see `ModelFacts`."""
    facts = ModelFacts(
        task=IRN,
        network=network.config,
        classes=(),  # affinities know no class
        palette=(),
        mean=network.backbone.mean,
        std=network.backbone.std,
        image_scale=1.0,
        params=params,
    )
    save_model(network, path, facts)


def load_irn(path: Path | str, device: torch.device | str) -> IrnNetwork:
    """The network of a file by `save_irn`, evaluating, on `device`; raises UserError as `load_model`."""
    return load_model(path, lambda config: IrnNetwork(**config), device, task=IRN)
