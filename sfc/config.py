"""Every params section as one frozen, typed model; the only place where params.yaml is understood.

No model has defaults: params.yaml (or a file of presets/) is the only source of values, so nothing that
changes a result is untracked. Library code never sees these models, only the plain values in them.
Sources of the constants: the comments beside them in presets/voc12.yaml.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sfc.errors import UserError

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Radius = Annotated[int, Field(ge=2)]  # pixels closer than this are partners; below 2 there are none
Precision = Literal["fp32", "bf16"]
Scales = Annotated[tuple[Positive, ...], Field(min_length=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Dataset(Section):
    """Where images, lists, masks and image-level labels are."""

    kind: Literal["voc"]
    root: str
    train: str  # list in ImageSets/Segmentation: the images trained on
    val: str  # list the segmentation model is measured on
    labels: str | None  # label table (image_id,split,classes); null: look for one, else XML, else masks
    masks: str | None  # folder of masks; null: SegmentationClassAug, else SegmentationClass
    classes: tuple[str, ...] | None  # foreground class names in index order; null: root/classes.txt, else VOC's 20


class Ibr(Section):
    """Image bank re-sampling."""

    n: Annotated[int, Field(ge=0)]  # N_IBR; 0 turns the bank off
    replacement: bool
    exclude_batch: bool
    allow_empty: bool


class Dc(Section):
    """Distribution coefficient, Eq. 6."""

    norm: Literal["mean", "eq6"]
    c_ibr: Literal["auto", "simulate"] | Positive
    n_iter: Literal["auto"] | Count


class Backbone(Section):
    arch: Literal["resnet18", "resnet34", "resnet50", "resnet101"]
    # none: random; a torchvision weights name (ResNet50_Weights.IMAGENET1K_V1); a file; sfc: out/sfc.safetensors
    weights: str
    frozen_stages: Annotated[int, Field(ge=0, le=5)]  # leading stages without gradient: stem, layer1 .. layer4
    batch_norm: Literal["frozen", "train"]


class PrototypeSeed(Section):
    """Which pixels a class prototype averages, Eq. 3."""

    mode: Literal["argmax", "threshold"]
    bkg_scale: Positive  # background channel times this before the argmax
    threshold: Fraction  # only for mode threshold


class Sfc(Section):
    """Training of the CAM network."""

    method: Literal["sfc"]
    random_seed: int
    backbone: Backbone
    precision: Precision
    epochs: Count
    batch_size: Count
    crop: Count
    long_side: tuple[Count, Count]
    lr: Positive
    head_lr_scale: Positive
    momentum: NonNegative
    weight_decay: NonNegative
    power: NonNegative
    clip_norm: Positive
    pcm_iters: Annotated[int, Field(ge=0)]  # 0: no pixel correlation
    bkg_before_pcm: bool
    proto_norm: Literal["max", "none"]
    seed: PrototypeSeed


class Msdw(Section):
    """Multi-scaled distribution-weighted consistency loss, Eq. 5, 7, 8."""

    w_proto: NonNegative
    w_scale: NonNegative
    dc_proto: bool  # false: weight 1 for every class in Eq. 5
    dc_scale: bool  # the same in Eq. 7
    reduction: Literal["mean", "sum"]
    detach_large: bool


class Cam(Section):
    """Multi-scale CAM inference."""

    splits: tuple[Literal["train", "val"], ...]
    scales: tuple[Positive, ...]
    flip: bool
    mask_absent: bool
    batch_size: Count
    precision: Precision


class Fusion(Section):
    """One use of the two CAMs: Eq. 9 and the background rule."""

    prototype_weight: NonNegative  # M_W + this * M_P
    fg_gain: Positive
    bg_offset: NonNegative


class Crf(Section):
    """Dense CRF that makes labels."""

    mode: Literal["label", "prob"]
    iterations: Count
    gt_prob: Annotated[float, Field(gt=0, lt=1)]
    gaussian_sxy: Positive
    gaussian_compat: NonNegative
    bilateral_sxy: Positive
    bilateral_srgb: Positive
    bilateral_compat: NonNegative
    confident_bg_scale: Positive  # background channel times this for the confident background


class Irn(Section):
    """Training of the affinity network."""

    random_seed: int
    backbone: Backbone
    precision: Precision
    epochs: Count
    batch_size: Count
    crop: Count
    rescale: tuple[Positive, Positive]
    radius: Radius
    lr: Positive
    momentum: NonNegative
    weight_decay: NonNegative
    power: NonNegative
    clip_norm: Positive | None


class PseudoLabels(Section):
    refine: Literal["irn", "crf"]


class Walk(Section):
    """Random walk on the pair affinities."""

    radius: Radius
    beta: Positive
    steps: Count
    power: Positive
    second_power: Positive
    background: Fraction
    flip: bool
    scale: Positive  # images are resized by this before the affinity network
    batch_size: Count  # images of one size
    precision: Precision


class Seg(Section):
    """Training of DeepLabV2 on the pseudo-labels."""

    random_seed: int
    backbone: Backbone
    precision: Precision
    atrous_rates: Annotated[tuple[Count, ...], Field(min_length=1)]
    steps: Count
    batch_size: Count
    crop: Count
    scales: Scales  # each crop's image is resized by one of these, drawn at random
    image_scale: Positive  # every image is resized by this first; 1: photographs at their own size
    train_scales: tuple[Positive, ...]  # further scales of the crop inside the network (MSC); () for none
    loss: Literal["ce", "balanced_ce"]
    lr: Positive
    head_lr_scale: Positive
    momentum: NonNegative
    weight_decay: NonNegative
    power: NonNegative


class PredictCrf(Section):
    """Dense CRF that sharpens predictions; `enabled: false` skips it."""

    enabled: bool
    iterations: Count
    gaussian_sxy: Positive
    gaussian_compat: NonNegative
    bilateral_sxy: Positive
    bilateral_srgb: Positive
    bilateral_compat: NonNegative


class Predict(Section):
    split: Literal["train", "val"]
    scales: Scales  # of the image after seg.image_scale
    flip: bool
    batch_size: Count
    precision: Precision
    crf: PredictCrf


class Sweep(Section):
    """Background thresholds tried against the ground truth; an oracle, never a result."""

    start: NonNegative
    stop: Positive  # the last threshold is below it
    step: Positive


class Evaluate(Section):
    sweep: Sweep
    class_sets: dict[str, tuple[str, ...]]  # name of the set -> class names
    gallery: Annotated[int, Field(ge=0)]  # images in each gallery


_SECTIONS: dict[str, type[Section]] = {
    "dataset": Dataset,
    "ibr": Ibr,
    "dc": Dc,
    "sfc": Sfc,
    "msdw": Msdw,
    "cam": Cam,
    "fusion.crf": Fusion,
    "fusion.walk": Fusion,
    "fusion.eval": Fusion,
    "crf": Crf,
    "irn": Irn,
    "pseudo_labels": PseudoLabels,
    "walk": Walk,
    "seg": Seg,
    "predict": Predict,
    "evaluate": Evaluate,
}


class Params(Section):
    """All of params.yaml; `get` hands out one section (or one value of it) by its dotted name."""

    sections: dict[str, Section]

    @model_validator(mode="after")
    def _ranges(self) -> Params:
        low, high = self.sections["sfc"].long_side
        if low > high:
            raise ValueError(f"sfc.long_side: [{low}, {high}] must be [smallest, largest]")
        low, high = self.sections["irn"].rescale
        if low > high:
            raise ValueError(f"irn.rescale: [{low}, {high}] must be [smallest, largest]")
        return self

    def get(self, name: str) -> Any:
        """`get("sfc")` is a section, `get("sfc.batch_size")` a value, `get("fusion.crf")` a section."""
        if name in self.sections:
            return self.sections[name]
        section, _, field = name.rpartition(".")
        return getattr(self.sections[section], field)


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads numbers as YAML 1.2 does: DVC writes `1e-05`, which YAML 1.1 calls a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check a whole params file.

    Raises:
        UserError: no such file, not YAML, an unknown, missing or out-of-range param; the message names it.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder or copy one of presets/") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return parse_params(values, source=str(path))


def parse_params(values: Any, *, source: str = "params.yaml") -> Params:
    """Check a params mapping that has been read already; raises UserError as `load_params` does."""
    if not isinstance(values, dict):
        raise UserError(f"{source}: expected sections such as sfc: and crf:, found {type(values).__name__}")
    flat = dict(values)
    fusion = flat.pop("fusion", {})
    if not isinstance(fusion, dict):
        raise UserError(f"{source}: fusion: expected the parts crf, walk and eval")
    flat.update({f"fusion.{use}": section for use, section in fusion.items()})
    for name in flat:
        if name not in _SECTIONS:
            raise UserError(f"{source}: unknown section {name}{_nearest(name, _SECTIONS)}")
    sections = {}
    for name, model in _SECTIONS.items():
        if name not in flat:
            raise UserError(f"{source}: section {name} is missing; copy it from presets/voc12.yaml")
        sections[name] = _parse_section(name, model, flat[name], source)
    try:
        return Params(sections=sections)
    except ValidationError as error:
        raise UserError(f"{source}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _parse_section(name: str, model: type[Section], values: Any, source: str) -> Section:
    try:
        return model.model_validate(_tuples(values))
    except ValidationError as error:
        raise UserError(f"{source}: " + "; ".join(_explain(name, model, e) for e in error.errors())) from None


def _explain(name: str, model: type[Section], error: dict) -> str:
    parts = [str(p) for p in error["loc"]]
    where = ".".join([name, *parts])
    if error["type"] == "extra_forbidden":
        return f"unknown param {where}{_nearest(where, field_names(name, model))}"
    if error["type"] == "missing":
        return f"param {where} is missing"
    return f"param {where}: {error['msg'].lower()} (got {error['input']!r})"


def field_names(prefix: str, model: type[Section]) -> list[str]:
    """Dotted names of all params under `prefix`, nested sections included."""
    names = []
    for field, info in model.model_fields.items():
        nested = info.annotation
        if isinstance(nested, type) and issubclass(nested, Section):
            names += field_names(f"{prefix}.{field}", nested)
        names.append(f"{prefix}.{field}")
    return names


def _nearest(name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _tuples(value: Any) -> Any:
    """YAML lists as tuples, so that the frozen sections hold no list."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
