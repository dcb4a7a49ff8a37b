"""A tiny CAM network and its objective, for the tests."""

import torch

from sfc.calibration.network import CamNetwork
from sfc.calibration.objective import SfcObjective

CLASSES, CROP = 3, 64
DC = torch.tensor([0.5, 1.0, 1.5])


def network(**changes):
    settings = {
        "arch": "resnet18",
        "num_classes": CLASSES,
        "frozen_stages": 3,
        "batch_norm": "frozen",
        "pcm_iters": 2,
        "bkg_before_pcm": True,
        "seed_mode": "argmax",
        "seed_bkg_scale": 0.3,
        "seed_threshold": 0.0,
    }
    torch.manual_seed(0)
    return CamNetwork(**{**settings, **changes})


def objective(*, bank=None, **changes):
    settings = {
        "dc": DC,
        "w_proto": 1.6,
        "w_scale": 0.8,
        "dc_proto": True,
        "dc_scale": True,
        "proto_norm": "max",
        "reduction": "mean",
        "detach_large": False,
    }
    return SfcObjective(network(), bank=bank, **{**settings, **changes})
