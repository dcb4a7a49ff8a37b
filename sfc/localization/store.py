"""Raw CAMs on disk: safetensors shards of whole images, lossless, with random access by image id."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sfc.data.manifest import Record
from sfc.errors import UserError

OPEN = 8  # shards a reader keeps open: what it has read of a mapped file counts as its memory
SHARD = 256  # images in a shard: 30 MB for VOC; few files for DVC, and a small part of the work of one process


class CamWriter:
    """Takes images in any order and writes each shard when its last image has come, then forgets it.

    Several processes may write shards of their own to one folder; one of them calls `finish`.

    Args:
        folder: an existing folder.
        kinds: names of the maps' first axis, such as ("classifier", "prototype").
        scales: image scales, one map each.
        ids: all images, in the order of the store. The bytes depend on nothing but the arguments and the maps.
        fused: the kinds whose sum stands for the method.
        appear: a context manager, from a shard's path to the one it is written to meanwhile.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        kinds: Sequence[str],
        scales: Sequence[float],
        ids: Sequence[str],
        fused: Sequence[str],
        appear: Callable[[Path], AbstractContextManager[Path]] = nullcontext,
    ):
        self.folder = Path(folder)
        self._index = {"kinds": list(kinds), "fused": list(fused), "scales": list(scales), "ids": list(ids)}
        self.shards = [list(ids[i : i + SHARD]) for i in range(0, len(ids), SHARD)]
        self._appear = appear
        self._shard_of = _shard_numbers(ids)
        self._pending: dict[int, dict[str, Sequence[np.ndarray]]] = {}

    def write(self, id: str, maps: Sequence[np.ndarray]) -> None:
        """Add one image.

        Args:
            maps: one (kinds, 1 + present classes, h, w) float32 array a scale: channel 0 is the background, then
                the image's classes in index order.
        """
        if len(maps) != len(self._index["scales"]):
            raise ValueError(f"{id}: {len(maps)} maps for {len(self._index['scales'])} scales")
        for array in maps:
            if array.dtype != np.float32 or array.ndim != 4 or len(array) != len(self._index["kinds"]):
                raise ValueError(f"{id}: a raw CAM is (kinds, channels, h, w) float32, not {array.shape}")
        shard = self._shard_of[id]
        pending = self._pending.setdefault(shard, {})
        pending[id] = maps
        if len(pending) == len(self.shards[shard]):
            arrays = {_key(id, s): np.ascontiguousarray(m) for id, maps in pending.items() for s, m in enumerate(maps)}
            with self._appear(shard_path(self.folder, shard)) as path:
                save_file(arrays, path)
            del self._pending[shard]

    def finish(self, folder: Path | None = None) -> None:
        """Write the index, which makes a folder with all shards a store.

        Args:
            folder: another one than the shards were written to.
        """
        (folder or self.folder).joinpath("index.json").write_text(json.dumps(self._index) + "\n", encoding="utf-8")


class CamStore:
    """Random access by image id; may be pickled and used in any number of processes.

    Attributes:
        fused: those of `kinds` whose sum stands for the method that made the store.

    Raises:
        UserError: the folder is not a store.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        index = _read_index(self.folder / "index.json")
        self.kinds: tuple[str, ...] = index["kinds"]
        self.fused: tuple[str, ...] = index["fused"]
        self.scales: tuple[float, ...] = index["scales"]
        self.ids: tuple[str, ...] = index["ids"]
        self._shard_of = _shard_numbers(self.ids)
        self._files: dict[int, safe_open] = {}

    def read(self, id: str) -> list[np.ndarray]:
        """One (kinds, 1 + present classes, h, w) float32 array for each of `scales`.

        Raises:
            UserError: the store has no such image, or its shard is missing or damaged.
        """
        if id not in self._shard_of:
            raise UserError(f"{self.folder}: no CAM of image {id}; add its split to cam.splits and run infer_cam")
        shard = self._shard_of[id]
        try:
            file = self._opened(shard)
            maps = [file.get_tensor(_key(id, scale)) for scale in range(len(self.scales))]
            if any(array.ndim != 4 or len(array) != len(self.kinds) for array in maps):
                raise ValueError("maps of another form than index.json says")
            return maps
        except (OSError, SafetensorError, AttributeError, TypeError, ValueError) as error:
            path = shard_path(self.folder, shard)
            raise UserError(f"{path}: cannot read image {id} ({error}); run infer_cam again") from None

    def maps_of(self, record: Record) -> list[np.ndarray]:
        """As `read`; UserError too if there are not as many class maps as the record has labels."""
        maps = self.read(record.id)
        for found in (array.shape[1] - 1 for array in maps):
            if found != len(record.labels):
                raise UserError(
                    f"{self.folder}: {record.id} has {found} class maps but {len(record.labels)} labels in the "
                    "manifest; run infer_cam again"
                )
        return maps

    def fused_of(self, record: Record) -> list[np.ndarray]:
        """As `maps_of`, of the kinds in `fused` alone: what `sfc.fusion` makes one map of."""
        rows = [self.kinds.index(kind) for kind in self.fused]
        return [array if len(rows) == len(array) else array[rows] for array in self.maps_of(record)]

    def _opened(self, shard: int) -> safe_open:
        """The file of a shard; those used longest ago are closed. Each step is safe beside other threads."""
        file = self._files.pop(shard, None) or safe_open(shard_path(self.folder, shard), framework="numpy")
        self._files[shard] = file
        for old in list(self._files)[:-OPEN]:
            self._files.pop(old, None)
        return file

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_files": {}}


def empty_maps(store: CamStore) -> dict[str, dict[str, float]]:
    """Share of the CAMs that are zero at every scale: kind -> {"background": .., "classes": ..}.

    A CAM of the prototype kind is empty where no pixel was a seed of its class. Classes are NaN if no image has one.
    """
    empty = {kind: {"background": [], "classes": []} for kind in store.kinds}
    for id in store.ids:
        peaks = np.max([array.max(axis=(2, 3)) for array in store.read(id)], axis=0)  # (kinds, 1 + present)
        for kind, (background, *classes) in zip(store.kinds, peaks, strict=True):
            empty[kind]["background"].append(background == 0)
            empty[kind]["classes"] += [peak == 0 for peak in classes]
    return {
        kind: {part: float(np.mean(found)) if found else math.nan for part, found in parts.items()}
        for kind, parts in empty.items()
    }


def _read_index(path: Path) -> dict[str, tuple]:
    """kinds, fused, scales and ids of a store; UserError if there is none, or it is damaged."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path.parent}: no CAMs here; run the stage that makes them (dvc repro infer_cam)") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run infer_cam again") from None
    index = index if isinstance(index, dict) else {}
    forms = {"kinds": str, "fused": str, "scales": int | float, "ids": str}
    for name, form in forms.items():
        values = index.get(name)
        if not isinstance(values, list) or not all(isinstance(value, form) for value in values):
            raise UserError(f"{path}: {name} is missing or damaged; run infer_cam again")
    if not index["fused"] or not set(index["fused"]) <= set(index["kinds"]):
        raise UserError(f"{path}: fused names other kinds than there are; run infer_cam again")
    return {name: tuple(index[name]) for name in forms}


def _shard_numbers(ids: Sequence[str]) -> dict[str, int]:
    return {id: i // SHARD for i, id in enumerate(ids)}


def _key(id: str, scale: int) -> str:
    return f"{id}/{scale}"


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard in a store's folder."""
    return folder / f"{shard:05d}.safetensors"
