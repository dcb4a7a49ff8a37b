"""The command that hands label maps over: what it chooses, what it refuses, and that equal labels are equal bytes."""

import json
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sfc.data.images import IGNORE
from sfc.data.manifest import Manifest, write_manifest
from sfc.exchange.layouts import LAYOUTS
from sfc.label_archive import LabelArchiveWriter
from stages.hand_over import main
from tests.data.folder import record
from tests.forked import wait_for
from tests.limits import largest_file

CLASSES = ("ant", "bee")
SIZE = 5, 7


@pytest.fixture(autouse=True)
def labels(tmp_path, monkeypatch):
    """Pseudo-labels of two training images, one of which has undecided pixels, and a prediction."""
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    records = [record(Path("images") / f"{id}.png", SIZE, split="val" if id == "v" else "train") for id in "abv"]
    write_manifest(Manifest(tuple(records), CLASSES), "out/manifest.csv", "out/classes.json")
    rng = np.random.default_rng(0)
    found = {each.id: rng.integers(0, 3, SIZE, dtype=np.uint8) for each in records}
    found["b"][0, :4] = IGNORE
    for product, ids in (("pseudo_labels", "ab"), ("predictions", "v")):
        with LabelArchiveWriter(f"out/{product}.zip") as writer:
            for id in ids:
                writer.write(id, found[id])
    return found


def run(*args, code=0):
    done = CliRunner().invoke(main, args)
    assert done.exit_code == code, done.output
    return done.output.splitlines()[-1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_list_may_begin_with_a_byte_order_mark(encoding):
    Path("wanted.txt").write_text("b\n", encoding=encoding)
    run("--to", "ultralytics", "--only", "wanted.txt", "--out", "b")
    assert set(masks("b")) == {"b"}


def masks(folder):
    return {path.stem: np.array(Image.open(path)) for path in Path(folder).rglob("*.png") if "masks" in path.parts}


def test_pseudo_labels_go_to_a_folder_of_the_tool_s_name(labels):
    assert run("--to", "ultralytics") == "2 label maps of out/pseudo_labels.zip with their images to " \
        "out/hand_over/ultralytics"  # fmt: skip
    found = masks("out/hand_over/ultralytics")
    assert set(found) == {"a", "b"}
    for id, label in found.items():
        np.testing.assert_array_equal(label, labels[id])


def test_predictions_and_chosen_images(labels):
    run("--to", "ultralytics", "--product", "predictions", "--out", "v")
    assert set(masks("v")) == {"v"}
    Path("wanted.txt").write_text("\n b \nb\n")
    run("--to", "ultralytics", "--only", "wanted.txt", "--out", "b")
    assert set(masks("b")) == {"b"}


@pytest.mark.parametrize("tool", ["cvat", "coco"])
def test_undecided_pixels_become_background_where_a_tool_has_no_place_for_them(tool):
    line = run("--to", tool, "--out", "out/there")
    assert line.endswith(f"to out/there; 4 undecided pixels (255) became background, which {tool} asks for")


def test_an_archive_has_the_same_bytes_again(tmp_path):
    run("--to", "cvat", "--out", "one.zip")
    run("--to", "cvat", "--out", "deep/two.zip")
    assert Path("one.zip").read_bytes() == Path("deep/two.zip").read_bytes()
    with zipfile.ZipFile("one.zip") as packed:
        assert {"labelmap.txt", "ImageSets/Segmentation/default.txt", "JPEGImages/a.png"} <= set(packed.namelist())
    assert sorted(path.name for path in Path("deep").iterdir()) == ["two.zip"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "images", "one.zip", "out"]


def test_nothing_is_written_over_what_is_there():
    Path("mine").mkdir()
    run("--to", "coco", "--out", "mine")  # an empty folder is no loss
    assert json.loads(Path("mine/annotations/instances_default.json").read_text())["images"]
    Path("disk").mkdir()
    Path("link").symlink_to("disk")
    assert run("--to", "coco", "--out", "link", code=1).startswith("Error: --out link: there is something already")
    assert Path("link").is_symlink()
    (Path("mine") / "thesis.txt").write_text("all of it")
    assert run("--to", "voc", "--out", "mine", code=1).startswith("Error: --out mine: there is something already")
    assert (Path("mine") / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("a\nv\n", "Error: --only ids.txt: no label map of image v in out/pseudo_labels.zip"),
        (" \n", "Error: --only ids.txt: names no image"),
        (None, "Error: --only ids.txt: cannot be read"),
    ],
)
def test_a_list_that_names_nothing_is_one_line(only, message):
    if only is not None:
        Path("ids.txt").write_text(only)
    assert run("--to", "voc", "--only", "ids.txt", code=1).startswith(message)
    assert not Path("out/hand_over/voc").exists()


@pytest.mark.parametrize("target", ["there", "there.zip"])
@pytest.mark.parametrize("tool", LAYOUTS)
def test_a_disk_that_is_full_is_not_the_images_fault(tool, target):
    with largest_file(100):
        line = run("--to", tool, "--out", target, code=1)
    assert line == f"Error: {target}: cannot be written (File too large); raise the limit on a file's size (ulimit -f)"
    assert [path.name for path in Path().iterdir() if "there" in path.name or "partial" in path.name] == []


HELD = """
import time
from pathlib import Path

from stages import hand_over

def held(*arguments):
    Path("begun").touch()
    time.sleep(1000)

hand_over._pack = held
main = hand_over.main
"""


def test_what_a_killed_one_left_is_cleared_away(tmp_path, forker):
    Path("held.py").write_text(HELD)
    process = forker.start(tmp_path, "held", "--to", "voc", "--out", "there.zip")
    wait_for(lambda: Path("begun").exists() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.said()
    assert [path for path in Path().iterdir() if "partial" in path.name]
    run("--to", "voc", "--out", "there.zip")
    assert [path for path in Path().iterdir() if "partial" in path.name] == []


def test_a_table_is_no_list():
    done = CliRunner().invoke(main, ["--to", "voc", "--only", "out/manifest.csv"])
    head, *lines = done.output.splitlines()
    assert head == "Error: --only out/manifest.csv: 4 problems"
    assert max(map(len, lines)) < 150
    assert lines[0].startswith("  no label map of image id,split,image,")
    said = "in out/pseudo_labels.zip; a list has nothing but an image id on each line"
    assert all(line.endswith(said) for line in lines)


def test_what_is_missing_is_one_line():
    Path("images/b.png").unlink()
    assert run("--to", "coco", code=1) == "Error: images/b.png: no such file"
    assert not any(Path("out/hand_over").iterdir())  # nothing half-written
    Path("out/pseudo_labels.zip").unlink()
    assert run("--to", "voc", code=1).startswith("Error: out/pseudo_labels.zip: no such file; run the stage")
    with LabelArchiveWriter("out/pseudo_labels.zip") as writer:
        writer.write("strange", np.zeros(SIZE, np.uint8))
    whole = run("--to", "voc", code=1)
    assert whole == "Error: out/pseudo_labels.zip: image strange is not in out/manifest.csv; make it again"
    Path("ids.txt").write_text("strange\n")
    assert run("--to", "voc", "--only", "ids.txt", code=1) == whole


def test_a_list_may_leave_out_what_the_manifest_has_no_more():
    """An archive older than the manifest, from which the wanted images are still whole."""
    with LabelArchiveWriter("out/pseudo_labels.zip") as writer:
        for id in ("a", "strange"):
            writer.write(id, np.zeros(SIZE, np.uint8))
    Path("ids.txt").write_text("a\n")
    run("--to", "ultralytics", "--only", "ids.txt", "--out", "a")
    assert set(masks("a")) == {"a"}
