"""What is counted for each kind of product, one image at a time: label maps, or raw CAMs in several ways at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sfc.data.images import read_mask
from sfc.data.manifest import Record, label_keys
from sfc.evaluation.bootstrap import Bootstrap
from sfc.evaluation.cam_rule import CamRule
from sfc.evaluation.class_sets import set_means
from sfc.evaluation.confusion import Confusion, Scores, all_background, mean_known, scores
from sfc.evaluation.thresholds import ThresholdSweep
from sfc.fusion import to_labels
from sfc.label_archive import LabelArchive


class LabelTally:
    """Measures the label maps of an archive; `add` may be called from several threads.

    Attributes:
        confusions: the confusion matrix, under "labels".
        counters: all that was counted, which other processes' may be merged into.
        stands_for: "labels".
    """

    stands_for = "labels"

    def __init__(self, archive: LabelArchive, num_classes: int):
        self.archive = archive
        self.main = Confusion(num_classes)
        self.confusions = {self.stands_for: self.main}
        self.counters = [self.main]

    def add(self, record: Record) -> None:
        """Count one image that has a mask; raises UserError as `Confusion.add`."""
        self.main.add(record.id, read_mask(record.mask), self.archive.read(record.id))

    def protocol(self, split: str, tried: str | None = None) -> str:
        """How labels come from the product, and what is tried or chosen on masks, in words.

        Args:
            tried: what was tried or chosen on which other masks; None: nothing.
        """
        return f"label maps as written, 255 counted as background; {tried or 'the run chooses nothing on masks'}"

    def metrics(self, sets: Mapping[str, Sequence[int]], bootstrap: Bootstrap) -> dict[str, Any]:
        """Figures in percent; `undecided` is the share of measured pixels that are 255 in the product."""
        undecided = float(100 * self.main.undecided / max(self.main.matrix.sum(), 1))
        return {**split_metrics(self.main), **map_metrics(self.main, sets, bootstrap), "undecided": undecided}


class CamTally:
    """Measures every map of a CAM store in one pass; `add` may be called from several threads.

    Attributes:
        confusions: of every map of `CamRule` under the fixed background rule.
        counters: all that was counted, which other processes' may be merged into.
        stands_for: the one of them that stands for the product, `CamRule.main`; its matrix is `main`.
    """

    def __init__(self, rule: CamRule, num_classes: int, thresholds: Sequence[float]):
        self.rule = rule
        self.stands_for = rule.main
        self.confusions = {name: Confusion(num_classes) for name in rule.maps}
        self._sweeps = {name: ThresholdSweep(num_classes, thresholds) for name in rule.maps}
        self.main = self.confusions[rule.main]
        self.counters = [*self.confusions.values(), *self._sweeps.values()]

    def add(self, record: Record) -> None:
        """Count one image that has a mask; raises UserError as `Confusion.add`."""
        truth = read_mask(record.mask)
        normalised = self.rule.normalised(record)
        keys = label_keys(record.labels)
        for name in self.rule.maps:
            # max, not argmax: torch's argmax over the first axis is several times slower on a CPU
            labels = to_labels(self.rule.cams(normalised, name).max(0).indices, keys)
            self.confusions[name].add(record.id, truth, labels)
            self._sweeps[name].add(record.id, truth, self.rule.foreground(normalised, name), keys[1:])

    def protocol(self, split: str, tried: str | None = None) -> str:
        """As `LabelTally.protocol`, and what is chosen on the masks counted so far."""
        shares = " + ".join(f"{weight:g} x {kind}" for kind, weight in self.rule.weights.items())
        gains = " and ".join(f"{self.rule.gains[kind]:g}" for kind in self.rule.weights)
        rule = f"foreground x {gains}, background + {self.rule.bg_offset:g}"
        return (
            f"fixed background rule{f'; {tried}' if tried else ', for which the run chooses nothing on masks'}; "
            f"{self.stands_for} ({shares}; {rule}) stands for the method; "
            f"oracle: best constant background, chosen on these {len(self.main.per_image):,} images of {split}"
        )

    def metrics(self, sets: Mapping[str, Sequence[int]], bootstrap: Bootstrap) -> dict[str, Any]:
        """Figures in percent for each map; `oracle` holds the best of the threshold sweep."""
        found = split_metrics(self.main)
        for name, confusion in self.confusions.items():
            threshold, miou = self._sweeps[name].best()
            oracle = {"threshold": threshold, "miou": 100 * miou}
            found[name] = {**map_metrics(confusion, sets, bootstrap), "oracle": oracle}
        return found


def split_metrics(confusion: Confusion) -> dict[str, Any]:
    """What depends on the ground truth alone: classes that never occur, and mIoU (percent) of all background."""
    return {
        "classes_absent": int((confusion.images == 0).sum()),
        "baseline_all_background": 100 * scores(all_background(confusion.matrix)).miou,
    }


def map_metrics(confusion: Confusion, sets: Mapping[str, Sequence[int]], bootstrap: Bootstrap) -> dict[str, float]:
    """mIoU, its mean over each class set, pixel accuracy, and both error rates averaged over foreground classes.

    All in percent; definitions in `Scores`. With resamples, `miou_low` and `miou_high` are the mIoU's interval.
    """
    found: Scores = scores(confusion.matrix)
    interval = bootstrap.interval(confusion.per_image)
    means = {
        "miou": found.miou,
        **(dict(zip(("miou_low", "miou_high"), interval, strict=True)) if interval else {}),
        **{f"miou_{name}": mean for name, mean in set_means(found.iou, sets).items()},
        "pixel_accuracy": found.pixel_accuracy,
        "false_positive_rate": mean_known(found.false_positive_rate[1:]),
        "false_negative_rate": mean_known(found.false_negative_rate[1:]),
    }
    return {name: 100 * value for name, value in means.items()}
