"""The params sections of what is measured, see `sfc.config`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sfc.config_types import Count, NonNegative, Positive, Precision, Scale, Section, Seed, Whole


class Analyse(Section):
    """What classes share in the trained CAM network, Eq. 10 to 16."""

    split: Literal["train", "val"]
    images: Count  # at most; chosen evenly over the classes
    scale: Scale
    batch_size: Count
    precision: Precision
    bkg_scale: Positive  # background channel times this before the argmax that gives the seeds
    tail_share: Annotated[float, Field(gt=0, le=0.5)]  # this share of the classes is the head, as many are the tail


MOST_THRESHOLDS = 10_000  # the sweep has a confusion matrix for each


class Sweep(Section):
    """Background thresholds tried against the ground truth; an oracle, never a result."""

    start: NonNegative
    stop: Positive  # the last threshold is below it
    step: Positive

    @model_validator(mode="after")
    def _ends(self) -> Sweep:
        if self.start >= self.stop:
            raise ValueError(f"stop: {self.stop} is not above start, so there is no threshold; raise it")
        if (self.stop - self.start) / self.step > MOST_THRESHOLDS:
            raise ValueError(f"step: {self.step} makes more than {MOST_THRESHOLDS:,} thresholds; raise it")
        return self


class Bootstrap(Section):
    """Interval of each mIoU by resampling the measured images."""

    resamples: Whole  # 0: no intervals
    level: Annotated[float, Field(gt=0, lt=1)]
    random_seed: Seed


class Evaluate(Section):
    sweep: Sweep
    bootstrap: Bootstrap
    class_sets: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]]  # name of the set -> class names
    gallery: Whole  # images in each gallery
    worst: Whole  # images beside these in the report

    @model_validator(mode="after")
    def _named(self) -> Evaluate:
        if not all(name.strip() for name in self.class_sets):
            raise ValueError("class_sets: a set has no name, and its figure is called after it; give it one")
        return self
