"""The segmentation models by name, and their files."""

from __future__ import annotations

from pathlib import Path

import torch

from sfc.model_file import load_model, save_model
from sfc.segmentation.deeplab import DeepLabV2
from sfc.segmentation.largefov import LargeFOV
from sfc.segmentation.segmenter import Segmenter

MODELS: dict[str, type[Segmenter]] = {model.name: model for model in (DeepLabV2, LargeFOV)}


def save_segmenter(network: Segmenter, path: Path | str) -> None:
    """Write weights and what rebuilds the network to one file."""
    save_model(network, path, config=network.config)


def load_segmenter(path: Path | str, device: torch.device | str) -> Segmenter:
    """The network of a file by `save_segmenter`, in evaluation mode on `device`; raises UserError as `load_model`."""

    def build(config: dict) -> Segmenter:
        settings = dict(config)
        return MODELS[settings.pop("model")](**settings)

    return load_model(path, build, device, stage="train_seg")
