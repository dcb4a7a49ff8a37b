import json

import pytest
import yaml
from click.testing import CliRunner

from stages.metrics_table import main

FIXED = {"miou_many": 40.0, "pixel_accuracy": 80.0}
SPLIT = {"images": 1464, "images_without_mask": 0, "classes_absent": 0, "baseline_all_background": 3.5}
LIMITS = {"miou_low": 47.16, "miou_high": 51.94}
CAM = {"miou": 49.6, **FIXED, "oracle": {"threshold": 0.2, "miou": 55.0}}
NOTHING = {"none": {"images": 0, "images_without_mask": 3, "note": "no image of this split has a mask"}}


@pytest.fixture
def table(tmp_path, monkeypatch, pytestconfig):
    """Runs the command on given metrics of the CAMs and of each label product; its lines."""
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((pytestconfig.rootpath / "presets" / "voc12.yaml").read_text())
    params["evaluate"]["class_sets"] = {"many": ["person"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "metrics").mkdir()

    def run(cam, labels):
        for product in ("cam", "crf", "pseudo_labels", "seg"):
            found = cam if product == "cam" else labels
            (tmp_path / f"metrics/evaluate_{product}.json").write_text(json.dumps(found))
        result = CliRunner().invoke(main)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    return run


def test_each_row_says_split_images_and_interval_and_below_is_what_was_chosen_on_masks(table):
    cam = {"train": {**SPLIT, "classifier": CAM | LIMITS}, "val": {**SPLIT, "images": 9, "classifier": CAM | LIMITS}}
    lines = table(cam, {"train": {**SPLIT, "miou": 60.0, **FIXED, **LIMITS}})
    assert lines[0].split() == ["product", "split", "images", "mIoU", "many", "pixels", "right", "all", "background"]
    figures = ["49.6", "[47.2,", "51.9]", "40.0", "80.0", "3.5"]
    assert lines[1].split() == ["CAM,", "classifier", "train", "1,464", *figures]
    assert lines[2].split() == ["CAM,", "classifier", "val", "9", *figures]
    assert lines[5].split() == ["segmentation", "train", "1,464", "60.0", *figures[1:]]
    assert len({len(line) for line in lines[:6]}) == 1
    assert lines[6].startswith("[low, high]: 95 % of 1,000 resamples of the row's images")
    assert lines[7].startswith("chosen on masks by this run: nothing in this table")
    assert "chosen on the images they are measured on (1,464 of train, 9 of val)" in lines[8]
    assert len(lines) == 9


def test_without_intervals_none_is_explained(table):
    lines = table({"train": {**SPLIT, "classifier": CAM}}, {"train": {**SPLIT, "miou": 60.0, **FIXED}})
    assert lines[1].split()[2:5] == ["train", "1,464", "49.6"]
    assert "[" not in "".join(lines)


def test_without_masks_there_is_nothing_to_note(table):
    lines = table(NOTHING, NOTHING)
    assert len(lines) == 5
    assert lines[4].split() == ["segmentation", "none", "0", "-", "-", "-", "-"]


def test_a_missing_file_is_one_line(table, tmp_path):
    table(NOTHING, NOTHING)
    (tmp_path / "metrics/evaluate_seg.json").unlink()
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert result.output == "Error: metrics/evaluate_seg.json: no such file; run `dvc repro`\n"


@pytest.mark.parametrize(
    "spoilt", [{"miou": "high"}, {"miou": 3.0, "tried_on_masks_of": [1]}, {"miou": 3.0, "miou_low": "1"}, None]
)
def test_what_evaluate_does_not_write_is_one_line(table, tmp_path, spoilt):
    table(NOTHING, NOTHING)
    found = {} if spoilt is None else {"train": {**SPLIT, **spoilt}}
    (tmp_path / "metrics/evaluate_crf.json").write_text(json.dumps(found))
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    said = "not what the stage evaluate@crf writes; run `dvc repro -f evaluate@crf`"
    assert result.output == f"Error: metrics/evaluate_crf.json: {said}\n"


def test_half_an_interval_is_none(table):
    lines = table({"train": {**SPLIT, "classifier": CAM | {"miou_low": 47.0}}}, NOTHING)
    assert lines[1].split()[2:5] == ["train", "1,464", "49.6"]


def test_images_that_were_used_up_are_noted(table):
    tuned = {"tried_on_masks_of": {"train": 20}}
    lines = table({"train": {**SPLIT, **tuned, "classifier": CAM}}, {"val": {**SPLIT, **tuned, "miou": 60.0, **FIXED}})
    said = "tried or chosen on masks: background offsets, on those of 20 of train (dataset.tuning)"
    assert lines.count(f"{said}, which no row counts; every other rule is fixed in params.yaml") == 1
    assert not any("chosen on masks by this run: nothing" in line for line in lines)
