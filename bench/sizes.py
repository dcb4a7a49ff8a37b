"""Complete params, with some of them changed by dotted name; and the whole pipeline's sizes at each scale."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfc.errors import UserError
from sfc.params import Params, parse_params, read_text, read_yaml

VOC = Path(__file__).resolve().parents[1] / "presets/voc12.yaml"

_TRUNK = {"arch": "resnet18", "weights": "none", "batch_norm": "frozen"}
_TINY = {
    "train_cam.backbone": _TRUNK | {"frozen_stages": 3},
    "train_cam.batch_size": 2,
    "train_cam.crop": 64,
    "train_cam.long_side": [48, 64],
    "cam.batch_size": 2,
    "irn.backbone": _TRUNK | {"frozen_stages": 5},
    "irn.batch_size": 2,
    "irn.crop": 64,
    "irn.radius": 3,
    "walk.batch_size": 2,
    "seg.backbone": _TRUNK | {"frozen_stages": 0},
    "seg.batch_size": 2,
    "seg.crop": 65,
    "predict.batch_size": 2,
}
_SMALL = {
    "train_cam.batch_size": 4,
    "train_cam.crop": 192,
    "train_cam.long_side": [128, 192],
    "cam.batch_size": 2,
    "irn.batch_size": 4,
    "irn.crop": 192,
    "walk.batch_size": 2,
    "seg.batch_size": 2,
    "seg.crop": 161,
    "predict.batch_size": 2,
}
_CHANGES = {"tiny": _TINY, "small": _SMALL, "full": {}}
IMAGE = {"tiny": (48, 64), "small": (240, 320), "full": (375, 500)}  # height and width of a whole image


def changed(values: dict, changes: Mapping[str, Any]) -> dict:
    """A copy of the values of a params file with others by dotted name; UserError for a name that it has not."""
    values = copy.deepcopy(values)
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        section = values
        for name in path:
            section = section.get(name) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise UserError(f"{dotted}: there is no such param")
        section[last] = value
    return values


def params_at(scale: str) -> Params:
    """The released constants of VOC, at the sizes of a scale: tiny, small or full."""
    values = read_yaml(read_text(VOC), source=str(VOC))
    return parse_params(changed(values, _CHANGES[scale]), source=str(VOC))
