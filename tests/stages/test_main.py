"""The command `sfc`: what it finds, what it says, and that it imports nothing for it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stages import __main__ as command
from stages.crf import main as crf

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder in place of this package's; returns a function that puts a module there."""
    monkeypatch.setattr(command, "__file__", str(tmp_path / "__main__.py"))

    def put(name, text):
        (tmp_path / f"{name}.py").write_text(text)

    return put


def run(*args, code=0):
    result = CliRunner().invoke(command.main, args, prog_name="sfc")
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("debug", ["", "0", "1"])
def test_ctrl_c_while_libraries_are_imported_is_a_word(tmp_path, debug):
    heard = "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
    (tmp_path / "torch.py").write_text(heard + "os.kill(os.getpid(), signal.SIGINT)\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "SFC_DEBUG": debug}
    command = [sys.executable, "-m", "stages.evaluate"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert ("Traceback" in done.stderr) == (debug == "1")
    assert (done.stderr == "\nAborted!\n") != (debug == "1")


def completed(words):
    """What bash offers behind these words."""
    env = {**os.environ, "_SFC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    script = "from stages.__main__ import main; main(prog_name='sfc')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return [line.removeprefix("plain,") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ["dvc_files", "metrics_table", "preset", "report"])
def test_a_command_that_computes_nothing_does_not_wait_for_torch(name):
    script = f"import sys; import stages.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_every_module_with_a_command_is_one():
    modules = {path.stem for path in (ROOT / "stages").glob("*.py") if not path.stem.startswith("_")}
    assert set(command.main.list_commands(None)) == modules
    context = click.Context(command.main)
    assert all(isinstance(command.main.get_command(context, name), click.Command) for name in modules)
    assert command.main.get_command(context, "crf") is crf


def test_a_command_put_there_appears_by_itself_with_the_first_sentence_of_its_help(package):
    package("cut", '@click.command()\ndef main():\n    """Cut into 1.5 parts. And more.\n\n    Long."""\n')
    package("mend", '@click.argument("a")\n@stage("Mend the " "maps.", reads="", writes="")\ndef main(): 1\n')
    package("told", '"""What the module is for."""\n@click.command(help=f"{1}")\ndef main(): 1\n')
    package("helper", '"""Not a command."""\ndef other(): 1\n')
    package("_private", '"""Not a command."""\ndef main(): 1\n')
    assert command.main.list_commands(None) == ["cut", "mend", "told"]
    commands, stages = run("--help").partition("Commands:")[2].split("Stages of the pipeline")
    assert [line.split(maxsplit=1) for line in commands.strip().splitlines()] == [
        ["cut", "Cut into 1.5 parts"],
        ["told", "What the module is for"],
    ]
    assert stages.splitlines()[1].split(maxsplit=1) == ["mend", "Mend the maps"]


def test_what_editors_and_systems_leave_is_no_command(package, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.__path__", [str(tmp_path)])
    package("told", '@stage("Tell.", reads="", writes="")\ndef main(): 1\n')
    package("cut", '@click.command()\ndef main():\n    """Cut."""\n')
    package("mend", "def main(:\n")
    (tmp_path / ".#cut.py").symlink_to("someone@somewhere")
    (tmp_path / "._cut.py").write_bytes(b"\0\5\x16\7\xff")
    assert command.main.list_commands(None) == ["cut", "mend", "told"]
    assert "cannot be read: invalid syntax" in " ".join(run("--help").split())
    assert "mend.py: line 1: invalid syntax" in run("mend", code=1)


def test_a_link_to_nothing_and_a_folder_are_one_line(package, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.__path__", [str(tmp_path)])
    package("told", '@stage("Tell.", reads="", writes="")\ndef main(): 1\n')
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    (tmp_path / "folder.py").mkdir()
    assert command.main.list_commands(None) == ["folder", "gone", "told"]
    shown = " ".join(run("--help").split())
    assert "gone cannot be read: No such file or directory" in shown
    assert "folder cannot be read: Is a directory" in shown
    assert run("gone", code=1) == f"Error: {tmp_path / 'gone.py'}: cannot be read: No such file or directory\n"
    assert run("folder", code=1) == f"Error: {tmp_path / 'folder.py'}: cannot be read: Is a directory\n"


def test_help_imports_no_library():
    script = (
        "import sys; from stages.__main__ import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "train_cam" in done.stdout
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "stages.__main__" in loaded
    assert not loaded & {"torch", "numpy", "dvc", "stages.crf", "sfc.params"}


def test_a_command_runs_under_either_spelling():
    shown = run("train_cam", "--help")
    assert "Params: train_cam" in shown
    assert run("train-cam", "--help") == shown.replace("sfc train_cam", "sfc train-cam")


def test_a_misspelt_command_is_one_line():
    assert run("train_kam", code=2).splitlines()[-1] == "Error: there is no command train_kam; did you mean train_cam?"
    assert run("xyzzy", code=2).splitlines()[-1] == "Error: there is no command xyzzy; sfc --help lists them"
    assert run("", code=2).splitlines()[-1] == "Error: there is no command ''; sfc --help lists them"


def test_version():
    assert run("--version").startswith("sfc, version ")


def test_completion():
    assert completed("sfc pre") == ["predict", "prepare", "preset"]
    assert completed("sfc train-") == ["train_cam", "train_irn", "train_seg"]
    assert completed("sfc --v") == ["--version"]
    assert completed("sfc preset --f") == ["--force"]
    assert completed("sfc preset vo") == ["voc12", "voc12_largefov", "voc12_paper", "voc_sample"]
