"""The command evaluate: figures of every product and split, with and without masks, by any number of processes."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from stages import evaluate
from stages.evaluate import main
from tests.stages.evaluate_project import CLASSES, Project
from tests.stages.running import launched


@pytest.fixture
def project(tmp_path, monkeypatch, pytestconfig):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, pytestconfig.rootpath / "presets" / "voc12.yaml")


@pytest.mark.parametrize("product", ["crf", "pseudo_labels", "seg"])
def test_label_maps_on_the_split_they_cover(project, product):
    name, split = ("predictions.zip", "val") if product == "seg" else (f"{product}.zip", "train")
    project.archive(name, split, lambda labels: np.where(labels == 1, 2, labels).astype(np.uint8))
    result = project.run(product)
    assert result.exit_code == 0, result.output
    found = project.metrics(product)
    assert list(found) == [split]
    assert (found[split]["images"], found[split]["images_without_mask"]) == (4, 0)
    truth = np.concatenate([project.truth[f"{split}{i}"][1:].ravel() for i in range(4)])
    bee = 100 * (truth == 2).sum() / (truth > 0).sum()
    assert found[split]["miou"] == pytest.approx((100 + 0 + bee) / 3, abs=1e-5)
    assert found[split]["miou_many"] == 0
    assert found[split]["miou_few"] == pytest.approx(bee, abs=1e-5)  # no cat in the ground truth
    assert found[split]["classes_absent"] == 1
    assert "255 counted as background" in found[split]["protocol"]
    rows = project.per_class(product)
    assert [(row["product"], row["split"], row["class"]) for row in rows] == [
        (product, split, name) for name in ("background", *CLASSES)
    ]
    shares = json.loads((project.folder / f"plots/evaluate_{product}_confusion.json").read_text())
    assert {"actual": "ant", "predicted": "bee", "fraction": 1.0} in shares
    assert [path.name for path in (project.folder / "out/gallery" / product).iterdir()] == [f"{product}_1.png"]
    low, miou, high = (found[split][name] for name in ("miou_low", "miou", "miou_high"))
    assert low < miou < high
    assert f"{split} mIoU {miou:.1f} [{low:.1f}, {high:.1f}] % on 4 images" in result.output


def test_cams_of_both_splits_in_every_form(project):
    project.cams()
    result = project.run("cam")
    assert result.exit_code == 0, result.output
    found = project.metrics("cam")
    assert list(found) == ["train", "val"]
    for split in found.values():
        assert {method: split[method]["miou"] for method in ("classifier", "prototype", "sum")} == {
            "classifier": 100, "prototype": 100, "sum": 100,
        }  # fmt: skip
        assert split["sum"]["oracle"] == {"miou": 100, "threshold": 0}
        assert split["baseline_all_background"] < 40
        assert (split["sum"]["miou_low"], split["sum"]["miou_high"]) == (100, 100)  # right in every image
        assert split["protocol"].startswith("fixed background rule")
        assert split["stands_for"] == "sum"
    for split in ("train", "val"):
        assert f"chosen on these 4 images of {split}" in found[split]["protocol"]
        assert f"{split} mIoU 100.0 [100.0, 100.0] % on 4 images" in result.output
    rows = project.per_class("cam")
    assert {(row["split"], row["map"]) for row in rows if row["shown"] == "yes"} == {("train", "sum")}
    assert {(row["split"], row["map"]) for row in rows} == {
        (split, name) for split in ("train", "val") for name in ("classifier", "prototype", "sum")
    }


def test_cams_of_one_kind(project):
    project.cams(("classifier",))
    refused = project.run("cam")
    assert refused.exit_code == 1
    assert "weights of classifier, prototype, but the CAMs that stand for the method are classifier;" in refused.output
    project.params["train_cam"]["method"] = "base"
    project.write()
    assert project.run("cam").exit_code == 0
    assert {"sum", "prototype"}.isdisjoint(project.metrics("cam")["train"])


def test_fusion_is_that_of_the_method(project):
    project.params["fusion"]["sfc"]["eval"]["bg_offset"] = 5.0
    project.write()
    project.cams()
    assert project.run("cam").exit_code == 0
    found = project.metrics("cam")["val"]
    assert found["sum"]["miou"] == pytest.approx(found["baseline_all_background"])


def test_without_masks_it_says_so_and_completes(project):
    project.archive("crf.zip", "train")
    project.write(masks=False)
    result = project.run("crf")
    assert result.exit_code == 0, result.output
    found = project.metrics("crf")["train"]
    assert (found["images"], found["images_without_mask"]) == (0, 4)
    assert "nothing to measure" in found["note"]
    assert "miou" not in found
    assert "split train, nothing to measure (no image of this split has a mask)" in result.output
    assert (project.folder / "out/gallery/crf/crf_1.png").is_file()


def test_examples_are_the_gallery_and_the_worst(project):
    project.params["evaluate"] |= {"gallery": 2, "worst": 1}
    project.write()
    project.archive("crf.zip", "train", lambda labels: np.where(labels == 2, 0, labels).astype(np.uint8))
    assert project.run("crf").exit_code == 0
    found = project.examples("crf")
    assert (found["product"], found["split"], found["images"], found["main"]) == ("crf", "train", 4, "labels")
    assert sum(example["fixed"] for example in found["examples"]) == 2
    assert min(example["rank"] for example in found["examples"]) == 1
    assert len(found["ious"]) == 4


def test_no_gallery_is_an_empty_folder(project):
    project.params["evaluate"] |= {"gallery": 0, "worst": 0}
    project.write()
    project.archive("crf.zip", "train")
    assert project.run("crf").exit_code == 0
    assert list((project.folder / "out/gallery/crf").iterdir()) == []
    assert project.examples("crf")["examples"] == []


def test_equal_bytes_when_run_again_with_any_number_of_workers(project, monkeypatch):
    project.cams()
    project.archive("crf.zip", "train", lambda labels: np.where(labels == 1, 2, labels).astype(np.uint8))
    runs = []
    for workers in ("1", "3"):
        monkeypatch.setenv("SFC_WORKERS", workers)
        assert project.run("cam").exit_code == project.run("crf").exit_code == 0
        files = [
            p
            for name in ("metrics", "plots", "out/gallery", "out/examples")
            for p in sorted((project.folder / name).rglob("*.*"))
        ]
        runs.append({path.name: path.read_bytes() for path in files})
    assert len(runs[0]) == 10
    assert runs[0] == runs[1]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_equal_bytes_with_any_number_of_processes(project):
    project.cams()
    project.write()
    runs = []
    for launch in (None, 3):
        if launch is None:
            assert project.run("cam").exit_code == 0
        else:
            launched("stages.evaluate", "cam", processes=launch)
        files = [p for name in ("metrics", "plots", "out/gallery") for p in (project.folder / name).rglob("*.*")]
        runs.append({path.name: path.read_bytes() for path in files})
        for path in files:
            path.unlink()
    assert len(runs[0]) == 4
    assert runs[0] == runs[1]


def test_without_resamples_there_is_no_interval(project):
    project.archive("crf.zip", "train")
    project.params["evaluate"]["bootstrap"]["resamples"] = 0
    project.write()
    result = project.run("crf")
    assert "train mIoU 100.0 % on 4 images" in result.output
    assert {"miou_low", "miou_high"}.isdisjoint(project.metrics("crf")["train"])


def small(labels):
    return labels[:, :-1]


def unknown(labels):
    labels[5, 5] = 77
    return labels


@pytest.mark.parametrize(("change", "message"), [(small, r"train\d.*24x31.*24x32"), (unknown, r"train\d.*value 77")])
def test_bad_products_are_one_line_errors_that_leave_no_output(project, change, message):
    project.archive("crf.zip", "train", change)
    result = project.run("crf")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert re.search(f"^Error: .*{message}.*$", result.output, re.MULTILINE), result.output
    assert not (project.folder / "metrics/evaluate_crf.json").exists()
    assert not (project.folder / "out/gallery").exists()
    assert not (project.folder / "out/examples").exists()


def test_missing_product_names_the_file(project):
    result = project.run("seg")
    assert result.exit_code == 1
    assert "out/predictions.zip" in result.output


def test_unknown_class_in_a_set_is_refused(project):
    project.params["evaluate"]["class_sets"] = {"many": ["aunt"]}
    project.write()
    project.archive("crf.zip", "train")
    result = project.run("crf")
    assert result.exit_code == 1
    assert "did you mean ant?" in result.output


def test_help_says_what_is_read_and_written():
    text = CliRunner().invoke(main, ["--help"]).output
    assert "cam|crf|pseudo_labels|seg" in text
    assert "metrics/evaluate_PRODUCT.json" in text


class Taken(list):
    """Records that count how many of them were taken."""

    number = 0

    def __getitem__(self, rows):
        return Taken(super().__getitem__(rows))

    def __iter__(self):
        for record in super().__iter__():
            Taken.number += 1
            yield record


def test_images_are_taken_as_they_are_counted(monkeypatch):
    monkeypatch.setenv("SFC_WORKERS", "2")
    monkeypatch.setattr(evaluate.torch, "set_num_threads", lambda number: None)
    ahead, done = [], []

    class Tally:
        counters = ()

        def add(self, record):
            ahead.append(Taken.number - len(done))
            done.append(record)

    evaluate._counted(Tally(), Taken(range(200)), "counted")
    assert sorted(done) == list(range(200))
    assert max(ahead) < 10


@pytest.mark.parametrize("product", ["crf", "pseudo_labels"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_predictions_in_the_place_of_labels_to_train_on_are_refused(project, product, split):
    project.records = [replace(r, split=split) if r.split == "val" else r for r in project.records]
    project.write()
    project.archive(f"{product}.zip", split)
    result = project.run(product)
    said = f"out/{product}.zip: holds images of {split}, but {product} is of train alone; run dvc repro -f {product}"
    assert (result.exit_code, result.output.splitlines()[-1]) == (1, f"Error: {said}")
    assert list(project.folder.glob("metrics/*")) == []
