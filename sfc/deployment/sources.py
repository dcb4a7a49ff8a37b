"""The images that a person points at, by files, folders, globs and lists, and what their results are called."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sfc.data.images import SUFFIXES
from sfc.deployment.results import FOLDERS, TABLE
from sfc.errors import UserError


def find_images(sources: Sequence[str]) -> dict[str, Path]:
    """Id -> image file, in the order of the sources, of folders and globs by name.

    An id is what results are called by: the path without its ending from the folder, from the fixed part of the glob
    or as a list has it; the name alone of a single file, and where a list has an absolute path or one with `..`. Where
    images of different folders would have one id, it is their path from the folder that holds them all.

    Args:
        sources: of each an image file; a folder, of which all images are meant, those of its folders included; a glob;
            or a text file NAME.txt with a path a line, of images or folders, from where the command runs or else from
            the list. What a folder or glob names is an image if it ends as one (`SUFFIXES`), neither its name nor that
            of a folder on the way begins with a dot, and it is not an earlier result: these lie in the `FOLDERS`
            beside a `TABLE`.

    Raises:
        UserError: a source is nothing of this, or holds no image; or two images have one id.
    """
    places: dict[str, tuple[str, Path]] = {}  # by where the file really is: each image once
    for source in sources:
        for id, path in _images_of(source):
            places.setdefault(os.path.realpath(path), (id, path))
    found: dict[str, Path] = {}
    for id, path in _told_apart(list(places.values())):
        other = found.setdefault(id, path)
        if other is not path:
            raise UserError(
                f"{other} and {path}: the results of both would be called {id}; segment them into folders of their "
                "own, or name the images of one ending, as in 'FOLDER/*.jpg'"
            )
    return found


def _told_apart(named: Sequence[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    """Ids and files, where several have one id with the path from their common folder instead."""
    sharing: dict[str, list[Path]] = {}
    for id, path in named:
        sharing.setdefault(id, []).append(Path(os.path.abspath(path)))
    for id, path in named:
        if len(sharing[id]) > 1:
            common = os.path.commonpath([other.parent for other in sharing[id]])
            id = Path(os.path.abspath(path)).relative_to(common).with_suffix("").as_posix()
        yield id, path


def _images_of(source: str) -> Iterator[tuple[str, Path]]:
    path = Path(source)
    if not source:
        raise UserError("SOURCE: '' names nothing; is a variable of the shell not set?")
    if os.path.isdir(source):
        yield from _below(path, path.rglob("*"), source)
    elif os.path.isfile(source) and path.suffix.lower() == ".txt":
        yield from _listed(path)
    elif os.path.isfile(source):
        yield path.stem, path
    elif glob.has_magic(source):
        fixed = Path(re.split(r"[*?\[]", source)[0] + "x").parent
        yield from _below(fixed, map(Path, glob.glob(source, recursive=True)), source)
    else:
        raise UserError(f"{source}: no such file or folder")


def _below(folder: Path, paths: Iterable[Path], source: str) -> Iterator[tuple[str, Path]]:
    files = [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]
    seen = {path: Path(os.path.normpath(path.relative_to(folder))) for path in files}
    seen = {path: inside if inside.parts else Path(path.name) for path, inside in seen.items()}  # a.jpg/** is a.jpg
    if outside := [path for path, inside in seen.items() if inside.parts[0] == ".."]:
        raise UserError(
            f"{source}: {outside[0]} lies outside {folder}, and would be written there; name its own folder"
        )
    plain = sorted(path for path, inside in seen.items() if not any(_is_hidden(part) for part in inside.parts))
    tables: dict[Path, bool] = {}
    images = [path for path in plain if not _is_result(folder, seen[path].parts[:-1], tables)]
    if plain and not images:
        raise UserError(f"{source}: no image there but results of earlier runs; name the images that are meant")
    if not images:
        raise UserError(f"{source}: no image there (a file that ends in {', '.join(SUFFIXES)})")
    for image in images:
        yield seen[image].with_suffix("").as_posix(), image


def _is_hidden(part: str) -> bool:
    return part.startswith(".") and part != ".."


def _is_result(folder: Path, way: Sequence[str], tables: dict[Path, bool]) -> bool:
    """Whether folders on the way down from `folder` are those of results; `tables` remembers which have a table."""
    for part in way:
        if part in FOLDERS and folder not in tables:
            tables[folder] = (folder / TABLE).is_file()
        if part in FOLDERS and tables[folder]:
            return True
        folder = folder / part
    return False


def _listed(path: Path) -> Iterator[tuple[str, Path]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a list of paths in UTF-8 ({error}); save it as UTF-8") from None
    if any("\0" in line for line in lines):
        raise UserError(f"{path}: not a list of paths in UTF-8 (it holds zero bytes); save it as UTF-8")
    named = [Path(line.strip()) for line in lines if line.strip()]
    if not named:
        raise UserError(f"{path}: an empty list; write the path of an image a line")
    for image in named:
        plain = not image.is_absolute() and ".." not in image.parts
        beside = path.parent / image
        there = beside if os.path.exists(beside) and not os.path.exists(image) else image
        if os.path.isdir(there):
            for id, found in _below(there, there.rglob("*"), f"{path}: {image}"):
                yield (image / id).as_posix() if plain else id, found
        else:
            yield image.with_suffix("").as_posix() if plain else image.stem, there
