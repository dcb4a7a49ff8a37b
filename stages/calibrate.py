"""Which background offset to take for the CAMs at hand, by a few masks or without any; no DVC stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from sfc.config import Fusion
from sfc.data.images import read_mask
from sfc.data.manifest import Record, read_manifest
from sfc.data.pool import ordered_map
from sfc.errors import UserError
from sfc.evaluation.bootstrap import Bootstrap
from sfc.evaluation.confusion import mean_iou
from sfc.evaluation.gallery import Block, write_sheets
from sfc.fusion import check_weights, gain_of
from sfc.localization.store import CamStore
from sfc.offsets.choice import Choice, halving
from sfc.offsets.counts import foreground, rights
from sfc.offsets.labels import OffsetLabels
from sfc.offsets.sheet import offset_block, shown_offsets
from sfc.params import Params, load_params
from stages._command import writing_alone
from stages._places import check_folder
from stages._stage import output, progress, say, workers
from stages._text import counted
from stages._tuning import spread, use_up

FOLDER = Path("out/calibrate")
IMAGES, STEPS, SHEET_IMAGES, SHEET_OFFSETS = 100, 20, 8, 6
USES = ("eval", "crf")  # the fusions that are tried: of the labels as measured, and of those that the CRF refines


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
# resamples of one image are that image: nothing could be said of chance
@click.option("--masks", metavar="K", type=click.IntRange(2), help="Choose by the masks of K training images.")
@click.option("--images", metavar="N", type=click.IntRange(1), help=f"Without --masks.  [default: {IMAGES}]")
@click.option(
    "--offsets",
    metavar="0.2,0.3,...",
    help=f"What to try.  [default: for each use {STEPS} steps from 0 to where no class is left]",
)
def main(masks: int | None, images: int | None, offsets: str | None) -> None:
    """Try background offsets on the CAMs of training images, and say which to take.

    With --masks K, those with the best mIoU of the CAM labels and of the CRF labels on K images, chosen evenly over the
    classes, and how sure that is. These images are entered in dataset.tuning of params.yaml and in out/tuning.json, and
    no figure counts their masks from then on.

    Without, the one at which half of the foreground is left that the CAMs of N images have at offset 0. It is a rule
    for the CAMs' labels and unsure for the CRF's; docs/offsets.md says how good it was where that could be measured.

    The random walk's labels are not tried: they need a network that is trained later. Either way, look at the sheets.

    \b
    Reads:  params.yaml, out/manifest.csv, out/classes.json, out/cams/, the images
    Writes: out/calibrate/offsets.csv and sheet_1.png, ...; with --masks also dataset.tuning in params.yaml
    """
    with writing_alone("calibrate", FOLDER):
        if masks and images:
            raise UserError(f"--images {images}: --masks {masks} says already how many images are tried; leave one out")
        check_folder(FOLDER)  # before a mask is used up
        params = load_params()
        bootstrap = Bootstrap(**params.get("evaluate.bootstrap").model_dump())
        fusions = {use: params.get(f"fusion.{{method}}.{use}") for use in USES}
        labels = _labels(params, fusions, offsets)
        manifest = read_manifest("out/manifest.csv", "out/classes.json")
        labels.store.maps_of(manifest.split("train")[0])  # before a mask is used up: are there CAMs of these images?
        records = use_up(manifest, masks) if masks else spread(manifest.split("train"), images or IMAGES)
        if not records:
            raise UserError("no training image has a class, so there is no foreground to find")
        now = [labels.offsets.index(fusion.bg_offset) for fusion in fusions.values()]
        tried = _Try(labels, len(manifest.classes) + 1, bool(masks), frozenset(r.id for r in _few(records)))
        counts, blocks = _try_all(tried, records, now, manifest.classes)
        choices = _choices(counts, bootstrap)
        rows = _rows(labels.offsets, counts, choices)
        with output(FOLDER) as folder:
            folder.mkdir()
            lines = [",".join(row) for row in rows]
            (folder / "offsets.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
            sheets = write_sheets(folder, "sheet", "labels of the CAMs by offset, and of the CRF below", blocks)
    for row in rows:
        click.echo("  ".join(cell.rjust(len(name)) for cell, name in zip(row, rows[0], strict=True)))
    for line in _conclusion(labels.offsets, choices, now, bootstrap):
        click.echo(line)
    for line in _advice(params, labels.offsets, choices, now, bootstrap):
        click.echo(line)
    tried = f"calibrate: {counted(len(records), 'image')}, to {FOLDER}/offsets.csv"
    say(f"{tried}, {counted(sheets, 'sheet')} beside it")


def _labels(params: Params, fusions: Mapping[str, Fusion], offsets: str | None) -> OffsetLabels:
    store = CamStore("out/cams")
    for fusion in fusions.values():
        check_weights(store.fused, fusion.weights)
    rules = {use: fusion.model_dump(exclude={"bg_offset"}) for use, fusion in fusions.items()}
    reaches = {round(_reach(fusion), 6) for fusion in fusions.values()}
    tried = _listed(offsets) if offsets else [step * reach / STEPS for reach in reaches for step in range(STEPS)]
    now = [fusion.bg_offset for fusion in fusions.values()]
    return OffsetLabels(
        store,
        sorted({0.0, *(round(offset, 6) for offset in tried), *now}),
        measured=rules["eval"],
        refined=rules["crf"],
        crf=params.get("crf").model_dump(),
    )


def _reach(fusion: Fusion) -> float:
    """The offset from which on no class can win: foregrounds have at most 1."""
    shares = [(weight, gain_of(kind, fusion.fg_gain)) for kind, weight in fusion.weights.items()]
    return sum(weight * gain for weight, gain in shares) / sum(weight for weight, _ in shares)


def _listed(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--offsets {text}: expected numbers such as 0.2,0.3,0.4") from None
    if not all(0 <= offset < float("inf") for offset in found):
        raise UserError(f"--offsets {text}: an offset is 0 or more")
    return found


@dataclass(frozen=True)
class _Try:
    """What a worker process does with one image. Without masks the CRF, which takes longest, is for sheets alone."""

    labels: OffsetLabels
    num_classes: int
    masks: bool
    shown: frozenset[str]

    def __call__(self, record: Record) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray] | None]:
        """What is counted of the record, and its label maps of CAMs and CRF if it is shown."""
        cams, shown = self.labels.of_cams(record), record.id in self.shown
        counts = {"foreground_cam": foreground(cams)}
        if self.masks or shown:
            crf = self.labels.of_crf(record)
        if self.masks:
            truth = read_mask(record.mask)
            counts |= {
                "foreground_crf": foreground(crf),
                "miou_cam": rights(record.id, cams, truth, self.num_classes),
                "miou_crf": rights(record.id, crf, truth, self.num_classes),
            }
        return counts, (cams, crf) if shown else None


def _few(records: Sequence[Record]) -> Sequence[Record]:
    return records[:: max(1, len(records) // SHEET_IMAGES)][:SHEET_IMAGES]


def _try_all(
    tried: _Try, records: Sequence[Record], now: Sequence[int], classes: Sequence[str]
) -> tuple[dict[str, dict[str, np.ndarray]], list[Block]]:
    """What is counted, by its name and image, and blocks for the sheets."""
    offsets = tried.labels.offsets
    columns = {
        i: f"{offsets[i]:g}" + (" (now)" if i in now else "") for i in shown_offsets(len(offsets), now, SHEET_OFFSETS)
    }
    results = ordered_map(tried, records, workers=workers())
    counts, blocks = {}, []
    for record, (found, maps) in zip(records, progress(results, total=len(records), label="offsets"), strict=True):
        for name, values in found.items():
            counts.setdefault(name, {})[record.id] = values
        if maps:
            blocks.append(offset_block(record, *maps, columns, classes, show_mask=tried.masks))
    return counts, blocks


def _choices(counts: Mapping[str, Mapping[str, np.ndarray]], bootstrap: Bootstrap) -> dict[str, Choice]:
    """Of each figure that decides: with masks the two mIoUs, without the foreground that is left."""
    deciding = {"miou_cam": mean_iou, "miou_crf": mean_iou} if "miou_cam" in counts else {"foreground_cam": halving}
    return {
        name: Choice(score(_total(counts[name])), score(bootstrap.resampled(counts[name])))
        for name, score in deciding.items()
    }


def _total(counts: Mapping[str, np.ndarray]) -> np.ndarray:
    """The sum over images, in int64: a class passes 2^31 pixels on some 200 large photographs."""
    return np.sum(list(counts.values()), axis=0, dtype=np.int64)


def _rows(offsets: Sequence[float], counts: Mapping[str, Mapping], choices: Mapping[str, Choice]) -> list[list[str]]:
    """The table, its heading first; all but the offset in percent."""
    shares = {name: _total(counts[name]) for name in ("foreground_cam", "foreground_crf") if name in counts}
    columns = {name: total[:, 0] / total[:, 1] for name, total in shares.items()}
    columns |= {name: choice.scores for name, choice in choices.items() if name not in columns}
    figures = ([f"{100 * values[i]:.1f}" for values in columns.values()] for i in range(len(offsets)))
    return [["offset", *columns], *([f"{o:g}", *row] for o, row in zip(offsets, figures, strict=True))]


def _conclusion(offsets: Sequence[float], choices: Mapping[str, Choice], now: Sequence[int], bootstrap: Bootstrap):
    """A line or two for each figure that decides: what is best, how sure that is, and what it gains."""
    for (name, choice), present in zip(choices.items(), now, strict=False):
        best, level = choice.best, f"{100 * bootstrap.level:g} %"
        what = "nearest to half of the foreground is left" if name == "foreground_cam" else f"{name} is best"
        line = f"{what} at {offsets[best]:g}"
        if bootstrap.resamples:
            low, high = (f"{offsets[i]:g}" for i in choice.range(bootstrap.level))
            line += f"; in {100 * choice.share:.0f} % of {bootstrap.resamples:,} resamples of these images too"
            line += "" if low == high == f"{offsets[best]:g}" else f", in {level} of them from {low} to {high}"
        yield line
        if best == len(offsets) - 1 and best:
            yield "  which is the highest that was tried; try higher ones, too (--offsets)"
        if name == "foreground_cam":
            continue
        if best == present:
            yield "  which is the present value"
        elif bootstrap.resamples:
            gain, low, high = (f"{100 * value:+.1f}" for value in choice.gain(present, bootstrap.level))
            sure = choice.surely_above(present, bootstrap.level)
            what = "" if sure else ": these masks do not tell the two apart; keep it, or draw more"
            yield f"  {gain} [{low}, {high}] points against {offsets[present]:g}, the present value{what}"


def _advice(
    params: Params, offsets: Sequence[float], choices: Mapping[str, Choice], now: Sequence[int], bootstrap: Bootstrap
) -> list[str]:
    """How to take what was found, where it is worth taking, and what was not tried."""
    method, walked = params.get("train_cam.method"), params.get("pseudo_labels.refine") == "irn"
    fusions = {use: params.get(f"fusion.{method}.{use}") for use in ("eval", "crf", "walk")}
    same = fusions["crf"].fg_gain == fusions["walk"].fg_gain  # with another gain an offset means something else
    alike = {"eval": ("eval",), "crf": ("crf", "walk") if walked and same else ("crf",)}

    def settings(*uses: str, to: float) -> str:
        return " ".join(f"-S fusion.{method}.{use}.bg_offset={to:g}" for use in uses)

    if (rule := choices.get("foreground_cam")) is not None:
        best = offsets[rule.best]
        used = [fusions[use] for use in ("eval", *alike["crf"])]
        gains = {gain_of(kind, fusion.fg_gain) for fusion in used for kind, weight in fusion.weights.items() if weight}
        if gains not in ({1.0}, {2.0}):
            return [
                "nothing to take: the rule was found with fg_gain 1 or 2 for all uses, and "
                f"fusion.{method} has others; with smaller ones it lost 21 points on the demo (docs/offsets.md); "
                "go by --masks, or by the sheets"
            ]
        too = ", and the walk (not tried) too" if "walk" in alike["crf"] else ""
        return [
            f"to take it for the CAMs' own labels: dvc exp run {settings('eval', to=best)}",
            f"for the CRF{too}: {settings(*alike['crf'], to=best)}",
            "  but this is a rule for CAMs: of the CRF's labels it lost from 0 to 16 points against the best offset "
            "(docs/offsets.md), so go by the lower rows of the sheets, or by --masks",
        ]
    better = {
        use: offsets[choice.best]
        for (use, choice), present in zip(zip(USES, choices.values(), strict=True), now, strict=True)
        if choice.best != present and choice.surely_above(present, bootstrap.level)
    }
    walk = "the walk's labels were not tried, as they need IRN's network: fusion.METHOD.walk.bg_offset "
    walk = walk.replace("METHOD", method)
    if not better:
        found, walk = "nothing to take: no offset is surely better than the present ones", f"{walk}stays, too"
    else:
        found = " ".join(settings(*alike[use], to=offset) for use, offset in better.items())
        found = f"to take it: dvc exp run {found}"
        gets = "crf" in better and "walk" in alike["crf"]
        stays = "stays" if same or "crf" not in better else "stays, as its fg_gain is another than the CRF's"
        walk += "gets the CRF's; see what evaluate@pseudo_labels says of it" if gets else stays
    return [found, walk] if walked else [found]


if __name__ == "__main__":
    main()
