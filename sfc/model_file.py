"""Trained models on file: safetensors with what rebuilds the model beside the weights, equal bytes for equal models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sfc.errors import UserError

Model = TypeVar("Model", bound=nn.Module)


def save_model(model: nn.Module, path: Path | str, *, config: dict[str, Any]) -> None:
    """Write the weights, and `config` as sorted JSON under the one metadata key "config"."""
    # several metadata keys would come in changing order
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={"config": json.dumps(config, sort_keys=True)})


def load_model(
    path: Path | str, build: Callable[[dict[str, Any]], Model], device: torch.device | str, *, stage: str
) -> Model:
    """The model of a file by `save_model`, in evaluation mode, without gradient, on `device`, channels last.

    Args:
        build: makes the untrained model from the config.
        stage: the stage that writes the file, named in errors.

    Raises:
        UserError: no such file, or not one of these.
    """
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {})["config"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        model = build(config)
        model.load_state_dict(state)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage {stage} first") from None
    except UserError:
        raise
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        raise UserError(f"{path}: not what the stage {stage} of this version writes; run it again") from None
    return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
