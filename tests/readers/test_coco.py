import json
import math

import numpy as np
import pytest

from sfc.data.images import read_mask
from sfc.errors import UserError
from sfc.readers.coco import read_coco
from tests.data.folder import write_image
from tests.readers.coco_folder import CATEGORIES, CLASSES, make_coco, rectangle


@pytest.fixture
def root(tmp_path):
    return make_coco(tmp_path / "coco")


def read(root, **changes):
    masks = root.parent / "masks"
    masks.mkdir(exist_ok=True)
    settings = {"train": "train2014", "val": "val2014", "test": None, "negatives": False, "workers": 1}
    settings |= {"mask_folder": masks} | changes
    place = {"mask_path": settings["mask_folder"], "progress": lambda items, total, label: items}
    return read_coco(root, **place | settings)


def edit(root, split, change):
    path = root / "annotations" / f"instances_{split}2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_ids_classes_and_labels(root, capsys):
    manifest, counts = read(root)
    assert manifest.classes == CLASSES  # by category id, spaces to _
    assert {(r.id, r.split): r.labels for r in manifest.records} == {
        ("COCO_train2014_000000000009", "train"): (0,),  # its bottles are a crowd
        ("COCO_train2014_000000000025", "train"): (1, 2),
        ("COCO_train2014_000000000036", "train"): (0, 2),
        ("COCO_val2014_000000000042", "val"): (0,),
        ("COCO_val2014_000000000073", "val"): (),
    }
    assert counts == {
        "images_with_rotation_tag": 0,
        "train": {"images_without_label": 2, "compared_with_masks": 3, "differ_from_masks": 1},
        "val": {"images_without_label": 1, "compared_with_masks": 2, "differ_from_masks": 0},
    }
    record = manifest.records[0]
    assert (record.height, record.width, record.label_source) == (12, 16, "instances")
    assert record.image == root / "train2014/COCO_train2014_000000000009.jpg"
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""  # the library would print


def test_masks_are_painted_in_order_without_crowds(root):
    manifest, _ = read(root)
    masks = {r.id[-2:]: read_mask(r.mask) for r in manifest.records}
    wanted = np.zeros((12, 16), np.uint8)
    wanted[rectangle(2, 2, 8, 10)] = 1  # polygon; the crowd over the whole image is not drawn
    np.testing.assert_array_equal(masks["09"], wanted)
    wanted = np.zeros((12, 16), np.uint8)
    wanted[rectangle(0, 0, 6, 8)] = 2  # run lengths
    wanted[rectangle(3, 4, 9, 12)] = 3  # compressed run lengths, later and so above
    np.testing.assert_array_equal(masks["25"], wanted)
    assert set(np.unique(masks["36"])) == {0, 1}
    assert not masks["73"].any()
    assert masks["09"].dtype == np.uint8


def test_workers_paint_the_same_bytes(root, tmp_path):
    (tmp_path / "more").mkdir()
    one = [r.mask.read_bytes() for r in read(root)[0].records]
    two = [r.mask.read_bytes() for r in read(root, workers=2, mask_folder=tmp_path / "more")[0].records]
    assert one == two


def test_images_of_test_have_neither_labels_nor_masks(root):
    manifest, counts = read(root, test="test2014")
    found = manifest.split("test")
    assert [r.id for r in found] == ["COCO_test2014_000000000001", "COCO_test2014_000000000014"]
    assert {(r.mask, r.labels, r.label_source) for r in found} == {(None, (), "none")}
    assert "test" not in counts


def test_upper_case_extension(root):
    old = root / "train2014/COCO_train2014_000000000009.jpg"
    old.rename(old.with_suffix(".JPG"))
    edit(root, "train", lambda c: c["images"][1].update(file_name="COCO_train2014_000000000009.JPG"))
    assert read(root)[0].records[0].id == "COCO_train2014_000000000009"


def test_missing_files(root):
    with pytest.raises(UserError, match=r"instances_nothing\.json: no such file; see dataset\.root and dataset\.val"):
        read(root, val="nothing")
    with pytest.raises(UserError, match=r"dataset\.root: no such folder"):
        read(root / "nothing")
    (root / "val2014/COCO_val2014_000000000073.jpg").unlink()
    with pytest.raises(UserError, match=r"000000000073\.jpg: no such file"):
        read(root)


def test_a_mark_of_the_byte_order_is_no_part_of_an_annotation_file(root):
    wanted = read(root)
    for path in (root / "annotations").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(root) == wanted


def test_names_that_no_file_can_hold_are_one_line(root):
    called = [{**category, "name": category["name"].replace("person", "\ud800")} for category in CATEGORIES]
    for split in ("train", "val"):
        edit(root, split, lambda c: c.update(categories=called))
    with pytest.raises(UserError, match=r"annotations: class name '\\ud800' holds half a character; correct it$"):
        read(root)


def test_broken_annotation_file(root):
    for content in ("", "[]", '{"images": [', '{"images": [' + "9" * 5000 + "]}"):
        (root / "annotations/instances_val2014.json").write_text(content)
        with pytest.raises(UserError, match=r"instances_val2014\.json: not an annotation file of COCO"):
            read(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].pop("file_name"), "images: entry 25 has no file_name"),
        (lambda c: c["images"][0].update(width="16"), "images: entry 25 has no width, or one of another form"),
        (lambda c: c["images"][1].update(id=25), "images: id 25 comes twice"),
        (lambda c: c["categories"][0].pop("name"), "categories: entry 44 has no name"),
        (lambda c: c["annotations"][0].pop("segmentation"), "annotations: entry 25000 has no segmentation"),
        (lambda c: c["annotations"][0].update(segmentation="text"), "annotations: entry 25000 has no segmentation, or"),
        (lambda c: c["annotations"][1].update(id=25000), "annotations: id 25000 comes twice"),
        (lambda c: c.pop("categories"), "annotations: entry 25000 is of category 10, which the file does not name"),
        (
            lambda c: c["annotations"][0].update(image_id=7),
            "annotations: entry 25000 is of image 7, which is not listed",
        ),
        (lambda c: c["annotations"][0].update(iscrowd="no"), "entry 25000 has iscrowd 'no'; expected 0 or 1"),
        (lambda c: c.update(images=[], annotations=[]), "it lists no images"),
    ],
)
def test_every_entry_must_have_what_is_read_of_it(root, change, message):
    edit(root, "train", change)
    with pytest.raises(UserError, match=rf"(?s)instances_train2014\.json: not an annotation file of COCO.*{message}"):
        read(root)


def test_missing_image_folder(root):
    (root / "val2014").rename(root / "elsewhere")
    with pytest.raises(UserError, match=r"coco/val2014: no such folder of images; see dataset\.root and dataset\.val"):
        read(root)


def test_image_of_another_size(root):
    write_image(root / "train2014/COCO_train2014_000000000009.jpg", 16, 12)
    with pytest.raises(UserError, match=r"000000000009\.jpg: 12 x 16 pixels, but the annotation file says 16 x 12"):
        read(root)


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [["x"]],
        [[]],
        [[2, 2, math.inf, 5, 6, 7]],
        [[2, 2, math.nan, 5, 6, 7]],
        [[2, 2, 1e12, 5, 6, 7]],
        [[2, 2, 3, -1e308, 6, 7]],
        [[2, 2, 3, None, 6, 7]],
        [[2, 2, 3, 2, 3, 6, 7]],
        [[2, 2, 3, 2, 3, 6], [2, 2, 3, 2, 3, 6, 7]],
        {"size": [12, 16]},
        {"size": [2, 2], "counts": [4]},
        {"size": [16, 12], "counts": [192]},
        {"size": [12, 16], "counts": []},
        {"size": [12, 16], "counts": [191]},
        {"size": [12, 16], "counts": [200, -8]},
        {"size": [12, 16], "counts": [1e300, 2]},
        {"size": [1_000_000, 1_000_000], "counts": [10**12]},
        {"size": [1_000_000, 1_000_000], "counts": "5"},
        {"size": [12, 16], "counts": "zzzz"},
        {"size": [12, 16], "counts": "\x7f\x7f"},
        {"size": [12, 16], "counts": None},
        {"size": None, "counts": [192]},
    ],
)
def test_instance_that_cannot_be_drawn(root, segmentation):
    edit(root, "train", lambda c: c["annotations"][0].update(segmentation=segmentation))
    said = r"instances_train2014\.json: image COCO_train2014_000000000025, annotation 25000: "
    with pytest.raises(UserError, match=said):
        read(root)


@pytest.mark.parametrize("name", ["../{}", "/{}", "a/../../../{}", "{}\0.jpg", "..", "", "..\\{}", "C:{}", "\udc80{}"])
def test_images_outside_the_folder_of_the_split_are_refused(root, name):
    """Even if they are there: an annotation file from elsewhere must not lead to other pictures of this machine."""
    found = next((root / "train2014").glob("*.jpg"))
    other = root / "elsewhere.jpg"
    other.write_bytes(found.read_bytes())
    called = name.format(str(other).lstrip("/") if name.startswith("/") else other.name)
    edit(root, "train", lambda c: c["images"][0].update(file_name=called))
    with pytest.raises(UserError, match="images: entry 25 has a file_name that is no path inside the folder of images"):
        read(root)


def test_categories_must_agree(root):
    edit(root, "val", lambda c: c.update(categories=CATEGORIES[:2]))
    with pytest.raises(UserError, match="files of train and val have different categories"):
        read(root)
    edit(root, "val", lambda c: c.update(categories=CATEGORIES))
    edit(root, "train", lambda c: c["annotations"][0].update(category_id=7))
    with pytest.raises(
        UserError, match=r"instances_train2014\.json: .* entry 25000 is of category 7, which the file does not name"
    ):
        read(root)


def test_nothing_to_train_on_and_an_image_in_two_splits(root):
    with pytest.raises(UserError, match=r"image COCO_train2014_000000000009 is in train and again in val"):
        read(root, val="train2014")
    edit(root, "train", lambda c: c.update(annotations=[]))
    with pytest.raises(UserError, match="no image of train2014 has an instance that is no crowd"):
        read(root)
