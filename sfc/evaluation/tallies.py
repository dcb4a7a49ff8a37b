"""What is counted for each kind of product, one image at a time: label maps, or raw CAMs in several ways at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sfc.data.images import read_mask
from sfc.data.manifest import Record
from sfc.evaluation.cam_rule import CamRule
from sfc.evaluation.class_sets import set_means
from sfc.evaluation.confusion import Confusion, Scores, all_background, mean_known, scores
from sfc.evaluation.thresholds import ThresholdSweep
from sfc.label_archive import LabelArchive
from sfc.localization.fusion import label_keys, to_labels


class LabelTally:
    """Measures the label maps of an archive; `add` may be called from several threads.

    Attributes:
        confusions: the confusion matrix, under "labels".
        stands_for: "labels".
        protocol: how labels come from the product, in words.
    """

    protocol = "label maps as written, 255 counted as background"
    stands_for = "labels"

    def __init__(self, archive: LabelArchive, num_classes: int):
        self.archive = archive
        self.main = Confusion(num_classes)
        self.confusions = {self.stands_for: self.main}

    def add(self, record: Record) -> None:
        """Count one image that has a mask; raises UserError as `Confusion.add`."""
        self.main.add(record.id, read_mask(record.mask), self.archive.read(record.id))

    def metrics(self, sets: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """Figures in percent; `undecided` is the share of measured pixels that are 255 in the product."""
        undecided = 100 * self.main.undecided / max(self.main.matrix.sum(), 1)
        return {**split_metrics(self.main), **method_metrics(self.main, sets), "undecided": float(undecided)}


class CamTally:
    """Measures every method of a CAM store in one pass; `add` may be called from several threads.

    Attributes:
        confusions: of every method of `CamRule` under the fixed background rule.
        stands_for: the one of them that stands for the product, `CamRule.main`; its matrix is `main`.
        protocol: how labels come from the product, in words.
    """

    def __init__(self, rule: CamRule, num_classes: int, thresholds: Sequence[float]):
        self.rule = rule
        self.stands_for = rule.main
        shares = " + ".join(f"{weight:g} x {kind}" for kind, weight in rule.weights.items())
        self.protocol = (
            f"fixed background rule; {rule.main} ({shares}) stands for the method; "
            "oracle: best constant background, chosen on these masks"
        )
        self.confusions = {method: Confusion(num_classes) for method in rule.methods}
        self._sweeps = {method: ThresholdSweep(num_classes, thresholds) for method in rule.methods}
        self.main = self.confusions[rule.main]

    def add(self, record: Record) -> None:
        """Count one image that has a mask; raises UserError as `Confusion.add`."""
        truth = read_mask(record.mask)
        normalised = self.rule.normalised(record)
        keys = label_keys(record.labels)
        for method in self.rule.methods:
            # max, not argmax: torch's argmax over the first axis is several times slower on a CPU
            labels = to_labels(self.rule.cams(normalised, method).max(0).indices, keys)
            self.confusions[method].add(record.id, truth, labels)
            self._sweeps[method].add(record.id, truth, self.rule.foreground(normalised, method), keys[1:])

    def metrics(self, sets: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """Figures in percent for each method; `oracle` holds the best of the threshold sweep."""
        found = split_metrics(self.main)
        for method, confusion in self.confusions.items():
            threshold, miou = self._sweeps[method].best()
            oracle = {"threshold": threshold, "miou": 100 * miou}
            found[method] = {**method_metrics(confusion, sets), "oracle": oracle}
        return found


def split_metrics(confusion: Confusion) -> dict[str, Any]:
    """What depends on the ground truth alone: classes that never occur, and mIoU (percent) of all background."""
    return {
        "classes_absent": int((confusion.images == 0).sum()),
        "baseline_all_background": 100 * scores(all_background(confusion.matrix)).miou,
    }


def method_metrics(confusion: Confusion, sets: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """mIoU, its mean over each class set, pixel accuracy, and both error rates averaged over foreground classes.

    All in percent; definitions in `Scores`.
    """
    found: Scores = scores(confusion.matrix)
    means = {
        "miou": found.miou,
        **{f"miou_{name}": mean for name, mean in set_means(found.iou, sets).items()},
        "pixel_accuracy": found.pixel_accuracy,
        "false_positive_rate": mean_known(found.false_positive_rate[1:]),
        "false_negative_rate": mean_known(found.false_negative_rate[1:]),
    }
    return {name: 100 * value for name, value in means.items()}
