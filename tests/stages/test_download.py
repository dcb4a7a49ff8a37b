"""The download command against a server on this machine."""

import errno
import hashlib
import io
import re
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from sfc.errors import UserError
from sfc.readers.sbd import read_sbd_mask
from sfc.readers.voc_lists import read_list
from stages import _fetch
from stages._fetch import fetch
from stages.download import main
from tests.readers.devkit import TRAIN, make_devkit, make_sbd

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Files by path; `limit`: bytes after which it hangs up; `ranges`: whether it knows ranges; `asked`: its log."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.limit, self.ranges, self.asked = {"/a.bin": CONTENT}, None, True, []

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.limit])

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


def partial(path):
    return path.with_name(f"{path.name}.partial")


def test_a_file_arrives_once(server, tmp_path):
    path = tmp_path / "new" / "a.bin"
    fetch(server.url("/a.bin"), path, MD5)
    assert path.read_bytes() == CONTENT
    fetch(server.url("/a.bin"), path, MD5)
    assert server.asked == [None]
    assert not partial(path).exists()


def test_interrupted_transfers_go_on_where_they_broke_off(server, tmp_path):
    path = tmp_path / "a.bin"
    server.limit = 100_000
    fetch(server.url("/a.bin"), path, MD5)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]


def test_the_next_call_goes_on_where_the_last_one_broke_off(server, tmp_path):
    path = tmp_path / "a.bin"
    server.limit = 1000
    with pytest.raises(
        UserError, match=r"^http\S+a\.bin: the transfer broke off 5 times; run the command again[^\n]*$"
    ):
        fetch(server.url("/a.bin"), path, MD5)
    assert partial(path).read_bytes() == CONTENT[:5000]
    server.limit = None
    fetch(server.url("/a.bin"), path, MD5)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=5000-"


def test_half_a_file_under_the_final_name_is_completed(server, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT[:777])
    fetch(server.url("/a.bin"), path, MD5)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=777-"]


def test_a_partial_file_that_is_complete(server, tmp_path):
    path = tmp_path / "a.bin"
    partial(path).write_bytes(CONTENT)
    fetch(server.url("/a.bin"), path, MD5)
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    path = tmp_path / "a.bin"
    server.ranges = False
    partial(path).write_bytes(b"x" * 500)
    fetch(server.url("/a.bin"), path, MD5)
    assert path.read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing(server, tmp_path):
    path = tmp_path / "a.bin"
    server.files["/a.bin"] = CONTENT[:-1] + b"?"
    with pytest.raises(UserError, match=rf"^http\S+a\.bin: wrong checksum \(expected MD5 {MD5}\)[^\n]*$"):
        fetch(server.url("/a.bin"), path, MD5)
    assert list(tmp_path.iterdir()) == []


def test_no_server_and_no_file(server, tmp_path):
    with pytest.raises(UserError, match=r"^http\S+b\.bin: the server answers 404 Not Found$"):
        fetch(server.url("/b.bin"), tmp_path / "b.bin", MD5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.bin"
    with pytest.raises(UserError, match=r"^http\S+a\.bin: cannot be reached \([^\n]+\); are you online\?$"):
        fetch(url, tmp_path / "a.bin", MD5)


def test_full_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_fetch.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"256,000 bytes to download, but 1,000 bytes of disk are free$"):
        fetch(server.url("/a.bin"), tmp_path / "a.bin", MD5)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"a\.bin: cannot be written \(Not a directory\)|\(File exists\)"):
        fetch(server.url("/a.bin"), tmp_path / "file" / "a.bin", MD5)


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
    assert result.stdout.splitlines() == ["kind: voc12", "root: here/VOCdevkit/VOC2012", "sbd: here/SBD"]
    asked = len(server.asked)
    run("voc12", "--root", "here", "--sbd")
    assert len(server.asked) == asked == 2


def test_interrupted_unpacking_of_sbd_begins_again(archives):
    run("voc12", "--root", "here", "--sbd")
    (archives / "here/SBD/val.txt").unlink()
    (archives / "here/SBD/cls/2008_000003.mat").unlink()
    run("voc12", "--root", "here", "--sbd")
    assert (archives / "here/SBD/cls/2008_000003.mat").exists()
    assert not (archives / "here/SBD/cls/cls").exists()


def test_without_sbd(server, archives):
    assert run("voc12").stdout.splitlines()[-1] == "root: datasets/VOCdevkit/VOC2012"
    assert len(server.asked) == 1


def test_faults_are_one_line(server, archives):
    server.files["/voc.tar"] = b"something else"
    lines = run("voc12", code=1).stderr.splitlines()
    assert re.match(r"Error: http\S+/voc\.tar: wrong checksum", lines[-1])


def test_a_disk_that_is_full_while_unpacking_is_one_line(archives, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torchvision.datasets.utils.extract_archive", full)
    lines = run("voc12", code=1).stderr.splitlines()
    assert lines[-1] == "Error: datasets: cannot be unpacked ([Errno 28] No space left on device); is the disk full?"
