"""What a command raises is one line, whoever raised it; SFC_DEBUG=1 shows where."""

import errno
import os
import zipfile
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file
from torch.utils.data import DataLoader, Dataset

from sfc.config import Crf, TrainCam
from sfc.errors import UserError
from sfc.storage import storage_error, storage_line
from stages import _stage
from stages._stage import device, output, progress, stage, workers, write_json
from stages._training import run_checkpoint
from tests.limits import largest_file
from tests.stages.test_stage import params  # noqa: F401 - a fixture


@pytest.fixture
def run(params, monkeypatch):  # noqa: F811
    """Run a stage that does what it is told; returns click's result."""
    monkeypatch.setattr(_stage, "slow_bf16", lambda *_: None)  # what it says is of the processor

    def run(does):
        @stage("Do it.", reads="this", writes="that")
        def main(train_cam: TrainCam, crf: Crf) -> str:
            does()
            return "done"

        return CliRunner().invoke(main)

    return run


def line(done):
    """The one line a failed command ends with."""
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit), done.exception
    (text,) = done.output.splitlines()
    return text.removeprefix("Error: ")


def raises(error):
    def does():
        raise error

    return does


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("x.csv: no"), "x.csv: no"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "out/x"), "out/x: No such file or directory"),
        (OSError(errno.EROFS, "Read-only file system", "out/x"), "out/x: cannot be written (Read-only file system); "),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "out/x"), "out/x: cannot be written (Disk quota exceeded, "),
        (EOFError(), "unexpected EOFError at "),
        (KeyError("x"), "unexpected KeyError at "),
        (zipfile.BadZipFile("bad\nmagic"), "unexpected BadZipFile at "),
        (MemoryError(), "out of memory; lower train_cam.batch_size (now 16) or train_cam.crop (now 512)"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory; lower train_cam.batch_size (now 16)"),
        (RuntimeError("std::bad_alloc"), "out of memory; lower train_cam.batch_size (now 16)"),
        (torch.distributed.DistNetworkError("port 1 in use"), "the processes of this stage lost touch (port 1 in use)"),
        (RuntimeError("Unexpected bus error encountered in worker. Bus error"), "the processes that decode images ran"),
        (RuntimeError("unable to write to file </torch_1_2>: No space left"), "the processes that decode images ran"),
    ],
)
def test_every_error_is_one_line(run, error, said):
    assert line(run(raises(error))).startswith(said)


def test_a_name_of_any_length_leaves_place_and_remedy_to_be_read(run):
    text = line(run(raises(UserError(f"x.csv, line 2: class {'a' * 100_000} is not known; write cat"))))
    assert text.startswith("x.csv, line 2: class aaa")
    assert text.endswith("aaa is not known; write cat")
    assert len(text) < 6_000
    text = line(run(raises(OSError(errno.ENAMETOOLONG, "File name too long", "a" * 100_000))))
    assert text.startswith("aaa")
    assert len(text) < 6_000


def test_an_unexpected_error_names_its_place_and_how_to_see_more(run):
    text = line(run(lambda: write_json("x.json", {"a": object()})))
    assert text.startswith("unexpected TypeError at stages/_stage.py:")
    assert text.endswith("SFC_DEBUG=1 shows the traceback")


@pytest.mark.parametrize("error", [KeyError("x"), UserError("x.csv: no")])
def test_debug_shows_the_traceback_before_the_line(run, monkeypatch, error):
    monkeypatch.setenv("SFC_DEBUG", "1")
    done = run(raises(error))
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.output
    assert done.output.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("value", ["", "0", "false", "False", "no", "NO"])
def test_debug_that_says_no_shows_no_traceback(run, monkeypatch, value):
    monkeypatch.setenv("SFC_DEBUG", value)
    assert line(run(raises(KeyError("x")))).startswith("unexpected KeyError at ")


def test_debug_shows_what_led_to_it_even_where_the_line_leaves_it_out(run, monkeypatch):
    monkeypatch.setenv("SFC_DEBUG", "1")

    def does():
        try:
            {}["the cause"]
        except KeyError:
            raise UserError("x.csv: damaged") from None

    assert "KeyError: 'the cause'" in run(does).output


@pytest.mark.parametrize("passed_on", [False, True])
def test_the_line_does_not_stand_behind_a_progress_bar(run, passed_on):
    def items():
        yield from progress(range(3), label="bar")

    def does():
        left = items()
        for _ in left:
            try:
                raise KeyError("x")
            except KeyError:
                if passed_on:
                    raise UserError("no") from None
            raise UserError("no")

    done = run(does)
    assert "bar: " in done.output
    assert done.output.endswith("\nError: no\n")


def test_what_click_raises_passes(run):
    assert run(raises(click.UsageError("no"))).exit_code == 2
    assert run(raises(click.exceptions.Exit(3))).exit_code == 3


def test_a_real_lack_of_memory(run):
    text = line(run(lambda: torch.empty(2**55)))
    assert text.startswith("out of memory; lower train_cam.batch_size (now 16) or train_cam.crop (now 512)")


class _Killer(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        os.kill(os.getpid(), 9)


def test_a_killed_worker_of_a_data_loader(run):
    text = line(run(lambda: list(DataLoader(_Killer(), num_workers=1))))
    assert text.startswith("a process that decodes images was killed, most likely for lack of memory; set SFC_WORKERS")
    assert "lower train_cam.batch_size (now 16)" in text


def _archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", bytes(10_000))


WRITERS = {
    "text": lambda path: path.write_text("a" * 10_000),
    "json": lambda path: path.write_text("[1]" * 10_000),
    "safetensors": lambda path: save_file({"a": np.zeros(10_000)}, path),
    "zip": _archive,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_does_not_fit_leaves_what_was_there(run, tmp_path, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.bin").write_text("old")

    def does():
        with output("out/x.bin") as path, largest_file(5_000):
            WRITERS[kind](path)

    assert line(run(does)).startswith("out/x.bin: cannot be written (File too large)")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.bin"]
    assert (tmp_path / "out" / "x.bin").read_text() == "old"


def test_the_space_that_is_there_is_named(run, tmp_path):
    def does():
        with output("out/x"):
            raise OSError(errno.ENOSPC, "No space left on device")

    text = line(run(does))
    assert text.startswith("out/x: cannot be written (No space left on device: it takes more than the ")
    assert text.endswith(" that are free); free some, or move the project to a larger disk")


@pytest.mark.parametrize("number", [number for number in errno.errorcode if storage_error(OSError(number, "no"))])
@pytest.mark.parametrize("name", ["new/x", "x" * 300])
def test_what_refuses_to_write_is_one_line_whatever_the_name(tmp_path, number, name):
    line = storage_line(OSError(number, os.strerror(number)), tmp_path / name)
    assert line.startswith(f"{tmp_path / name}: cannot be written ({os.strerror(number)}")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some, or write to a larger disk"),
        (errno.EROFS, "the disk is mounted read-only: write to one that takes writes"),
    ],
)
def test_moving_the_project_helps_in_its_folder_alone(tmp_path, monkeypatch, number, advice):
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "linked").symlink_to(elsewhere)
    monkeypatch.chdir(project)
    for path in (elsewhere / "new/x", Path("linked/x")):
        assert storage_line(OSError(number, os.strerror(number)), path).endswith(f"; {advice}")
    for path in (project / "new/x", Path("x"), Path("x/y")):
        assert "move the project to" in storage_line(OSError(number, os.strerror(number)), path)


def test_a_folder_in_the_place_of_a_file_and_the_reverse(run, tmp_path):
    (tmp_path / "out").write_text("no folder")
    assert line(run(lambda: write_json("out/x.json", {}))).startswith("out")


def test_other_errors_are_no_errors_of_the_disk():
    assert storage_error(ValueError("x")) is None
    assert storage_error(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    full = ValueError("Can't close the ZIP file while there is an open writing handle on it")
    full.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert storage_error(full).errno == errno.ENOSPC


def test_what_others_left_unfinished_is_cleared_away(run, tmp_path):
    (tmp_path / "out").mkdir()
    for name in (".cams.7.partial", ".x.json.7.partial.json", ".x.json.partial.json", ".y.json.7.partial.json"):
        (tmp_path / "out" / name).write_text("half")
    assert run(lambda: write_json("out/x.json", {})).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".cams.7.partial", ".y.json.7.partial.json", "x.json",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["mps", "meta", "cuda:", "cuda:-1", "cpu:0", "gpu", "cuda:¹", " cpu"])
def test_a_device_of_another_kind_is_refused(monkeypatch, name):
    monkeypatch.setenv("SFC_DEVICE", name)
    with pytest.raises(UserError, match=f"^SFC_DEVICE={name}: expected cpu, cuda or cuda:NUMBER$"):
        device()


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, name):
    monkeypatch.setenv("SFC_DEVICE", name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"^SFC_DEVICE={name}: torch sees no GPU here"):
        device()


@pytest.mark.parametrize(("name", "there"), [("cuda", True), ("cuda:1", True), ("cuda:2", False)])
def test_a_gpu_by_its_number(monkeypatch, name, there):
    monkeypatch.setenv("SFC_DEVICE", name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    current = []  # whose context pinned memory opens
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    if there:
        assert device() == torch.device(name)
        assert current == [int(name.partition(":")[2] or 0)]
    else:
        with pytest.raises(UserError, match="torch sees 2 GPUs, cuda:0 to cuda:1"):
            device()


def test_no_device_is_named_by_an_empty_name(monkeypatch):
    monkeypatch.setenv("SFC_DEVICE", "")
    assert device().type in ("cpu", "cuda")


@pytest.mark.parametrize("text", ["two", "-1", "1.5", "²", "9" * 9])
def test_workers_and_seconds_that_are_no_numbers(monkeypatch, tmp_path, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFC_WORKERS", text)
    with pytest.raises(UserError, match="SFC_WORKERS"):
        workers()
    for seconds in ("two", "-1", "²", "nan"):
        monkeypatch.setenv("SFC_CHECKPOINT_SECONDS", seconds)
        with pytest.raises(UserError, match=f"^SFC_CHECKPOINT_SECONDS={seconds}: expected a number of seconds$"):
            run_checkpoint("train_cam", sections=[], inputs=[])
