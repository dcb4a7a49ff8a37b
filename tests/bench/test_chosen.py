"""The rule that is chosen is the best of all by slow counting; the maps are those that infer_cam gives."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bench import chosen, chosen_tables
from bench.all_readings import Map, Reader
from bench.background_rules import NOTHING, RELEASED, TRIED, Rule, RuleSweep
from sfc.data.images import read_mask
from sfc.data.manifest import label_keys, read_manifest
from sfc.evaluation.confusion import Confusion, scores
from sfc.fusion import fuse, normalise_scales, to_labels
from sfc.localization.store import CamStore
from sfc.methods import load_cam_network
from sfc.params import load_params, read_text, read_yaml
from tests.stages import on_device

KEYS = (0, 2, 3)


def slow_labels(maps, rule):
    """Label by label-map value of every pixel, one by one, and whether it is too close to call in float32."""
    height, width = maps.shape[1:]
    labels, close = np.zeros((height, width), np.uint8), np.zeros((height, width), bool)
    peaks = maps.amax(dim=(1, 2)).tolist()
    for y in range(height):
        for x in range(width):
            values = maps[:, y, x].tolist()
            if rule.gain is None:
                values = [rule.value, *(v / (peak + 1e-5) for v, peak in zip(values[1:], peaks[1:], strict=True))]
            else:
                values = [values[0] + rule.value, *(rule.gain * v for v in values[1:])]
            first, second = sorted(values, reverse=True)[:2]
            labels[y, x], close[y, x] = KEYS[values.index(first)], first - second < 1e-6
    return labels, close


def slow_miou(truth, labels):
    ious = []
    for value in sorted(set(truth.ravel().tolist()) - {255}):
        here, there = (labels == value) & (truth != 255), truth == value
        ious.append((here & there).sum() / (here | there).sum())
    return float(np.mean(ious))


@pytest.fixture
def example():
    """Maps of one image whose classes are 2 and 3 of four, and its mask."""
    random = np.random.default_rng(3)
    truth = random.choice([0, 2, 3, 255], size=(9, 11), p=[0.5, 0.2, 0.2, 0.1]).astype(np.uint8)
    maps = torch.from_numpy(random.random((3, 9, 11), dtype=np.float32))
    maps += torch.from_numpy(np.stack([truth == key for key in KEYS]).astype(np.float32)) / 2
    return truth, maps / maps.amax()


@pytest.mark.parametrize("rule", [NOTHING, RELEASED, Rule(1.0, -0.2), Rule(2.0, 1.1), Rule(None, 0.45)])
def test_a_rule_labels_as_said(example, rule):
    _, maps = example
    labels, close = slow_labels(maps, rule)
    found = np.asarray(KEYS, np.uint8)[rule.cams(maps).argmax(0)]
    assert not close.all()
    assert np.array_equal(found[~close], labels[~close])


def test_the_released_rule_of_a_sum_is_that_of_its_kinds(example):
    _, maps = example
    kinds, weights = torch.stack([maps, maps.flip(2)]), {"classifier": 1.0, "prototype": 0.7}
    summed = (kinds[0] + 0.7 * kinds[1]) / 1.7
    expected = fuse(kinds, tuple(weights), weights=weights, fg_gain=2.0, bg_offset=0.4) / 1.7
    torch.testing.assert_close(RELEASED.cams(summed), expected)


@pytest.mark.parametrize("gain", list(TRIED))
def test_the_best_rule_is_the_best_of_all_tried(example, gain):
    truth, maps = example
    sweep = RuleSweep(5)
    sweep.add("a", truth, maps, KEYS[1:])
    slow = {}
    for value in TRIED[gain]:
        labels, close = slow_labels(maps, Rule(gain, value))
        assert not close.any()
        slow[value] = slow_miou(truth, labels)
    rule, miou = sweep.best(gain)
    assert (rule.gain, rule.value) == (gain, max(slow, key=slow.get))
    assert miou == pytest.approx(max(slow.values()))
    assert len(set(slow.values())) > 5


def test_rules_are_named():
    names = [NOTHING, RELEASED, Rule(1.0, -0.1), Rule(2.0, 0.0), Rule(None, 0.82)]
    assert [str(rule) for rule in names] == [
        "nothing added",
        "foreground x 2, background + 0.40",
        "background - 0.10",
        "foreground x 2",
        "constant background 0.82",
    ]


METHODS = ("base", "sipe", "sfc")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each method as `bench.photographs` leaves them, trained on tiny data."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for method in METHODS:
            run = folder / f"{method}-4"
            run.mkdir()
            on_device.write_project(
                run, **{"train_cam.method": method, "dataset.root": str(run / "data"), "cam.batch_size": 2}
            )
            monkeypatch.chdir(run)
            for stage in ("prepare", "label_stats", "train_cam"):
                on_device.run(stage, device="reference", monkeypatch=monkeypatch)
            (run / "networks").mkdir()
            shutil.move(run / "out/cam.safetensors", run / "networks/000012.safetensors")
    return folder


READINGS = [("base", Map("classifier", 1, 1)), ("sipe", Map("prototype", 0, 0)), ("sfc", Map("sum", 2, 0))]


@pytest.mark.parametrize(("method", "each"), READINGS)
def test_maps_are_those_of_infer_cam(runs, tmp_path, monkeypatch, method, each):
    run = on_device.copied(runs / f"{method}-4", tmp_path / "run", monkeypatch)
    shutil.copy("networks/000012.safetensors", "out/cam.safetensors")
    read_as(each, method)
    on_device.run("infer_cam", device="reference", monkeypatch=monkeypatch)
    store, params = CamStore("out/cams"), load_params("params.yaml")
    weights = params.get(f"fusion.{method}.eval").weights
    reader = Reader(load_cam_network("out/cam.safetensors", "cpu"), params.get("cam"), weights)
    assert each in reader.maps
    seen = {}
    records = read_manifest(run / "out/manifest.csv", run / "out/classes.json").records
    reader.each(records, "", lambda record, maps: seen.update({record.id: maps[each]}))
    for record in records:
        kinds = normalise_scales(store.fused_of(record), (record.height, record.width))
        expected = fuse(kinds, store.fused, weights=weights, fg_gain=1.0, bg_offset=0.0) / sum(weights.values())
        torch.testing.assert_close(seen[record.id], expected)


def read_as(each, method, rule=NOTHING):
    """Set the params of the project in this folder to a reading and a rule."""
    values = read_yaml(read_text("params.yaml"), source="params.yaml")
    values["cam"] |= {"scales": [1.0], "flip": False, "mask_absent": True}
    if method != "sipe":
        values["cam"] |= {"pcm_iters": each.products}
    if method == "sfc":
        values["cam"] |= {"seed_pcm_iters": each.seeds}
    values["fusion"][method]["eval"] |= {"fg_gain": rule.gain, "bg_offset": rule.value}
    Path("params.yaml").write_text(json.dumps(values))


def cells(text):
    """The tables of markdown, a list of dicts each."""
    found = []
    for block in text.split("\n\n"):
        rows = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("|")]
        if rows:
            found.append([dict(zip(rows[0], row, strict=True)) for row in rows[2:]])
    return found


@pytest.fixture
def copies(runs, tmp_path, monkeypatch):
    """The runs, and another working directory, which their relative paths are not of."""
    monkeypatch.setenv("SFC_WORKERS", "2")
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return [Path(shutil.copytree(runs / f"{method}-4", tmp_path / f"{method}-4")) for method in METHODS]


def run_chosen(*folders, status=0):
    done = CliRunner().invoke(chosen.main, [str(folder) for folder in folders])
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 else done.stderr.splitlines()[-1]


def test_chosen_readings_are_measured_as_evaluate_does(copies, monkeypatch):
    monkeypatch.setattr(chosen, "TRIED", {gain: values for gain, values in TRIED.items() if gain})
    printed = run_chosen(*copies)
    readings, differences, fixed = cells(printed)
    names = {(row["run"], row["map"]) for row in readings}
    assert names == {
        ("base-4", "classifier"),
        ("sipe-4", "classifier"),
        ("sipe-4", "prototype"),
        ("sfc-4", "classifier"),
        ("sfc-4", "prototype"),
        ("sfc-4", "sum, seeds after PCM"),
        ("sfc-4", "sum, seeds before PCM"),
    }
    assert len(fixed) == 3 + 2 + 11
    assert [row[""].split(" - ")[0].split(" ")[0] for row in differences] == ["sfc-4"] * 4 + ["sipe-4"]
    for folder in copies:
        facts = json.loads((folder / "chosen/000012/facts.json").read_text())
        assert {part: len(ids) for part, ids in facts["alike"]["ids"].items()} == {"choice": 2, "val": 4, "train": 10}
        check_by_evaluate(folder, facts["method"], facts["rows"], readings, monkeypatch)


def test_only_what_is_new_or_has_changed_is_counted(copies, monkeypatch):
    base = copies[0]
    first, seen = run_chosen(base), []
    monkeypatch.setattr(Reader, "each", lambda self, records, label, count: seen.append(label.split(": ")[1]))
    assert run_chosen(base) == first
    assert seen == []
    (base / "chosen/000012/train.npy").unlink()
    run_chosen(base, status=1)  # nothing was counted by the stand-in
    assert seen == ["train"]
    seen.clear()
    (base / "out/tuning.json").write_text('["t1"]')
    run_chosen(base, status=1)
    assert seen[0] == "choice"


def test_runs_that_were_trained_differently_are_not_compared(copies):
    _, differences, _ = cells(run_chosen(*copies[:2]))
    assert len(differences) == 1
    path = copies[1] / "chosen/000012/facts.json"
    facts = json.loads(path.read_text())
    assert facts["alike"]["train_cam"]["crop"] == 64
    facts["alike"]["train_cam"]["crop"] = 65
    path.write_text(json.dumps(facts))
    _, differences, _ = cells(run_chosen(*copies[:2]))
    assert differences == []


def spoil_nothing_there(run):
    shutil.rmtree(run / "networks")


def spoil_name(run):
    (run / "networks/000012.safetensors").rename(run / "networks/cam.safetensors")


def spoil_counts(run):
    run_chosen(run)
    (run / "chosen/000012/val.npy").write_bytes(b"no")


def spoil_masks(run):
    (run / "out/tuning.json").write_text(json.dumps([f"v{i}" for i in range(4)]))


def spoil_classes(run):
    (run / "out/classes.json").write_text('["square", "line"]')


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_nothing_there, "no STEP.safetensors there"),
        (spoil_name, "cam.safetensors: name it by the step it is of"),
        (spoil_counts, "val.npy: damaged"),
        (spoil_masks, "0 validation images with masks"),
        (spoil_classes, "classes"),
    ],
)
def test_what_cannot_be_read_is_one_line(copies, spoil, said):
    spoil(copies[0])
    line = run_chosen(copies[0], status=1)
    assert line.startswith("Error: ")
    assert said in line
    assert "unexpected" not in line


def check_by_evaluate(folder, method, rows, readings, monkeypatch):
    """The last of a run's chosen rows, by the stages."""
    monkeypatch.chdir(folder)
    row = [row for row in rows if row["name"] not in chosen_tables.FIXED][-1]
    shutil.copy("networks/000012.safetensors", "out/cam.safetensors")
    read_as(Map(**row["map"]), method, Rule(**row["rule"]))
    on_device.run("infer_cam", device="reference", monkeypatch=monkeypatch)
    on_device.run("evaluate", "cam", device="reference", monkeypatch=monkeypatch)
    figures = json.loads(Path("metrics/evaluate_cam.json").read_text())["val"][row["map"]["name"]]
    records = read_manifest("out/manifest.csv", "out/classes.json").members("train")[::6]
    weights = load_params("params.yaml").get(f"fusion.{method}.eval").weights
    reader = Reader(load_cam_network("out/cam.safetensors", "cpu"), load_params("params.yaml").get("cam"), weights)
    confusion = Confusion(3)

    def count(record, maps):
        labels = Rule(**row["rule"]).cams(maps[Map(**row["map"])]).argmax(0)
        confusion.add(record.id, read_mask(record.mask), to_labels(labels, label_keys(record.labels)))

    reader.each(records, "", count)
    assert row["miou"] == pytest.approx(100 * scores(confusion.matrix).miou)
    (shown,) = [cell for cell in readings if (cell["run"], cell["map"]) == (folder.name, row["name"])]
    assert shown["val"] == f"{figures['miou']:.1f} [{figures['miou_low']:.1f}, {figures['miou_high']:.1f}]"
    assert shown["the choice"] == f"{row['miou']:.1f}"
    assert shown["few"] == f"{figures['miou_few']:.1f}"


def test_a_lead_that_every_image_has_is_no_chance():
    better = np.tile(np.int32([[[8, 4], [10, 5], [9, 6]]]), (6, 1, 1, 1))[:, 0]
    worse = np.tile(np.int32([[[5, 1], [10, 5], [8, 7]]]), (6, 1, 1, 1))[:, 0]
    network = chosen_tables.Network("a", "sfc", {}, [], {}, [1], chosen_tables.Bootstrap(50, 0.9, 0))
    # (8/11 + 4/7) / 2 - (5/13 + 1/11) / 2
    assert chosen_tables._gap(network, better, worse, slice(None)) == "+41.2 [41.2, 41.2]"
    assert chosen_tables._gap(network, better, worse, [1]) == "+48.1 [48.1, 48.1]"
    assert chosen_tables._gap(network, better, worse, []) == "-"
    absent = better * [[[1], [0], [1]]]
    assert chosen_tables._gap(network, absent, absent, [1]) == chosen_tables._few(network, absent.sum(0)) == "-"
    worse[0] = better[0]
    low, high = chosen_tables._gap(network, better, worse, slice(None)).split("[")[1].strip("]").split(", ")
    assert float(low) < 41.2 - 3 < float(high) < 41.3
