"""The methods by name, and the file of a trained network. To add one: a file beside these, and a line here."""

from __future__ import annotations

from pathlib import Path

import torch

from sfc.calibration.method import Method, registry
from sfc.calibration.network import CamNetwork
from sfc.methods.base import BASE
from sfc.methods.sfc import SFC
from sfc.methods.sipe import SIPE
from sfc.model_file import load_model, save_model

METHODS: dict[str, Method] = registry(BASE, SIPE, SFC)


def save_cam_network(network: CamNetwork, path: Path | str, *, method: str) -> None:
    """Write weights and what rebuilds the network of `METHODS[method]` to one file."""
    save_model(network, path, config={"method": method, "network": network.config})


def load_cam_network(path: Path | str, device: torch.device | str) -> CamNetwork:
    """The network of a file by `save_cam_network`, in evaluation mode on `device`; raises UserError as `load_model`."""

    def build(config: dict) -> CamNetwork:
        return METHODS[config["method"]].network(**config["network"])

    return load_model(path, build, device, stage="train_cam")
