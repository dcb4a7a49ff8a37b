"""The download command against a server on this machine."""

import errno
import hashlib
import io
import re
import shlex
import shutil
import socket
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from sfc.readers.sbd import read_sbd_mask
from sfc.readers.voc_lists import read_list
from stages import download
from stages._copies import reaches_copies
from stages.download import main
from tests.readers.devkit import TRAIN, make_devkit, make_sbd

ROOT = Path(__file__).resolve().parents[2]


class Server(ThreadingHTTPServer):
    """Files by path; `limit`: bytes after which it hangs up; `sent`: the paths whose bytes left it, in order."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.limit, self.sent = {}, None, []

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.headers.get("Method") != "HEAD":  # how torchvision asks whether it is sent elsewhere
            self.server.sent.append(self.path)
            self.wfile.write(content[: self.server.limit])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def packed(folder, name, mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.add(folder / name, name)
    return buffer.getvalue()


@pytest.fixture
def archives(server, tmp_path, monkeypatch):
    """Small archives of VOC and SBD on the server, where torchvision looks for the true ones."""
    source = tmp_path / "source"
    make_devkit(source)
    sbd = make_sbd(source)
    for folder in ("img", "inst"):
        (sbd / folder).mkdir()
    voc, boundaries = packed(source, "VOCdevkit", "w"), packed(source, "benchmark_RELEASE", "w:gz")
    server.files |= {"/voc.tar": voc, "/benchmark.tgz": boundaries}
    found = {"url": server.url("/voc.tar"), "md5": hashlib.md5(voc).hexdigest()}
    monkeypatch.setitem(DATASET_YEAR_DICT, "2012", DATASET_YEAR_DICT["2012"] | found)
    monkeypatch.setattr(SBDataset, "url", server.url("/benchmark.tgz"))
    monkeypatch.setattr(SBDataset, "md5", hashlib.md5(boundaries).hexdigest())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args, code=0):
    result = CliRunner().invoke(main, args)
    assert result.exit_code == code, result.output
    return result


def test_voc12_and_sbd(server, archives):
    result = run("voc12", "--root", "here", "--sbd")
    root = archives / "here" / "VOCdevkit" / "VOC2012"
    assert read_list(root, "train") == list(TRAIN)
    assert read_sbd_mask(archives / "here" / "SBD" / "cls" / "2008_000002.mat").shape == (12, 16)
    assert result.stdout.splitlines() == ["kind: voc", "root: here/VOCdevkit/VOC2012", "sbd: here/SBD"]
    assert server.sent == ["/voc.tar", "/benchmark.tgz"]
    assert result.stderr.splitlines()[-2:] == [
        "rm -f here/*.tar here/SBD/*.tgz",
        "dvc add here && git add here.dvc .gitignore",
    ]
    run("voc12", "--root", "here", "--sbd")
    assert len(server.sent) == 2
    for path in (archives / "here" / "SBD").iterdir():  # an archive that is whole is not loaded again
        if path.name != "benchmark.tgz":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run("voc12", "--root", "here", "--sbd")
    assert len(server.sent) == 2


def test_names_that_the_shell_or_yaml_would_take_apart_are_quoted(server, archives):
    result = run("voc12", "--root", "my data: 'x")
    assert yaml.safe_load(result.stdout) == {"kind": "voc", "root": "my data: 'x/VOCdevkit/VOC2012"}
    first, second = (shlex.split(line) for line in result.stderr.splitlines()[-2:])
    assert first == ["rm", "-f", "my data: 'x/*.tar", "my data: 'x/SBD/*.tgz"]
    assert second == ["dvc", "add", "my data: 'x", "&&", "git", "add", "my data: 'x.dvc", ".gitignore"]


def test_interrupted_unpacking_of_sbd_begins_again(archives):
    run("voc12", "--root", "here", "--sbd")
    (archives / "here/SBD/val.txt").unlink()
    (archives / "here/SBD/cls/2008_000003.mat").unlink()
    run("voc12", "--root", "here", "--sbd")
    assert (archives / "here/SBD/cls/2008_000003.mat").exists()
    assert not (archives / "here/SBD/cls/cls").exists()


def test_without_sbd(server, archives):
    assert run("voc12").stdout.splitlines()[-1] == "root: datasets/voc12/VOCdevkit/VOC2012"
    assert server.sent == ["/voc.tar"]


def test_what_it_says_makes_both_reach_queued_experiments(archives):
    shutil.copy(ROOT / ".gitignore", ".gitignore")
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        subprocess.run(command, check=True)
    result = run("voc12", "--sbd")
    paths = [line.partition(": ")[2] for line in result.stdout.splitlines()[1:]]
    assert not any(map(reaches_copies, paths))
    subprocess.run(["git", "add", "datasets"], check=True)  # ignored before `dvc add`, too
    for line in result.stderr.splitlines()[-2:]:
        subprocess.run(line, shell=True, check=True)
    tracked = subprocess.run(["git", "ls-files", "datasets"], capture_output=True, text=True, check=True).stdout
    assert tracked.split() == ["datasets/.gitignore", "datasets/voc12.dvc"]
    assert not [*archives.glob("datasets/**/*.t*r"), *archives.glob("datasets/**/*.tgz")]
    assert all(map(reaches_copies, paths))


def test_an_absolute_folder_needs_no_tracking(archives):
    assert "dvc add" not in run("voc12", "--root", str(archives / "here")).stderr


def error(*args):
    """The only line of a run that fails, after the progress bar's."""
    lines = [line for line in run(*args, code=1).stderr.splitlines() if line and "B/s]" not in line]
    assert len(lines) == 1
    return lines[0]


def test_an_archive_that_broke_off_is_refused_and_loaded_anew(server, archives):
    server.limit = 1000
    assert re.fullmatch(
        r"Error: datasets/voc12: the download broke off or its checksum is wrong \(.+\); run it again", error("voc12")
    )
    assert not (archives / "datasets" / "voc12" / "VOCdevkit").exists()
    server.limit = None
    run("voc12")
    assert read_list(archives / "datasets" / "voc12" / "VOCdevkit" / "VOC2012", "train") == list(TRAIN)


def test_another_file_is_refused(server, archives):
    server.files["/voc.tar"] = b"something else"
    assert "its checksum is wrong" in error("voc12")


def test_no_server_and_no_file(server, archives, monkeypatch):
    del server.files["/voc.tar"]
    assert re.fullmatch(r"Error: http\S+/voc\.tar: the server answers 404 Not Found", error("voc12"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/voc.tar"
    monkeypatch.setitem(DATASET_YEAR_DICT["2012"], "url", url)
    line = error("voc12")
    assert re.fullmatch(
        r"Error: datasets/voc12: the server cannot be reached \(.+\); are you online\? Run it again", line
    )


def test_a_server_that_falls_silent(archives, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.05)
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/voc.tar"
        monkeypatch.setitem(DATASET_YEAR_DICT["2012"], "url", url)
        assert "the server cannot be reached (timed out)" in error("voc12")
    assert socket.getdefaulttimeout() == before


def test_a_disk_that_is_full_while_unpacking(archives, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torchvision.datasets.utils.extract_archive", full)
    wanted = "datasets/voc12: cannot be written or unpacked ([Errno 28] No space left on device); the disk is full"
    assert error("voc12") == f"Error: {wanted}"


def test_a_folder_that_cannot_be_made(archives):
    (archives / "file").touch()
    assert error("voc12", "--root", "file/here").startswith("Error: file/here: cannot be written or unpacked (")
