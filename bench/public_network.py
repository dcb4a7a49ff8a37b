"""The data flow of the public SFC network, over the weights of ours: what `bench.public_step` and its kin compare with.

Written from a description of the public code, not from the code: contiguous NCHW, every stage tracked by autograd,
masks as float maps of the image's size, the (B, K, D, H, W) product of prototypes, nothing folded. What no description
settles is done in the cheaper way: the half-size image gets no prototype CAM.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.inputs import DrawnSeeds, drawn
from sfc.methods.sfc import SfcNetwork

EPS = 1e-5


class PublicNetwork(nn.Module):
    """A copy of an `SfcNetwork` of released settings that computes as the public code does.

    Args:
        network: with `pcm_iters` 2, background before PCM, and argmax seeds with the background times 0.3.
    """

    def __init__(self, network: SfcNetwork):
        super().__init__()
        copied = copy.deepcopy(network).to(memory_format=torch.contiguous_format).requires_grad_(True)
        trunk = copied.backbone
        self.stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool)
        self.layers = nn.ModuleList([trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4])
        self.sides, self.classifier, self.f9 = copied.sides, copied.classifier, copied.f9
        self.mean, self.std = trunk.mean, trunk.std
        self._drawn_seeds = isinstance(network, DrawnSeeds)
        self.eval()  # running statistics, as ours; parameters learn all the same

    def forward(self, image: Tensor, mask: Tensor, *, prototypes: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """One training pass.

        Args:
            image: (B, 3, H, W) float32, normalised.
            mask: (B, 1 + C, h, w) float32, 0 or 1, at the size of the maps.

        Returns:
            Score (B, C), classifier CAM after PCM and, where wanted, prototype CAM, both (B, 1 + C, h, w).
        """
        levels = self._levels(image)
        logits = self.classifier(levels[3])
        score = F.adaptive_avg_pool2d(logits, 1).flatten(1)
        cam = self._cam(logits, levels[3].shape[2:]) * mask
        cam = self._pcm(cam, image, levels[3])
        if not prototypes:
            return score, cam, None
        return score, cam, self._prototype_cam(cam, self._hierarchy(levels), mask)

    def infer(self, pair: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Both CAMs (1 + C, h, w) of one image.

        Args:
            pair: (2, 3, H, W), the image and its mirror image; what they give is added before anything is rectified.
            label: (C,) 0 or 1.
        """
        levels = self._levels(pair)
        added = [_added(x) for x in (self.classifier(levels[3]), self._hierarchy(levels), pair, levels[3])]
        logits, hierarchy, image, layer4 = added
        cam = self._pcm(self._cam(logits, layer4.shape[2:]), image, layer4)
        present = F.pad(label, (1, 0), value=1.0)[None, :, None, None]
        return cam[0], self._prototype_cam(cam, hierarchy, present)[0]

    def _levels(self, image: Tensor) -> list[Tensor]:
        levels, x = [], self.stem(image)
        for number, layer in enumerate(self.layers):
            x = layer(x)
            x = x.detach() if number == 1 else x
            levels.append(x)
        return levels

    def _hierarchy(self, levels: list[Tensor]) -> Tensor:
        sides = [side(level.detach()) for side, level in zip(self.sides, levels, strict=True)]
        sides = [side / (side.norm(dim=1, keepdim=True) + EPS) for side in sides]
        size = levels[2].shape[2:]
        return torch.cat([F.interpolate(s, size=size, mode="bilinear", align_corners=False) for s in sides], dim=1)

    def _cam(self, logits: Tensor, size: torch.Size) -> Tensor:
        cam = F.relu(logits)
        cam = cam / (F.adaptive_max_pool2d(cam, 1) + EPS)
        cam = torch.cat([1 - cam.max(dim=1, keepdim=True)[0], cam], dim=1)
        return F.interpolate(cam, size=size, mode="bilinear", align_corners=True)

    def _pcm(self, cam: Tensor, image: Tensor, layer4: Tensor) -> Tensor:
        image = F.interpolate(image, size=layer4.shape[2:], mode="bilinear", align_corners=True)
        f = self.f9(torch.cat([image, layer4], dim=1)).flatten(2)
        f = f / (f.norm(dim=1, keepdim=True) + EPS)
        affinity = F.relu(torch.matmul(f.transpose(1, 2), f))
        affinity = affinity / (affinity.sum(dim=1, keepdim=True) + EPS)
        refined = torch.matmul(torch.matmul(cam.flatten(2), affinity), affinity)
        return refined.view(cam.shape)

    def _prototype_cam(self, cam: Tensor, hierarchy: Tensor, mask: Tensor) -> Tensor:
        weighted = cam.detach().clone()
        weighted[:, 0] *= 0.3
        winner = weighted.argmax(dim=1)
        seeds = F.one_hot(winner, cam.shape[1]).permute(0, 3, 1, 2).float() * mask
        seeds = drawn(seeds) * mask if self._drawn_seeds else seeds
        prototypes = (hierarchy[:, None] * seeds[:, :, None]).mean(dim=(3, 4), keepdim=True)
        return F.relu(F.cosine_similarity(hierarchy[:, None], prototypes, dim=2, eps=1e-8))


def _added(x: Tensor) -> Tensor:
    return x[:1] + x[1:].flip(3)
