"""Examples of a product for the report: the gallery's images and the worst of every class, as pictures and figures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sfc.data.images import IGNORE, read_image, read_mask, resize_image, resize_label
from sfc.data.manifest import Record, label_keys
from sfc.evaluation import drawing
from sfc.evaluation.cam_rule import CamRule
from sfc.evaluation.confusion import mean_known, union
from sfc.example_archive import ExampleArchiveWriter
from sfc.fusion import to_labels
from sfc.label_archive import LabelArchive

SIDE = 320  # pixels of a picture's longer side, at most


class Layer(NamedTuple):
    """What a product says of an image: a label map (H, W) uint8, or the activation of a class, (H, W) in 0..1."""

    map: str
    label: int | None  # label-map value of the class whose activation it is; None for a label map
    values: np.ndarray


def label_layers(archive: LabelArchive, record: Record) -> list[Layer]:
    """The one label map that an archive has of an image, under "labels"."""
    return [Layer("labels", None, archive.read(record.id))]


def cam_layers(rule: CamRule, record: Record) -> list[Layer]:
    """Of every map of the CAMs its labels, and the activation of each class that the image is labelled with."""
    normalised = rule.normalised(record)
    keys = label_keys(record.labels)
    layers = []
    for name in rule.maps:
        layers.append(Layer(name, None, to_labels(rule.cams(normalised, name).max(0).indices, keys)))
        heats = rule.foreground(normalised, name).numpy()
        layers += [Layer(name, key, heat) for key, heat in zip(keys[1:], heats, strict=True)]
    return layers


def image_ious(counts: np.ndarray) -> np.ndarray:
    """IoU of each class in one image, 0..1, NaN for a class that its mask does not show.

    Their mean is the image's IoU, as mIoU is that of a split: background counts, and what is found of a class that is
    not there counts against the classes it covers.

    Args:
        counts: (3, K) of `Confusion.per_image`.
    """
    right, truth, predicted = counts.astype(np.float64)
    return right / union(right, truth, predicted)


def choose_worst(per_image: Mapping[str, np.ndarray], count: int) -> list[str]:
    """At most `count` image ids: in turn every class, the rarest first, gives its worst image that is not taken.

    The worst is that of the lowest mean of `image_ious`, the earlier id of equals. Images whose mask shows no
    foreground are a class of their own.

    Args:
        per_image: `Confusion.per_image`.
    """
    found = {id: mean_known(image_ious(counts)) for id, counts in per_image.items()}
    showing: dict[int, list[str]] = {}
    for id in sorted(id for id, iou in found.items() if not np.isnan(iou)):
        for label in np.flatnonzero(per_image[id][1, 1:]) + 1 if per_image[id][1, 1:].any() else (0,):
            showing.setdefault(int(label), []).append(id)
    queues = [
        iter(sorted(showing[label], key=lambda id: (found[id], id)))
        for label in sorted(showing, key=lambda label: (len(showing[label]), label))
    ]
    taken: dict[str, None] = {}
    while queues and len(taken) < count:
        for queue in list(queues):
            id = next((id for id in queue if id not in taken), None)
            if id is None:
                queues.remove(queue)
            elif len(taken) < count:
                taken[id] = None
    return list(taken)


def write_examples(
    path: Path,
    facts: Mapping[str, Any],
    main: str,
    classes: Sequence[str],
    records: Sequence[Record],
    fixed: Sequence[str],
    per_image: Mapping[str, np.ndarray],
    layers: Callable[[Record], list[Layer]],
) -> None:
    """An archive whose index holds `facts`, `main` and

    - `labels`: name and colour (#rrggbb) of each label-map value, background first, and last those of 255;
    - `scale`: the colours of activation from 0 to 1;
    - `ious`: of all images that were measured, in percent, the worst first;
    - `examples`: of each of `records` its `id`; `fixed`, whether it is among those that every product shows; `shows`
      and `extra`, label-map values that its mask (without one, its labels) shows, and that the product says beside
      them; `iou`, `rank` (1: the worst of all) and `of_class` (value -> IoU) in percent, null and empty without a mask;
      `pictures`: `kind` (image, truth, labels, heat), `map`, `label` and `file`.

    Args:
        facts: product, split and whatever else the report should know.
        main: the map that stands for the product, among those of `layers`.
        records: the examples.
        fixed: ids among them.
        per_image: `Confusion.per_image` of the main map, for all images measured; empty without masks.
        layers: gives what there is to draw of a record.
    """
    ious = {id: mean_known(image_ious(counts)) for id, counts in per_image.items()}
    worst_first = sorted((id for id, iou in ious.items() if not np.isnan(iou)), key=lambda id: (ious[id], id))
    ranks = {id: rank for rank, id in enumerate(worst_first, 1)}
    with ExampleArchiveWriter(path) as archive:
        examples = []
        for record in records:
            counts, found = per_image.get(record.id), layers(record)
            examples.append(
                {
                    "id": record.id,
                    "fixed": record.id in fixed,
                    "rank": ranks.get(record.id),
                    **_figures(record, counts, next(layer.values for layer in found if layer.map == main)),
                    "pictures": _write_pictures(archive, record, found, len(classes) + 1),
                }
            )
        archive.finish(
            {
                **facts,
                "main": main,
                "labels": _legend(classes),
                "scale": [_hex(rgb) for rgb in drawing.heat_colours(np.linspace(0, 1, 5)[None])[0].astype(np.uint8)],
                "ious": [round(100 * ious[id], 2) for id in worst_first],
                "examples": examples,
            }
        )


def _figures(record: Record, counts: np.ndarray | None, said: np.ndarray) -> dict[str, Any]:
    said = {int(value) for value in np.unique(said)} - {0, IGNORE}
    if counts is None:
        shows = {label + 1 for label in record.labels}
        return {"iou": None, "of_class": {}, "shows": sorted(shows), "extra": sorted(said - shows)}
    found = 100 * image_ious(counts)
    shows = set(np.flatnonzero(counts[1]).tolist())
    iou = mean_known(found)
    return {
        "iou": None if np.isnan(iou) else round(iou, 2),
        "of_class": {str(value): round(float(found[value]), 2) for value in sorted(shows)},
        "shows": sorted(shows - {0}),
        "extra": sorted(said - shows),
    }


def _write_pictures(archive: ExampleArchiveWriter, record: Record, layers: Sequence[Layer], k: int) -> list[dict]:
    image = read_image(record.image)
    scale = min(1.0, SIDE / max(image.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in image.shape[:2])
    pictures = []

    def add(kind: str, name: str, content: bytes, layer: Layer | None = None) -> None:
        archive.write(f"{record.id}/{name}", content)
        about = {"map": layer.map if layer else None, "label": layer.label if layer else None}
        pictures.append({"kind": kind, "file": f"{record.id}/{name}", **about})

    add("image", "image.jpg", _jpeg(resize_image(image, *size)))
    if record.mask:
        add("truth", "truth.png", _label_png(resize_label(read_mask(record.mask), *size), k))
    for layer in layers:
        if layer.label is None:
            add("labels", f"{layer.map}.png", _label_png(resize_label(layer.values, *size), k), layer)
        else:
            colours = drawing.heat_colours(layer.values).round().astype(np.uint8)
            add("heat", f"{layer.map}_{layer.label}.jpg", _jpeg(resize_image(colours, *size)), layer)
    return pictures


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=80, optimize=True)
    return file.getvalue()


def _label_png(labels: np.ndarray, k: int) -> bytes:
    """In the colours of `_legend`, background transparent; 255 becomes value k, so that a short palette will do."""
    image = Image.fromarray(np.where(labels == IGNORE, k, labels).astype(np.uint8))
    image.putpalette(_colours(k).tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True, transparency=0)
    return file.getvalue()


def _colours(k: int) -> np.ndarray:
    return drawing.label_colours()[[*range(k), IGNORE]]


def _legend(classes: Sequence[str]) -> list[dict[str, str]]:
    colours = _colours(len(classes) + 1)
    names = ("background", *classes, "not measured")
    return [{"name": name, "colour": _hex(rgb)} for name, rgb in zip(names, colours, strict=True)]


def _hex(rgb: np.ndarray) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
