"""Weights of trunks: from torchvision or timm by name, or from files."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
from pathlib import Path, PurePosixPath
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor

from sfc.backbone.timm_trunk import TimmTrunk, pretrained_state
from sfc.backbone.trunk import Trunk
from sfc.errors import UserError
from sfc.storage import storage_error, storage_line

PREFIX = "backbone."  # of the trunk's keys in the files this project writes
CLASSIFIERS = ("fc.", "fc8.", "linear1000.")  # keys beside a trunk's in public weights files


def load_backbone_weights(backbone: Trunk, weights: str) -> None:
    """Fill `backbone` in place.

    Args:
        weights: "none" keeps the random start; a torchvision name such as `ResNet50_Weights.IMAGENET1K_V1`
            (downloaded and cached by torchvision); "timm", the weights of a timm model's name (downloaded and cached
            by timm); or the path of a safetensors or torch file with the model's keys in torchvision or timm, or one
            written by this project (keys under "backbone."). A classifier's keys are left out. Torch files are read
            without unpickling code; half-precision weights are widened to float32.

    Raises:
        UserError: no such file or name, or keys or shapes that do not fit the architecture.
    """
    if weights == "none":
        return
    state = _pretrained(backbone) if weights == "timm" else _read_weights(weights)
    if any(key.startswith(PREFIX) for key in state):
        state = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    if isinstance(backbone, TimmTrunk):
        state = backbone.part_of(state)
    else:
        state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}
    wanted = backbone.state_dict()
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    wrong = [k for k in state if k not in wanted or wanted[k].shape != state[k].shape]
    if missing or wrong:
        what = f"lacks {missing[0]}" if missing else f"has {wrong[0]}, which does not fit"
        raise UserError(
            f"{weights}: {what} ({len(missing)} keys missing, {len(wrong)} unfitting); "
            "is it for the architecture named in backbone.arch?"
        )
    backbone.load_state_dict(state, strict=False)


def is_weights_file(weights: str) -> bool:
    """Whether `weights` of a trunk names a file, and no weights of torchvision or timm."""
    return weights.endswith(".safetensors") or os.path.exists(weights)


def _pretrained(backbone: Trunk) -> dict[str, Tensor]:
    if not isinstance(backbone, TimmTrunk):
        raise UserError(
            "backbone.weights: timm stands for the weights of a model whose backbone.arch is timm/NAME; "
            "give a torchvision weights name, a file, or none"
        )
    return pretrained_state(backbone)


def _read_weights(weights: str) -> dict[str, Tensor]:
    if is_weights_file(weights):
        if not os.path.isfile(weights):
            raise UserError(f"{weights}: no such weights file; put it there or set backbone.weights to none")
        try:
            if weights.endswith(".safetensors"):
                state = load_file(weights)
            else:
                state = torch.load(weights, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file can break torch's parser anywhere
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{weights}: cannot be read as weights ({reason}); replace the file") from None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise UserError(f"{weights}: holds more than named tensors; save the model's state_dict alone")
        return state
    return _published(weights)


def _published(weights: str) -> dict[str, Tensor]:
    """Weights of torchvision by name; a cached file is checked, too, which torchvision does as it fetches one alone."""
    try:
        entry = torchvision.models.get_weight(weights)
    except (ValueError, KeyError, AttributeError):
        raise UserError(
            f"backbone.weights: {weights or repr(weights)} is neither a file nor a torchvision weights name "
            "(such as ResNet50_Weights.IMAGENET1K_V1)"
        ) from None
    name = PurePosixPath(urlparse(entry.url).path).name
    cached = Path(torch.hub.get_dir(), "checkpoints", name)
    _check_cached(cached, weights)
    try:
        return entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, ValueError, http.client.HTTPException) as error:  # the last two: of a proxy that cannot be one
        if not isinstance(error, URLError) and (refused := storage_error(error)):
            raise UserError(storage_line(refused, cached)) from None
        by = " by the proxy in https_proxy" if "https" in getproxies() else ""
        raise UserError(
            f"backbone.weights: {weights} could not be downloaded{by} ({error}); "
            "fetch it on another machine and give the file's path instead"
        ) from None


def _check_cached(path: Path, weights: str) -> None:
    """Raise UserError if a file lies where torchvision keeps these weights, and cannot be read or is another."""
    start = re.search(r"-([0-9a-f]{8,})\.", path.name)  # of the file's SHA-256
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); mend that, or delete it to fetch it anew"
        ) from None
    if start and not found.startswith(start[1]):
        raise UserError(f"{path}: not the file that torchvision publishes as {weights}; delete it to fetch it")
