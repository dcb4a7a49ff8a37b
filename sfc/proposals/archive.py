"""Class-agnostic masks of a whole split in one zip, from any segmenter.

An image has one entry, in whatever folder of the archive; two for one image are refused:

    ID.png      a grey label map of 8 or 16 bits, or one with a palette: 0 nothing, each other value one proposal
    ID.json     a list of COCO run lengths {"size": [H, W], "counts": ...}, or of objects that hold such a one as
                "segmentation", as SAM's generators and COCO's annotations do; they may lie over one another
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from sfc.coco_masks import decode
from sfc.data.manifest import Record
from sfc.errors import UserError
from sfc.label_archive import ZipReader

_MODES = ("1", "L", "P", "I;16", "I;16B", "I")  # what Pillow makes of grey and palette files


class ProposalArchive:
    """Random access by image id; may be pickled and used in any number of processes.

    Raises:
        UserError: no such file, not a zip, without any entry of this form, or with two of one image.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._zip = ZipReader(path, holds="mask proposals", remedy="see refine.proposals")
        self._entries: dict[str, str] = {}
        for name in self._zip.names:
            entry = PurePosixPath(name)
            if entry.suffix in (".png", ".json"):
                if entry.stem in self._entries:
                    both = " and ".join(dict.fromkeys((self._entries[entry.stem], name)))
                    raise UserError(f"{path}: image {entry.stem} comes twice ({both}); leave one entry of it")
                self._entries[entry.stem] = name
        if not self._entries:
            raise UserError(f"{path}: holds neither ID.png nor ID.json; see docs/proposals.md for what it should hold")

    def __contains__(self, id: str) -> bool:
        return id in self._entries

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in the order of the file, whether the data set has them or not."""
        return tuple(self._entries)

    def masks_of(self, record: Record) -> Iterator[np.ndarray]:
        """The proposals of an image, each (H, W) bool, one after another; none if the archive lacks the image.

        Raises:
            UserError: the image's entry is damaged, of another form, or of another size than the image.
        """
        if record.id not in self._entries:
            return
        name = self._entries[record.id]
        try:
            content = self._zip.read(name)
            yield from (_of_label_map if name.endswith(".png") else _of_run_lengths)(content, record)
        except UserError as error:
            raise UserError(f"{self.path}: {name}: {error}; make the archive again") from None
        except MemoryError:
            raise
        except Exception as error:  # a flipped bit can break zipfile and Pillow anywhere
            raise UserError(f"{self.path}: {name} is damaged ({error!r}); make the archive again") from None


def _of_label_map(content: bytes, record: Record) -> Iterator[np.ndarray]:
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        if image.mode not in _MODES:
            raise UserError(f"of mode {image.mode}, but a label map is grey or has a palette")
        numbers = np.array(image)
    if numbers.shape != (record.height, record.width):
        found, wanted = f"{numbers.shape[1]} x {numbers.shape[0]}", f"{record.width} x {record.height}"
        raise UserError(f"{found} pixels, but the image is {wanted}")
    yield from (numbers == number for number in np.unique(numbers) if number)


def _of_run_lengths(content: bytes, record: Record) -> Iterator[np.ndarray]:
    proposals = json.loads(content)
    if not isinstance(proposals, list):
        raise UserError("not a list of run lengths")
    for number, proposal in enumerate(proposals, 1):
        coded = proposal.get("segmentation", proposal) if isinstance(proposal, dict) else None
        if not isinstance(coded, dict) or not {"size", "counts"} <= coded.keys():
            form = '{"size": ..., "counts": ...}'
            raise UserError(f"proposal {number} of {len(proposals):,} has no run lengths {form}")
        yield decode(coded, record.height, record.width)
