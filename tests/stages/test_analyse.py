"""The stage analyse on a few images: what it writes with masks and without."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from sfc.data.manifest import Manifest, Record, write_manifest
from sfc.evaluation.confusion import Confusion, scores
from sfc.localization.store import CamWriter
from sfc.methods import save_cam_network
from sfc.methods.sfc import SfcNetwork
from stages import evaluate
from stages.analyse import main

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("ant", "bee", "cat")
LABELS = [(0,), (0, 1), (0,), (0, 2), (1,), (0,)]
SIZE = (32, 48)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "0")
    for folder in ("out/cams", "plots", "metrics"):
        (tmp_path / folder).mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for i, labels in enumerate(LABELS):
        Image.fromarray(numbers.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(f"{i}.png")
        Image.fromarray(truth(labels)).save(f"mask{i}.png")
    torch.manual_seed(0)
    network = SfcNetwork(
        arch="resnet18", num_classes=len(CLASSES), frozen_stages=0, batch_norm="frozen", pcm_iters=0,
        bkg_before_pcm=True, prototype={"mode": "argmax", "bkg_scale": 0.3, "threshold": 0.3, "seed_range": "none"},
    )  # fmt: skip
    save_cam_network(network, "out/cam.safetensors", method="sfc", classes=CLASSES, params={})
    gradients = ["step,class,positive,negative"]
    gradients += [f"{step},{name},0.{step},-0.{c}" for step in (2, 4) for c, name in enumerate(CLASSES)]
    Path("plots/train_cam_gradients.csv").write_text("\n".join([*gradients, "6,cat,,-0.2"]) + "\n")
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["analyse"] |= {"precision": "fp32", "batch_size": 2}
    params["evaluate"] |= {"class_sets": {}, "gallery": 0}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


def truth(labels):
    """Each class of the image in a stripe of its own, background below."""
    mask = np.zeros(SIZE, np.uint8)
    for stripe, label in enumerate(labels):
        mask[:20, stripe * 16 : stripe * 16 + 16] = label + 1
    return mask


def write_inputs(*, masked, kinds=("classifier", "prototype")):
    """Classifier CAMs that are right, and prototype CAMs that are so large that the sum has no background."""
    records = [
        Record(f"im{i}", "train", Path(f"{i}.png"), Path(f"mask{i}.png") if i in masked else None, *SIZE, labels,
               "hash", "table")
        for i, labels in enumerate(LABELS)
    ]  # fmt: skip
    write_manifest(Manifest(tuple(records), CLASSES), "out/manifest.csv", "out/classes.json")
    writer = CamWriter("out/cams", kinds=kinds, fused=kinds, scales=(1.0,), ids=[record.id for record in records])
    for record in records:
        right = [truth(record.labels) == value for value in (0, *(label + 1 for label in record.labels))]
        right = np.stack(right).astype(np.float32)
        large = np.concatenate([np.zeros_like(right[:1]), np.ones_like(right[1:])])
        writer.write(record.id, [np.stack([right, large])[: len(kinds)]])
    writer.finish()


def run():
    measured = CliRunner().invoke(evaluate.main, ["cam"])
    assert measured.exit_code == 0, measured.output
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    return json.loads(Path("metrics/analyse.json").read_text())


def rows(name):
    return list(csv.DictReader(Path(f"plots/{name}.csv").open()))


def test_with_masks(project):
    write_inputs(masked=range(6))
    found = run()
    assert (found["images"], found["pixels"], found["split"]) == (6, "masks", "train")
    assert (found["head"], found["tail"]) == ("ant", "cat")
    assert found["gradient"]["positive"] == {"head": pytest.approx(0.3), "tail": pytest.approx(0.3)}
    assert found["gradient"]["negative"]["tail"] == pytest.approx(-0.2)
    assert found["classifier"]["false_positive_rate"] == {"head": 0, "tail": 0}
    confusion = Confusion(4)
    for i, labels in enumerate(LABELS):  # the sum: the classifier's class where it has one, else the first class
        label = truth(labels)
        confusion.add(str(i), label, np.where(label == 0, labels[0] + 1, label).astype(np.uint8))
    expected = 100 * scores(confusion.matrix).false_positive_rate
    assert found["sum"]["false_positive_rate"]["head"] == pytest.approx(expected[1], abs=1e-4)
    assert expected[1] > 20
    cells = rows("analyse_cosines")
    assert {(row["kind"], row["of"]) for row in cells} >= {("classifier weight on pixels", "background")}
    on_tail = [row for row in cells if row["kind"].startswith("classifier weight on") and row["of"] == "cat"]
    (head_on_tail,) = (float(row["cosine"]) for row in on_tail if row["class"] == "ant")
    assert found["activation"]["classifier_weight"]["head_on_tail"] == pytest.approx(head_on_tail, abs=1e-5)
    assert [row["class"] for row in rows("analyse_rates")] == [*CLASSES] * 2
    assert {row["product"] for row in rows("analyse_rates")} == {"classifier CAM", "sum CAM"}


def test_without_masks_the_seeds_say_whose_pixels_they_are(project):
    write_inputs(masked=())
    found = run()
    assert (found["images"], found["pixels"]) == (6, "seeds")
    assert "nothing can be called over- or under-activated" in found["protocol"]
    assert found["sum"]["false_positive_rate"] == {"head": None, "tail": None}
    assert found["activation"]["prototype"]["head_on_head"] > 0
    assert [row["false_positive_rate"] for row in rows("analyse_rates")] == [""] * 6


def test_masks_that_are_used_up_are_the_reason_why_nothing_is_measured(project):
    write_inputs(masked=range(6))
    Path("out/tuning.json").write_text(json.dumps([f"im{i}" for i in range(6)]))
    found = run()
    assert found["pixels"] == "seeds"
    assert found["protocol"].startswith("no masks but 6 in dataset.tuning, which are used up: pixels by the seeds")


def test_images_without_masks_are_left_out_where_others_have_one(project):
    write_inputs(masked=(0, 3))
    assert run()["images"] == 2


def test_a_method_with_one_kind_of_cam(project):
    write_inputs(masked=range(6), kinds=("classifier",))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["train_cam"]["method"] = "base"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    found = run()
    assert "sum" not in found
    assert {row["product"] for row in rows("analyse_rates")} == {"classifier CAM"}


@pytest.mark.parametrize("name", ["train_cam_gradients", "evaluate_cam_per_class"])
@pytest.mark.parametrize(
    "content", [b"", b"null", b"a,b\n1,2\n", b"\xff\xfe\x00", b"step,class,positive,negative\n2,ant,x,0\n"]
)
def test_a_damaged_table_is_one_line(project, name, content):
    write_inputs(masked=range(6))
    run()
    Path(f"plots/{name}.csv").write_bytes(content)
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert f"Error: plots/{name}.csv: not what " in result.output.splitlines()[-1]
    Path(f"plots/{name}.csv").unlink()
    assert f"Error: plots/{name}.csv: no such file; run the stage" in CliRunner().invoke(main).output
