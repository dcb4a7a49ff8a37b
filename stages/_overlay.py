"""A params file that says only what differs, laid over a complete one; text and comments of both stay as written."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sfc.errors import UserError, nearest
from sfc.params import field_names, known_sections, read_yaml


@dataclass(frozen=True)
class _Entry:
    """A key of a block mapping and all that stands under it, in lines of its file."""

    value: Node
    top: int  # of the comment lines right above the key
    key: int
    end: int  # after the last line of the value
    column: int
    comment: str  # at the end of the key's line, "" for none


def overlaid(base: str, overlay: str, *, source: str) -> str:
    """The text of `base` with the params that `overlay` names taken from it, comments included.

    A param of the overlay without a comment keeps that of the base. Sections are merged; any other value, a mapping
    such as evaluate.class_sets or one in braces too, is replaced as a whole. The comment that the overlay begins with
    replaces that of the base.

    Args:
        base: a complete params file that has been checked.
        source: what errors call the overlay.

    Raises:
        UserError: the overlay is not YAML, or names what the base does not have.
    """
    if not isinstance(read_yaml(overlay, source=source), dict) or not _is_block(_root(overlay)):
        raise UserError(f"{source}: expected sections such as train_cam: and crf:, each on lines of its own")
    old, new = base.splitlines(), overlay.splitlines()
    names = [field for name, model in known_sections().items() for field in field_names(name, model)]
    edits = [(0, _header(old), new[: _header(new)]), *_edits(old, _root(base), new, _root(overlay), names, source)]
    for start, end, lines in sorted(edits, key=lambda edit: edit[:2], reverse=True):  # from below: numbers stay true
        old[start:end] = lines
    return "\n".join(old) + "\n"


def with_param(text: str, name: str, value: str) -> str:
    """The text of params.yaml with one param set, and all else, comments included, as it stands.

    Args:
        name: dotted.
        value: as YAML in one line.

    Raises:
        UserError: the file is written in such a way, as JSON say, that a line of it cannot be replaced.
    """
    *sections, param = name.split(".")
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    lines = [*text.splitlines()[: _header(text.splitlines())], *lines, f"{'  ' * len(sections)}{param}: {value}"]
    wanted = read_yaml(text, source="params.yaml")
    inner = wanted
    for section in sections:
        inner = inner[section]
    inner[param] = read_yaml(value, source=name)
    if _is_block(_root(text)):
        changed = overlaid(text, "\n".join(lines), source="params.yaml")
        if read_yaml(changed, source="params.yaml") == wanted:
            return changed
    raise UserError(f"params.yaml: not written in lines of its own, so nothing is changed; set {name} to {value} in it")


def _root(text: str) -> Node:
    return YAML(typ="safe", pure=True).compose(text)


def _edits(
    old: list[str], base: Node, new: list[str], overlay: Node, names: Iterable[str], source: str, inside: str = ""
) -> Iterator[tuple[int, int, list[str]]]:
    """(first, end, lines that stand there instead), by lines of the base that do not overlap."""
    entries = _entries(old, base, source)
    for key, entry in _entries(new, overlay, source).items():
        name = f"{inside}{key}"
        if key not in entries:
            raise UserError(f"{source}: unknown param {name}{nearest(name, names)}")
        there = entries[key]
        is_section = any(known.startswith(f"{name}.") for known in names)
        if is_section and _is_block(entry.value) and _is_block(there.value):
            yield there.key, there.key + 1, _with_comment([old[there.key]], there, entry.comment or there.comment)
            yield from _edits(old, there.value, new, entry.value, names, source, f"{name}.")
        else:
            lines = _with_comment(new[entry.key : entry.end], entry, entry.comment or there.comment)
            indented = textwrap.indent(textwrap.dedent("\n".join(lines)), " " * there.column)
            yield there.key, there.end, indented.splitlines()
        if entry.top < entry.key:
            above = [" " * there.column + line.strip() for line in new[entry.top : entry.key]]
            yield there.top, there.key, above


def _entries(lines: list[str], node: Node, source: str) -> dict[str, _Entry]:
    found = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            raise UserError(f"{source}: line {key.start_mark.line + 1}: a key is a list or a mapping; write a name")
        line, column = key.start_mark.line, key.start_mark.column
        one_line = not _is_block(value) and not _is_absent(value) and value.end_mark.line == line
        behind = value.end_mark.column if one_line else key.end_mark.column + 1
        comment = lines[line][behind:].strip()
        top, first = line, _header(lines)
        while top > first and lines[top - 1].lstrip().startswith("#"):
            top -= 1
        found[key.value] = _Entry(
            value=value,
            top=top,
            key=line,
            end=_last_line(value, line) + 1,
            column=column,
            comment=comment if comment.startswith("#") else "",
        )
    return found


def _header(lines: list[str]) -> int:
    """How many lines the comment has that the file begins with."""
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _is_block(node: Node) -> bool:
    return isinstance(node, MappingNode) and not node.flow_style


def _is_absent(node: Node) -> bool:
    """Whether nothing is written between a key and the next one but comments."""
    return isinstance(node, ScalarNode) and node.start_mark.index == node.end_mark.index


def _last_line(node: Node, key_line: int) -> int:
    """The last line of a value; what YAML calls the end of one in block style is where the next key begins.

    So is the place of a value that is not written at all: it ends on its key's line.
    """
    if _is_absent(node):
        return key_line
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style:
        last = node.value[-1]
        key, value = last if isinstance(last, tuple) else (last, last)
        return _last_line(value, key.start_mark.line)
    return max(key_line, node.end_mark.line - (node.end_mark.column == 0))


def _with_comment(lines: list[str], entry: _Entry, comment: str) -> list[str]:
    """The lines of an entry, which begin with its key's, with another comment behind the key."""
    return [f"{lines[0].rstrip().removesuffix(entry.comment).rstrip()} {comment}".rstrip(), *lines[1:]]
