"""The commands segment and export: labels of the stages byte for byte, broken images, other folders, other files."""

import csv
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from sfc.backbone import fold_batch_norm
from sfc.data.images import class_palette, palette_png
from sfc.data.manifest import label_keys, read_manifest
from sfc.deployment.results import read_rows
from sfc.deployment.sources import find_images
from sfc.evaluation.cam_rule import CamRule
from sfc.fusion import to_labels
from sfc.label_archive import LabelArchive
from sfc.localization.store import CamStore
from sfc.model_file import SEGMENTATION, read_facts, save_model
from sfc.segmentation.models import load_segmenter
from stages import _command, _results, crf, export, infer_cam, predict, segment
from tests.stages.cam_project import write_cam_project
from tests.stages.predict_project import SIZES, set_predict, write_model, write_project

STRONG = {"iterations": 2, "gaussian_compat": 60.0, "bilateral_srgb": 40.0}  # a CRF that changes labels of noise
NAMES = [f"im{i}" for i in range(len(SIZES))]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "1")
    return tmp_path


@pytest.fixture
def project(folder):
    write_project(folder)


def run(command, *options, status=0):
    done = CliRunner().invoke(command.main, [str(option) for option in options])
    assert done.exit_code == status, done.output
    return done.output


def label(name, folder="o"):
    return (Path(folder) / "labels" / f"{name}.png").read_bytes()


def values(png):
    return np.array(Image.open(io.BytesIO(png)))


def rows(folder="o"):
    with open(Path(folder) / "segments.csv", newline="") as file:
        return list(csv.DictReader(file))


def images(folder="o"):
    """The images in the table, as they are called from the working directory."""
    return [os.path.relpath(row["image"]) for row in rows(folder) if os.path.isabs(row["image"])]


def table(folder="o"):
    return {Path(row["image"]).stem: row for row in rows(folder)}


@pytest.mark.parametrize("with_crf", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_labels_are_the_bytes_of_predict(project, precision, with_crf):
    set_predict(precision=precision, scales=[1.0, 0.5])
    set_predict("crf", enabled=with_crf, **STRONG)
    run(predict)
    run(segment, *(f"{name}.png" for name in NAMES), "--out", "o")
    archive = LabelArchive("out/predictions.zip")
    assert sorted(path.stem for path in Path("o/labels").iterdir()) == NAMES
    for name in NAMES:
        assert label(name) == palette_png(archive.read(name))
    run(segment, "im3.png", "--out", "alone")
    assert label("im3", "alone") == label("im3")


def test_options_stand_in_for_params(project):
    set_predict(scales=[0.5, 1.0], flip=False)
    set_predict("crf", enabled=True, **STRONG)
    run(predict)
    wanted = LabelArchive("out/predictions.zip").read("im0")
    set_predict(scales=[2.0], flip=True)
    set_predict("crf", enabled=False)
    options = ["--scales=0.5,1", "--no-flip", "--crf"]
    run(segment, "im0.png", "--out", "o", *options)
    np.testing.assert_array_equal(values(label("im0")), wanted)
    for left_out in options:  # none of them is without effect
        run(segment, "im0.png", "--out", left_out, *(option for option in options if option != left_out))
        assert label("im0", left_out) != label("im0")


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


def test_known_classes_of_all_images_or_by_a_table(project):
    run(segment, "im0.png", "im1.png", "--out", "o", "--labels", "dog")
    assert {*np.unique(values(label("im0")))} <= {0, 2}
    Path("labels.csv").write_text("image,classes\nim0.png,cat\nim1.png,\n")
    printed = run(segment, "im0.png", "im1.png", "im3.png", "--out", "t", "--labels", "labels.csv", status=1)
    assert "Error: im3.png: the table of --labels has no row of it" in printed
    assert {*np.unique(values(label("im0", "t")))} <= {0, 1}
    assert not values(label("im1", "t")).any()
    assert list(table("t")) == ["im0", "im1"]


def test_a_model_away_from_its_project(project, folder):
    set_predict(scales=[1.0], flip=False)
    run(predict)
    away = folder / "away"
    away.mkdir()
    shutil.copy("out/seg.safetensors", away / "mine.safetensors")
    Path("params.yaml").unlink()
    run(segment, "im0.png", "--model", away / "mine.safetensors", "--out", "o")
    assert label("im0") == palette_png(LabelArchive("out/predictions.zip").read("im0"))
    assert "; no params.yaml here" in run(segment, "im0.png", "--out", "o")
    assert "--crf: its constants are in params.yaml" in run(segment, "im0.png", "--out", "o", "--crf", status=1)
    shown = run(segment, "im0.png", "--out", "o", "--cam", "--labels", "cat", status=1)
    assert "--cam: how CAMs are fused stands in params.yaml" in shown


def test_the_palette_is_the_models(project):
    facts = read_facts("out/seg.safetensors", task=SEGMENTATION)
    palette = ((1, 2, 3), (40, 50, 60), (70, 80, 90))
    changed = type(facts)(**{**vars(facts), "palette": palette})
    save_model(load_segmenter("out/seg.safetensors", "cpu"), "other.safetensors", changed)
    run(segment, "im0.png", "--out", "o", "--model", "other.safetensors")
    with Image.open("o/labels/im0.png") as picture:
        assert [tuple(picture.getpalette()[3 * i : 3 * i + 3]) for i in range(4)] == [*palette, class_palette("abc")[3]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        (["im0.png", "--model", "none.safetensors"], "none.safetensors: no such file; run the stage train_seg first"),
        (["im0.png", "--model", "old.safetensors"], "old.safetensors: written before model files knew their classes"),
        (["im0.png", "--cam"], "--cam: CAMs are made of classes that are known; name them by --labels"),
        (
            ["im0.png", "--cam", "--labels", "cat", "--model", "out/seg.safetensors"],
            "out/seg.safetensors: holds a segmentation model, and this needs a CAM network, as the stage train_cam",
        ),
        (["im0.png", "--model", "a.pt2"], "a.pt2: models that run here are .safetensors and .onnx"),
        (["im0.png", "--model", "a.onnx", "--flip"], "a.onnx: scales and flip are part of an exported model"),
        (["im0.png", "--model", "a.onnx"], "a.onnx: no such file; write it by python -m stages.export"),
        ([""], "SOURCE: '' names nothing; is a variable of the shell not set?"),
        (["im0.png", "--labels", "cow"], "--labels: 'cow' is neither a file nor a class; the model knows cat, dog"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(project, options, message):
    save_file(load_file("out/seg.safetensors"), "old.safetensors", metadata={"config": "{}"})
    printed = run(segment, *options, "--out", "o", status=1).splitlines()
    assert printed[-1].startswith(f"Error: {message}")
    assert not Path("o").exists()


@pytest.mark.parametrize("scales", ["1,x", "0", "1,1", ""])
def test_scales_are_numbers(project, scales):
    assert "Invalid value for '--scales'" in run(segment, "im0.png", "--out", "o", "--scales", scales, status=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["gone.png", "--out", "o"], "gone.png: no such file or folder"),
        (["im0.png", "--out", "o", "--labels", "missing.txt"], "--labels: 'missing.txt' is neither a file nor a class"),
        (["im0.png", "--out", "o", "--labels", "im0.png"], "im0.png: not a CSV file in UTF-8"),
        (["im0.png", "--out", "im1.png"], "im1.png: cannot be a folder (a file lies there); remove it, or"),
        (["im0.png", "--out", "im1.png/o"], "im1.png/o: cannot be written (im1.png is no folder); remove that, or"),
        (["im0.png", "--out", "table"], "table/segments.csv: cannot be written (a folder lies there); remove it, or"),
        (["im0.png", "--out", "file"], "file/labels: cannot be a folder (a file lies there); remove it, or"),
        (["im0.png", "--out", "mine"], "mine/labels: holds files, and no segments.csv says that they are results"),
        (["im0.png", "--out", "closed"], "closed: cannot be written (Permission denied); give yourself the right"),
        (["im0.png", "--out", "closed/new"], "closed/new: cannot be written (Permission denied); give yourself"),
    ],
)
def test_what_is_wrong_is_found_before_the_model_is_loaded(project, monkeypatch, options, message):
    monkeypatch.setattr(segment, "load_segmenter", None)
    for folder in ("table/segments.csv", "file", "mine/labels", "closed"):
        Path(folder).mkdir(parents=True)
    for file in ("file/labels", "mine/labels/im0.png"):
        Path(file).write_text("mine")
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and access(path, mode))
    before = sorted(path for path in Path().rglob("*"))
    (line,) = run(segment, *options, status=1).splitlines()
    assert line.startswith(f"Error: {message}")
    assert sorted(path for path in Path().rglob("*")) == before


def ended_after(images, monkeypatch, *options):
    """Ctrl-C while the next image's overlay is drawn."""
    count, draw = iter(range(images)), _results.label_overlay

    def drawn(*args):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return draw(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_results, "label_overlay", drawn)
        return run(segment, *options, status=1)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_is_interrupted_leaves_results_and_the_same_command_does_all(project, monkeypatch, workers):
    monkeypatch.setenv("SFC_WORKERS", workers)
    run(segment, ".", "--out", "whole")
    photographs = find_images(["."])
    said = ended_after(2, monkeypatch, ".", "--out", "o")
    assert "segment: ended after 2 of 5 images, which stay in o; the same command does all" in said
    assert "Aborted!" in said
    assert [row["label_map"] for row in rows()] == ["labels/im0.png", "labels/im2.png"]  # of one size
    assert find_images(["."]) == photographs
    run(segment, ".", "--out", "o")
    files = sorted(path.relative_to("whole") for path in Path("whole").rglob("*"))
    assert sorted(path.relative_to("o") for path in Path("o").rglob("*")) == files
    for file in files:
        assert (Path("whole") / file).is_dir() or (Path("o") / file).read_bytes() == (Path("whole") / file).read_bytes()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed(project, forker, end):
    more = [f"more{i:02}" for i in range(90)]  # of im0's size, so done before im1 and im3: 3 s to be killed in
    for name in more:
        shutil.copy("im0.png", f"{name}.png")
    options = [".", "--out", "o", "--no-flip", "--scales=1"]
    process = forker.start(Path.cwd(), "stages.segment", *options, SFC_WORKERS="2")
    while not Path("o/labels/more02.png").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(end)
    assert process.wait() == (-end if end == signal.SIGKILL else 128 + end), process.said()
    assert ("ended by SIGTERM" in process.said()) == (end == signal.SIGTERM)
    Path("o/labels/.im1.png.999999999.partial.png").write_text("half")
    photographs = [*NAMES, *more]
    assert list(find_images(["."])) == photographs
    assert all(Path("o", row["label_map"]).is_file() for row in rows() if None not in row.values())
    run(segment, *options)
    assert images() == [f"{name}.png" for name in photographs]
    assert sorted(path.stem for path in Path("o/labels").iterdir()) == photographs


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


def test_cams_are_read_with_the_products_that_params_name(folder):
    write_cam_project(folder, 2)
    params, found = yaml.safe_load(Path("params.yaml").read_text()), set()
    for change in ({}, {"pcm_iters": 0}, {"seed_pcm_iters": 0}):
        Path("params.yaml").write_text(yaml.safe_dump({**params, "cam": {**params["cam"], **change}}))
        run(segment, "0.png", "--out", "o", "--cam", "--labels", "cat,dog")
        found.add(tuple(path.read_bytes() for path in sorted(Path("o/heat_maps").iterdir())))
    assert len(found) == 3


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


def test_cams_are_those_of_the_stages(folder):
    records = write_cam_project(folder, 4)
    run(infer_cam)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["crf"] |= {"iterations": 2}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    run(segment, "*.png", "--out", "o", "--cam", "--labels", "out/manifest.csv")
    run(crf)
    run(segment, "*.png", "--out", "refined", "--cam", "--labels", "out/manifest.csv", "--crf")
    rule = CamRule(CamStore("out/cams"), **params["fusion"]["sfc"]["eval"])
    refined = LabelArchive("out/crf.zip")
    classes = read_manifest("out/manifest.csv", "out/classes.json").classes
    for record in records:
        name = record.image.stem
        wanted = to_labels(rule.cams(rule.normalised(record), "sum").max(0).indices, label_keys(record.labels))
        assert label(name) == palette_png(wanted)
        if record.split == "train":
            assert label(name, "refined") == palette_png(refined.read(record.id))
        heats = sorted(path.name for path in Path("o/heat_maps").glob(f"{name}.*"))
        assert heats == sorted(f"{name}.{classes[c]}.jpg" for c in record.labels)


def test_an_exported_model_gives_the_same_labels(project):
    logging.disable(logging.DEBUG)  # see tests/deployment/test_export.py
    try:
        printed = run(export, "--scales", "1", "--no-flip").splitlines()
    finally:
        logging.disable(logging.NOTSET)
    assert printed[-1].startswith("export: out/seg.onnx, 45 MB")
    options = ["--labels", "cat"]
    for more in ([], options, ["--crf", *options]):
        run(segment, "im*.png", "--out", "torch", "--scales", "1", "--no-flip", *more)
        run(segment, "im*.png", "--out", "onnx", "--model", "out/seg.onnx", *more)
        of = {name: [values(label(name, folder)) for folder in ("torch", "onnx")] for name in NAMES}
        assert min(np.mean(ours == theirs) for ours, theirs in of.values()) >= 0.999
        assert len(np.unique(np.concatenate([ours.ravel() for ours, _ in of.values()]))) == (2 if more else 3)
        assert list(table("onnx")) == NAMES


def test_a_pt2_has_the_weights_of_the_model(project):
    logging.disable(logging.DEBUG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            run(export, "--format", "pt2", "--scales", "1", "--no-flip")
    finally:
        logging.disable(logging.NOTSET)
    network = load_segmenter("out/seg.safetensors", "cpu")
    fold_batch_norm(network.backbone)
    found = torch.export.load("out/seg.pt2").state_dict
    wanted = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    assert len(found) > 20
    assert found.keys() <= wanted.keys()
    for name, weight in found.items():
        assert torch.equal(weight, wanted[name])


def test_a_disk_that_takes_no_pt2_is_said_so(project):
    """In a process of its own, which torch's writer might end."""
    code = "from tests.limits import largest_file; from stages.export import main\nwith largest_file(10**6): main()"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", code, "--format", "pt2", "--scales", "1", "--no-flip"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    said = "out/seg.pt2: cannot be written (File too large); raise the limit on a file's size (ulimit -f)"
    assert done.stderr.splitlines()[1:] == [f"Error: {said}"]
    assert done.returncode == 1
    assert [path.name for path in Path("out").iterdir() if "pt2" in path.name] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "out/seg.safetensors"), "--to out/seg.safetensors: format onnx is called .onnx; name it so"),
        (("--to", "x.pt2"), "--to x.pt2: format onnx is called .onnx; name it so, or another --format"),
        (("--model", "alike", "--to", "./alike"), "--to alike: format onnx is called .onnx; name it so"),
        (("--to", "params.yaml"), "--to params.yaml: format onnx is called .onnx; name it so"),
        (("--model", "."), "Error: .: "),
    ],
)
def test_export_writes_over_no_model_and_under_no_wrong_name(project, options, said):
    model = Path("out/seg.safetensors").read_bytes()
    Path("alike").write_bytes(model)
    printed = run(export, *options, "--scales", "1", "--no-flip", status=1)
    assert printed.splitlines()[-1].startswith("Error: ")
    assert said in printed
    assert Path("out/seg.safetensors").read_bytes() == Path("alike").read_bytes() == model
    assert not Path("x.pt2").exists()


def test_export_refuses_what_is_no_segmentation_model(project):
    assert "none: no such file; run the stage train_seg" in run(export, "--model", "none", status=1)
    write_model("cat")
    assert "Invalid value for '--format'" in run(export, "--format", "tflite", status=2)
