"""What comes back from a person's hands: every form it may have, and what is refused."""

import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

from sfc.data.images import IGNORE
from sfc.data.manifest import Manifest
from sfc.errors import UserError
from sfc.exchange.corrected import read_corrected
from tests.data.folder import record, write_mask
from tests.readers.coco_folder import annotation, polygon, rectangle, uncompressed

CLASSES = ("ant", "bee")
SIZE = 12, 16


@pytest.fixture
def manifest(tmp_path):
    images = tmp_path / "images"
    records = [record(images / f"{id}.jpg", SIZE) for id in ("a", "b")]
    return Manifest((*records, record(images / "v.jpg", SIZE, split="val")), CLASSES)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "back").mkdir()
    return tmp_path / "back"


def label_of(value=1):
    label = np.zeros(SIZE, np.uint8)
    label[2:5, 3:9] = value
    return label


def read(folder, manifest):
    return {record.id: label for record, label in read_corrected(folder, manifest)}


def coloured(path, colours):
    """A mask in colours: all of the first, and a block of each other."""
    pixels = np.full((*SIZE, 3), colours[0], np.uint8)
    for row, colour in enumerate(colours[1:]):
        pixels[row * 3 : row * 3 + 3, :4] = colour
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_plain_masks_are_label_maps_in_the_order_of_the_manifest(folder, manifest):
    write_mask(folder / "sub" / "b.PNG", label_of(IGNORE))
    write_mask(folder / "a.png", label_of(2))
    (folder / "notes.txt").write_text("mine")
    found = read(folder, manifest)
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], label_of(2))
    np.testing.assert_array_equal(found["b"], label_of(IGNORE))


def test_masks_of_voc_without_a_list_of_labels_are_label_maps(folder, manifest):
    write_mask(folder / "SegmentationClass" / "a.png", label_of(2))
    write_mask(folder / "SegmentationObject" / "a.png", label_of(7))  # objects, which nothing reads
    np.testing.assert_array_equal(read(folder, manifest)["a"], label_of(2))


def test_values_of_another_order_of_classes_are_refused(folder, manifest):
    write_mask(folder / "SegmentationClass" / "a.png", label_of(2))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    np.testing.assert_array_equal(read(folder, manifest)["a"], label_of(2))
    (folder / "classes.txt").write_text("\n".join(reversed(CLASSES)) + "\n")
    with pytest.raises(UserError, match="it must be the same, or labelmap"):
        read(folder, manifest)
    (folder / "classes.txt").write_text("Tür\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"classes.txt: not UTF-8 text .*; save it as UTF-8"):
        read(folder, manifest)


def test_two_labels_of_one_colour_are_refused(folder, manifest):
    coloured(folder / "SegmentationClass" / "a.png", [(0, 0, 0), (128, 0, 0)])
    (folder / "labelmap.txt").write_text(f"{CLASSES[0]}:128,0,0::\n{CLASSES[1]}:128,0,0::\n")
    with pytest.raises(UserError, match=f"colour 128,0,0 is of {CLASSES[0]} and of {CLASSES[1]}"):
        read(folder, manifest)


def test_labels_that_are_undecided_in_data_yaml_are_not_learned_from(folder, manifest):
    (folder / "data.yaml").write_text(f"names: {{0: background, 1: {CLASSES[0]}, 9: ignore}}\n")
    write_mask(folder / "masks" / "train" / "a.png", label_of(9))
    np.testing.assert_array_equal(read(folder, manifest)["a"], label_of(IGNORE))
    (folder / "data.yaml").write_text("names: {0: [a]}\n")
    with pytest.raises(UserError, match="no names of the masks' values"):
        read(folder, manifest)


@pytest.mark.parametrize("height", [-5, 0, 10**8])
def test_sizes_that_no_image_has_are_one_line(folder, manifest, height):
    image = {"id": 1, "file_name": "a.jpg", "height": height, "width": SIZE[1]}
    text = json.dumps({"categories": [], "annotations": [], "images": [image]})
    (folder / "a.json").write_text(text)
    with pytest.raises(UserError, match=f"image a is {SIZE[1]} x {height} pixels"):
        read(folder, manifest)


def test_colours_mean_what_the_list_of_labels_says(folder, manifest):
    (folder / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\n\nbee:10,20,30::\nbackground:1,2,3::\nvoid:7,7,7::\nwheel:9,9,9::\n"
    )
    coloured(folder / "SegmentationClass" / "a.png", [(1, 2, 3), (10, 20, 30), (7, 7, 7), (224, 224, 192), (0, 0, 0)])
    label = read(folder, manifest)["a"]
    assert label[[0, 3, 6, 9], 0].tolist() == [2, IGNORE, IGNORE, 0]
    assert not label[:, 4:].any()


@pytest.mark.parametrize(
    ("colour", "message"),
    [
        ((5, 5, 5), r"a\.png: colour 5,5,5 is no label of labelmap\.txt"),
        ((9, 9, 9), r"a\.png: label wheel \(colour 9,9,9\) is none of the data set's classes"),
    ],
)
def test_colours_without_a_class_are_refused(folder, manifest, colour, message):
    (folder / "labelmap.txt").write_text("background:0,0,0::\nwheel:9,9,9::\n")
    coloured(folder / "SegmentationClass" / "a.png", [(0, 0, 0), colour])
    with pytest.raises(UserError, match=message):
        read(folder, manifest)


def test_values_mean_what_data_yaml_says(folder, manifest):
    (folder / "data.yaml").write_text("names: [bee, background, ant]\n")
    mask = np.ones(SIZE)
    mask[0, :3] = 0, 2, 255
    write_mask(folder / "masks" / "train" / "a.png", mask)
    label = read(folder, manifest)["a"]
    assert label[0, :4].tolist() == [2, 1, IGNORE, 0]
    (folder / "data.yaml").write_text("names: {0: bee, 1: background, 2: wheel}\n")
    with pytest.raises(UserError, match=r"a\.png: value 2 \(wheel\) is none of the data set's classes"):
        read(folder, manifest)
    (folder / "data.yaml").write_text("train: images\n")
    with pytest.raises(UserError, match=r"data\.yaml: no names of the masks' values"):
        read(folder, manifest)


@pytest.mark.parametrize("names", ['{"0": bee, "1": background, "2": ant}', "{0: bee, '1': background, 2: ant}"])
def test_values_in_quotes_are_values(folder, manifest, names):
    (folder / "data.yaml").write_text(f"names: {names}\n")
    write_mask(folder / "masks" / "train" / "a.png", label_of(2))
    assert read(folder, manifest)["a"][[0, 2], 3].tolist() == [2, 1]


@pytest.mark.parametrize("names", ['{"0": bee, 0: ant}', "{first: bee}"])
def test_values_that_are_none_or_named_twice_are_refused(folder, manifest, names):
    (folder / "data.yaml").write_text(f"names: {names}\n")
    write_mask(folder / "masks" / "train" / "a.png", label_of())
    with pytest.raises(UserError, match=r"data\.yaml: no names of the masks' values"):
        read(folder, manifest)


@pytest.mark.parametrize("layout", ["labelmap.txt", "classes.txt", "data.yaml", "annotations"])
@pytest.mark.parametrize("where", ["inside", "part"])
def test_a_layout_is_not_taken_for_plain_masks(folder, manifest, layout, where):
    """Its folder, or the archive's, was named one too high or too low: values would mean another class."""
    inner = folder / "job_7"
    inner.mkdir()
    masks = inner / ("masks/train" if layout == "data.yaml" else "SegmentationClass")
    write_mask(masks / "a.png", label_of(2))
    if layout == "annotations":
        masks = inner  # COCO's has no masks to name
        shutil.rmtree(inner / "SegmentationClass")
        coco(inner, [])
    else:
        (inner / layout).write_text("bee\nant\n")
    if where == "inside":
        with pytest.raises(UserError, match=r"back holds a tool's layout in .*job_7; name that folder"):
            read(folder, manifest)
    elif layout != "annotations":
        with pytest.raises(UserError, match=r"is a part of a tool's layout; name .*job_7$"):
            read(masks, manifest)


def test_what_may_be_meant_as_a_mask_is_not_passed_over(folder, manifest):
    write_mask(folder / "a.png", label_of(2))
    for name in ("a.jpg", ".DS_Store", "._b.png", "notes.txt"):  # the image beside its mask, and what systems leave
        (folder / name).write_bytes(b"x")
    assert list(read(folder, manifest)) == ["a"]
    (folder / "b.TIF").write_bytes(b"x")
    with pytest.raises(UserError, match=r"b\.TIF: not read, as masks are PNG files; save it as one, or remove it"):
        read(folder, manifest)
    (folder / "b.TIF").rename(folder / "job.zip")
    with pytest.raises(UserError, match=r"job\.zip: not read, as masks are PNG files; unpack it"):
        read(folder, manifest)


def test_an_image_that_was_left_out_is_named_as_such(folder, manifest):
    write_mask(folder / "z.png", label_of())
    said = "no image z, or it is one of 5 without a class, which dataset.negatives: true keeps"
    with pytest.raises(UserError, match=said):
        list(read_corrected(folder, manifest, left_out=5))


def coco(folder, annotations, **changes):
    content = {
        "images": [{"id": 3, "file_name": "images/a.jpg", "height": 12, "width": 16}],
        "categories": [{"id": 8, "name": "bee"}, {"id": 2, "name": "ant"}, {"id": 5, "name": "wheel"}],
        "annotations": [{"id": i, "image_id": 3, **each} for i, each in enumerate(annotations)],
    }
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / "instances.json").write_text(json.dumps({**content, **changes}))


def test_objects_of_coco_are_drawn_in_their_order_crowds_too(folder, manifest):
    under = annotation(8, polygon(0, 0, 6, 8))
    coco(folder, [under, annotation(2, uncompressed(rectangle(3, 4, 9, 12)), iscrowd=1)])
    wanted = np.zeros(SIZE, np.uint8)
    wanted[0:6, 0:8] = 2
    wanted[3:9, 4:12] = 1
    np.testing.assert_array_equal(read(folder, manifest)["a"], wanted)


def test_an_annotation_file_that_nests_without_end_is_one_line(folder, manifest):
    (folder / "instances.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="not an annotation file of COCO"):
        read(folder, manifest)


def test_a_file_that_macos_left_is_no_second_annotation_file(folder, manifest):
    coco(folder, [annotation(8, polygon(0, 0, 6, 8))])
    (folder / "._instances.json").write_bytes(b"\0")
    assert set(read(folder, manifest)) == {"a"}


def test_an_annotation_file_may_begin_with_a_byte_order_mark(folder, manifest):
    coco(folder, [annotation(8, polygon(0, 0, 6, 8))])
    path = folder / "annotations" / "instances.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert (read(folder, manifest)["a"] == 2).sum() == 48


def test_an_image_without_an_object_was_corrected_to_background(folder, manifest):
    coco(folder, [])
    assert not read(folder, manifest)["a"].any()


@pytest.mark.parametrize(
    ("annotations", "changes", "message"),
    [
        ([annotation(5, polygon(0, 0, 6, 8))], {}, "image a, annotation 0: wheel is none of the data set's classes"),
        ([annotation(2, {"size": [1, 1], "counts": [1]})], {}, "image a, annotation 0: run lengths of size"),
        ([annotation(7, [])], {}, "not an annotation file of COCO"),
        ([], {"images": None}, "not an annotation file of COCO"),
        ([], {"images": []}, "instances.json: describes no image; export it again"),
        ([], {"categories": [{"id": 1}]}, "not an annotation file of COCO"),
        (
            [],
            {"images": [{"id": 0, "file_name": "a.png", "width": math.inf, "height": 1}]},
            "not an annotation file of",
        ),
    ],
)
def test_damaged_annotation_files_are_one_line(folder, manifest, annotations, changes, message):
    coco(folder, annotations, **changes)
    with pytest.raises(UserError, match=message) as caught:
        read(folder, manifest)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("v", label_of(), "v is of split val, which nothing learns from; move its mask elsewhere"),
        ("z", label_of(), "the data set has no image z; masks have the ids of out/manifest.csv as names"),
        ("a", label_of()[:, :8], "the mask of a is 8 x 12 pixels, its image 16 x 12"),
        ("a", label_of(3), "the mask of a holds 3, which is none of the 2 classes"),
    ],
)
def test_masks_that_fit_no_training_image_are_refused(folder, manifest, name, label, message):
    write_mask(folder / f"{name}.png", label)
    write_mask(folder / "b.png", label_of())
    with pytest.raises(UserError, match=message):
        read(folder, manifest)


def test_what_cannot_be_told_apart_is_refused(folder, manifest, tmp_path):
    with pytest.raises(UserError, match=r"no masks in .*back; expected PNG files"):
        read(folder, manifest)
    with pytest.raises(UserError, match=r"no such folder .*none; an archive wants to be unpacked"):
        read(tmp_path / "none", manifest)
    write_mask(folder / "a.png", label_of())
    write_mask(folder / "more" / "a.png", label_of())
    with pytest.raises(UserError, match=r"a\.png and .*a\.png are both of image a; remove one"):
        read(folder, manifest)
    coco(folder, [])
    (folder / "second.json").write_text("{}")
    with pytest.raises(UserError, match="holds several annotation files"):
        read(folder, manifest)
