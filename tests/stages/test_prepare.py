import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from sfc.data.manifest import read_manifest
from sfc.label_archive import LabelArchive
from stages.prepare import main
from tests.data.folder import write_mask
from tests.readers.coco_folder import make_coco
from tests.readers.voc_folder import make_voc

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["dataset"] |= {"kind": "voc", "root": "data", "train": "train", "val": "val", "labels": None, "masks": None}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    make_voc(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_refused_is_one_line_and_leaves_nothing(project):
    table = "image_id,split,classes\nt0,train,ant,bee\nt1,train,ant\nt2,train,bee\n"
    (project / "data/labels.csv").write_text(table)
    result = CliRunner().invoke(main)
    message = "Error: data/labels.csv: line 2 has more cells than columns; write spaces between classes"
    assert (result.exit_code, result.output.splitlines()[-1]) == (1, message)
    (project / "data/labels.csv").unlink()
    (project / "data/JPEGImages/t0.jpg").unlink()
    os.mkfifo(project / "data/JPEGImages/t0.jpg")
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    message = "Error: data: data/JPEGImages/t0.jpg: a folder, pipe or device; put an image file there"
    assert result.output.splitlines()[-1] == message
    assert not list((project / "out").iterdir())


def test_corrected_masks_of_training_images_are_kept_apart_from_the_masks(project):
    assert CliRunner().invoke(main).exit_code == 0
    before = [Path(name).read_bytes() for name in ("out/manifest.csv", "out/classes.json")]
    assert LabelArchive("out/corrected.zip").ids == ()
    assert "images_corrected" not in json.loads(Path("metrics/prepare.json").read_text())

    params = yaml.safe_load(Path("params.yaml").read_text())
    params["dataset"]["corrected"] = "back"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    label = np.zeros((12, 16), np.uint8)
    label[2:5] = 2  # t2 shows that class alone, t0 another
    write_mask(Path("back/t2.png"), label)
    write_mask(Path("back/t0.png"), label)
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    assert ", 2 training images with corrected masks; to out" in result.output
    assert "note: dataset.corrected: DVC does not see when back changes" in result.output
    archive = LabelArchive("out/corrected.zip")
    assert archive.ids == ("t0", "t2")
    np.testing.assert_array_equal(archive.read("t2"), label)
    assert [Path(name).read_bytes() for name in ("out/manifest.csv", "out/classes.json")] == before
    metrics = json.loads(Path("metrics/prepare.json").read_text())
    assert (metrics["images_corrected"], metrics["corrected_differ_from_labels"]) == (2, 1)

    write_mask(Path("back/v0.png"), label)
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: back: v0 is of split val, which nothing learns from")
    assert LabelArchive("out/corrected.zip").ids == ("t0", "t2")  # what was there stays whole


def test_a_corrected_mask_of_an_image_that_was_left_out_names_the_reason(project):
    (project / "data/labels.csv").write_text("image_id,split,classes\nt0,train,ant bee\nt1,train,\nt2,train,bee\n")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["dataset"]["corrected"] = "data/Corrected"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_mask(Path("data/Corrected/t1.png"), np.zeros((12, 16)))
    result = CliRunner().invoke(main)
    why = "the data set has no image t1, or it is one of 1 without a class, which dataset.negatives: true keeps"
    assert result.output.splitlines()[-1] == f"Error: data/Corrected: {why}"


def test_corrected_masks_beside_the_images_are_seen_by_dvc(project):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["dataset"]["corrected"] = "data/Corrected"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_mask(Path("data/Corrected/t2.png"), np.zeros((12, 16)))
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    assert "DVC does not see" not in result.output


def test_outputs(project):
    table = "image_id,split,classes\nt0,train,ant bee\nt1,train,\nt2,train,bee\n"
    (project / "data/labels.csv").write_text(table)
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    assert "2 training images (1 without a label left out) and 2 validation images of 3 classes" in result.output
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    assert [(r.id, r.split, r.label_source) for r in manifest.records] == [
        ("t0", "train", "table"),
        ("t2", "train", "table"),
        ("v0", "val", "masks"),
        ("v1", "val", "masks"),
    ]
    assert manifest.records[0].image == Path("data/JPEGImages/t0.jpg")  # as portable as dataset.root
    assert json.loads(Path("metrics/prepare.json").read_text()) == {
        "classes": 3,
        "images_with_rotation_tag": 0,
        "train": {
            "images": 2,
            "images_with_mask": 2,
            "images_without_label": 1,
            "compared_with_masks": 3,
            "differ_from_masks": 2,  # t0 and t1
            "images_per_class_largest": 2,
            "images_per_class_smallest": 0,
            "classes_per_image": 1.5,
            "label_source": "table",
        },
        "val": {
            "images": 2,
            "images_with_mask": 2,
            "images_without_label": 1,
            "images_per_class_largest": 1,
            "images_per_class_smallest": 0,
            "classes_per_image": 0.5,
            "label_source": "masks",
        },
    }


def test_fault_is_one_clear_message_and_leaves_no_output(project):
    (project / "data/JPEGImages/t1.jpg").write_bytes(b"broken")
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert "Error: data: data/JPEGImages/t1.jpg: does not decode" in result.output
    assert not (project / "out/manifest.csv").exists()


def put(project, **dataset):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["dataset"] |= dataset
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def test_masks_drawn_from_instances_are_files_of_the_stage(project):
    make_coco(project / "coco")
    put(project, kind="coco14", root="coco", train="train2014", val="val2014", test="test2014")
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    message = "3 training images (2 without a label left out) and 2 validation images and 2 test images of 3 classes"
    assert message in result.output
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    masks = [record.mask for record in manifest.records if record.split != "test"]
    assert masks[0] == Path("out/masks/COCO_train2014_000000000009.png")
    assert sorted(masks) == sorted(Path("out/masks").iterdir())
    facts = json.loads(Path("metrics/prepare.json").read_text())
    assert (facts["train"]["images_without_label"], facts["train"]["differ_from_masks"]) == (2, 1)
    assert facts["test"] == {"images": 2, "images_with_mask": 0}


def test_masks_of_the_data_set_are_not_copied(project):
    assert CliRunner().invoke(main).exit_code == 0
    assert list(Path("out/masks").iterdir()) == []


def test_own_images_without_masks_or_validation(project):
    Path("data/mine.csv").write_text("image,classes\nJPEGImages/t0.jpg,fox\nJPEGImages/t1.jpg,\n")
    put(project, kind="table", labels="data/mine.csv", negatives=True)
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    assert (
        "2 training images (1 of them negatives) and 0 validation images of 1 classes, no masks (nothing"
        in result.output
    )
    found = json.loads(Path("metrics/prepare.json").read_text())
    assert set(found) == {"classes", "images_with_rotation_tag", "train"}
    assert (found["train"]["images"], found["train"]["negatives"]) == (2, 1)
    records = read_manifest("out/manifest.csv", "out/classes.json").split("train")
    assert [record.labels for record in records] == [(0,), ()]


@pytest.mark.parametrize(
    ("rows", "negatives", "advice"),
    [
        ("JPEGImages/t1.jpg,\n", False, "1 without a label were left out, which dataset.negatives: true keeps"),
        ("", False, "add images that show none of them, and set dataset.negatives to true"),
        ("", True, "add images that show none of them"),
    ],
)
def test_one_class_without_a_negative_is_refused_with_the_reason(project, rows, negatives, advice):
    Path("data/mine.csv").write_text(f"image,classes\nJPEGImages/t0.jpg,fox\nJPEGImages/t2.jpg,fox\n{rows}")
    put(project, kind="table", labels="data/mine.csv", negatives=negatives)
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    said = "Error: all 2 training images show the one class, fox; only images without them could teach where they are"
    assert result.output.splitlines()[-1] == f"{said}: {advice}"
    assert list(Path("out").iterdir()) == []


def test_list_of_test_images(project):
    (project / "data/ImageSets/Segmentation/test.txt").write_text("v1\n")
    (project / "data/ImageSets/Segmentation/val.txt").write_text("v0\n")
    put(project, test="test")
    assert CliRunner().invoke(main).exit_code == 0
    (record,) = read_manifest("out/manifest.csv", "out/classes.json").split("test")
    assert (record.id, record.mask, record.labels, record.label_source) == ("v1", None, (), "none")


def test_param_without_meaning_for_the_kind(project):
    put(project, kind="table", labels="data/mine.csv", sbd="data/sbd")
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert "params.yaml: dataset.sbd: has no meaning for kind table; set it to null" in result.output


def test_images_for_tuning_are_written_beside_the_manifest_which_stays_as_it_is(project):
    assert CliRunner().invoke(main).exit_code == 0
    assert json.loads(Path("out/tuning.json").read_text()) == []
    before = Path("out/manifest.csv").read_bytes()
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["dataset"]["tuning"] = ["t2", "v1"]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert CliRunner().invoke(main).exit_code == 0
    assert Path("out/manifest.csv").read_bytes() == before
    measured = read_manifest("out/manifest.csv", "out/classes.json", tuning="out/tuning.json")
    assert measured.tuning == {"t2", "v1"}
    assert [r.id for r in measured.records if not r.mask] == ["t2", "v1"]
    params["dataset"]["tuning"] = ["t2", "x9"]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    result = CliRunner().invoke(main)
    message = "Error: dataset.tuning: the data set has no image x9; remove it"
    assert (result.exit_code, result.output.splitlines()[-1]) == (1, message)
    assert json.loads(Path("out/tuning.json").read_text()) == ["t2", "v1"]
