"""The paper's settings and figures (Tables 1 to 7), and ours beside them as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

SFC, NO_BANK = {"train_cam.method": "sfc"}, {"ibr.n": 0}
NO_PROTO, NO_SCALE = {"msdw.w_proto": 0.0}, {"msdw.w_scale": 0.0}
NO_DC_PROTO, NO_DC_SCALE = {"msdw.dc_proto": False}, {"msdw.dc_scale": False}
WITH_DC = {"msdw.dc_proto": True, "msdw.dc_scale": True}


@dataclass(frozen=True)
class Setting:
    """One row of the paper's ablations: what it changes, which CAM it is scored by, and the paper's mIoU of that."""

    changes: dict[str, float | bool | str]
    cam: str
    paper: float | None


SETTINGS = {  # what a setting does not name has the value of params.yaml
    "Base": Setting({"train_cam.method": "base"}, "classifier", 55.1),
    # what the settings below start from: they classify each image at half size too, which Base does not
    "both scales": Setting({**SFC, **WITH_DC, **NO_BANK, **NO_PROTO, **NO_SCALE}, "classifier", None),
    "I": Setting({**SFC, **WITH_DC, **NO_PROTO, **NO_SCALE}, "classifier", 55.9),
    "II": Setting({**SFC, **WITH_DC, **NO_BANK}, "sum", 62.4),
    "III": Setting({**SFC, **WITH_DC, **NO_SCALE}, "sum", 62.4),
    "IV": Setting({**SFC, **WITH_DC, **NO_PROTO}, "sum", 58.1),
    "V": Setting({**SFC, **WITH_DC}, "sum", 64.7),
    "VI": Setting({**SFC, **NO_DC_PROTO, **NO_DC_SCALE}, "sum", 62.0),
    "VII": Setting({**SFC, "msdw.dc_proto": True, **NO_DC_SCALE}, "sum", 63.7),
    "VIII": Setting({**SFC, **NO_DC_PROTO, "msdw.dc_scale": True}, "sum", 63.6),
}
RUNS = {
    4: ("Base", "both scales", "I", "II", "III", "IV", "V"),
    5: ("VI", "VII", "VIII", "V"),
    6: ("V",),
    7: ("Base", "VI", "V"),
}
TITLES = {
    4: "Table 4: the components of SFC, mIoU of the CAMs",
    5: "Table 5: the distribution coefficient in either loss, mIoU of the summed CAMs",
    6: "Table 6: the CAM read at inference, mIoU",
    7: "Table 7: mIoU gained over Base, by class set (differences within a seed)",
}
HEADINGS = {
    4: ("setting", "bank", "prototype loss", "scale loss", "CAM"),
    5: ("setting", "DC in prototype loss", "DC in scale loss"),
    6: ("CAM",),
    7: ("setting", "class set"),
}
INFERENCE = {"classifier": 64.2, "prototype": 62.5, "sum": 64.7}  # Table 6, rows IX, X, V
GAINS = {  # Table 7
    "VI": {"miou": 6.9, "miou_many": 5.6, "miou_medium": 6.5, "miou_few": 8.6},
    "V": {"miou": 9.6, "miou_many": 9.5, "miou_medium": 6.5, "miou_few": 12.9},
}

METHODS = ("base", "sipe", "sfc")
PRODUCTS = {"cam": "CAM", "crf": "CRF", "pseudo_labels": "pseudo-labels", "seg": "segmentation"}
VOC = {  # Table 1 on train (Base: Table 4); the 1,464 images with official masks
    ("base", "cam", "train"): 55.1,
    ("sipe", "cam", "train"): 58.6,
    ("sipe", "crf", "train"): 64.7,
    ("sipe", "pseudo_labels", "train"): 68.0,
    ("sfc", "cam", "train"): 64.7,
    ("sfc", "crf", "train"): 69.4,
    ("sfc", "pseudo_labels", "train"): 73.7,
}
SEGMENTATION = {  # (data set, model, its trunk) -> Tables 2 and 3 on val
    ("voc", "deeplabv2", "resnet101"): {("sipe", "seg", "val"): 68.8, ("sfc", "seg", "val"): 71.2},
    ("voc", "largefov", "wideresnet38"): {("sipe", "seg", "val"): 68.2, ("sfc", "seg", "val"): 70.2},
    ("coco", "deeplabv2", "resnet101"): {("sipe", "seg", "val"): 40.6, ("sfc", "seg", "val"): 46.8},
    ("coco", "largefov", "wideresnet38"): {("sipe", "seg", "val"): 43.6},
}


def main_figures(kind: str, model: str, arch: str) -> dict[tuple[str, str, str], float]:
    """The paper's main results for a data set and a segmentation model, (method, product, split) -> mIoU.

    Args:
        kind: dataset.kind; for all but coco14 these are the paper's figures on VOC 2012.
        model, arch: seg.model and seg.backbone.arch; the paper has no segmentation figure of other pairs.
    """
    data = "coco" if kind == "coco14" else "voc"
    return (VOC if data == "voc" else {}) | SEGMENTATION.get((data, model, arch), {})


def ablation_table(number: int, rows: pd.DataFrame, sets: Sequence[str]) -> str:
    """One of Tables 4 to 7 as Markdown.

    Args:
        rows: of the runs that are done: run, seed, split, map (classifier, prototype, sum, labels), miou and miou_SET
            in percent.
        sets: names of the class sets.
    """
    lines = []
    for split in rows["split"].unique():
        part = rows[rows["split"] == split]
        for names, values, paper in _entries(number, part, sets):
            figure = f"{paper:.1f}" if paper is not None and split == "train" else "-"
            lines.append([*names, split, str(len(values)), spread(values), figure])
    return f"### {TITLES[number]}\n\n" + _markdown([*HEADINGS[number], "split", "seeds", "ours", "paper"], lines)


def _entries(number: int, rows: pd.DataFrame, sets: Sequence[str]):
    """(names, our figure of each seed, the paper's figure) of every line of a table."""
    if number == 6:
        for cam, paper in INFERENCE.items():
            yield (cam,), _figures(rows, "V", cam), paper
    elif number == 7:
        for run, paper in GAINS.items():
            for name in ("miou", *(f"miou_{s}" for s in sets)):
                base = _figures(rows, "Base", SETTINGS["Base"].cam, name)
                gain = (_figures(rows, run, SETTINGS[run].cam, name) - base).dropna()
                yield (run, name.removeprefix("miou_").replace("miou", "overall")), gain, paper.get(name)
    else:
        for run in RUNS[number]:
            setting = SETTINGS[run]
            cam = (setting.cam,) if number == 4 else ()
            yield (run, *_marks(number, setting), *cam), _figures(rows, run, setting.cam), setting.paper


def _marks(number: int, setting: Setting) -> list[str]:
    switches = ("ibr.n", "msdw.w_proto", "msdw.w_scale") if number == 4 else ("msdw.dc_proto", "msdw.dc_scale")
    sfc = setting.changes["train_cam.method"] == "sfc"
    return ["yes" if sfc and setting.changes.get(name, True) else "no" for name in switches]


def _figures(rows: pd.DataFrame, run: str, cam: str, name: str = "miou") -> pd.Series:
    """One value a seed."""
    return (
        rows[(rows["run"] == run) & (rows["map"] == cam)].set_index("seed").get(name, pd.Series(dtype=float)).dropna()
    )


def main_table(rows: pd.DataFrame, *, paper: dict[tuple[str, str, str], float]) -> str:
    """Tables 1 to 3: every product of the three methods.

    Args:
        rows: as in `ablation_table`, with `product` and `stands_for`, the map that a method is scored by.
        paper: of `main_figures`.
    """
    lines = []
    for method in METHODS:
        for product, name in PRODUCTS.items():
            own = rows["map"] == rows["stands_for"]
            part = rows[own & (rows["run"] == method) & (rows["product"] == product)]
            for split in part["split"].unique():
                values = part[part["split"] == split].set_index("seed")["miou"].dropna()
                figure = paper.get((method, product, split))
                figure = "-" if figure is None else f"{figure:.1f}"
                lines.append([method, name, split, str(len(values)), spread(values), figure])
    title = "### Tables 1 to 3: Base, SIPE and SFC, mIoU\n\n"
    return title + _markdown(["method", "product", "split", "seeds", "ours", "paper"], lines)


def spread(values: pd.Series) -> str:
    """Mean and sample standard deviation; a single value has no spread."""
    if not len(values):
        return "-"
    return f"{values.mean():.1f} ± {values.std():.1f}" if len(values) > 1 else f"{values.mean():.1f}"


def _markdown(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heading, ["--"] * len(heading), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
