"""`segment` gives the labels and heat maps of the stages, byte for byte."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sfc.data.images import class_palette, palette_png
from sfc.data.manifest import label_keys, read_manifest
from sfc.evaluation.cam_rule import CamRule
from sfc.fusion import to_labels
from sfc.label_archive import LabelArchive
from sfc.localization.store import CamStore
from sfc.model_file import SEGMENTATION, read_facts, save_model
from sfc.segmentation.models import load_segmenter
from stages import _precision, crf, infer_cam, predict, segment
from tests.stages.cam_project import write_cam_project
from tests.stages.deployment.runs import NAMES, STRONG, label, run, table, values
from tests.stages.predict_project import set_predict


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


def test_cams_are_read_with_the_products_that_params_name(folder):
    write_cam_project(folder, 2)
    params, found = yaml.safe_load(Path("params.yaml").read_text()), set()
    for change in ({}, {"pcm_iters": 0}, {"seed_pcm_iters": 0}):
        Path("params.yaml").write_text(yaml.safe_dump({**params, "cam": {**params["cam"], **change}}))
        run(segment, "0.png", "--out", "o", "--cam", "--labels", "cat,dog")
        found.add(tuple(path.read_bytes() for path in sorted(Path("o/heat_maps").iterdir())))
    assert len(found) == 3


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


def test_where_bf16_is_slower_a_line_says_so(project, monkeypatch):
    monkeypatch.setattr(_precision, "bf16_ratio", lambda gradients: 3.0)
    set_predict(precision="bf16")
    assert "takes about 3.0 times as long as fp32; predict.precision: fp32" in run(segment, "im0.png", "--out", "o")
    set_predict(precision="fp32")
    assert "as long as" not in run(segment, "im0.png", "--out", "o")


def test_where_bf16_is_slower_a_line_says_so_of_cams(folder, monkeypatch):
    monkeypatch.setattr(_precision, "bf16_ratio", lambda gradients: 3.0)
    write_cam_project(folder, 2)
    params = yaml.safe_load(Path("params.yaml").read_text())
    for precision, slow in (("bf16", True), ("fp32", False)):
        Path("params.yaml").write_text(yaml.safe_dump({**params, "cam": {**params["cam"], "precision": precision}}))
        said = run(segment, "0.png", "--out", "o", "--cam", "--labels", "cat,dog")
        assert ("cam.precision: fp32" in said) == slow
