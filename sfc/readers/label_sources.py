"""Where image-level labels come from (label table, annotation files, masks), and whether the sources agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sfc.errors import UserError, refuse
from sfc.label_table import TableRow, class_indices
from sfc.readers.check import Facts
from sfc.readers.labels import read_xml_labels

# how each source says that an image shows none of the classes, which is not the same as saying nothing of it
NO_CLASS = {
    "table": "an empty cell",
    "xml": "a file without objects",
    "masks": "a mask of zeros",
}


class LabelSource(NamedTuple):
    """`knows(image_id)`: whether it has labels of an image; `read(image_id)`: its sorted 0-based class indices."""

    knows: Callable[[str], bool]
    read: Callable[[str], tuple[int, ...]]


def label_sources(
    root: Path, table: Mapping[str, TableRow], facts: Mapping[str, Facts], names: Sequence[str]
) -> dict[str, LabelSource]:
    """The sources in the order they are asked: "table", "xml" (ROOT/Annotations/ID.xml), "masks"."""

    def annotation(image_id: str) -> Path:
        return root / "Annotations" / f"{image_id}.xml"

    return {
        "table": LabelSource(table.__contains__, lambda i: class_indices(table[i].classes, names)),
        "xml": LabelSource(
            lambda i: os.path.isfile(annotation(i)), lambda i: class_indices(read_xml_labels(annotation(i)), names)
        ),
        "masks": LabelSource(lambda i: facts[i].mask_classes is not None, lambda i: facts[i].mask_classes),
    }


def image_labels(
    where: str, split: str, ids: Sequence[str], sources: Mapping[str, LabelSource]
) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Labels of a split from the first source that knows any of its images, which must then know all of them.

    Returns:
        Name of the source, and the class indices of each image.

    Raises:
        UserError: an image is unknown there, or has a label that is no known class.
    """
    source = next((name for name, s in sources.items() if any(map(s.knows, ids))), "masks")
    labels, problems = {}, []
    for image_id in ids:
        try:
            if not sources[source].knows(image_id):
                told = f"those of the {split} split come from the {source}, where {NO_CLASS[source]} means no class"
                raise UserError(f"no label; {told}")
            labels[image_id] = sources[source].read(image_id)
        except UserError as error:
            problems.append(f"image {image_id}: {error}")
    refuse(where, problems)
    return source, labels


def labels_of_split(
    where: str, split: str, ids: Sequence[str], sources: Mapping[str, LabelSource]
) -> tuple[str, dict[str, tuple[int, ...]]]:
    """As `image_labels`, but the test split has labels only as far as the label table knows them, else none.

    Annotation files of VOC's test images, where there are any, do not list all objects.
    """
    if split != "test":
        return image_labels(where, split, ids, sources)
    table = sources["table"]
    known = [image_id for image_id in ids if table.knows(image_id)]
    labels = image_labels(where, split, known, {"table": table})[1] if known else {}
    return "table" if known else "none", {image_id: labels.get(image_id, ()) for image_id in ids}


def disagreements(
    source: str, labels: Mapping[str, tuple[int, ...]], sources: Mapping[str, LabelSource]
) -> dict[str, int]:
    """How many images the sources behind `source` know too, and of how many of those they name other classes.

    A label there that is no known class, or a broken annotation file, counts as another opinion.

    Returns:
        "compared_with_OTHER" and "differ_from_OTHER", in images, for each source that knows any.
    """
    counts = {}
    order = [*sources]
    for other in order[order.index(source) + 1 :] if source in order else ():
        known = [image_id for image_id in labels if sources[other].knows(image_id)]
        counts |= compared(other, [not _differs(sources[other], i, labels[i]) for i in known])
    return counts


def compared(other: str, agree: Sequence[bool]) -> dict[str, int]:
    """Counts of `disagreements` for one other source, from whether it agrees on each image it knows."""
    return {f"compared_with_{other}": len(agree), f"differ_from_{other}": agree.count(False)} if agree else {}


def _differs(source: LabelSource, image_id: str, labels: tuple[int, ...]) -> bool:
    try:
        return source.read(image_id) != labels
    except UserError:
        return True
