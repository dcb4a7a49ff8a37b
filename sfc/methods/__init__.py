"""The methods by name, and the file of a trained network. To add one: a file beside these, and a line here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sfc.calibration.method import Method, registry
from sfc.calibration.network import CamNetwork
from sfc.data.images import class_palette
from sfc.methods.base import BASE
from sfc.methods.sfc import SFC
from sfc.methods.sipe import SIPE
from sfc.model_file import CAM, ModelFacts, load_model, save_model

METHODS: dict[str, Method] = registry(BASE, SIPE, SFC)


def save_cam_network(
    network: CamNetwork, path: Path | str, *, method: str, classes: Sequence[str], params: dict[str, Any]
) -> None:
    """Write weights and facts of the network of `METHODS[method]` to one file.

    Args:
        classes: names of the network's C foreground classes.
        params: the sections that made it, see `ModelFacts`.
    """
    if len(classes) != network.classifier.out_channels:
        raise ValueError(f"{len(classes)} names for a network of {network.classifier.out_channels} classes")
    facts = ModelFacts(
        task=CAM,
        network={"method": method, "network": network.config},
        classes=tuple(classes),
        palette=class_palette(classes),
        mean=network.backbone.mean,
        std=network.backbone.std,
        image_scale=1.0,
        params=params,
    )
    save_model(network, path, facts)


def load_cam_network(path: Path | str, device: torch.device | str) -> CamNetwork:
    """The network of a file by `save_cam_network`, in evaluation mode on `device`; raises UserError as `load_model`."""

    def build(config: dict) -> CamNetwork:
        return METHODS[config["method"]].network(**config["network"])

    return load_model(path, build, device, task=CAM)
