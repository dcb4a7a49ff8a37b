"""Label maps that go out in each layout, read by who the layout is for, and read back."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from ruamel.yaml import YAML

from sfc.data.images import IGNORE, read_image, voc_palette
from sfc.data.manifest import Manifest
from sfc.errors import UserError
from sfc.exchange.corrected import read_corrected
from sfc.exchange.layouts import LAYOUTS
from sfc.exchange.yaml_text import quoted
from tests.data import folder as data
from tests.readers.voc_folder import read as read_voc_folder

CLASSES = ("ant", "bee", "polar_bear")
SIZES = {"a": (12, 16), "b 1": (9, 5), "ü": (1, 1), "v": (6, 6)}


@pytest.fixture
def items(tmp_path):
    """Records and label maps: regions with holes, ones that touch by a corner, an image of background alone."""
    rng = np.random.default_rng(0)
    found = []
    for seed, (id, size) in enumerate(SIZES.items()):
        split = "val" if id == "v" else "train"
        label = rng.choice([0, 1, 2, 3], size=size, p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
        label[label == 3] = 3 if id == "a" else 0
        shown = tuple(int(value) - 1 for value in np.unique(label) if value)
        found.append(
            (data.record(tmp_path / "images" / f"{id}.png", size, shown or (0,), split=split, seed=seed), label)
        )
    found[2] = (found[2][0], np.zeros((1, 1), np.uint8))
    return found


def write(items, tool, folder):
    folder.mkdir()
    LAYOUTS[tool].write(folder, items, CLASSES)
    return folder


def back(folder, items):
    """What `dataset.corrected` makes of a folder, with all images for training."""
    records = tuple(record for record, _ in items)
    return {record.id: label for record, label in read_corrected(folder, Manifest(records, CLASSES))}


def for_training(items):
    return [(record, label) for record, label in items if record.split == "train"]


@pytest.mark.parametrize("tool", LAYOUTS)
def test_what_goes_out_comes_back(tmp_path, items, tool):
    items = for_training(items)
    if LAYOUTS[tool].undecided:
        items[0][1][0, :5] = IGNORE
    found = back(write(items, tool, tmp_path / "out"), items)
    assert list(found) == [record.id for record, _ in items]
    for record, label in items:
        assert found[record.id].dtype == np.uint8
        np.testing.assert_array_equal(found[record.id], label)


@pytest.mark.parametrize("tool", LAYOUTS)
def test_images_go_with_their_masks(tmp_path, items, tool):
    folder = write(items, tool, tmp_path / "out")
    for record, _ in items:
        (copy,) = (
            path for path in folder.rglob(f"{record.id}.png") if not set(path.parts) & {"SegmentationClass", "masks"}
        )
        assert copy.read_bytes() == record.image.read_bytes()


def test_cvat_takes_colours_with_names_and_no_other(tmp_path, items):
    folder = write(items, "cvat", tmp_path / "out")
    lines = (folder / "labelmap.txt").read_text().splitlines()
    assert lines == [
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "ant:128,0,0::",
        "bee:0,128,0::",
        "polar_bear:128,128,0::",
    ]
    assert (folder / "ImageSets/Segmentation/default.txt").read_text() == "a\nb 1\nü\nv\n"
    declared = {tuple(map(int, line.split(":")[1].split(","))) for line in lines[1:]}
    for path in (folder / "SegmentationClass").iterdir():
        with Image.open(path) as image:
            assert image.mode == "RGB"
        assert set(map(tuple, read_image(path).reshape(-1, 3).tolist())) <= declared
    assert [label["name"] for label in json.loads((folder / "labels.json").read_text())] == list(CLASSES)


def test_voc_is_what_the_reader_of_voc_takes(tmp_path, items):
    items[0][1][0] = IGNORE
    folder = write(items, "voc", tmp_path / "out")
    manifest, _ = read_voc_folder(folder)
    assert manifest.classes == CLASSES
    for (record, label), read in zip(items, manifest.records, strict=True):
        assert (read.id, read.split, read.labels) == (record.id, record.split, record.labels)
        with Image.open(read.mask) as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.array(image), label)
            assert image.getpalette()[:768] == voc_palette().ravel().tolist()[: len(image.getpalette())]


def test_ultralytics_finds_each_mask_by_its_image(tmp_path, items):
    items[0][1][0] = IGNORE
    folder = write(items, "ultralytics", tmp_path / "out")
    said = yaml.safe_load((folder / "data.yaml").read_text())
    assert (said["train"], said["val"], said["masks_dir"]) == ("images/train", "images/val", "masks")
    assert said["names"] == dict(enumerate(("background", *CLASSES)))
    for record, label in items:
        image = folder / said[record.split] / f"{record.id}.png"
        assert image.exists()
        with Image.open(Path(str(image).replace("/images/", f"/{said['masks_dir']}/"))) as mask:
            assert mask.mode == "L"  # a palette would be read as colours
            np.testing.assert_array_equal(np.array(mask), label)


@pytest.mark.parametrize("text", ["🐱_1", "2007_01", "a\u2028\x85b", 'q"\\', "null", "\x00\x7f", "大", ""])
def test_quoted_text_is_what_yaml_reads(text):
    assert yaml.safe_load(quoted(text)) == YAML(typ="safe").load(quoted(text)) == text


def test_ultralytics_reads_every_class_name_as_it_is(tmp_path, items):
    classes = ("🐱", "null", "yes")
    folder = tmp_path / "out"
    folder.mkdir()
    LAYOUTS["ultralytics"].write(folder, iter(()), classes)
    said = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
    assert said["names"] == dict(enumerate(("background", *classes)))


def test_ultralytics_always_has_its_two_splits(tmp_path, items):
    said = yaml.safe_load((write(for_training(items), "ultralytics", tmp_path / "out") / "data.yaml").read_text())
    assert said["train"] == said["val"] == "images/train"


def test_coco_is_what_pycocotools_draws(tmp_path, items):
    folder = write(items, "coco", tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(folder / "annotations/instances_default.json")
    assert [coco.cats[number]["name"] for number in sorted(coco.cats)] == list(CLASSES)
    assert len(coco.imgs) == len(items)
    for number, (_, label) in enumerate(items, 1):
        assert (folder / "images" / coco.imgs[number]["file_name"]).exists()
        assert (coco.imgs[number]["height"], coco.imgs[number]["width"]) == label.shape
        drawn = np.zeros_like(label)
        for annotation in coco.imgToAnns[number]:
            region = coco.annToMask(annotation).astype(bool)
            assert not drawn[region].any()
            drawn[region] = annotation["category_id"]
            rows, columns = np.nonzero(region)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
            assert annotation["area"] == region.sum()
        np.testing.assert_array_equal(drawn, label)


def test_a_region_is_an_object(tmp_path, items):
    record, _ = items[0]
    label = np.zeros((12, 16), np.uint8)
    label[1:3, 1:3] = label[3:5, 3:5] = 1  # touch by a corner
    label[8:10, 8:10] = 1
    label[8:10, 10] = 2
    content = write([(record, label)], "coco", tmp_path / "out") / "annotations/instances_default.json"
    found = [(a["category_id"], a["area"]) for a in json.loads(content.read_text())["annotations"]]
    assert found == [(1, 8), (1, 4), (2, 2)]


def test_a_class_that_would_break_the_list_of_labels_is_refused(tmp_path, items):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"class a:b: labelmap\.txt parts its columns by colons"):
        LAYOUTS["cvat"].write(tmp_path / "out", items, ("a:b",))


def test_an_image_that_is_gone_is_named(tmp_path, items):
    items[0][0].image.unlink()
    with pytest.raises(UserError, match=r"a\.png: no such file$"):
        write(items, "coco", tmp_path / "out")
