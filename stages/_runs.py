"""What runs have left: of the workspace as it is, or of an experiment, branch, tag or commit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import RevError, resolve_rev
from dvc_objects.errors import ObjectFormatError

from sfc.errors import UserError
from sfc.example_archive import ExampleArchive
from sfc.params import read_yaml
from sfc.report.forms import check_classes, check_index, check_metrics, check_per_class
from sfc.report.run import Run
from stages._presets import flat

Read = Callable[[str], bytes | None]  # a file's content by its path in the project; None where there is none
WORKSPACE = "workspace"


def workspace(path: str) -> bytes | None:
    """A file as it lies here."""
    return Path(path).read_bytes() if Path(path).is_file() else None


def revision(name: str) -> Read:
    """Files of an experiment, branch, tag or commit, from git and DVC's cache; "workspace" is the workspace.

    Raises:
        UserError: git and DVC know no such name.
    """
    if name == WORKSPACE:
        return workspace
    try:
        with Repo() as repo:
            commit = resolve_rev(repo.scm, name)
        files = DVCFileSystem(rev=commit)
    except (DvcException, RevError) as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}; `dvc exp show` lists the experiments") from None

    def read(path: str) -> bytes | None:
        try:
            return files.read_bytes(path) if files.isfile(path) else None
        except (OSError, DvcException, ObjectFormatError):  # known, but neither in the cache nor in the remote
            return None

    return read


def read_run(name: str, read: Read, metrics: Sequence[str], products: Sequence[str]) -> Run:
    """All that the report shows of a run, except plots.

    Args:
        metrics: paths of the metrics files, in pipeline order.
        products: what `evaluate` measures.

    Raises:
        UserError: there are no params, or a file is not what its stage writes.
    """
    params = read("params.yaml")
    if params is None:
        raise UserError(f"{name}: no params.yaml")
    found = {Path(path).stem: _json(path, content) for path in metrics if (content := read(path)) is not None}
    for path in metrics:
        if (values := found.get(Path(path).stem)) is not None:
            check_metrics(Path(path).stem, values, path)
    classes = _table("out/label_stats.csv", read("out/label_stats.csv") or b"")
    check_classes(classes, "out/label_stats.csv")
    per_class, examples = {}, {}
    for product in products:
        path = f"plots/evaluate_{product}_per_class.csv"
        if (content := read(path)) is not None:
            per_class[product] = _table(path, content)
            check_per_class(per_class[product], path)
        path = f"out/examples/{product}.zip"
        if (content := read(path)) is not None:
            examples[product] = ExampleArchive(content, source=path)
            check_index(examples[product].index, path)
    return Run(
        name=name,
        params=flat(_params(params, name)),
        metrics=found,
        classes=classes,
        per_class=per_class,
        examples=examples,
    )


def _params(content: bytes, name: str) -> Any:
    try:
        return read_yaml(content.decode(), source=f"{name}: params.yaml")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: params.yaml: not in UTF-8 ({error})") from None


def _table(path: str, content: bytes) -> list[dict[str, str]]:
    try:
        return rows_of(content)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: no CSV in UTF-8 ({error}); run its stage again") from None


def rows_of(content: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table with a heading."""
    return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""), delimiter=delimiter))


def _json(path: str, content: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON; run its stage again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not the metrics of a stage; run it again")
    return values
