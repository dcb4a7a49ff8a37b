"""Label maps and their images in the layout of another tool, to be corrected or used there; no DVC stage."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from sfc.data.images import IGNORE
from sfc.data.manifest import Record, read_manifest
from sfc.errors import UserError, refuse
from sfc.exchange.layouts import LAYOUTS
from sfc.label_archive import LabelArchive
from stages._command import writing_alone
from stages._places import GivenPath, check_file, check_folder
from stages._stage import output, progress

PATHS = {"pseudo_labels": "out/pseudo_labels.zip", "predictions": "out/predictions.zip", "crf": "out/crf.zip"}
_LONG = 40  # characters: enough to know a line by
_DATE = (1980, 1, 1, 0, 0, 0)  # the zip format's first day: equal labels are equal bytes


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--to", "tool", type=click.Choice(list(LAYOUTS)), required=True, help="The tool whose layout is written.")
@click.option(
    "--product",
    type=click.Choice(list(PATHS)),
    default="pseudo_labels",
    show_default=True,
    help="Which label maps go out.",
)
@click.option(
    "--only",
    type=GivenPath(path_type=Path, dir_okay=False),
    help="A text file of image ids, one a line: these alone, in this order.",
)
@click.option(
    "--out",
    "target",
    type=GivenPath(path_type=Path, readable=False),
    help="The folder to write, or the archive if it ends in .zip.  [default: out/hand_over/ and the name after --to]",
)
def main(tool: str, product: str, only: Path | None, target: Path | None) -> None:
    """Write pseudo-labels or predictions with their images as another tool reads them.

    \b
    cvat         "Segmentation mask 1.1", for projects and tasks; labels.json holds the labels to create there
    voc          PASCAL VOC: JPEGImages, SegmentationClass, ImageSets
    ultralytics  semantic segmentation with PNG masks: images, masks, data.yaml
    coco         images, annotations/instances_default.json with run lengths

    What comes back corrected, in any of these layouts, goes to dataset.corrected; see docs/masks.md.
    """
    target = target or Path("out/hand_over") / tool
    with writing_alone("hand_over", target):
        (check_file if target.suffix.lower() == ".zip" else check_folder)(target)
        manifest = read_manifest("out/manifest.csv", "out/classes.json")
        archive = LabelArchive(PATHS[product])
        records = _records(archive, {record.id: record for record in manifest.records}, only)
        if target.exists() and (target.is_symlink() or target.is_file() or any(target.iterdir())):
            raise UserError(f"--out {target}: there is something already; remove it, or name another place")
        items = _Counted(progress(records, total=len(records), label=tool), archive, LAYOUTS[tool].undecided)
        with output(target) as path:
            if target.suffix.lower() == ".zip":
                # under a name that `output` clears away should this process be killed
                with TemporaryDirectory(prefix=f"{path.stem}.", suffix=".partial.zip", dir=path.parent) as folder:
                    LAYOUTS[tool].write(Path(folder), items, manifest.classes)
                    _pack(Path(folder), path)
            else:
                path.mkdir()
                LAYOUTS[tool].write(path, items, manifest.classes)
    lost = f"; {items.lost:,} undecided pixels (255) became background, which {tool} asks for" if items.lost else ""
    click.echo(f"{len(records):,} label maps of {PATHS[product]} with their images to {target}{lost}", err=True)


def _records(archive: LabelArchive, known: dict[str, Record], only: Path | None) -> list[Record]:
    """Of the images that the archive covers, those that are wanted."""
    ids = archive.ids if only is None else _listed(only)
    refuse(f"--only {only}", [_unknown(id, archive) for id in ids if id not in archive])
    strangers = [id for id in ids if id not in known]
    refuse(str(archive.path), [f"image {id} is not in out/manifest.csv; make it again" for id in strangers])
    return [known[id] for id in ids]


def _listed(only: Path) -> list[str]:
    try:
        ids = list(dict.fromkeys(filter(None, map(str.strip, only.read_text(encoding="utf-8-sig").splitlines()))))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--only {only}: cannot be read ({error}); it has to be text in UTF-8") from None
    if not ids:
        raise UserError(f"--only {only}: names no image")
    return ids


def _unknown(line: str, archive: LabelArchive) -> str:
    shown = line if len(line) <= _LONG else f"{line[:_LONG]}..."
    hint = "; a list has nothing but an image id on each line" if "," in line else ""  # a row of a table
    return f"no label map of image {shown} in {archive.path}{hint}"


class _Counted:
    """Records and their label maps; where a layout has no place for 255, as background.

    Attributes:
        lost: pixels that were 255 and are background now.
    """

    def __init__(self, records: Iterable[Record], archive: LabelArchive, undecided: bool):
        self._records, self._archive, self._undecided = records, archive, undecided
        self.lost = 0

    def __iter__(self) -> Iterator[tuple[Record, np.ndarray]]:
        for record in self._records:
            label = self._archive.label_of(record)
            if not self._undecided:
                self.lost += int(np.count_nonzero(label == IGNORE))
                label[label == IGNORE] = 0
            yield record, label


def _pack(folder: Path, path: Path) -> None:
    """The files of a folder as a zip, equal bytes for equal files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            packed.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix(), _DATE), file.read_bytes())


if __name__ == "__main__":
    main()
