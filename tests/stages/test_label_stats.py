import csv
import io
import json
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sfc.data.manifest import Manifest, Record, write_manifest
from stages.label_stats import main

ROOT = Path(__file__).resolve().parents[2]
COCO_TABLE = ROOT.parent / "shared/real/labels/coco14_train_image_labels.csv"
LABELS = [(0,)] * 6 + [(0, 1)] * 3 + [(2,)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()

    def image(i, split, labels):
        return Record(f"{split}{i}", split, Path("a.jpg"), None, 8, 8, labels, "hash", "table")

    records = [image(i, "train", labels) for i, labels in enumerate(LABELS)] + [image(0, "val", (2,))]
    write_manifest(Manifest(tuple(records), ("ant", "bee", "cat")), "out/manifest.csv", "out/classes.json")
    write_params(tmp_path)
    return tmp_path


def write_params(folder, **dc):
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["dc"] |= {"norm": "mean", "c_ibr": "auto", "n_iter": "auto", **dc}
    params["train_cam"]["batch_size"] = 2
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def run(*args):
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return result


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_stage(project):
    run()
    table = rows((project / "out/label_stats.csv").read_text())
    assert [(r["class"], r["n"], r["demand"]) for r in table] == [
        ("ant", "9", "14"),
        ("bee", "3", "8"),
        ("cat", "1", "10"),
    ]
    n_extra = 4 * 1.3 * 5 / 3  # ibr.n * classes an image * steps an epoch / classes
    assert all(float(r["n_extra"]) == pytest.approx(n_extra) for r in table)
    assert sum(float(r["dc"]) for r in table) == pytest.approx(3)
    metrics = json.loads((project / "metrics/label_stats.json").read_text())
    assert (metrics["split"], metrics["images"], metrics["n_iter"], metrics["c_ibr"]) == ("train", 10, 5, 1.3)
    assert metrics["images_per_class"] == {"largest": 9, "smallest": 1}


def test_a_section_that_the_pipeline_does_not_declare_is_named(project):
    text = (ROOT / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text)
    run()
    pipeline = yaml.safe_load(text)
    declared = pipeline["stages"]["label_stats"]["params"]
    pipeline["stages"]["label_stats"]["params"] = [name for name in declared if name not in ("sfc", "msdw")]
    (project / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert result.output.startswith("Error: dvc.yaml: the params of label_stats lack sfc, msdw, which method sfc reads")
    (project / "dvc.yaml").write_text("stages: {}")  # somebody's own pipeline
    run()


@pytest.mark.parametrize("c_ibr", ["simulate", 3.0])
def test_other_ways_to_c_ibr(project, c_ibr):
    write_params(project, c_ibr=c_ibr)
    run()
    found = json.loads((project / "metrics/label_stats.json").read_text())["c_ibr"]
    assert found == 3.0 if c_ibr == 3.0 else 1 < found < 2


def test_table_alone_prints_what_the_stage_writes(project):
    names = ("ant", "bee", "cat")
    lines = [f"i{i},train,{' '.join(names[c] for c in labels)}" for i, labels in enumerate(LABELS)]
    text = "\n".join(["image_id,split,classes", *lines, "x,train,", "y,val,bee cat"]) + "\n"
    (project / "table.csv").write_text(text)
    printed = run("--labels", "table.csv").stdout
    assert not (project / "out/label_stats.csv").exists()
    run()
    assert printed == (project / "out/label_stats.csv").read_text()
    write_params(project, n_iter=1)
    assert [r["n"] for r in rows(run("--labels", "table.csv", "--split", "val").stdout)] == ["0", "1", "1"]


@pytest.mark.parametrize(("share", "n_iter"), [(None, 7), (0.5, 10), (0.0, 5)])
def test_negatives_count_as_images_of_an_epoch_alone(project, share, n_iter):
    """10 images that show a class and 4 that do not, batches of 2: an epoch is as long as train_cam makes it."""
    names = ("ant", "bee", "cat")
    empty = [Record(f"n{i}", "train", Path("a.jpg"), None, 8, 8, (), "hash", "table") for i in range(4)]
    shown = [Record(f"i{i}", "train", Path("a.jpg"), None, 8, 8, of, "hash", "table") for i, of in enumerate(LABELS)]
    write_manifest(Manifest((*empty, *shown), names), "out/manifest.csv", "out/classes.json")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["dataset"]["negatives"], params["train_cam"]["negative_share"] = True, share
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    run()
    found = json.loads((project / "metrics/label_stats.json").read_text())
    assert (found["images"], found["c_ibr"], found["n_iter"]) == (14, 1.3, n_iter)
    assert found["images_per_class"] == {"largest": 9, "smallest": 1}
    lines = [f"{r.id},train,{' '.join(names[c] for c in r.labels)}" for r in (*empty, *shown)]
    (project / "table.csv").write_text("\n".join(["image_id,split,classes", *lines]) + "\n")
    assert run("--labels", "table.csv").stdout == (project / "out/label_stats.csv").read_text()


def test_unknown_split(project):
    (project / "table.csv").write_text("image_id,split,classes\na,train,ant\n")
    result = CliRunner().invoke(main, ["--labels", "table.csv", "--split", "vla"])
    assert result.exit_code == 1
    assert "no image of split vla; it has train" in result.output


def test_all_of_coco_in_five_seconds(project):
    if not COCO_TABLE.exists():
        pytest.skip(f"no label table {COCO_TABLE}")
    write_params(project)
    started = time.process_time()
    result = run("--labels", str(COCO_TABLE))
    assert time.process_time() - started < 5
    assert "82,081 images of 80 classes" in result.output
    rows = {row["class"]: row for row in csv.DictReader(io.StringIO(result.stdout))}
    counts = Counter(name for line in COCO_TABLE.read_text().splitlines()[1:] for name in line.split(",")[2].split())
    assert {name: int(row["n"]) for name, row in rows.items()} == counts
    assert (counts["person"], counts["hair_drier"], counts.total()) == (45_061, 128, 235_348)
    n_extra = 4 * (235_348 / 82_081) * (82_081 // 2) / 80  # Eq. 6 by loops; the project's batches are of 2
    demand = {name: sum(abs(n - other) for other in counts.values()) for name, n in counts.items()}
    mean_demand = sum(demand.values()) / 80
    eq6 = {name: demand[name] / mean_demand / (n + n_extra) for name, n in counts.items()}
    mean = sum(eq6.values()) / 80
    for name, row in rows.items():
        assert float(row["dc"]) == pytest.approx(eq6[name] / mean, rel=1e-8)
