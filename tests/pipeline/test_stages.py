"""The real stages through real DVC on tiny data: as a person runs, varies, queues, shares and interrupts them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.pipeline import tiny
from tests.pipeline.project import Project, stages_run

TRAIN_AGAIN = ("repro", "--force", "--single-item", "train_cam")


@pytest.fixture(scope="module")
def clone(real, tmp_path_factory) -> Project:
    """Another clone, after `dvc push` there and `dvc pull` here."""
    real.put()
    real.git("checkout", "--quiet", ".")
    real.dvc("checkout")
    real.dvc("push")
    root = real.root.parent / "clone"
    real.git("clone", "--quiet", str(real.root), str(root))
    clone = Project(root)
    clone.dvc("pull")
    return clone


def test_all_stages_run_once(real):
    assert len(real.first_run) == 15
    assert real.repro() == []


def test_evaluations_measure_every_product(real):
    metrics = {
        name: json.loads((real.root / f"metrics/evaluate_{name}.json").read_text()) for name in ("cam", "crf", "seg")
    }
    assert metrics["cam"]["train"]["images"] == metrics["crf"]["train"]["images"] == tiny.TRAIN
    assert metrics["seg"]["val"]["images"] == tiny.VAL
    table = real.run(sys.executable, "-m", "stages.metrics_table").splitlines()
    assert len(table) == 13  # a heading, CAM by three methods on two splits, the other three products, three notes
    assert table[0].split()[:6] == ["product", "split", "images", "mIoU", "many", "few"]


def test_plots_show_curves_classes_confusions_and_galleries(real):
    output = real.dvc("plots", "show")
    assert "WARNING" not in output
    page = (real.root / "dvc_plots" / "index.html").read_text()
    charts = [
        entry for entry in yaml.safe_load((real.root / "dvc.yaml").read_text())["plots"] if isinstance(entry, dict)
    ]
    assert page.count("vegaEmbed('#") == len(charts)
    assert all(f'"text": "{title}"' in page for entry in charts for title in entry)
    for product in ("cam", "crf", "pseudo_labels", "seg"):
        assert len(re.findall(rf'<img src="static/[^"]*{product}_1\.png"', page)) == 1


def test_the_report_shows_what_was_run(real):
    page = (real.root / "out/report.html").read_text()
    assert "<code>evaluate.gallery</code>" in page  # 2, as in no preset
    assert len(re.findall('"kind":"truth"', page)) >= 4  # of each product an image with its mask
    assert page.count("<details><summary>") == len(yaml.safe_load((real.root / "dvc.yaml").read_text())["metrics"])


def test_a_changed_param_shows_in_the_metrics_and_can_be_taken_back(real):
    output = real.dvc("exp", "run", "--name", "fewer", "-S", "seg.steps=2", "-S", "seg.lr=1e-5")
    assert stages_run(output)[0] == "train_seg"
    assert set(stages_run(output)) <= {"train_seg", "predict", "evaluate@seg", "report"}
    assert real.lock()["train_seg"]["params"]["params.yaml"]["seg"]["lr"] == 0.00001
    diff = json.loads(real.dvc("metrics", "diff", "--json"))["metrics/train_seg.json"]
    assert diff["steps"] == {"old": 3, "new": 2, "diff": -1}
    real.put()
    assert real.repro() == []
    report = real.run(sys.executable, "-m", "stages.report", "main", "fewer")
    assert "report: out/comparison.html" in report
    page = (real.root / "out/comparison.html").read_text()
    assert '"rev":"main"' in page
    assert '"rev":"fewer"' in page
    assert "<code>seg.steps</code></td>" in page
    assert real.repro() == []  # the report itself is left alone


def test_corrected_masks_train_the_segmentation_again_and_no_cam(real):
    real.put()
    before = {path: path.read_bytes() for path in (real.root / "metrics").glob("evaluate_*.json")}
    shutil.copytree(real.root / "data/SegmentationClass", real.root / "by_hand", ignore=shutil.ignore_patterns("v*"))
    for id in ("t1", "t2"):  # not what the person was asked to look at
        (real.root / f"by_hand/{id}.png").unlink()
    real.put(**{"dataset.corrected": "by_hand"})
    ran = real.repro()
    assert ran[:2] == ["prepare", "train_seg"]
    assert set(ran[2:]) <= {"predict", "evaluate@seg", "report"}
    metrics = json.loads((real.root / "metrics/train_seg.json").read_text())
    assert metrics["images_corrected"] == tiny.TRAIN - 2
    # they stand in no product that is measured, and measure none
    assert {path.name for path, content in before.items() if path.read_bytes() != content} <= {"evaluate_seg.json"}
    shutil.rmtree(real.root / "by_hand")
    real.put()
    assert real.repro() == []


def test_mask_proposals_make_the_labels_again_and_nothing_before_them(real):
    def propose(images):
        with zipfile.ZipFile(real.root / "proposals/a.zip", "w") as archive:
            for number in range(images):
                archive.write(real.root / f"data/SegmentationClass/t{number}.png", f"t{number}.png")

    propose(tiny.TRAIN - 1)
    real.put(**{"refine.proposals": "proposals/a.zip"})
    real.repro()
    assert "pseudo_labels" not in real.dvc("status")
    propose(tiny.TRAIN)  # under its old name
    (changes,) = json.loads(real.dvc("status", "--json"))["pseudo_labels"]
    assert changes["changed deps"] == {"proposals": "modified"}
    ran = real.repro()
    assert ran[0] == "pseudo_labels"
    assert set(ran[1:]) <= {"evaluate@pseudo_labels", "train_seg", "predict", "evaluate@seg", "report"}
    metrics = json.loads((real.root / "metrics/pseudo_labels.json").read_text())
    assert metrics["images_with_proposals"] == tiny.TRAIN
    (real.root / "proposals/a.zip").unlink()
    real.put()
    assert real.repro() == []


def test_queued_experiments_run_side_by_side(real):
    real.put()
    real.git("checkout", "--quiet", ".")
    real.dvc("checkout")
    real.dvc("exp", "run", "--queue", "-S", "fusion.sfc.eval.weights.prototype=0.25,0.5")
    real.dvc("queue", "start", "-j", "2")
    deadline = time.monotonic() + 600
    while re.search("Queued|Running", status := real.dvc("queue", "status")) and time.monotonic() < deadline:
        time.sleep(1)
    names = re.findall(r"^(\w{7,})\s.*Success", status, flags=re.MULTILINE)
    assert len(names) == 2, status
    for name in names:
        ran = stages_run(real.dvc("queue", "logs", name))
        # the second only where the rates changed
        assert ran in (["evaluate@cam", "report"], ["evaluate@cam", "analyse", "report"])


def test_another_clone_pulls_everything_and_runs_nothing(real, clone):
    assert clone.repro() == []
    assert clone.lock() == real.lock()
    assert clone.git("status", "--short") == ""
    for folder in ("out", "data"):
        made = sorted(path.relative_to(clone.root) for path in (clone.root / folder).rglob("*"))
        there = {path.relative_to(real.root) for path in (real.root / folder).rglob("*")}
        assert made == sorted(there - {Path("out/comparison.html")})  # of no stage


def test_killed_training_goes_on_and_ends_with_the_same_bytes(real, clone):
    clone.env["SFC_CHECKPOINT_SECONDS"] = "0"
    killed = subprocess.Popen(
        [sys.executable, "-m", "dvc", *TRAIN_AGAIN],
        cwd=clone.root, env=clone.env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    scratch = clone.root / ".scratch" / "train_cam"
    while killed.poll() is None and not list(scratch.glob("*/*.pt.sha256")):
        time.sleep(0.005)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (clone.root / "out" / "cam.safetensors").exists()
    output = clone.dvc(*TRAIN_AGAIN)
    assert stages_run(output) == ["train_cam"]
    steps_left = max(int(total) for total in re.findall(r"/(\d+) \[", output))
    assert 0 < steps_left < tiny.STEPS
    assert clone.lock()["train_cam"]["outs"] == real.lock()["train_cam"]["outs"]
    assert not list(scratch.glob("*/*.pt.sha256"))
    assert clone.git("status", "--short") == ""
