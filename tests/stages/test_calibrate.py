import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from sfc.data.images import read_mask
from sfc.data.manifest import Manifest, Record, read_manifest, write_manifest
from sfc.dense_crf import refine_cams
from sfc.evaluation.bootstrap import Bootstrap
from sfc.evaluation.confusion import Confusion, scores
from sfc.fusion import fuse, normalise_scales
from sfc.localization.store import CamStore, CamWriter
from sfc.params import load_params
from stages._tuning import _mark
from stages.calibrate import _choices, _rows, main
from tests.forked import wait_for
from tests.offsets.conftest import CRF

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("classifier", "prototype")
LABELS = [(0,), (0,), (0, 1), (1,), (0,), (), (0, 1), (0,)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which calibrate can run, on images whose object fills the middle and whose CAMs fade from there."""
    pytest.importorskip("pydensecrf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFC_WORKERS", "1")
    Path("out/cams").mkdir(parents=True)
    rng, records = np.random.default_rng(0), []
    ids = [f"im{i}" for i in range(len(LABELS))]
    writer = CamWriter("out/cams", kinds=KINDS, fused=KINDS, scales=(1.0,), ids=ids)
    distance = np.hypot(*np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 24)))
    for id, labels in zip(ids, LABELS, strict=True):
        inside = distance < rng.uniform(0.4, 0.6)
        pixels = np.where(inside[..., None], (200, 60, 40), (60, 90, 160)) + rng.integers(-9, 9, (24, 32, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(f"{id}.png")
        Image.fromarray((inside * (labels[0] + 1 if labels else 0)).astype(np.uint8)).save(f"{id}_mask.png")
        classes = [np.clip(1 - distance, 0, 1) * (1 if i == 0 else 0.1) for i in range(len(labels))]
        maps = np.stack([np.clip(distance, 0, 1), *classes]).astype(np.float32)
        writer.write(id, [np.stack([maps, maps**2])])
        records.append(Record(id, "train", Path(f"{id}.png"), Path(f"{id}_mask.png"), 24, 32, labels, "", "table"))
    writer.finish()
    put_manifest(records)
    text = (ROOT / "presets/voc12.yaml").read_text().replace("tuning: []", "tuning: []  ")
    params = yaml.safe_load(text)
    for name, value in CRF.items():
        old = f"  {name}: {params['crf'][name]}"
        start = text.index("\ncrf:")
        text = text[:start] + text[start:].replace(old, f"  {name}: {value}", 1)
    Path("params.yaml").write_text(text.replace("resamples: 1000", "resamples: 50"))
    return records


def put_manifest(records):
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")


def run(*args, code=0):
    result = CliRunner().invoke(main, args)
    assert result.exit_code == code, result.output
    return result


def table():
    with open("out/calibrate/offsets.csv") as file:
        return {float(row["offset"]): row for row in csv.DictReader(file)}


def tuning():
    return list(load_params().get("dataset.tuning"))


def plain_miou(records, use, offset, refine):
    confusion, store, params = Confusion(3), CamStore("out/cams"), load_params()
    rule = params.get(f"fusion.sfc.{use}").model_dump() | {"bg_offset": offset}
    for record in records:
        cams = fuse(normalise_scales(store.fused_of(record), (24, 32)), KINDS, **rule).numpy()
        keys = np.array([0, *(label + 1 for label in record.labels)], np.uint8)
        labels = keys[cams.argmax(0)]
        if refine:
            labels, _ = refine_cams(np.array(Image.open(record.image)), cams, keys, **params.get("crf").model_dump())
        confusion.add(record.id, read_mask(record.mask), labels)
    return 100 * scores(confusion.matrix).miou


def test_with_masks_every_figure_is_that_of_the_stages_and_the_best_is_taken(project):
    before = Path("params.yaml").read_text()
    result = run("--masks", "4", "--offsets", "0.2,0.6,1.0,1.4")
    chosen = [record for record in project if record.id in tuning()]
    assert len(chosen) == 4
    assert {label for record in chosen for label in record.labels} == {0, 1}
    found = table()
    assert list(found) == [0.0, 0.2, 0.4, 0.6, 1.0, 1.4]  # 0 and the present offset are tried too
    for offset, row in found.items():
        assert float(row["miou_cam"]) == pytest.approx(plain_miou(chosen, "eval", offset, False), abs=0.051)
        assert float(row["miou_crf"]) == pytest.approx(plain_miou(chosen, "crf", offset, True), abs=0.051)
    best = {name: max(found, key=lambda offset: float(found[offset][name])) for name in ("miou_cam", "miou_crf")}
    assert len({row["miou_cam"] for row in found.values()}) > 3
    for name, offset in best.items():
        assert f"{name} is best at {offset:g}; in " in result.stdout
    assert "% of 50 resamples of these images too" in result.stdout
    assert "points against 0.4, the present value" in result.stdout
    use = {"eval": ("miou_cam", ["eval"]), "crf": ("miou_crf", ["crf", "walk"])}
    said = result.stdout.split("miou_crf is best")
    wanted = [
        f"-S fusion.sfc.{param}.bg_offset={best[name]:g}"
        for text, (name, params) in zip(said, use.values(), strict=True)
        for param in params
        if "keep it" not in text and "present value" in text and "which is" not in text
    ]
    taken = f"to take it: dvc exp run {' '.join(wanted)}" if wanted else "nothing to take: "
    assert result.stdout.splitlines()[-2].startswith(taken)
    assert result.stdout.splitlines()[-1].startswith("the walk's labels were not tried, as they need IRN's network")
    after = Path("params.yaml").read_text()
    assert [line for line in after.splitlines() if "tuning:" not in line] == [
        line for line in before.splitlines() if "tuning:" not in line
    ]
    assert json.loads(Path("out/tuning.json").read_text()) == tuning()
    assert sorted(path.name for path in Path("out/calibrate").iterdir()) == ["offsets.csv", "sheet_1.png"]


def test_masks_once_used_up_stay_so_and_come_first(project):
    run("--masks", "2", "--offsets", "0.4")
    first = tuning()
    text = Path("params.yaml").read_text()
    run("--masks", "2", "--offsets", "0.4")
    assert Path("params.yaml").read_text() == text
    run("--masks", "4", "--offsets", "0.4")
    assert tuning()[:2] == first
    assert len(tuning()) == 4
    run("--masks", "2", "--offsets", "0.4")
    assert len(tuning()) == 4
    measured = read_manifest("out/manifest.csv", "out/classes.json", tuning="out/tuning.json")
    assert {record.id for record in measured.records if not record.mask} == set(tuning())


def test_a_few_masks_and_later_more_are_those_of_more_at_once(project):
    """Once used up they stay so, and the next ones are of the classes that they show least."""
    text = Path("params.yaml").read_text()
    run("--masks", "4", "--offsets", "0.4")
    at_once, files = set(tuning()), {path.name: path.read_bytes() for path in Path("out/calibrate").iterdir()}
    Path("params.yaml").write_text(text)
    Path("out/tuning.json").unlink()
    for number in (2, 3, 4):
        run("--masks", str(number), "--offsets", "0.4")
        assert len(tuning()) == number
    assert set(tuning()) == at_once
    assert {path.name: path.read_bytes() for path in Path("out/calibrate").iterdir()} == files


def test_new_masks_are_of_the_classes_that_those_used_up_show_least(project):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("tuning: []", "tuning: [im2, im3]"))  # both show a dog, one a cat
    run("--masks", "3", "--offsets", "0.4")
    assert tuning() == ["im2", "im3", "im0"]


def test_masks_stay_used_up_where_one_of_the_two_lists_was_put_back(project):
    before = Path("params.yaml").read_text()
    run("--masks", "4", "--offsets", "0.4")
    first = tuning()
    Path("params.yaml").write_text(before)
    run("--masks", "2", "--offsets", "0.4")
    assert sorted(tuning()) == sorted(first)
    Path("out/tuning.json").write_text("[]")
    run("--masks", "2", "--offsets", "0.4")
    assert sorted(tuning()) == sorted(first)
    assert sorted(json.loads(Path("out/tuning.json").read_text())) == sorted(first)


def test_without_masks_half_of_the_foreground_decides_and_no_mask_is_opened(project):
    for record in project:
        record.mask.unlink()
    result = run("--images", "6")
    found = {offset: float(row["foreground_cam"]) for offset, row in table().items()}
    assert list(found) == pytest.approx([0.1 * i for i in range(20)])
    shares = list(found.values())
    assert shares == sorted(shares, reverse=True)
    best = min(found, key=lambda offset: abs(found[offset] / found[0] - 0.5))
    assert f"half of the foreground is left at {best:g}; in " in result.stdout
    lines = result.stdout.splitlines()[-3:]
    assert lines[0] == f"to take it for the CAMs' own labels: dvc exp run -S fusion.sfc.eval.bg_offset={best:g}"
    both = f"-S fusion.sfc.crf.bg_offset={best:g} -S fusion.sfc.walk.bg_offset={best:g}"
    assert lines[1] == f"for the CRF, and the walk (not tried) too: {both}"
    assert "of the CRF's labels it lost from 0 to 16 points" in lines[2]
    assert "mIoU" not in result.stdout
    assert tuning() == []
    assert not Path("out/tuning.json").exists()
    assert not any(word in result.stdout for word in ("nan", "NaN"))


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.5, {"classifier": 1.0, "prototype": 0.1}])
def test_without_masks_nothing_is_advised_with_gains_of_which_the_rule_knows_nothing(project, gain):
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["fusion"]["sfc"]["eval"]["fg_gain"] = gain
    Path("params.yaml").write_text(yaml.safe_dump(values))
    last = run("--images", "6").stdout.splitlines()[-1]
    assert last.startswith("nothing to take: the rule was found with fg_gain 1 or 2 for all uses, and fusion.sfc has")
    assert "bg_offset" not in last


def test_processes_give_the_same(project, monkeypatch):
    run("--images", "6", "--offsets", "0.2,0.9")
    first = {path.name: path.read_bytes() for path in Path("out/calibrate").iterdir()}
    monkeypatch.setenv("SFC_WORKERS", "2")
    run("--images", "6", "--offsets", "0.2,0.9")
    assert {path.name: path.read_bytes() for path in Path("out/calibrate").iterdir()} == first


def test_an_offset_at_the_end_of_those_tried_is_noted(project):
    assert "which is the highest that was tried" in run("--offsets", "0.01,0.02,0.4").stdout
    assert "which is the highest that was tried" not in run("--offsets", "0.9,1.0,1.1,5.0").stdout


def test_without_resamples_nothing_is_said_of_chance(project):
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("resamples: 50", "resamples: 0"))
    assert "resamples" not in run("--offsets", "0.2,0.9").stdout
    said = run("--masks", "3", "--offsets", "0.2,0.9").stdout
    assert "resamples" not in said
    best = {name: max(table(), key=lambda offset: float(table()[offset][name])) for name in ("miou_cam", "miou_crf")}
    assert best == {"miou_cam": 0.4, "miou_crf": 0.0}  # the present one, and another that nothing speaks against
    settings = "-S fusion.sfc.crf.bg_offset=0 -S fusion.sfc.walk.bg_offset=0"
    assert said.splitlines()[-2] == f"to take it: dvc exp run {settings}"
    assert said.count("which is the present value") == 1
    assert said.splitlines()[-1].endswith("gets the CRF's; see what evaluate@pseudo_labels says of it")


def test_the_walk_gets_no_offset_of_a_crf_with_another_gain(project):
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["fusion"]["sfc"]["walk"]["fg_gain"] = 1.0
    values["evaluate"]["bootstrap"]["resamples"] = 0
    Path("params.yaml").write_text(yaml.safe_dump(values))
    said = run("--masks", "3", "--offsets", "0.2,0.9").stdout
    assert said.splitlines()[-2] == "to take it: dvc exp run -S fusion.sfc.crf.bg_offset=0"
    assert said.splitlines()[-1].endswith("walk.bg_offset stays, as its fg_gain is another than the CRF's")


def test_the_offsets_reach_as_far_as_each_use_has_foreground(project):
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["fusion"]["sfc"]["eval"]["fg_gain"] = {"classifier": 1.0, "prototype": 0.5}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    run("--images", "6")
    found = [0.1 * i for i in range(20)] + [0.75 / 20 * i for i in range(20)] + [0.4]
    assert list(table()) == pytest.approx(sorted({round(offset, 6) for offset in found}))


def test_what_is_not_sure_is_not_to_be_taken(project):
    """An offset next to the present one is as good, or nearly so."""
    result = run("--masks", "4", "--offsets", "0.39")
    assert result.stdout.count("keep it, or draw more") + result.stdout.count("which is the present value") == 2
    assert "to take it" not in result.stdout
    assert "nothing to take: no offset is surely better than the present ones" in result.stdout
    assert "fusion.sfc.walk.bg_offset stays, too" in result.stdout


@pytest.mark.parametrize("args", [("--masks", "3"), ("--images", "6")])
def test_where_there_is_no_random_walk_it_is_not_named(project, args):
    text = Path("params.yaml").read_text().replace("  refine: irn", "  refine: crf")
    Path("params.yaml").write_text(text.replace("resamples: 50", "resamples: 0"))
    said = run(*args, "--offsets", "0.2,0.9").stdout
    assert "-S fusion.sfc.crf.bg_offset=" in said
    assert "walk" not in said


def test_where_there_is_no_random_walk_nothing_of_it_stays(project):
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("  refine: irn", "  refine: crf"))
    said = run("--masks", "4", "--offsets", "0.39").stdout
    assert said.splitlines()[-1] == "nothing to take: no offset is surely better than the present ones"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--masks", "2", "--images", "50"), "--images 50: --masks 2 says already how many images are tried"),
        (("--offsets", "0.2;0.3"), "--offsets 0.2;0.3: expected numbers such as 0.2,0.3,0.4"),
        (("--offsets", "-1"), "--offsets -1: an offset is 0 or more"),
        (("--offsets", "nan"), "--offsets nan: an offset is 0 or more"),
        (("--masks", "8"), "--masks 8: 7 training images have a class and a mask; draw masks of more images, or lower"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_uses_nothing_up(project, args, message):
    result = run(*args, code=1)
    assert result.stderr.splitlines()[-1].startswith(f"Error: {message}")
    assert tuning() == []
    assert not Path("out/calibrate").exists()


def test_ids_of_any_characters_are_marked_as_they_are(project):
    ids = ["🐱_1", "2007_01", "a\u2028b", 'q"\\', "null"]
    _mark(ids)
    assert tuning() == ids


def test_one_mask_says_nothing_of_chance(project):
    assert "1 is not in the range x>=2" in run("--masks", "1", code=2).stderr
    assert tuning() == []


def test_pixels_of_many_large_images_are_counted_whole():
    one = np.array([[[9_000_000, 9_000_000, 9_000_000], [3_000_000, 3_000_000, 3_000_000]]], np.int32).swapaxes(1, 2)
    counts = {"miou_cam": {f"im{i}": one for i in range(400)}, "miou_crf": {f"im{i}": one for i in range(400)}}
    foreground = {f"im{i}": np.array([[3_000_000, 12_000_000]], np.int32) for i in range(400)}
    choices = _choices(counts, Bootstrap(resamples=2, level=0.95, random_seed=0))
    assert [choice.scores.tolist() for choice in choices.values()] == [[1.0], [1.0]]
    assert _rows([0.0], {"foreground_cam": foreground}, {})[1] == ["0", "25.0"]


def test_masks_that_are_missing_are_named(project):
    put_manifest([Record(**{**vars(r), "mask": r.mask if r.id in ("im0", "im5") else None}) for r in project])
    result = run("--masks", "3", code=1)
    few = "1 training images have a class and a mask; draw masks of im2, im3, or lower --masks"
    assert few in result.stderr  # both show a dog, im0 a cat


def test_a_place_that_takes_no_results_uses_no_mask_up(project):
    before = Path("params.yaml").read_bytes()
    Path("out/calibrate").write_text("mine")
    (line,) = run("--masks", "2", "--offsets", "0.4", code=1).stderr.splitlines()
    assert line.startswith(
        "Error: out/calibrate: cannot be a folder (a file lies there); remove it, or write elsewhere"
    )
    assert Path("params.yaml").read_bytes() == before
    assert not Path("out/tuning.json").exists()
    assert Path("out/calibrate").read_text() == "mine"


def test_cams_that_do_not_fit_use_no_mask_up(project):
    index = json.loads(Path("out/cams/index.json").read_text())
    Path("out/cams/index.json").write_text(json.dumps(index | {"ids": [f"x{i}" for i in range(8)]}))
    result = run("--masks", "2", code=1)
    assert result.stderr.splitlines()[-1].startswith(
        "Error: out/cams: no CAM of image im0; add its split to cam.splits"
    )
    Path("out/cams/index.json").write_text(json.dumps(index | {"fused": ["classifier"]}))
    assert "fusion: weights of classifier, prototype, but the CAMs that stand" in run("--masks", "2", code=1).stderr
    assert tuning() == []


def test_images_without_a_class_are_refused(project):
    put_manifest([Record(**{**vars(record), "labels": ()}) for record in project])
    writer = CamWriter("out/cams", kinds=KINDS, fused=KINDS, scales=(1.0,), ids=[r.id for r in project])
    for record in project:
        writer.write(record.id, [np.ones((2, 1, 2, 2), np.float32)])
    writer.finish()
    assert "no training image has a class, so there is no foreground to find" in run(code=1).stderr


SLOW = """
import time
from pathlib import Path

from stages import calibrate

def held(*arguments):
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return shown(*arguments)

shown, calibrate.write_sheets = calibrate.write_sheets, held
main = calibrate.main
"""


def test_a_second_one_at_once_is_one_line_and_uses_nothing_up(project, tmp_path, forker):
    Path("slow.py").write_text(SLOW)
    first = forker.start(tmp_path, "slow", "--masks", "2", "--offsets", "0.4", SFC_WORKERS="1")
    wait_for(lambda: Path("begun").exists() or first.poll() is not None)
    assert first.poll() is None, first.said()
    used = tuning()
    message = f"Error: calibrate out/calibrate is at work in this folder already: process {first.pid} on "
    assert run("--masks", "4", code=1).stderr.startswith(message)
    assert tuning() == used
    assert len(used) == 2
    Path("go").touch()
    assert first.wait() == 0
    assert "calibrate: 2 images, to out/calibrate/offsets.csv, 1 sheet beside it\n" in first.said()
    assert table()
    assert not Path(".scratch").exists()
