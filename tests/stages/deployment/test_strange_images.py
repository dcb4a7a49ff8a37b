"""`segment` on images that are broken, gone, very small or strangely named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfc.deployment.results import read_rows
from stages import segment
from tests.stages.deployment.runs import NAMES, images, label, run, table, values


def test_broken_images_are_a_line_each_and_the_others_are_done(project):
    run(segment, ".", "--out", "whole")
    whole = Path("im2.png").read_bytes()
    Path("im2.png").write_bytes(whole[: len(whole) // 2])  # its header is well
    Path("im1.png").write_bytes(b"no image")
    Path("list.txt").write_text("\n".join([*(f"{name}.png" for name in NAMES), "gone.jpg"]))
    printed = run(segment, "list.txt", "--out", "o", status=1).splitlines()
    errors = [line for line in printed if line.startswith("Error: ")]
    assert [line.split(":")[1].strip() for line in errors] == ["im1.png", "gone.jpg", "im2.png"]
    assert printed[-1].endswith("; 3 could not be done, see above")
    assert list(table()) == ["im0", "im3", "im4"]
    for name in table():
        np.testing.assert_array_equal(values(label(name)), values(label(name, "whole")))


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2000, 1), (1, 70_000)])  # a JPEG has no place for the last
def test_very_small_and_narrow_images(project, size):
    Image.new("RGB", size, "red").save("small.png")
    assert "segment: 1 image to o in " in run(segment, "small.png", "--out", "o", "--scales", "1")
    assert values(label("small")).shape == size[::-1]
    with Image.open("o/overlays/small.jpg") as picture:
        assert picture.width <= picture.height if size[0] <= size[1] else picture.width > picture.height


def test_one_of_them_and_none(project):
    Path("bad.png").write_text("no image")
    said = run(segment, "bad.png", "--out", "o", status=1)
    assert said.splitlines()[-1] == "segment: nothing done of 1 image, see above"
    assert not Path("o").exists()
    assert "images per second" in run(segment, "im0.png", "--out", "o")
    whole = Path("im0.png").read_bytes()
    Path("im0.png").write_bytes(whole[: len(whole) // 2])
    said = run(segment, "im0.png", "--out", "o", status=1).splitlines()[-1]
    assert said.startswith("segment: 0 images to o in ")
    assert said.endswith(" s; 1 could not be done, see above")


def test_an_image_that_goes_away_on_the_way_is_a_line(project, monkeypatch):
    def gone(result, **more):
        Path("im1.png").unlink(missing_ok=True)
        return write(result, **more)

    write = segment._write
    monkeypatch.setattr(segment, "_write", gone)
    said = run(segment, "im0.png", "im1.png", "--out", "o", status=1)
    assert "Error: im1.png: " in said
    assert images() == ["im0.png"]


def test_long_and_strange_names(project):
    strange = ["x" * 251, "é ü" * 50, b"latin-\xe9".decode("utf-8", "surrogateescape"), "two\nlines"]
    for name in strange:
        shutil.copy("im0.png", f"{name}.png")
    run(segment, *(f"{name}.png" for name in strange), "--out", "o", "--scales", "1")
    assert all(label(name) for name in strange)
    names = {Path(name).stem for name in read_rows(Path("o"), ("cat", "dog"))}
    assert names == {*strange}
    Path("deep/" + "y" * 252).mkdir(parents=True)
    said = run(segment, "im0.png", "--out", Path("deep", *["y" * 252] * 17), status=1)
    assert "(File name too long); give it a shorter name" in said
