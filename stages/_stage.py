"""What every stage command shares: params, devices, outputs that appear only when complete, one-line errors."""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import click
import torch
import torch.distributed as dist
from tqdm import tqdm

from sfc.config_types import Section
from sfc.errors import UserError
from sfc.memory import keep_freed_memory
from sfc.params import Params, load_params, method_section_names
from stages._gpu import gpu_index


@dataclass(frozen=True)
class Param:
    """Annotated[T, Param("walk.steps")] hands a stage that value or section of params.yaml.

    `{method}` in the name stands for train_cam.method.
    """

    name: str

    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def read(self, params: Params) -> Any:
        return params.get(self.name)


@dataclass(frozen=True)
class MethodSections:
    """Annotated[dict[str, Section], MethodSections(...)] hands a stage the sections its method reads, by name.

    Args:
        declared: whether the stage depends on them, and so on those of all methods: dvc.yaml cannot choose.
    """

    declared: bool

    def names(self) -> tuple[str, ...]:
        # asked for by the tests alone: what methods there are must not become a dependency of the stage
        return method_section_names() if self.declared else ()

    def read(self, params: Params) -> dict[str, Section]:
        return params.method_sections()


@dataclass(frozen=True)
class AllParams:
    """Annotated[Params, AllParams()] hands a stage all params; it depends on the whole of params.yaml, by value."""

    def names(self) -> tuple[str, ...]:
        return ("params.yaml:",)  # as dvc.yaml writes it

    def read(self, params: Params) -> Params:
        return params


def stage(summary: str, *, reads: str, writes: str):
    """Make a function the click command of a DVC stage.

    Which params it reads, its annotations say: a parameter annotated with a `Section` is the section of the
    parameter's own name (`crf: Crf`); for others see `Param`, `MethodSections` and `AllParams`. All other parameters
    are click's.
    `sfc_params()` of the command must equal what dvc.yaml declares for the stage; tests/pipeline checks it.
    """

    def decorate(function):
        wanted = _params_of(function)
        listed = [_LISTED.get(type(param)) or param.name for param in wanted.values()]

        @functools.wraps(function)
        def run(**options):
            started = time.monotonic()
            keep_freed_memory()
            try:
                params = load_params()
                values = {parameter: param.read(params) for parameter, param in wanted.items()}
                message = function(**options, **values)
            except UserError as error:
                raise click.ClickException(str(error)) from None
            say(f"{message} in {time.monotonic() - started:.0f} s")

        text = f"{summary}\n\n\b\nReads:  {reads}\nWrites: {writes}\nParams: {', '.join(listed) or 'none'}"
        command = click.command(help=text, context_settings={"help_option_names": ["-h", "--help"]})(run)
        command.sfc_params = lambda: tuple(dict.fromkeys(n for param in wanted.values() for n in param.names()))
        return command

    return decorate


_LISTED = {MethodSections: "those of the method", AllParams: "all"}


def _params_of(function: Callable) -> dict[str, Param | MethodSections | AllParams]:
    """The parameters of a stage that params.yaml fills, and by what."""
    found = {}
    for parameter, hint in get_type_hints(function, include_extras=True).items():
        markers = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Param | MethodSections | AllParams)]
        if markers:
            (found[parameter],) = markers
        elif isinstance(hint, type) and issubclass(hint, Section):
            found[parameter] = Param(parameter)
    return found


def is_main() -> bool:
    """True on the one process that prints and writes common files."""
    return int(os.environ.get("RANK", "0")) == 0


def say(message: str) -> None:
    """One line for the person who watches, from the main process alone."""
    if is_main():
        click.echo(message, err=True)


def progress(items: Iterable, *, total: int | None = None, label: str = "") -> Iterable:
    """`items` with a progress bar on the main process."""
    return tqdm(
        items, total=total, desc=label, disable=not is_main(), mininterval=1.0, dynamic_ncols=True, file=sys.stderr
    )


def device() -> torch.device:
    """SFC_DEVICE if set, else this process's GPU (an experiment of DVC's queue has one to itself), else the CPU."""
    name = os.environ.get("SFC_DEVICE")
    if name is None:
        name = f"cuda:{gpu_index()}" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    try:
        return torch.device(name)
    except RuntimeError:
        raise UserError(f"SFC_DEVICE={name}: expected cpu, cuda or cuda:NUMBER") from None


def workers() -> int:
    """Threads that decode, processes that run CRFs: SFC_WORKERS, else this process's share of the cores it may use."""
    value = os.environ.get("SFC_WORKERS", "")
    if value and not value.isdigit():
        raise UserError(f"SFC_WORKERS={value}: expected a whole number of workers")
    if value:
        return int(value)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@contextmanager
def output(path: str | Path) -> Iterator[Path]:
    """A temporary sibling to write a file or folder to; it becomes `path` when the block ends well.

    On an exception nothing is left behind and an older `path` stays as it was. An older `path` may be a read-only
    link into DVC's cache: it is replaced, never written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial{path.suffix}")
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_dir():
            _remove(path)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


@contextmanager
def shared_folder(path: str | Path) -> Iterator[Path]:
    """`output(path)` for a folder that every process writes files of its own to; it appears when all are done.

    The processes must see one file system. `sfc.training.distributed.start` comes first.
    """
    with output(path) if is_main() else nullcontext() as folder:
        if is_main():
            folder.mkdir()
        names = [str(folder)]
        if dist.is_initialized():
            dist.broadcast_object_list(names)
        yield Path(names[0])
        if dist.is_initialized():
            dist.barrier()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: str | Path, values: dict[str, Any]) -> None:
    """Metrics as sorted JSON, floats rounded to 6 places, NaN as null, so that equal results are equal bytes."""
    with output(path) as temporary:
        temporary.write_text(json.dumps(_rounded(values), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


def weights_path(weights: str) -> str:
    """`backbone.weights` as the library takes it: the word `cam` stands for the CAM network's own trunk."""
    return "out/cam.safetensors" if weights == "cam" else weights
