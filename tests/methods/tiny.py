"""Tiny CAM networks of every method, their objective and a batch, for the tests."""

import torch

from sfc.methods.base import BaseNetwork
from sfc.methods.sfc import SfcNetwork, SfcObjective
from sfc.methods.sipe import SipeNetwork

CLASSES, CROP = 3, 64
DC = torch.tensor([0.5, 1.0, 1.5])
TRUNK = {"arch": "resnet18", "num_classes": CLASSES, "frozen_stages": 3, "batch_norm": "frozen"}
SEEDS = {"mode": "argmax", "bkg_scale": 0.3, "threshold": 0.0, "seed_range": "none"}
CORRELATION = {"pcm_iters": 2, "bkg_before_pcm": True}


def network(**changes):
    settings = {**TRUNK, **CORRELATION, "prototype": SEEDS}
    torch.manual_seed(0)
    return SfcNetwork(**{**settings, **changes})


def base_network(**changes):
    torch.manual_seed(0)
    return BaseNetwork(**{**TRUNK, **CORRELATION, **changes})


def sipe_network(**changes):
    torch.manual_seed(0)
    return SipeNetwork(**{**TRUNK, "bkg_scale": 0.5, "infer_feature": "hierarchical", **changes})


def batch():
    numbers = torch.Generator().manual_seed(3)
    return {
        "image": torch.randint(0, 256, (4, 3, CROP, CROP), generator=numbers, dtype=torch.uint8),
        "box": torch.tensor([[0, 0, CROP, CROP], [5, 0, 50, 64], [0, 16, 64, 48], [0, 0, 64, 64]]),
        "label": torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]]),
    }


def objective(*, bank=None, network_changes=None, **changes):
    settings = {
        "dc": DC,
        "w_proto": 1.6,
        "w_scale": 0.8,
        "dc_proto": True,
        "dc_scale": True,
        "proto_norm": "max",
        "empty": "zero",
        "reduction": "mean",
        "detach_large": False,
    }
    return SfcObjective(network(**(network_changes or {})), bank=bank, **{**settings, **changes})
