"""What runs have left: of the workspace as it is, or of an experiment, branch, tag or commit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    with readable(name):
        return _read_run(name, read, metrics, products)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what damaged figures of runs called `name` make code raise anywhere into one line."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, csv.Error) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise UserError(
            f"{name}: metrics/, plots/, out/label_stats.csv or out/examples/ hold what no stage writes ({what}); "
            "run the stages again"
        ) from error


def _read_run(name: str, read: Read, metrics: Sequence[str], products: Sequence[str]) -> Run:
    params = read("params.yaml")
    if params is None:
        raise UserError(f"{name}: no params.yaml")
    found = {Path(path).stem: _json(path, content) for path in metrics if (content := read(path)) is not None}
    per_class, examples = {}, {}
    for product in products:
        if (content := read(f"plots/evaluate_{product}_per_class.csv")) is not None:
            per_class[product] = rows_of(content)
        path = f"out/examples/{product}.zip"
        if (content := read(path)) is not None:
            examples[product] = ExampleArchive(content, source=path)
    return Run(
        name=name,
        params=flat(read_yaml(params.decode(), source=f"{name}: params.yaml")),
        metrics=found,
        classes=rows_of(read("out/label_stats.csv") or b""),
        per_class=per_class,
        examples=examples,
    )


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
