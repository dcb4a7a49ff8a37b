"""The CAM network of SFC with its two CAMs, and the file of every method's network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sfc.calibration import cams
from sfc.calibration.base import BaseNetwork, HierarchicalSides, Maps
from sfc.calibration.sipe import SipeNetwork
from sfc.model_file import load_model, save_model


class CamNetwork(BaseNetwork):
    """Network of SFC: the base with the projection of the pixel correlation, f9, and with prototypes.

    Args:
        seed_mode, seed_bkg_scale, seed_threshold: see `cams.prototype_seeds`.
        base: keyword arguments of `BaseNetwork`.
    """

    kinds = fused = ("classifier", "prototype")

    def __init__(self, *, seed_mode: str, seed_bkg_scale: float, seed_threshold: float, **base):
        super().__init__(**base)
        seeds = {"mode": seed_mode, "bkg_scale": seed_bkg_scale, "threshold": seed_threshold}
        self.config |= {f"seed_{name}": value for name, value in seeds.items()}
        *_, last = channels = self.backbone.channels
        self.f9 = nn.Conv2d(3 + last, last, 1, bias=False)
        self.sides = HierarchicalSides(channels[1:])
        self._seeds = seeds

    def cam_prototype(self, maps: Maps, cam_weight: Tensor, mask: Tensor) -> Tensor:
        """Prototype CAM of Eq. 4 from the seeds in `cam_weight`, (B, 1 + C, H, W) float32 in 0..1."""
        return cams.prototype_cam(maps.hierarchical, cams.prototype_seeds(cam_weight, mask, **self._seeds))

    def _semantic(self, image: Tensor, layer4: Tensor) -> Tensor:
        return self.f9(super()._semantic(image, layer4))

    def _hierarchy(self, levels: list[Tensor]) -> Tensor:
        return self.sides(levels)

    def _cams(self, maps: Maps, mask: Tensor, present: Tensor) -> list[Tensor]:
        weight = self.cam_weight(maps, mask)
        return [weight, self.cam_prototype(maps, weight, present)]


NETWORKS: dict[str, type[BaseNetwork]] = {"cam": BaseNetwork, "sipe": SipeNetwork, "sfc": CamNetwork}


def save_cam_network(network: BaseNetwork, path: Path | str, *, method: str) -> None:
    """Write weights and what rebuilds the network, one of `NETWORKS[method]`, to one file."""
    save_model(network, path, config={"method": method, "network": network.config})


def load_cam_network(path: Path | str, device: torch.device | str) -> BaseNetwork:
    """The network of a file by `save_cam_network`, in evaluation mode on `device`; raises UserError as `load_model`."""
    return load_model(path, lambda config: NETWORKS[config["method"]](**config["network"]), device, stage="train_sfc")
