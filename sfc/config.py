"""Every params section as one frozen, typed model; `sfc.params` reads params.yaml into them.

No model has defaults: params.yaml (or a file of presets/) is the only source of values, so nothing that
changes a result is untracked. Library code never sees these models, only the plain values in them.
Sources of the constants: the comments beside them in presets/voc12.yaml.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sfc.config_seg import Predict, Seg
from sfc.config_types import Backbone, Count, Fraction, NonNegative, Positive, Precision, Radius, Scales, Section

# The params of `dataset` that each kind of data set reads, beside root; the others must be null.
DATASET_FIELDS = {
    "voc": ("train", "val", "test", "labels", "masks", "classes"),
    "voc12": ("train", "val", "test", "labels", "masks", "sbd", "classes"),
    "coco14": ("train", "val", "test"),
    "table": ("train", "val", "test", "labels", "classes"),
}


class Dataset(Section):
    """Where images, lists, masks and image-level labels are."""

    kind: Literal["voc", "voc12", "coco14", "table"]
    root: str
    # lists in ImageSets/Segmentation; for coco14 folders of images, for table values of its column split
    train: str  # the images trained on
    val: str  # those the segmentation model is measured on
    test: str | None  # images to predict that have no masks
    labels: str | None  # label table; for table the table itself, else null: look for one, else XML, else masks
    masks: str | None  # folder of masks; null: SegmentationClassAug, else SegmentationClass
    sbd: str | None  # folder of SBD: makes the list train_aug, and masks where `masks` is null
    classes: tuple[str, ...] | None  # foreground class names in index order; null: those of the data set


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


class PrototypeSeed(Section):
    """Which pixels a class prototype averages, Eq. 3."""

    mode: Literal["argmax", "threshold"]
    bkg_scale: Positive  # background channel times this before the argmax
    threshold: Fraction  # only for mode threshold


class Sfc(Section):
    """Training of the CAM network."""

    method: Literal["cam", "sipe", "sfc"]  # cam: the classifier alone, the paper's Base
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


class Sipe(Section):
    """What sfc.method sipe alone reads."""

    seed_bkg_scale: Positive  # background likeness times this before the argmax
    infer_feature: Literal["hierarchical", "semantic"]  # what the seeds correlate at inference
    w_gsc: NonNegative  # weight of the general-specific consistency loss


class Cam(Section):
    """Multi-scale CAM inference."""

    splits: Annotated[tuple[Literal["train", "val"], ...], Field(min_length=1)]
    scales: Scales
    flip: bool
    mask_absent: bool
    batch_size: Count
    precision: Precision


class Fusion(Section):
    """One use of the CAMs of a method: Eq. 9 and the background rule."""

    weights: dict[str, NonNegative]
    fg_gain: Positive
    bg_offset: NonNegative


class WalkFusion(Fusion):
    foreground_power: Positive | None
    background: Fraction | None
    whole_power: Positive | None


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
    flip: bool
    scale: Positive  # images are resized by this before the affinity network
    batch_size: Count  # images of one size
    precision: Precision


class Analyse(Section):
    """What classes share in the trained CAM network, Eq. 10 to 16."""

    split: Literal["train", "val"]
    images: Count  # at most; chosen evenly over the classes
    scale: Positive
    batch_size: Count
    precision: Precision
    bkg_scale: Positive  # background channel times this before the argmax that gives the seeds
    tail_share: Annotated[float, Field(gt=0, le=0.5)]  # this share of the classes is the head, as many are the tail


class Sweep(Section):
    """Background thresholds tried against the ground truth; an oracle, never a result."""

    start: NonNegative
    stop: Positive  # the last threshold is below it
    step: Positive


class Evaluate(Section):
    sweep: Sweep
    class_sets: dict[str, tuple[str, ...]]  # name of the set -> class names
    gallery: Annotated[int, Field(ge=0)]  # images in each gallery


SECTIONS: dict[str, type[Section]] = {
    "dataset": Dataset,
    "ibr": Ibr,
    "dc": Dc,
    "sfc": Sfc,
    "msdw": Msdw,
    "sipe": Sipe,
    "cam": Cam,
    "fusion.sfc.crf": Fusion,
    "fusion.sfc.walk": WalkFusion,
    "fusion.sfc.eval": Fusion,
    "crf": Crf,
    "irn": Irn,
    "pseudo_labels": PseudoLabels,
    "walk": Walk,
    "seg": Seg,
    "predict": Predict,
    "analyse": Analyse,
    "evaluate": Evaluate,
}
