"""`python -m bench.pack_sample`: a sample of VOC 2012 in parts small enough to be sent, for bench/gpu_photographs.sh.

In OUT are sample.tar.00, sample.tar.01, .., the parts of one archive, and sample.sha256, their check sums as sha256sum
reads them. The archive holds VOC2012/ (photographs of the lists, re-encoded; masks; lists), labels.csv,
weights.safetensors, wheels/ and, last, files.sha256. The script needs no package of ours to check and unpack it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image

from sfc.data.images import decode_image, image_size, read_image
from sfc.errors import UserError
from sfc.readers.voc_lists import list_path, read_list
from stages._errors import errors_as_lines
from stages._stage import output

QUALITY = 75
MB = 10**6
LARGEST = 60  # MB of a part
LISTS = ("train_aug", "val")
MASKS = "SegmentationClassAug"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--labels", type=click.Path(exists=True, path_type=Path), required=True, help="Table of image labels.")
@click.option("--weights", type=click.Path(exists=True, path_type=Path), required=True, help="Of the ImageNet trunk.")
@click.option("--wheels", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of wheels.")
@click.option("--part-mb", type=click.IntRange(1, LARGEST), default=LARGEST, show_default=True, help="MB of a part.")
def main(root: Path, out: Path, labels: Path, weights: Path, wheels: Path | None, part_mb: int) -> None:
    """Pack the data set in VOC layout at ROOT (lists train_aug and val) into the new folder OUT."""
    with errors_as_lines():
        if out.exists():
            raise UserError(f"{out}: is there already; name a new folder")
        with output(out) as folder:
            folder.mkdir(parents=True)
            parts = _Parts(folder, part_mb * MB)
            count = _pack(parts, root, labels, weights, wheels)
            parts.close()
    total = sum(path.stat().st_size for path in out.glob("sample.tar.*"))
    click.echo(f"{count:,} photographs in {parts.number} parts, {total / MB:.0f} MB, to {out}", err=True)


def reencoded(path: Path) -> bytes:
    """An image file as JPEG of quality 75, checked: it decodes, to RGB of the size that the masks have.

    Raises:
        UserError: the image is broken, or has become another.
    """
    image, written = read_image(path), io.BytesIO()
    Image.fromarray(image).save(written, "JPEG", quality=QUALITY)
    again = decode_image(path, written.getvalue())
    if again.shape != image.shape or np.abs(again.astype(int) - image).mean() > 25:
        raise UserError(f"{path}: does not survive JPEG of quality {QUALITY}; replace the file")
    return written.getvalue()


def _pack(parts: _Parts, root: Path, labels: Path, weights: Path, wheels: Path | None) -> int:
    """Write the archive; returns the number of photographs."""
    lists = {name: read_list(root, name) for name in LISTS}
    ids = [id for members in lists.values() for id in members]
    table = _rows(labels, ids)
    sums = {}
    with tarfile.open(fileobj=parts, mode="w|", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)  # no time, no owner: equal samples, equal bytes
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            sums[name] = hashlib.sha256(content).hexdigest()

        add("labels.csv", table)
        for name, members in lists.items():
            add(list_path(Path("VOC2012"), name).as_posix(), ("\n".join(members) + "\n").encode())
        for name, content in _images(root, ids):
            add(f"VOC2012/{name}", content)
        add("weights.safetensors", weights.read_bytes())
        for wheel in sorted(wheels.glob("*.whl")) if wheels else ():
            add(f"wheels/{wheel.name}", wheel.read_bytes())
        add("files.sha256", "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
    return len(ids)


def _images(root: Path, ids: list[str]) -> Iterator[tuple[str, bytes]]:
    """Photograph and mask of every image of the lists; UserError where one is missing or they differ in size."""
    for id in ids:
        photograph, mask = root / f"JPEGImages/{id}.jpg", root / f"{MASKS}/{id}.png"
        if image_size(photograph) != image_size(mask):
            raise UserError(f"{mask}: not of the size of {photograph}; replace one of them")
        yield f"JPEGImages/{id}.jpg", reencoded(photograph)
        yield f"{MASKS}/{id}.png", mask.read_bytes()


def _rows(labels: Path, ids: list[str]) -> bytes:
    """The rows of a label table that are of these images; UserError if one has none."""
    with labels.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    column = header.index("image_id") if "image_id" in header else 0
    wanted = set(ids)
    kept = [row for row in rows if row and row[column] in wanted]
    if missing := wanted - {row[column] for row in kept}:
        raise UserError(f"{labels}: no row of image {min(missing)}, which is in a list of the data set")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *kept])
    return text.getvalue().encode()


class _Parts(io.RawIOBase):
    """A file to write to, in parts of at most `size` bytes; `close` writes their check sums."""

    def __init__(self, folder: Path, size: int):
        self.number = 0
        self._folder, self._size, self._left = folder, size, 0
        self._file, self._digest, self._sums = None, None, []

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:
        rest = memoryview(content)
        while len(rest):
            if not self._left:
                self._next()
            piece = rest[: self._left]
            self._file.write(piece)
            self._digest.update(piece)
            self._left -= len(piece)
            rest = rest[len(piece) :]
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._end()
            (self._folder / "sample.sha256").write_text("".join(self._sums))
        super().close()

    def _next(self) -> None:
        self._end()
        self._name = f"sample.tar.{self.number:02d}"
        self._file, self._digest = (self._folder / self._name).open("wb"), hashlib.sha256()
        self._left = self._size
        self.number += 1

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._sums.append(f"{self._digest.hexdigest()}  {self._name}\n")
            self._file = None


if __name__ == "__main__":
    main()
