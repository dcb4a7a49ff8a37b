import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from sfc.data.manifest import Manifest, Record, write_manifest, write_tuning
from sfc.example_archive import ExampleArchive
from sfc.label_archive import LabelArchiveWriter
from sfc.localization.store import CamWriter
from stages import evaluate
from stages.evaluate import main
from tests.stages.running import launched

CLASSES = ("ant", "bee", "cat")


class Project:
    """A folder with params.yaml, manifest and masks, as the stages before `evaluate` leave it."""

    def __init__(self, folder, preset):
        params = yaml.safe_load(preset.read_text())
        params["evaluate"] |= {"class_sets": {"many": ["ant"], "few": ["bee", "cat"]}, "gallery": 3, "worst": 1}
        self.folder, self.params, self.truth = folder, params, {}
        for name in ("out", "metrics", "plots", "masks"):
            (folder / name).mkdir()
        self.records = [self._record(split, i) for split in ("val", "train") for i in range(4)]
        self.write()

    def _record(self, split, i, size=(24, 32)):
        rng = np.random.default_rng(i)
        name, truth = f"{split}{i}", np.repeat(rng.integers(0, 3, (size[0], 1), np.uint8), size[1], axis=1)
        truth[0] = 255
        image, mask = self.folder / "masks" / f"{name}.jpg", self.folder / "masks" / f"{name}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(image)
        Image.fromarray(truth).save(mask)
        self.truth[name] = truth
        return Record(name, split, image, mask, *size, (0, 1), "hash", "masks")

    def write(self, masks=True):
        records = [r if masks else SimpleNamespace(**{**vars(r), "mask": None}) for r in self.records]
        write_manifest(
            Manifest(tuple(records), CLASSES), self.folder / "out/manifest.csv", self.folder / "out/classes.json"
        )
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params))

    def archive(self, name, split, change=lambda labels: labels):
        with LabelArchiveWriter(self.folder / "out" / name) as writer:
            for record in self.records:
                if record.split == split:
                    writer.write(record.id, change(self.truth[record.id].copy()))

    def cams(self, kinds=("classifier", "prototype")):
        """Maps that are right everywhere, made of one scale at full size."""
        (self.folder / "out/cams").mkdir()
        ids = [r.id for r in self.records]
        writer = CamWriter(self.folder / "out/cams", kinds=kinds, fused=kinds, scales=(1.0,), ids=ids)
        for r in self.records:
            right = np.stack([self.truth[r.id] == k for k in range(3)]).astype(np.float32)
            writer.write(r.id, [np.stack([right] * len(kinds))])
        writer.finish()

    def run(self, product):
        return CliRunner().invoke(main, [product])

    def metrics(self, product):
        return json.loads((self.folder / f"metrics/evaluate_{product}.json").read_text())

    def examples(self, product):
        content = (self.folder / f"out/examples/{product}.zip").read_bytes()
        return ExampleArchive(content, source=product).index

    def per_class(self, product):
        with (self.folder / f"plots/evaluate_{product}_per_class.csv").open() as file:
            return list(csv.DictReader(file))


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


TRIED = {
    "cam": "fixed background rule; fusion.*.eval.bg_offset tried or chosen",
    "crf": "; fusion.*.crf.bg_offset tried or chosen",
    "pseudo_labels": "; fusion.*.crf.bg_offset and fusion.*.walk.bg_offset tried or chosen",
    "seg": "; fusion.*.crf.bg_offset and fusion.*.walk.bg_offset tried or chosen",
}


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
