"""A table, a folder of images and no mask at all: every stage completes, and says that there is nothing to measure."""

import importlib
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sfc.label_archive import LabelArchive
from sfc.params import read_yaml
from stages.preset import preset_text
from tests.pipeline import tiny

ROOT = Path(__file__).resolve().parents[2]
STAGES = (
    "prepare", "label_stats", "train_cam", "infer_cam", "evaluate cam", "analyse", "crf", "evaluate crf", "train_irn",
    "pseudo_labels", "evaluate pseudo_labels", "train_seg", "predict", "evaluate seg", "metrics_table",
)  # fmt: skip
STRANGE = "Füchse am Bach"


def write_table(folder: Path) -> None:
    """The tiny images with a table of names and classes; one has no class, one a name with umlaut and space."""
    tiny.write_data(folder)
    (folder / "JPEGImages/t0.jpg").rename(folder / f"JPEGImages/{STRANGE}.JPG")
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    lines = [f"{image}.jpg,{'' if image == 't5' else classes.replace(' ', ';')}" for image, _, classes in rows]
    text = "\r\n".join(["image,classes", *lines, ""]).replace("t0.jpg", f"{STRANGE}.JPG")
    (folder / "JPEGImages/table.csv").write_bytes(text.encode("utf-8-sig"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The folder, and what each stage printed."""
    folder = tmp_path_factory.mktemp("own")
    write_table(folder / "mine")
    params = read_yaml(preset_text(ROOT / "presets/table.yaml"), source="table")
    own = {"dataset.kind": "table", "dataset.root": "mine/JPEGImages", "dataset.labels": "mine/JPEGImages/table.csv"}
    for dotted, value in (tiny.PARAMS | own).items():
        *path, last = dotted.split(".")
        section = params
        for name in path:
            section = section[name]
        section[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SFC_DEVICE", "cpu")
        patch.setenv("SFC_WORKERS", "0")
        output = {}
        for stage in STAGES:
            name, *args = stage.split()
            result = CliRunner().invoke(importlib.import_module(f"stages.{name}").main, args)
            assert result.exit_code == 0, (stage, result.output, result.exception)
            output[stage] = result.output
    return folder, output


def test_prepare_counts_what_there_is(project):
    folder, output = project
    found = json.loads((folder / "metrics/prepare.json").read_text())
    assert (found["train"]["images"], found["train"]["images_without_label"]) == (16, 1)  # kept as a negative
    assert found["train"]["images_with_mask"] == 0
    assert "16 training images (1 of them negatives) and 0 validation images" in output["prepare"]


def test_each_stage_that_measures_says_that_there_is_nothing_to_measure(project):
    folder, output = project
    for product in ("cam", "crf", "pseudo_labels", "seg"):
        (found,) = json.loads((folder / f"metrics/evaluate_{product}.json").read_text()).values()
        assert found["images"] == 0
        assert "nothing to measure" in found["note"]
        assert "nothing to measure" in output[f"evaluate {product}"].splitlines()[-1]
        assert json.loads((folder / f"plots/evaluate_{product}_confusion.json").read_text()) == []
    assert "no over- or under-activation to measure" in output["analyse"]
    assert json.loads((folder / "metrics/analyse.json").read_text())["pixels"] == "seeds"
    assert len(output["metrics_table"].splitlines()) == 5  # a heading and four products, nothing to note


def test_pseudo_masks_and_a_model_are_made_all_the_same(project):
    folder, _ = project
    labels = LabelArchive(folder / "out/pseudo_labels.zip")
    assert len(labels.ids) == 16
    assert labels.read(STRANGE).shape == (48, 56)
    assert (folder / "out/seg.safetensors").stat().st_size > 1_000_000
    assert list((folder / "out/gallery/pseudo_labels").glob("*.png"))


def test_predict_without_images_writes_an_empty_archive_and_says_what_to_do(project):
    folder, output = project
    assert LabelArchive(folder / "out/predictions.zip").ids == ()
    assert "no image in split val: nothing to predict; see predict.split" in output["predict"]
    assert json.loads((folder / "metrics/predict.json").read_text()) == {
        "split": "val", "images": 0, "foreground_fraction": None
    }  # fmt: skip
    assert "no image in split val" in output["infer_cam"]
