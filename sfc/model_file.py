"""Trained models on file: safetensors with the weights and what their user must know; equal models, equal bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sfc import __version__
from sfc.errors import UserError

Model = TypeVar("Model", bound=nn.Module)

FORM = 2  # of `ModelFacts` on file; 1 had what rebuilds the network alone
KEY = "sfc"  # in the metadata
_LARGEST_SCALE = 16  # the params allow less
CAM, IRN, SEGMENTATION = "cam", "irn", "segmentation"
_TASKS = {  # what a file of the task holds, and the stage that writes it
    CAM: ("a CAM network", "train_cam"),
    IRN: ("a network of IRN", "train_irn"),
    SEGMENTATION: ("a segmentation model", "train_seg"),
}


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model file knows beside its weights.

    Attributes:
        task: CAM, IRN or SEGMENTATION.
        network: what rebuilds the network.
        classes: names of the foreground classes in index order; label-map value i + 1 is class i.
        palette: R, G, B in 0..255 of each label-map value, background first; empty without classes.
        mean, std: by which images are normalised, RGB in 0..1.
        image_scale: by which images are resized first.
        params: the sections of params.yaml that made it, by name.
        version: of this project when the file was written.
    """

    task: str
    network: dict[str, Any]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_scale: float
    params: dict[str, Any]
    version: str = __version__

    def to_json(self) -> str:
        """With sorted keys, so that equal facts are equal text."""
        return json.dumps({"form": FORM, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], path: Path | str, *, task: str) -> Self:
        """The facts in the metadata of a model file.

        Args:
            path: named in errors.
            task: that the model must be for.

        Raises:
            UserError: it is no file of this project, of another task, or of an older or newer form.
        """
        what, stage = _TASKS[task]
        if KEY not in metadata and "config" in metadata:
            raise UserError(
                f"{path}: written before model files knew their classes and normalisation; run the stage {stage} again"
            )
        try:
            values = json.loads(metadata[KEY])
            if values.pop("form") != FORM:
                raise UserError(
                    f"{path}: written by version {values.get('version')} of this project in another form than version "
                    f"{__version__} reads; run the stage {stage} again, or use that version"
                )
            palette = tuple(tuple(map(int, colour)) for colour in values.pop("palette"))
            lists = {name: tuple(values.pop(name)) for name in ("classes", "mean", "std")}
            facts = cls(**values, **lists, palette=palette)
        except UserError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise _not_ours(path, task) from None
        if not facts._are_sound():
            raise _not_ours(path, task)
        if facts.task != task:
            found = _TASKS.get(facts.task, (f"a model for the task {facts.task}",))[0]
            raise UserError(f"{path}: holds {found}, and this needs {what}, as the stage {stage} writes it")
        return facts

    def _are_sound(self) -> bool:
        """Whether all is of the form and the range that the attributes say; files come from elsewhere, too."""
        colours = (len(colour) == 3 and all(0 <= part <= 255 for part in colour) for colour in self.palette)
        numbers = (*self.mean, *self.std, self.image_scale)
        return (
            isinstance(self.task, str)
            and isinstance(self.version, str)
            and isinstance(self.params, dict)
            and all(isinstance(name, str) and name.isprintable() for name in self.classes)
            and len(self.palette) in (0, 1 + len(self.classes))
            and all(colours)
            and len(self.mean) == len(self.std) == 3
            and all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
            and min(*self.std, self.image_scale) > 0
            and self.image_scale <= _LARGEST_SCALE
        )

    def check_classes(self, classes: Sequence[str], path: Path | str) -> None:
        """Raise UserError unless the model was trained on exactly these classes, those of out/classes.json."""
        if self.classes != tuple(classes):
            raise UserError(
                f"{path} tells apart {len(self.classes)} classes ({_some(self.classes)}), out/classes.json has "
                f"{len(classes)} ({_some(classes)}); run the stage {_TASKS[self.task][1]} again"
            )


def save_model(model: nn.Module, path: Path | str, facts: ModelFacts) -> None:
    """Write the weights, and the facts as JSON under the one metadata key "sfc"."""
    # several metadata keys would come in changing order
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={KEY: facts.to_json()})


def read_facts(path: Path | str, *, task: str) -> ModelFacts:
    """The facts of a file by `save_model`; raises UserError as `ModelFacts.from_metadata`, and without such a file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage {_TASKS[task][1]} first") from None
    except (OSError, SafetensorError):
        raise _not_ours(path, task) from None
    return ModelFacts.from_metadata(metadata, path, task=task)


def load_model(
    path: Path | str, build: Callable[[dict[str, Any]], Model], device: torch.device | str, *, task: str
) -> Model:
    """The model of a file by `save_model`, in evaluation mode, without gradient, on `device`, channels last.

    Args:
        build: makes the untrained model, whose trunk is `backbone`, from `ModelFacts.network`.

    Raises:
        UserError: as `read_facts`, or the weights are not those of such a model.
    """
    facts = read_facts(path, task=task)
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        model = build(facts.network)
        model.load_state_dict(state)
    except UserError:
        raise
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        raise _not_ours(path, task) from None
    # a later version of timm may normalise for an architecture in another way than the training did
    model.backbone.mean, model.backbone.std = facts.mean, facts.std
    return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def _not_ours(path: Path | str, task: str) -> UserError:
    return UserError(f"{path}: not what the stage {_TASKS[task][1]} of this version writes; run it again")


def _some(names: Sequence[str], shown: int = 4) -> str:
    return ", ".join([*names[:shown], *(["..."] if len(names) > shown else [])])
