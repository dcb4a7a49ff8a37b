"""The manifest: the only thing that knows where images are, how large they are and what they show."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sfc.errors import UserError

BACKGROUND = "background"  # the name of label-map value 0
_COLUMNS = ("id", "split", "image", "mask", "height", "width", "classes", "image_hash", "label_source")


@dataclass(frozen=True)
class Record:
    """One image.

    Attributes:
        split: its role, "train", "val" or "test", whatever the data set calls its lists; "test" is never measured.
        mask: ground truth label map (0 background, class i is i + 1, 255 ignore), or None where there is none.
        labels: 0-based indices of the foreground classes in the image, sorted.
        image_hash: of the image file's bytes.
        label_source: where `labels` come from: "table", "xml", "masks", "instances"; "none" where nothing says.
    """

    id: str
    split: str
    image: Path
    mask: Path | None
    height: int
    width: int
    labels: tuple[int, ...]
    image_hash: str
    label_source: str


@dataclass(frozen=True)
class Manifest:
    """All images of a data set and the names of its C foreground classes.

    Attributes:
        tuning: ids of images on whose masks something was chosen; as `read_manifest` gives them they have no mask.
    """

    records: tuple[Record, ...]
    classes: tuple[str, ...]
    tuning: frozenset[str] = frozenset()

    def members(self, name: str) -> list[Record]:
        """As `split`, of a split that a data set may lack."""
        return [record for record in self.records if record.split == name]

    def split(self, name: str) -> list[Record]:
        """The records of "train", "val" or "test" in list order; raises UserError if there are none."""
        found = self.members(name)
        if not found:
            raise UserError(f"the manifest has no image in split {name}; see dataset.{name} and rerun prepare")
        return found

    def tuning_by_split(self) -> dict[str, int]:
        """How many images in `tuning` each split has; splits without any are left out."""
        return dict(Counter(record.split for record in self.records if record.id in self.tuning))

    def label_matrix(self, records: Sequence[Record]) -> np.ndarray:
        """`label_matrix` of the records with this data set's C classes."""
        return label_matrix(records, len(self.classes))


def label_matrix(records: Sequence[Record], num_classes: int) -> np.ndarray:
    """(N, num_classes) float32, 1 where the image shows the class, else 0."""
    matrix = np.zeros((len(records), num_classes), np.float32)
    for row, record in enumerate(records):
        matrix[row, list(record.labels)] = 1
    return matrix


def label_keys(labels: Sequence[int]) -> tuple[int, ...]:
    """Label-map value of each channel of a CAM: background 0, then i + 1 for each present class i."""
    return (0, *(label + 1 for label in labels))


def write_manifest(manifest: Manifest, csv_path: Path | str, classes_path: Path | str) -> None:
    """Write the records as a table a person can read, and the class names as a JSON list in index order."""
    with open(csv_path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for r in manifest.records:
            names = " ".join(manifest.classes[i] for i in r.labels)
            mask = r.mask.as_posix() if r.mask else ""
            rows.writerow(
                (r.id, r.split, r.image.as_posix(), mask, r.height, r.width, names, r.image_hash, r.label_source)
            )
    Path(classes_path).write_text(json.dumps(list(manifest.classes), indent=1) + "\n", encoding="utf-8")


def read_manifest(csv_path: Path | str, classes_path: Path | str, *, tuning: Path | str | None = None) -> Manifest:
    """Read what `write_manifest` wrote; raises UserError if a file is missing or not of that form.

    Args:
        tuning: file of `write_tuning`. Whoever measures names it: the images in it then have no mask, so that no figure
            rests on what was chosen to make it good. Where there is no such file, no mask was used up.
    """
    manifest = _read_records(csv_path, classes_path)
    if tuning is None or not Path(tuning).exists():
        return manifest
    used = frozenset(read_tuning(tuning))
    if unknown := sorted(used - {record.id for record in manifest.records}):
        raise UserError(f"{tuning}: image {unknown[0]} is not in {csv_path}; rerun prepare")
    records = tuple(replace(r, mask=None) if r.id in used else r for r in manifest.records)
    return Manifest(records, manifest.classes, used)


def write_tuning(ids: Sequence[str], path: Path | str) -> None:
    """Write the part of the manifest that says on whose masks something was chosen: a JSON list of image ids.

    It is a file of its own so that marking images changes nothing that training depends on.
    """
    Path(path).write_text(json.dumps(list(ids), indent=1) + "\n", encoding="utf-8")


def read_tuning(path: Path | str) -> tuple[str, ...]:
    """The ids that `write_tuning` wrote; raises UserError if the file is missing or not of that form."""
    return _read_names(path, "image ids")


def _read_records(csv_path: Path | str, classes_path: Path | str) -> Manifest:
    classes = _read_names(classes_path, "class names")
    if not classes:
        raise UserError(f"{classes_path}: not a list of class names; rerun prepare")
    index = {name: i for i, name in enumerate(classes)}
    try:
        with open(csv_path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            return Manifest(tuple(_record(row, index, classes_path) for row in rows), classes)
    except UserError as error:
        raise UserError(f"{csv_path}, line {rows.line_num}: {error}; rerun prepare") from None
    except FileNotFoundError:
        raise UserError(f"{csv_path}: no such file; run prepare first") from None
    except (OSError, csv.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{csv_path}: not a manifest that fits {classes_path} ({error!r}); rerun prepare") from None


def _read_names(path: Path | str, what: str) -> tuple[str, ...]:
    """A JSON list of texts; raises UserError if the file is missing or damaged."""
    try:
        names = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run prepare first") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a list of {what} ({error}); rerun prepare") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: not a list of {what}; rerun prepare")
    return tuple(names)


def _record(row: dict[str, str], index: dict[str, int], named_in: Path | str) -> Record:
    """One row of the table; raises UserError for what no other place would notice.

    `write_manifest` writes the names of classes by index. In another order they were written by another list of
    classes, and each value of a label map and channel of a CAM made since would stand for another class.
    """
    height, width = int(row["height"]), int(row["width"])
    if height < 1 or width < 1:
        raise UserError(f"image {row['id']} is {height} pixels high and {width} wide")
    labels = tuple(index[name] for name in row["classes"].split())
    if list(labels) != sorted(labels):
        raise UserError(f"image {row['id']} has the classes {row['classes']}, which {named_in} has in another order")
    return Record(
        id=row["id"],
        split=row["split"],
        image=Path(row["image"]),
        mask=Path(row["mask"]) if row["mask"] else None,
        height=height,
        width=width,
        labels=labels,
        image_hash=row["image_hash"],
        label_source=row["label_source"],
    )
