"""The segmentation models by name, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sfc.data.images import class_palette
from sfc.model_file import SEGMENTATION, ModelFacts, load_model, save_model
from sfc.segmentation.deeplab import DeepLabV2
from sfc.segmentation.largefov import LargeFOV
from sfc.segmentation.segmenter import Segmenter

MODELS: dict[str, type[Segmenter]] = {model.name: model for model in (DeepLabV2, LargeFOV)}


def save_segmenter(network: Segmenter, path: Path | str, *, classes: Sequence[str], params: dict[str, Any]) -> None:
    """Write weights and facts to one file.

    Args:
        classes: names of the network's K - 1 foreground classes.
        params: the sections that made it, see `ModelFacts`.
    """
    if 1 + len(classes) != network.num_classes:
        raise ValueError(f"{len(classes)} names for a network of {network.num_classes - 1} classes")
    facts = ModelFacts(
        task=SEGMENTATION,
        network=network.config,
        classes=tuple(classes),
        palette=class_palette(classes),
        mean=network.backbone.mean,
        std=network.backbone.std,
        image_scale=network.image_scale,
        params=params,
    )
    save_model(network, path, facts)


def load_segmenter(path: Path | str, device: torch.device | str) -> Segmenter:
    """The network of a file by `save_segmenter`, in evaluation mode on `device`; raises UserError as `load_model`."""

    def build(config: dict) -> Segmenter:
        settings = dict(config)
        return MODELS[settings.pop("model")](**settings)

    return load_model(path, build, device, task=SEGMENTATION)
