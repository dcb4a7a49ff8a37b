"""Params sections as frozen, typed models; `sfc.params` reads params.yaml into them.

Here is what stages read; what a method alone reads stands with it in `sfc.methods`.

No model has defaults: params.yaml (or a file of presets/) is the only source of values, so nothing that
changes a result is untracked. Library code never sees these models, only the plain values in them.
Sources of the constants: the comments beside them in presets/voc12.yaml.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sfc.config_evaluation import Analyse, Evaluate
from sfc.config_seg import Predict, Seg
from sfc.config_types import (
    Backbone,
    Count,
    DistinctScales,
    EachOnce,
    Fraction,
    NegativeShare,
    NonNegative,
    OneOrEach,
    Positive,
    Precision,
    Products,
    Radius,
    Rounds,
    Scale,
    Section,
    Seed,
    Side,
    Whole,
    Width,
    check_ascending,
    check_share,
)

# The params of `dataset` that each kind of data set reads, beside root and corrected; the others must be null.
DATASET_FIELDS = {
    "voc": ("train", "val", "test", "labels", "masks", "sbd", "classes", "negatives"),
    "coco14": ("train", "val", "test", "negatives"),
    "table": ("train", "val", "test", "labels", "classes", "negatives"),
}
DATASET_PATHS = ("root", "labels", "sbd", "corrected")  # those that are paths from the project's folder


class Dataset(Section):
    """Where images, lists, masks and image-level labels are."""

    kind: Literal["voc", "coco14", "table"]
    root: str
    # lists in ImageSets/Segmentation; for coco14 folders of images, for table values of its column split
    train: str  # the images trained on
    val: str  # those the segmentation model is measured on
    test: str | None  # images to predict that have no masks
    labels: str | None  # label table; for table the table itself, else null: look for one, else XML, else masks
    masks: str | None  # folder of masks; null: SegmentationClassAug, else SegmentationClass
    sbd: str | None  # folder of SBD: makes the list train_aug, and masks where `masks` is null
    classes: tuple[str, ...] | None  # foreground class names in index order; null: those of the data set
    negatives: bool  # whether training images that are known to show none of the classes stay
    corrected: str | None  # folder of masks that a person corrected, which stand for pseudo-labels
    tuning: tuple[str, ...]  # ids of images on whose masks offsets were tried: no figure counts them

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Dataset:
        for name, value in self:
            if value is not None and name not in ("kind", "root", "corrected", "tuning", *DATASET_FIELDS[self.kind]):
                raise ValueError(f"{name}: has no meaning for kind {self.kind}; set it to null")
        if self.kind == "table" and self.labels is None:
            raise ValueError("labels: name the table (image,classes and, if you like, mask and split)")
        if len({self.train, self.val, self.test}) < 3:
            raise ValueError("train: train, val and test must differ")
        if len(set(self.tuning)) < len(self.tuning):
            raise ValueError("tuning: an image is listed twice; remove one")
        return self


class Ibr(Section):
    """Image bank re-sampling."""

    n: Whole  # N_IBR; 0 turns the bank off
    replacement: bool
    exclude_batch: bool
    allow_empty: bool


class Dc(Section):
    """Distribution coefficient, Eq. 6."""

    norm: Literal["mean", "instances", "eq6"]
    c_ibr: Literal["auto", "simulate"] | Positive
    n_iter: Literal["auto"] | Count


class Schedule(Section):
    """How the lr falls over the steps, see `sfc.training.optim.poly`."""

    hold: Fraction  # share of the steps before the polynomial decay begins


class TrainCam(Section):
    """Training of the CAM network by one of `sfc.methods`."""

    method: str
    random_seed: Seed
    backbone: Backbone
    precision: Precision
    epochs: Count
    batch_size: Count
    negative_share: NegativeShare
    crop: Side
    long_side: tuple[Side, Side]
    lr: Positive
    head_lr_scale: Positive
    momentum: NonNegative
    weight_decay: NonNegative
    power: NonNegative
    schedule: Schedule
    clip_norm: Positive

    @model_validator(mode="after")
    def _ranges(self) -> TrainCam:
        check_ascending("long_side", self.long_side)
        check_share(self.negative_share, self.batch_size)
        return self


class Cam(Section):
    """Multi-scale CAM inference."""

    splits: Annotated[tuple[Literal["train", "val"], ...], Field(min_length=1), EachOnce]
    scales: DistinctScales
    flip: bool
    mask_absent: bool
    pcm_iters: Products | None  # products with the pixel correlation; null: as trained
    seed_pcm_iters: Products | None  # of the map that SFC's seeds come from; null: as trained; for no other method
    batch_size: Count
    precision: Precision


class Fusion(Section):
    """One use of a method's CAMs: Eq. 9 and the background rule."""

    weights: Annotated[dict[str, NonNegative], Field(min_length=1)]  # of each kind of CAM in the sum
    fg_gain: OneOrEach  # of the foreground
    bg_offset: NonNegative

    @model_validator(mode="after")
    def _sum(self) -> Fusion:
        if not any(self.weights.values()):
            raise ValueError("weights: all are 0, so no CAM is left; give one of them a weight")
        return self


class WalkFusion(Fusion):
    """The CAMs that random walks spread; the sum of the walks, each divided by its maximum, decides."""

    foreground_power: Positive | None  # walk of the foreground to this power, beside a constant; null: no such walk
    background: Fraction | None  # that constant
    whole_power: Positive | None  # walk of all channels to this power, background included; null: no such walk

    @model_validator(mode="after")
    def _walks(self) -> WalkFusion:
        if (self.background is None) != (self.foreground_power is None):
            raise ValueError(
                "background: stands beside the walk of the foreground; set both it and foreground_power, or none"
            )
        if self.foreground_power is None and self.whole_power is None:
            raise ValueError("whole_power: there is no walk; set this or foreground_power")
        return self


class Crf(Section):
    """Dense CRF that makes labels."""

    mode: Literal["label", "prob"]
    iterations: Rounds
    gt_prob: Annotated[float, Field(gt=0, lt=1)]
    gaussian_sxy: Width
    gaussian_compat: NonNegative
    bilateral_sxy: Width
    bilateral_srgb: Width
    bilateral_compat: NonNegative
    confident_bg_scale: Positive  # background channel times this for the confident background


class Irn(Section):
    """Training of IRN's network."""

    random_seed: Seed
    backbone: Backbone
    precision: Precision
    epochs: Count
    batch_size: Count
    negative_share: NegativeShare
    crop: Side
    rescale: tuple[Scale, Scale]
    radius: Radius
    lr: Positive
    momentum: NonNegative
    weight_decay: NonNegative
    power: NonNegative
    clip_norm: Positive | None

    @model_validator(mode="after")
    def _ranges(self) -> Irn:
        check_ascending("rescale", self.rescale)
        check_share(self.negative_share, self.batch_size)
        return self


class PseudoLabels(Section):
    refine: Literal["irn", "crf"]


class Refine(Section):
    """The vote of mask proposals from elsewhere on the pseudo-labels."""

    proposals: str | None  # their archive; null: no vote
    covered: Fraction  # a class wins a proposal of which its label covers more than this share,
    held: Fraction | None  # or one that holds at least this share of its label; null: the first way alone
    unclaimed: Literal["background", "keep"]  # labels in a proposal that no class wins


class Walk(Section):
    """Random walk on the pair affinities."""

    radius: Radius
    beta: Positive
    steps: Rounds
    flip: bool
    scale: Scale  # images are resized by this before IRN's network
    batch_size: Count  # images of one size
    precision: Precision


# The sections whatever the methods are; a method adds its own, and under `fusion` one of each of FUSION_USES.
SECTIONS: dict[str, type[Section]] = {
    "dataset": Dataset,
    "train_cam": TrainCam,
    "cam": Cam,
    "crf": Crf,
    "irn": Irn,
    "pseudo_labels": PseudoLabels,
    "walk": Walk,
    "refine": Refine,
    "seg": Seg,
    "predict": Predict,
    "analyse": Analyse,
    "evaluate": Evaluate,
}
FUSION_USES: dict[str, type[Section]] = {"crf": Fusion, "walk": WalkFusion, "eval": Fusion}
