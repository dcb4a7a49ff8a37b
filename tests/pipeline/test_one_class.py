"""One class, and half of the images without it: what is learned, and what every stage does with the empty images."""

import importlib
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sfc.data.images import palette_png, read_mask
from sfc.data.manifest import read_manifest
from sfc.demo.shapes import draw_scene
from sfc.label_archive import LabelArchive
from sfc.localization.store import CamStore
from sfc.params import read_yaml
from sfc.randomness import generator
from stages.preset import preset_text
from tests.pipeline import tiny

ROOT = Path(__file__).resolve().parents[2]
IMAGES, SIZE = 32, 48
STAGES = (
    "prepare", "label_stats", "train_cam", "infer_cam", "evaluate cam", "analyse", "crf", "evaluate crf", "train_irn",
    "pseudo_labels", "evaluate pseudo_labels", "train_seg", "predict", "evaluate seg",
)  # fmt: skip
TRAINED_BRIEFLY = {name: value for name, value in tiny.PARAMS.items() if name.startswith(("irn", "walk", "seg", "crf"))}
PARAMS = TRAINED_BRIEFLY | {
    "dataset.kind": "table",
    "dataset.root": "mine",
    "dataset.labels": "mine/labels.csv",
    "dataset.negatives": True,
    "train_cam.method": "base",
    "train_cam.precision": "fp32",
    "train_cam.backbone": {"arch": "resnet18", "weights": "none", "frozen_stages": 0, "batch_norm": "train"},
    "train_cam.lr": 0.02,
    "train_cam.head_lr_scale": 2.0,
    "train_cam.momentum": 0.9,
    "train_cam.epochs": 8,
    "train_cam.batch_size": 8,
    "train_cam.negative_share": None,
    "train_cam.crop": SIZE,
    "train_cam.long_side": [42, 66],
    "irn.negative_share": 0.25,
    "seg.negative_share": 0.5,
    "cam.splits": ["train"],
    "cam.scales": [1.5, 1.0],
    "cam.precision": "fp32",
    "predict.split": "train",
    "predict.scales": [1.0],
    "predict.precision": "fp32",
    "analyse.precision": "fp32",
    "evaluate.class_sets": {},
    "evaluate.gallery": 4,
}


def write_images(folder: Path) -> None:
    """Drawn scenes, every other one with a car, the others with nothing but the same background."""
    (folder / "masks").mkdir(parents=True)
    lines = ["image,classes,mask"]
    for number in range(IMAGES):
        image, mask = draw_scene(generator(0, "one class", number), (0,) if number % 2 else (), SIZE)
        image.save(folder / f"{number}.jpg", quality=95)
        (folder / f"masks/{number}.png").write_bytes(palette_png(mask))
        lines.append(f"{number}.jpg,{'car' if number % 2 else ''},masks/{number}.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The folder in which all stages have run, and what each printed last."""
    folder = tmp_path_factory.mktemp("one_class")
    write_images(folder / "mine")
    params = read_yaml(preset_text(ROOT / "presets/demo.yaml"), source="demo")
    for dotted, value in PARAMS.items():
        *path, last = dotted.split(".")
        section = params
        for name in path:
            section = section[name]
        section[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SFC_DEVICE", "cpu")
        patch.setenv("SFC_WORKERS", "0")
        said = {}
        for stage in STAGES:
            name, *args = stage.split()
            result = CliRunner().invoke(importlib.import_module(f"stages.{name}").main, args)
            assert result.exit_code == 0, (stage, result.output, result.exception)
            said[stage] = result.output
    return folder, said


def metrics(folder, name):
    return json.loads((folder / f"metrics/{name}.json").read_text())


def records(folder):
    """Those of the images with a car, and of those without, whose paths start from the folder."""
    manifest = read_manifest(folder / "out/manifest.csv", folder / "out/classes.json")
    return [[record for record in manifest.records if bool(record.labels) == shown] for shown in (True, False)]


def test_the_cams_are_better_than_the_trivial_answers(project):
    folder, _ = project
    found = metrics(folder, "evaluate_cam")["train"]
    assert found["images"] == IMAGES
    shown, empty = ([read_mask(folder / record.mask) for record in part] for part in records(folder))
    objects = sum(int((mask > 0).sum()) for mask in shown)
    with_car, without = (sum(mask.size for mask in masks) for masks in (shown, empty))
    nothing = 50 * (1 - objects / (with_car + without))  # mean of the background's IoU and 0
    all_of_it = 50 * (objects / with_car + without / (without + with_car - objects))  # wherever the label says so
    assert found["baseline_all_background"] == pytest.approx(nothing, abs=1e-4)
    assert found["classifier"]["miou"] > max(nothing, all_of_it) + 10


def test_negatives_are_counted_where_they_are(project):
    folder, said = project
    assert f"{IMAGES} training images ({IMAGES // 2} of them negatives)" in said["prepare"]
    found = metrics(folder, "prepare")["train"]
    assert (found["images"], found["negatives"], found["differ_from_masks"]) == (IMAGES, IMAGES // 2, 0)
    stats = metrics(folder, "label_stats")
    assert (stats["images"], stats["c_ibr"], stats["n_iter"]) == (IMAGES, 1.0, IMAGES // 8)
    assert stats["images_per_class"] == {"largest": IMAGES // 2, "smallest": IMAGES // 2}
    for stage in ("train_cam", "train_irn", "train_seg"):
        assert metrics(folder, stage)["images"] == IMAGES
    assert metrics(folder, "train_irn")["steps"] == IMAGES // 2 // 3  # 3 of a batch of 4 show the car
    assert "3 steps of 4 images (2 of them negatives)" in said["train_seg"]
    for stage in ("crf", "pseudo_labels"):
        assert (metrics(folder, stage)["images"], metrics(folder, stage)["images_without_class"]) == (32, 16)
    assert metrics(folder, "analyse")["images"] == IMAGES // 2  # one that shows no class has nothing to analyse


def test_negatives_are_all_background_and_the_others_are_not(project):
    folder, _ = project
    shown, empty = records(folder)
    for name in ("crf", "confident", "pseudo_labels"):
        labels = LabelArchive(folder / f"out/{name}.zip")
        assert not any(labels.read(record.id).any() for record in empty)
    labels = LabelArchive(folder / "out/pseudo_labels.zip")
    assert sum(int((labels.read(record.id) == 1).sum()) for record in shown) > 0
    cams = CamStore(folder / "out/cams")
    assert {maps.shape[1] for record in empty for maps in cams.maps_of(record)} == {1}


def test_all_products_are_measured_on_them_too(project):
    folder, said = project
    for product in ("cam", "crf", "pseudo_labels", "seg"):
        found = metrics(folder, f"evaluate_{product}")["train"]
        assert (found["images"], found["images_without_mask"]) == (IMAGES, 0)
        assert "train mIoU" in said[f"evaluate {product}"]
        assert list((folder / f"out/gallery/{product}").glob("*.png"))


def test_with_no_share_for_negatives_one_class_is_refused(project, monkeypatch):
    folder, _ = project
    monkeypatch.chdir(folder)
    text, model = Path("params.yaml").read_text(), Path("out/cam.safetensors").read_bytes()
    params = yaml.safe_load(text)
    params["train_cam"]["negative_share"] = 0.0
    Path("params.yaml").write_text(yaml.safe_dump(params))
    result = CliRunner().invoke(importlib.import_module("stages.train_cam").main)
    Path("params.yaml").write_text(text)
    assert result.exit_code == 1
    said = "Error: all 16 training images show the one class, car; only images without them could teach where they are"
    advice = "train on images without them, too: see dataset.negatives and train_cam.negative_share"
    assert result.output.splitlines()[-1] == f"{said}: {advice}"
    assert Path("out/cam.safetensors").read_bytes() == model
