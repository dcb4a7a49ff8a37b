"""The images that a person points at, by files, folders, globs and lists."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sfc.data.images import SUFFIXES
from sfc.errors import UserError

TABLE = "segments.csv"  # stands in every folder of results


def find_images(sources: Sequence[str], *, skip: Path) -> dict[str, Path]:
    """Id -> image file, in the order of the sources, of folders and globs by name.

    An id is what results are called by: the path without its ending from the folder, from the fixed part of the glob
    or as a list has it; the name alone of a single file, and where a list has an absolute path or one with `..`.

    Args:
        sources: of each an image file; a folder, of which all images are meant, those of its folders included; a glob;
            or a text file NAME.txt with a path a line, from where the command runs or else from the list. What a
            folder or glob names is an image if it ends as one (`SUFFIXES`), does not begin with a dot, and lies in no
            folder of earlier results, which has a `TABLE`.
        skip: nothing in this folder is taken.

    Raises:
        UserError: a source is nothing of this, or holds no image; or two images have one id.
    """
    found: dict[str, Path] = {}
    skip = skip.resolve()
    for source in sources:
        for id, path in _images_of(source):
            if skip in path.resolve().parents:
                continue
            other = found.setdefault(id, path)
            if other.resolve() != path.resolve():
                raise UserError(
                    f"{other} and {path}: the results of both would be called {id}; name the folder that holds both, "
                    "or the images of one ending, as in 'FOLDER/*.jpg'"
                )
    if not found:
        raise UserError(f"{', '.join(sources)}: no image outside {skip}, where the results go")
    return found


def _images_of(source: str) -> Iterator[tuple[str, Path]]:
    path = Path(source)
    if path.is_dir():
        yield from _below(path, path.rglob("*"), source)
    elif path.is_file() and path.suffix.lower() == ".txt":
        yield from _listed(path)
    elif path.is_file():
        yield path.stem, path
    elif glob.has_magic(source):
        fixed = Path(re.split(r"[*?\[]", source)[0] + "x").parent
        yield from _below(fixed, map(Path, glob.glob(source, recursive=True)), source)
    else:
        raise UserError(f"{source}: no such file or folder")


def _below(folder: Path, paths: Iterator[Path], source: str) -> Iterator[tuple[str, Path]]:
    results = {table.parent for table in folder.rglob(TABLE)}
    images = sorted(
        p
        for p in paths
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file() and results.isdisjoint(p.parents)
    )
    if not images:
        raise UserError(f"{source}: no image there (a file that ends in {', '.join(SUFFIXES)})")
    for image in images:
        yield image.relative_to(folder).with_suffix("").as_posix(), image


def _listed(path: Path) -> Iterator[tuple[str, Path]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a list of paths in UTF-8 ({error}); save it as UTF-8") from None
    named = [Path(line.strip()) for line in lines if line.strip()]
    if not named:
        raise UserError(f"{path}: an empty list; write the path of an image a line")
    for image in named:
        plain = not image.is_absolute() and ".." not in image.parts
        id = image.with_suffix("").as_posix() if plain else image.stem
        beside = path.parent / image
        yield id, beside if beside.exists() and not image.exists() else image
