"""Places where nothing can be written: one line and exit status 1, before any work, and nothing is left behind."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from sfc.errors import UserError
from stages import _stage, calibrate, download, export, export_voc, hand_over, report, segment
from stages._places import check_file, check_folder, refuse_others
from stages._stage import output


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("folder.zip/inside").mkdir(parents=True)
    Path("closed").mkdir()
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and access(path, mode))
    return tmp_path


PLACES = {
    "file/x.zip": "file/x.zip: cannot be written (file is no folder); remove that, or write elsewhere",
    "file/deep/x.zip": "file/deep/x.zip: cannot be written (file is no folder); remove that, or write elsewhere",
    "folder.zip": "folder.zip: cannot be written (a folder lies there); remove it, or write elsewhere",
    "closed/x.zip": "closed: cannot be written (Permission denied); give yourself the right to it, or write elsewhere",
}
COMMANDS = {
    "export": (export, "--to"),
    "export_voc": (export_voc, "--to"),
    "hand_over": (hand_over, "--to=coco", "--out"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_devices_and_pipes_stay(folder, name):
    """Root could replace them."""
    command, *options = COMMANDS[name]
    os.mkfifo("pipe.zip")
    (folder / "link.zip").symlink_to("pipe.zip")
    for place in ("pipe.zip", "link.zip", "/dev/none.zip"):
        done = CliRunner().invoke(command.main, [*options, place])
        said = "cannot be written (no place for a file, but a device or pipe); write elsewhere"
        assert (done.exit_code, done.output) == (1, f"Error: {place}: {said}\n")
    assert (folder / "pipe.zip").is_fifo()
    assert (folder / "link.zip").is_symlink()
    with pytest.raises(UserError, match="device or pipe"), output("pipe.zip") as path:
        path.write_text("1")


def test_an_archive_for_the_server_takes_no_other_files_place(folder):
    done = CliRunner().invoke(export_voc.main, ["--to", "file"])
    assert (done.exit_code, done.output) == (1, "Error: --to file: the archive is a .tar.gz; name it so\n")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", COMMANDS)
def test_commands(folder, name, place):
    command, *options = COMMANDS[name]
    before = sorted(folder.rglob("*"))
    done = CliRunner().invoke(command.main, [*options, place])
    assert done.output == f"Error: {PLACES[place]}\n"
    assert done.exit_code == 1
    assert sorted(folder.rglob("*")) == before


EMPTY = {
    "download": (download, ["voc12"], "--root"),
    "export": (export, [], "--to"),
    "export, model": (export, [], "--model"),
    "export_voc": (export_voc, [], "--to"),
    "hand_over": (hand_over, ["--to=coco"], "--out"),
    "hand_over, only": (hand_over, ["--to=coco"], "--only"),
    "report": (report, [], "--out"),
    "segment": (segment, ["image.png"], "--out"),
    "segment, model": (segment, ["image.png", "--out=there"], "--model"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_path_is_not_the_present_folder(folder, name):
    command, options, empty = EMPTY[name]
    before = sorted(folder.rglob("*"))
    done = CliRunner().invoke(command.main, [*options, empty, ""])
    assert done.output == f"Error: {empty}: '' is no path; is a variable of the shell not set?\n"
    assert done.exit_code == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that takes no files from anybody")
@pytest.mark.parametrize("place", ["/proc/x", "/proc/x/y", "/proc/x/y/z"])
def test_a_folder_in_which_nothing_can_be_made(place):
    said = rf"^{place}: cannot be written \(nothing can be made in /proc\); write elsewhere$"
    with pytest.raises(UserError, match=said), output(place) as path:
        path.mkdir()


def test_a_file_that_is_not_there_to_be_read_is_no_fault_of_the_place():
    with pytest.raises(FileNotFoundError), output("new/x"):
        Path("new/y").read_text()
    with pytest.raises(FileNotFoundError), output("new/x") as path:
        (path / "y").read_text()


def test_calibrate_uses_up_no_mask_where_it_cannot_write():
    Path("out").mkdir()
    Path("out/calibrate").write_text("mine")
    done = CliRunner().invoke(calibrate.main, ["--masks", "3"])
    assert done.output.startswith("Error: out/calibrate: cannot be a folder (a file lies there); remove it")
    assert Path("out/calibrate").read_text() == "mine"


def test_paper_tables_run_nothing_that_cannot_be_written():
    paper_tables = pytest.importorskip("stages.paper_tables")
    done = CliRunner().invoke(paper_tables.main, ["--out", "file/x.md"])
    assert done.output.startswith("Error: file/x.md: cannot be written (file is no folder)")
    done = CliRunner().invoke(paper_tables.main, ["--out", ""])
    assert done.output == "Error: --out: '' is no path; is a variable of the shell not set?\n"


@pytest.mark.parametrize("place", ["new/deep/x", "x", "file"])
def test_places_that_are_well(folder, place):
    before = sorted(folder.rglob("*"))
    check_file(Path(place))
    assert sorted(folder.rglob("*")) == before
    with output(place) as path:
        path.write_text("new")
    assert Path(place).read_text() == "new"


def test_folders():
    check_folder(Path("folder.zip"))
    check_folder(Path("new/deep"))
    Path("link").symlink_to("nowhere")
    for place in ("file", "file/x", "closed/x", "link"):
        with pytest.raises(UserError, match=f"^{place}: cannot be "):
            check_folder(Path(place))


@pytest.mark.parametrize("asked", ["isdir", "lexists"])
def test_a_folder_that_another_thread_makes_meanwhile(monkeypatch, asked):
    ask = getattr(os.path, asked)

    def meanwhile(path):
        answer = ask(path)
        Path("new").mkdir(exist_ok=True)
        return answer

    monkeypatch.setattr(os.path, asked, meanwhile)
    with output("new/x") as path:
        path.write_text("new")
    assert Path("new/x").read_text() == "new"


def test_what_was_left_is_cleared_away_and_what_is_being_written_is_not(monkeypatch):
    monkeypatch.setattr(_stage, "alone", lambda: True)
    Path(".cat.jpg.999999999.partial.jpg").write_text("half")
    with output("cat.jpg.small.jpg") as small:
        small.write_text("small")
        with output("cat.jpg") as path:
            assert not Path(".cat.jpg.999999999.partial.jpg").exists()
            path.write_text("cat")
    assert (Path("cat.jpg").read_text(), Path("cat.jpg.small.jpg").read_text()) == ("cat", "small")


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_file_that_another_process_deletes_between_two_questions_is_no_device(monkeypatch, after):
    Path("x").write_text("old")
    asked, calls = Path.stat, []

    def stat(path, **how):
        found = asked(path, **how)
        calls.append(path)
        if len(calls) == after:
            path.unlink()
        return found

    monkeypatch.setattr(Path, "stat", stat)
    refuse_others(Path("x"))
    assert calls == [Path("x")]


@pytest.mark.parametrize("to", ["loop", "nowhere"])
def test_a_link_that_leads_nowhere_makes_way(to):
    Path("loop").symlink_to(to)
    with output("loop") as path:
        path.write_text("new")
    assert not Path("loop").is_symlink()
    assert Path("loop").read_text() == "new"


def test_a_folder_of_many_files_is_not_listed_for_each(monkeypatch):
    monkeypatch.setattr(_stage, "alone", lambda: True)
    Path(".x.999999999.partial").write_text("half")
    with output("x", clear=False) as path:
        path.write_text("new")
    assert Path(".x.999999999.partial").exists()


def test_output_never_puts_a_file_in_a_folders_place():
    with (
        pytest.raises(UserError, match=r"^folder.zip: cannot be written \(a folder lies there\)"),
        output("folder.zip") as path,
    ):
        path.write_text("new")
    assert Path("folder.zip/inside").is_dir()
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


def test_long_names_are_written(folder):
    name = "x" * 251 + ".png"
    with output(name) as path:
        path.write_text("new")
    assert Path(name).read_text() == "new"
    with pytest.raises(UserError, match=r"\(File name too long\); give it a shorter name"), output("x" * 300) as path:
        path.write_text("new")
