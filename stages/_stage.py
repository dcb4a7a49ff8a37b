"""What every stage command shares: params, devices, outputs that appear only when complete, one-line errors."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from sfc.config_types import Section
from sfc.errors import UserError
from sfc.launch import launched
from sfc.memory import keep_freed_memory
from sfc.params import load_params
from sfc.storage import storage_error, storage_line
from stages._ending import Ended, end_with_launcher, ending_on_notice, notice
from stages._errors import errors_as_lines
from stages._gpu import gpu_index
from stages._lock import alone, at_work
from stages._params import LISTED, AllParams, MethodSections, Param, params_of  # noqa: F401 - stages take them here
from stages._places import check_parents, refuse_others
from stages._precision import slow_bf16

if TYPE_CHECKING:
    import torch

SIZES = ("batch_size", "crop", "scales")  # the params of a section on which memory depends
_UNFINISHED = r"\.{name}\.(\d+\.)?partial(\.\w{{8}}\.partial)?{suffix}"  # earlier versions gave no process id
_LONG = 190  # bytes of a name to which no more can be added: file systems take 255


def stage(summary: str, *, reads: str, writes: str):
    """Make a function the click command of a DVC stage.

    Which params it reads, its annotations say: a parameter annotated with a `Section` is the section of the
    parameter's own name (`crf: Crf`); for others see `Param`, `MethodSections` and `AllParams`. All other parameters
    are click's.
    `sfc_params()` of the command must equal what dvc.yaml declares for the stage; tests/pipeline checks it.
    """

    def decorate(function):
        wanted = params_of(function)
        listed = [LISTED.get(type(param)) or param.name for param in wanted.values()]

        name = function.__module__.rpartition(".")[2]
        name = Path(sys.argv[0]).stem if name == "__main__" else name

        @functools.wraps(function)
        def run(**options):
            started = time.monotonic()
            keep_freed_memory()
            end_with_launcher()
            try:
                with ending_on_notice(), errors_as_lines():
                    params = load_params()
                    values = {parameter: param.read(params) for parameter, param in wanted.items()}
                    given = [str(value) for value in _each(options.values()) if value is not None]
                    with at_work(name, given) if is_main() else nullcontext(), errors_as_lines(_to_lower(values)):
                        if is_main() and (note := slow_bf16(name, values, device)):
                            say(f"{name}: {note}")
                        message = function(**options, **values)
            except (Ended, click.ClickException):
                if notice() is None:
                    raise
                say(f"{name}: ended by {notice().name}")
                sys.exit(128 + notice())
            say(f"{message} in {time.monotonic() - started:.0f} s")

        text = f"{summary}\n\n\b\nReads:  {reads}\nWrites: {writes}\nParams: {', '.join(listed) or 'none'}"
        command = click.command(help=text, context_settings={"help_option_names": ["-h", "--help"]})(run)
        command.sfc_params = lambda: tuple(dict.fromkeys(n for param in wanted.values() for n in param.names()))
        return command

    return decorate


def _each(values: Iterable[Any]) -> Iterator[Any]:
    """Values of options and arguments, those of an argument that may be given several times one by one."""
    for value in values:
        yield from value if isinstance(value, tuple) else (value,)


def _to_lower(values: dict[str, Any]) -> str:
    """The params of a stage on which its memory depends, with their values, as an error may advise."""
    sections = {name: value for name, value in values.items() if isinstance(value, Section)}
    found = [(name, size, getattr(section, size, None)) for name, section in sections.items() for size in SIZES]
    return " or ".join(f"{name}.{size} (now {value})" for name, size, value in found if value is not None)


def is_main() -> bool:
    """True on the one process that prints and writes common files."""
    return launched("RANK", 0) == 0


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
    """SFC_DEVICE if set, else this process's GPU (an experiment of DVC's queue has one to itself), else the CPU.

    Raises:
        UserError: SFC_DEVICE names another kind of device, or a GPU that is not there.
    """
    import torch  # not at the top, here and in what is imported there: a second that not every command needs

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    name = os.environ.get("SFC_DEVICE")
    if not name:
        return torch.device(f"cuda:{gpu_index()}" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name, re.ASCII):
        raise UserError(f"SFC_DEVICE={name}: expected cpu, cuda or cuda:NUMBER")
    if name == "cpu":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise UserError(f"SFC_DEVICE={name}: torch sees no GPU here (nvidia-smi lists those there are); set it to cpu")
    count, number = torch.cuda.device_count(), int(name.partition(":")[2] or 0)
    if number >= count:
        raise UserError(f"SFC_DEVICE={name}: torch sees {count} GPUs, cuda:0 to cuda:{count - 1}")
    torch.cuda.set_device(number)  # else pinned memory would open a context on the first GPU, too
    return torch.device(name)


def workers() -> int:
    """Threads that decode, processes that run CRFs: SFC_WORKERS, else this process's share of the cores it may use."""
    value = os.environ.get("SFC_WORKERS", "")
    if value and not (value.isdecimal() and len(value) < 6):
        raise UserError(f"SFC_WORKERS={value}: expected a whole number of workers")
    if value:
        return int(value)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // launched("LOCAL_WORLD_SIZE", 1))


@contextmanager
def output(path: str | Path, *, clear: bool = True) -> Iterator[Path]:
    """A temporary sibling to write a file or folder to; it becomes `path` when the block ends well.

    On an exception nothing is left behind and an older `path` stays as it was. An older `path` may be a read-only
    link into DVC's cache: it is replaced, never written to; but a folder does not make way for a file. What a killed
    process has left of it is cleared away.

    Args:
        path: a file or folder.
        clear: look for what was left; not for each of many files in one folder, which would be listed each time.

    Raises:
        UserError: it cannot be written there, or the disk does not take it.
    """
    path = Path(path)
    check_parents(path)
    name = path.name if len(os.fsencode(path.name)) < _LONG else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    temporary = path.with_name(f".{name}.{os.getpid()}.partial{path.suffix}")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = re.compile(_UNFINISHED.format(name=re.escape(name), suffix=re.escape(path.suffix)))
            for left in path.parent.iterdir() if clear and alone() else ():
                if unfinished.fullmatch(left.name):
                    _remove(left)
            yield temporary
            if temporary.is_dir():
                _remove(path)
            else:
                refuse_others(path)
            os.replace(temporary, path)
        except FileNotFoundError as error:
            made = error.filename and Path(os.fsdecode(error.filename))
            if made not in (temporary, *path.parents):
                raise
            refused = f"nothing can be made in {made.parent}"  # as in /proc
            raise UserError(f"{path}: cannot be written ({refused}); write elsewhere") from None
        finally:
            _remove(temporary)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what the disk says to the writing of `path` into one line; other exceptions pass."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if refused := storage_error(error):
            raise UserError(storage_line(refused, path)) from error
        raise


def check_writable(folder: str | Path) -> None:
    """Raise UserError if nothing can be written to a folder, before hours are spent on what belongs there."""
    with writing(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))


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
