"""Images on whose masks constants were tried: no figure counts them, and every figure says so."""

import numpy as np
import pytest

from sfc.data.manifest import write_tuning
from tests.stages.evaluate_project import Project

TRIED = {
    "cam": "fixed background rule; fusion.*.eval.bg_offset tried or chosen",
    "crf": "; fusion.*.crf.bg_offset tried or chosen",
    "pseudo_labels": "; fusion.*.crf.bg_offset and fusion.*.walk.bg_offset tried or chosen",
    "seg": "; fusion.*.crf.bg_offset and fusion.*.walk.bg_offset tried or chosen",
}


@pytest.fixture
def project(tmp_path, monkeypatch, pytestconfig):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, pytestconfig.rootpath / "presets" / "voc12.yaml")


def test_images_on_whose_masks_offsets_were_tried_are_never_counted(project):
    project.archive("crf.zip", "train", lambda labels: np.where(labels == 1, 2, labels).astype(np.uint8))
    right = project.run("crf")
    assert right.exit_code == 0
    before = project.metrics("crf")["train"]
    write_tuning(["train0", "train2", "val1"], "out/tuning.json")
    assert project.run("crf").exit_code == 0
    found = project.metrics("crf")["train"]
    assert (found["images"], found["images_without_mask"], found["images_for_tuning"]) == (2, 0, 2)
    assert "images_for_tuning" not in before
    truth = np.concatenate([project.truth[f"train{i}"][1:].ravel() for i in (1, 3)])
    bee = 100 * (truth == 2).sum() / (truth > 0).sum()
    assert found["miou"] == pytest.approx((100 + 0 + bee) / 3, abs=1e-5)
    assert found["miou"] != before["miou"]
    assert "nothing on masks" in before["protocol"]
    assert found["tried_on_masks_of"] == {"val": 1, "train": 2}


@pytest.mark.parametrize("refine", ["irn", "crf"])
@pytest.mark.parametrize("product", TRIED)
def test_every_split_says_what_was_tried_on_masks_of_any_split(project, product, refine):
    """Of the segmentation too, which is measured on another split: its labels follow from the offsets.

    Whether one was taken the file does not know, and without a random walk none of its offsets matters.
    """
    write_tuning(["train0", "train2"], "out/tuning.json")
    project.params["pseudo_labels"]["refine"] = refine
    project.write()
    if product == "cam":
        project.cams()
    else:
        name, split = ("predictions.zip", "val") if product == "seg" else (f"{product}.zip", "train")
        project.archive(name, split)
    assert project.run(product).exit_code == 0
    for found in project.metrics(product).values():
        assert "nothing on masks" not in found["protocol"]
        on_which = " on the masks in dataset.tuning (2 of train), which no figure counts"
        tried = TRIED[product] if refine == "irn" else TRIED[product].replace(" and fusion.*.walk.bg_offset", "")
        assert tried + on_which in found["protocol"]
        assert found["tried_on_masks_of"] == {"train": 2}


def test_where_all_masks_are_used_up_that_is_the_reason(project):
    project.archive("crf.zip", "train")
    write_tuning([f"train{i}" for i in range(4)], "out/tuning.json")
    result = project.run("crf")
    why = "no image of this split has a mask but 4 in dataset.tuning, which are used up"
    assert f"split train, nothing to measure ({why})" in result.output
    found = project.metrics("crf")["train"]
    assert found["note"] == f"{why}: nothing to measure"
    assert (found["images_without_mask"], found["images_for_tuning"]) == (0, 4)
