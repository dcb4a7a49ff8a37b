"""Presets: written, compared, never over edits; each builds its models and trains them a step."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from stages._methods import METHODS

from sfc.evaluation.class_sets import resolve_sets
from sfc.irn.network import IrnNetwork
from sfc.params import load_params
from sfc.segmentation.objective import SegmentationObjective
from stages import preset, train_seg

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
COUNTS = {"voc": 20, "coco14": 80, "table": 5}  # foreground classes of each kind of data set


def git(*args):
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *args], check=True)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with the presets and a committed params.yaml of the demo."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "presets", "presets")
    shutil.copy("presets/demo.yaml", "params.yaml")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "state")
    return tmp_path / "params.yaml"


def run(*args, code=0):
    result = CliRunner().invoke(preset.main, args)
    assert result.exit_code == code, result.output
    return result


def test_without_a_name_lists_all(project):
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "coco14",
        "demo",
        "table",
        "voc12",
        "voc12_largefov",
        "voc12_paper",
        "voc_sample",
    ]
    assert "as released" in lines[3]


def test_writes_the_preset_and_prints_each_change(project):
    result = run("voc12_paper")
    assert project.read_bytes() == (ROOT / "presets/voc12_paper.yaml").read_bytes()
    lines = result.stdout.splitlines()
    assert "dc.norm: mean -> eq6" in lines
    assert "sfc.long_side: [112, 176] -> [320, 640]" in lines
    assert "evaluate.class_sets.few: [wagon, bicycle] -> [motorbike, boat, horse, bus, sheep, cow]" in lines
    assert "dataset.labels: null -> null" not in lines
    assert not any(line.startswith("ibr.n:") for line in lines)
    assert f"{len(lines)} of" in result.stderr
    assert run("voc12_paper").stdout == ""  # a preset is no edit, though not committed


def test_sets_of_other_names_are_shown_as_gone(project):
    assert "evaluate.class_sets.many: [car, house, tree] -> -" in run("table").stdout.splitlines()


def test_uncommitted_edits_stay_without_force(project):
    edited = project.read_text().replace("lr: 0.02", "lr: 0.03")
    project.write_text(edited)
    assert "params.yaml has edits that git does not have" in run("voc12", code=1).output
    assert project.read_text() == edited
    git("commit", "--quiet", "--all", "--message", "mine")
    assert "sfc.lr: 0.03 -> 0.1" in run("voc12").stdout
    project.write_text(edited + "# not committed\n")
    assert "sfc.lr: 0.03 -> 0.1" in run("voc12", "--force").stdout


def test_a_file_that_is_not_utf_8_is_replaced_only_by_force(project, monkeypatch):
    project.write_bytes("# größer\n".encode("latin-1"))
    assert "params.yaml has edits that git does not have" in run("demo", code=1).output
    monkeypatch.setenv("PATH", "")  # no git: nobody knows whether the edits are kept
    assert "params.yaml has edits that git does not have" in run("demo", code=1).output
    run("demo", "--force")
    assert project.read_bytes() == (ROOT / "presets/demo.yaml").read_bytes()


def test_unknown_name(project):
    assert "there is no preset voc; there are coco14, demo," in run("voc", code=1).output


def batch(classes):
    numbers = torch.Generator().manual_seed(0)
    labels = (torch.rand(2, classes, generator=numbers) < 0.5).float()
    mask = torch.randint(0, classes + 1, (2, 64, 64), generator=numbers, dtype=torch.uint8)
    return {
        "image": torch.randint(0, 256, (2, 3, 64, 64), generator=numbers, dtype=torch.uint8),
        "box": torch.tensor([[0, 0, 64, 64], [0, 8, 64, 48]]),
        "label": labels,
        "mask": mask,
    }


def learns(objective, batch):
    """One step forward and back: finite, and every learning parameter that the loss reaches gets a gradient."""
    loss = objective.train()(batch)["loss"]
    assert loss.isfinite()
    loss.backward()
    gradients = [p.grad for p in objective.parameters() if p.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_builds_and_trains_its_models(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = load_params(path)
    classes = COUNTS[params.get("dataset.kind")]
    names = tuple(f"c{i}" for i in range(classes))
    Path("out").mkdir()
    Path("out/label_stats.csv").write_text("class,dc\n" + "".join(f"{name},1.0\n" for name in names))
    sfc = params.get("sfc").model_copy(update={"crop": 64})
    sections = [params.get(name) for name in ("ibr", "msdw", "sipe")]
    for method in METHODS.values():
        learns(method.objective(classes, sfc, *sections), batch(classes))
    network = train_seg._network(params.get("seg"), classes + 1)
    scales = params.get("seg.train_scales")
    objective = SegmentationObjective(network, train_scales=scales, loss="ce", seed=0, batch_size=2)
    learns(objective, batch(classes))
    irn = params.get("irn").backbone
    edges = IrnNetwork(**irn.model_dump(exclude={"weights"}))
    assert edges.train()(torch.rand(1, 3, 64, 64)).shape == (1, 16, 16)


def test_class_sets_of_coco_hold_every_class_once():
    sets = load_params(ROOT / "presets/coco14.yaml").get("evaluate.class_sets")
    members = [name for names in sets.values() for name in names]
    assert len(members) == len(set(members)) == COUNTS["coco14"]
    assert resolve_sets(sets, members).keys() == {"many", "medium", "few"}


def test_the_papers_preset_reads_its_equations():
    paper = load_params(ROOT / "presets/voc12_paper.yaml")
    assert (paper.get("dc.norm"), paper.get("dc.c_ibr"), paper.get("dc.n_iter")) == ("eq6", "auto", "auto")
    assert (paper.get("msdw.w_proto"), paper.get("msdw.w_scale"), paper.get("msdw.reduction")) == (1.0, 1.0, "sum")
    assert (paper.get("sfc.seed").mode, paper.get("sfc.proto_norm"), paper.get("sfc.bkg_before_pcm")) == (
        "threshold", "none", False,
    )  # fmt: skip
    assert {paper.get(f"fusion.{use}").prototype_weight for use in ("crf", "walk", "eval")} == {1.0}
