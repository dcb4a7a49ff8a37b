"""Image-level labels from VOC annotation files, and which names classes may have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from sfc.errors import UserError


def read_xml_labels(path: Path | str) -> tuple[str, ...]:
    """Names of the objects in a VOC annotation file, difficult ones included, each once; UserError if broken."""
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:  # the last two: unknown encodings
        raise UserError(f"{path}: not a VOC annotation file ({error})") from None
    names = [(item.findtext("name") or "").strip() for item in objects]
    return tuple(dict.fromkeys(names))


def check_class_names(classes: Sequence[str], where: str) -> tuple[str, ...]:
    """`classes` if they can name the values 1 .. 254 of a label map, each by one word; else UserError."""
    if not 1 <= len(classes) <= 254:
        raise UserError(f"{where}: {len(classes)} classes; expected 1 to 254, since masks are 8-bit and 255 is ignored")
    for name in classes:
        if name.split() != [name] or "," in name or any(ord(character) < 32 for character in name):
            raise UserError(f"{where}: class name {name!r} must be one word without commas; write _ for the spaces")
        if not has_utf8(name):
            raise UserError(f"{where}: class name {name!r} holds half a character; correct it")
        if name == "background":
            raise UserError(f"{where}: list the foreground classes only; background is added as value 0")
        if list(classes).count(name) > 1:
            raise UserError(f"{where}: class {name} comes twice")
    return tuple(classes)


def has_utf8(text: str) -> bool:
    """Whether a text can be written to a file: JSON may hold half of a character (an unpaired surrogate)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
