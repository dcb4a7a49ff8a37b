"""The methods of train_sfc: what each is built of, and which params it does not read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from sfc.calibration.base import BaseObjective
from sfc.calibration.image_bank import ImageBank
from sfc.calibration.network import NETWORKS
from sfc.calibration.objective import SfcObjective
from sfc.calibration.sipe import SipeObjective
from sfc.config import Ibr, Msdw, Sfc, Sipe


@dataclass(frozen=True)
class Method:
    """One value of `sfc.method`.

    Attributes:
        objective: makes the objective, its network in `network`, from the number of classes and the sections sfc, ibr,
            msdw and sipe.
        ignores: sections and params that shape the training of SFC and that this method does not read.
    """

    objective: Callable[[int, Sfc, Ibr, Msdw, Sipe], nn.Module]
    ignores: tuple[str, ...]


def _cam(num_classes: int, sfc: Sfc, ibr: Ibr, msdw: Msdw, sipe: Sipe) -> BaseObjective:
    return BaseObjective(NETWORKS["cam"](**_trunk(num_classes, sfc), **_correlation(sfc)))


def _sipe(num_classes: int, sfc: Sfc, ibr: Ibr, msdw: Msdw, sipe: Sipe) -> SipeObjective:
    network = NETWORKS["sipe"](
        **_trunk(num_classes, sfc), seed_bkg_scale=sipe.seed_bkg_scale, infer_feature=sipe.infer_feature
    )
    return SipeObjective(network, w_gsc=sipe.w_gsc)


def _sfc(num_classes: int, sfc: Sfc, ibr: Ibr, msdw: Msdw, sipe: Sipe) -> SfcObjective:
    network = NETWORKS["sfc"](
        **_trunk(num_classes, sfc),
        **_correlation(sfc),
        seed_mode=sfc.seed.mode,
        seed_bkg_scale=sfc.seed.bkg_scale,
        seed_threshold=sfc.seed.threshold,
    )
    bank = None
    if ibr.n:
        bank = ImageBank(
            num_classes=num_classes,
            crop=sfc.crop,
            draws=ibr.n,
            replacement=ibr.replacement,
            exclude_batch=ibr.exclude_batch,
            allow_empty=ibr.allow_empty,
            seed=sfc.random_seed,
        )
    stats = pd.read_csv("out/label_stats.csv")
    return SfcObjective(
        network,
        bank=bank,
        dc=torch.tensor(stats["dc"].to_numpy(), dtype=torch.float32),
        w_proto=msdw.w_proto,
        w_scale=msdw.w_scale,
        dc_proto=msdw.dc_proto,
        dc_scale=msdw.dc_scale,
        proto_norm=sfc.proto_norm,
        reduction=msdw.reduction,
        detach_large=msdw.detach_large,
    )


def _trunk(num_classes: int, sfc: Sfc) -> dict:
    return {"num_classes": num_classes, **sfc.backbone.model_dump(exclude={"weights"})}


def _correlation(sfc: Sfc) -> dict:
    return {"pcm_iters": sfc.pcm_iters, "bkg_before_pcm": sfc.bkg_before_pcm}


_OF_SFC = ("ibr", "msdw", "sfc.proto_norm", "sfc.seed")

METHODS = {
    "cam": Method(_cam, _OF_SFC),
    "sipe": Method(_sipe, (*_OF_SFC, "sfc.pcm_iters", "sfc.bkg_before_pcm")),
    "sfc": Method(_sfc, ()),
}
