"""The galleries' data: of every product the images that were chosen, with their figures and pictures of every run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sfc.report.run import Run

_TYPES = {"jpg": "image/jpeg", "png": "image/png"}


def gallery(runs: Sequence[Run], titles: Mapping[str, str]) -> dict[str, Any]:
    """What the page's script shows.

    Args:
        titles: product -> title, in pipeline order.

    Returns:
        `runs`, their names; `pictures`, digest -> data URI, each once whatever shows it; `products`, each with its
        `key`, `title`, `meaning`, `split`, `main` map and all `maps`, `labels` and `scale` as the first run's archive
        has them, `images` and whether they were `measured`, and `examples`: an image, `found` of each run by its place
        in `runs` (figures and pictures as `sfc.evaluation.examples.write_examples` says, pictures by digest).
    """
    pictures: dict[str, str] = {}
    products = []
    for product, title in titles.items():
        archives = {i: run.examples[product] for i, run in enumerate(runs) if product in run.examples}
        if not any(archive.index["examples"] for archive in archives.values()):
            continue
        examples: dict[str, dict[str, Any]] = {}
        for i, archive in archives.items():
            for example in archive.index["examples"]:
                entry = examples.setdefault(example["id"], {"id": example["id"], "fixed": False, "found": {}})
                entry["fixed"] = entry["fixed"] or example["fixed"]
                entry["found"][i] = _found(archive, example, pictures)
        first = next(iter(archives.values())).index
        products.append(
            {
                "key": product,
                "title": title,
                **{name: first[name] for name in ("meaning", "split", "images", "main", "labels", "scale")},
                "maps": _maps(archives.values()),
                "measured": any(archive.index["ious"] for archive in archives.values()),
                "examples": list(examples.values()),
            }
        )
    return {"runs": [run.name for run in runs], "pictures": pictures, "products": products}


def _found(archive, example: Mapping[str, Any], pictures: dict[str, str]) -> dict[str, Any]:
    shown = []
    for picture in example["pictures"]:
        content = archive.read(picture["file"])
        digest = hashlib.sha256(content).hexdigest()[:12]
        kind = _TYPES[picture["file"].rpartition(".")[2]]
        pictures[digest] = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        shown.append({"kind": picture["kind"], "map": picture["map"], "label": picture["label"], "src": digest})
    figures = {name: example[name] for name in ("iou", "rank", "of_class", "shows", "extra")}
    return {**figures, "pictures": shown}


def _maps(archives) -> list[str]:
    """Names of the maps whose labels there are, the main one first."""
    found = [archive.index["main"] for archive in archives]
    for archive in archives:
        for example in archive.index["examples"]:
            found += [picture["map"] for picture in example["pictures"] if picture["kind"] == "labels"]
    return list(dict.fromkeys(found))
