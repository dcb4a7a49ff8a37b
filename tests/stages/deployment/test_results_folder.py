"""What `segment` leaves in a folder that holds results of other images or of another run."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import _command, segment
from tests.stages.cam_project import write_cam_project
from tests.stages.deployment.runs import NAMES, images, label, rows, run, table, values
from tests.stages.predict_project import SIZES


def test_overlays_and_a_row_for_each_image(project):
    printed = run(segment, ".", "--out", "o")
    settings = "scales 1, 0.75, 0.5, mirrored too, fp32, no CRF, on cpu; settings of params.yaml"
    assert printed.splitlines()[0] == f"segment: out/seg.safetensors, {settings}"
    assert printed.splitlines()[-1].startswith("segment: 5 images to o in ")
    assert printed.splitlines()[-1].endswith(" images per second")
    assert list(table()) == NAMES
    for name, (height, width) in zip(NAMES, SIZES, strict=True):
        row, found = table()[name], values(label(name))
        assert row["image"] == str(Path.cwd() / f"{name}.png")
        assert row["label_map"] == f"labels/{name}.png"
        assert row["overlay"] == f"overlays/{name}.jpg"
        assert (int(row["height"]), int(row["width"])) == found.shape == (height, width)
        for value, of in enumerate(("background", "cat", "dog")):
            assert int(row[f"{of}_pixels"]) == np.count_nonzero(found == value)
            assert float(row[f"{of}_share"]) == pytest.approx(np.mean(found == value), abs=1e-6)
        with Image.open(f"o/overlays/{name}.jpg") as picture:
            assert picture.width / picture.height == width / height
    assert run(segment, ".", "--out", "o").count("\n") == printed.count("\n")  # results are no sources


def test_rows_of_other_results_in_the_folder_stay(project):
    run(segment, "im0.png", "im1.png", "im2.png", "--out", "o")
    before = table()
    Path("o/labels/im0.png").unlink()
    run(segment, "im4.png", "im2.png", "--out", "o", "--labels", "dog")
    assert images() == ["im1.png", "im4.png", "im2.png"]
    assert rows()[0] == before["im1"]
    assert rows()[2] != before["im2"]
    Path("im1.png").write_bytes(b"broken")
    run(segment, "im1.png", "--out", "o", status=1)
    assert table()["im1"] == before["im1"]


def test_rows_that_another_run_adds_meanwhile_stay(project, monkeypatch):
    """From another working directory, which has its own lock, while this run looks at its images."""
    work = segment._job

    def meanwhile(*args):
        monkeypatch.setattr(segment, "_job", work)
        run(segment, "im0.png", "--out", "o")
        return work(*args)

    monkeypatch.setattr(segment, "_job", meanwhile)
    monkeypatch.setattr(_command, "at_work", lambda *_, **__: nullcontext())
    run(segment, "im1.png", "--out", "o")
    assert images() == ["im0.png", "im1.png"]


def test_sources_beside_and_below_the_results_are_read(project):
    for out in (".", "..", "below"):
        run(segment, ".", "--out", out)
        assert images(out) == [f"{name}.png" for name in NAMES]
        run(segment, ".", "--out", out)
        assert images(out) == [f"{name}.png" for name in NAMES]


def test_results_of_other_photographs_are_not_replaced_from_another_working_directory(project, folder, monkeypatch):
    model = folder / "out/seg.safetensors"
    for name, image in (("A", "im0.png"), ("B", "im1.png")):
        Path(name, "photos").mkdir(parents=True)
        shutil.copy(image, Path(name, "photos/x.png"))
    options = ["photos", "--model", model, "--out", folder / "AB"]
    monkeypatch.chdir(folder / "A")
    run(segment, *options)
    files = {path: path.read_bytes() for path in (folder / "AB").rglob("*.*")}
    assert len(files) == 3
    monkeypatch.chdir(folder / "B")
    (line,) = run(segment, *options, status=1).splitlines()
    assert line.startswith(f"Error: {folder}/AB/labels/x.png is the result of {folder}/A/photos/x.png, and that of ")
    monkeypatch.chdir(folder)
    shutil.rmtree("A")
    said = run(segment, "B/photos", "--model", model, "--out", "AB", status=1)
    assert said.startswith(f"Error: AB/labels/x.png is the result of {folder}/A/photos/x.png (gone), and that of ")
    assert {path: path.read_bytes() for path in (folder / "AB").rglob("*.*")} == files
    Path("AB/labels/x.png").unlink()
    run(segment, "B/photos", "--model", model, "--out", "AB")
    assert images("AB") == ["B/photos/x.png"]


def test_images_of_one_name_do_not_replace_each_others_results(project):
    Path("other").mkdir()
    shutil.copy("im1.png", "other/im0.png")
    here = Path.cwd()
    run(segment, here / "im0.png", "--out", "o")
    kept = label("im0")
    said = run(segment, here / "other/im0.png", "--out", "o", status=1)
    assert said.startswith(f"Error: o/labels/im0.png is the result of {here}/im0.png, and that of {here}/other/im0.png")
    assert label("im0") == kept
    run(segment, here / "im0.png", here / "other/im0.png", "--out", "both")
    assert [row["label_map"] for row in rows("both")] == ["labels/im0.png", "labels/other/im0.png"]
    assert len({label("im0", "both"), label("other/im0", "both")}) == 2


def test_heat_maps_of_another_run_go_with_their_image(folder):
    write_cam_project(folder, 2)
    for labels, heats in (("cat,dog", ["0.cat", "0.dog"]), ("dog", ["0.dog"])):
        run(segment, "0.png", "--out", "o", "--cam", "--labels", labels)
        assert sorted(path.stem for path in Path("o/heat_maps").iterdir()) == heats
