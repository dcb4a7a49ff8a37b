"""`read_voc` on a VOC 2012 devkit with the masks of SBD."""

import shutil

import numpy as np
import pytest
from PIL import Image

from sfc.data.images import read_mask
from sfc.data.manifest import read_manifest, write_manifest
from sfc.errors import UserError
from sfc.readers.voc import VOC_CLASSES
from tests.data.folder import write_mask
from tests.readers.devkit import AUGMENTED, SBD_TRAIN, TEST, TRAIN, VAL, label_map, make_devkit, make_sbd, write_mat
from tests.readers.voc_folder import read


@pytest.fixture
def root(tmp_path):
    return make_devkit(tmp_path)


@pytest.fixture
def sbd(tmp_path):
    return make_sbd(tmp_path)


def by_id(manifest):
    return {record.id: record for record in manifest.records}


def test_devkit_alone(root):
    manifest, counts = read(root)
    assert manifest.classes == VOC_CLASSES
    assert {r.id: r.labels for r in manifest.split("train")} == TRAIN
    assert {r.id: r.labels for r in manifest.split("val")} == VAL
    assert {r.label_source for r in manifest.records} == {"xml"}
    record = manifest.split("train")[0]
    assert record.mask == root / "SegmentationClass" / "2007_000032.png"
    assert (record.height, record.width) == (12, 16)
    assert not (root.parent / "drawing").exists()
    both = {"images_without_label": 0, "compared_with_masks": 2, "differ_from_masks": 0}
    assert counts == {"images_with_rotation_tag": 0, "train": both, "val": both}


@pytest.mark.parametrize("name", ["train_aug", "trainaug"])
def test_augmented_list_and_masks_of_sbd(root, sbd, name):
    manifest, counts = read(root, train=name, sbd=sbd)
    assert [r.id for r in manifest.split("train")] == AUGMENTED
    assert counts["masks_from_sbd"] == 2
    records = by_id(manifest)
    # the devkit's own mask where it has one, though SBD has it too
    assert records["2007_000032"].mask == root / "SegmentationClass" / "2007_000032.png"
    assert records["2008_000002"].mask == root.parent / "out" / "masks" / "2008_000002.png"
    drawn = sorted(path.name for path in (root.parent / "drawing").iterdir())
    assert drawn == ["2008_000002.png", "2008_000003.png"]
    assert (read_mask(root.parent / "drawing" / drawn[0]) == label_map(SBD_TRAIN["2008_000002"])).all()


def test_a_list_file_comes_before_the_derived_list(root, sbd):
    lines = ["/JPEGImages/2008_000003.jpg /SegmentationClassAug/2008_000003.png", ""]
    (root / "ImageSets/Segmentation/train_aug.txt").write_text("\r\n".join(lines))
    assert [r.id for r in read(root, train="train_aug", sbd=sbd)[0].split("train")] == ["2008_000003"]
    assert [r.id for r in read(root, train="train_aug")[0].split("train")] == ["2008_000003"]


def test_augmented_list_without_file_and_sbd(root):
    with pytest.raises(UserError, match=r"train_aug\.txt: no such list; name SBD's folder in dataset\.sbd"):
        read(root, train="train_aug")


def test_augmented_masks_as_png_folder(root, sbd):
    shutil.copytree(root / "SegmentationClass", root / "SegmentationClassAug")
    for image_id in ("2008_000002", "2008_000003"):
        write_mask(root / "SegmentationClassAug" / f"{image_id}.png", label_map((14,)))
    manifest, counts = read(root, train="train_aug", sbd=sbd)
    assert {r.mask.parent.name for r in manifest.records} == {"SegmentationClassAug"}
    assert (counts["masks_from_sbd"], counts["train"]["differ_from_masks"]) == (0, 2)


def test_official_masks_alone(root, sbd):
    manifest, counts = read(root, train="train_aug", sbd=sbd, masks="SegmentationClass")
    records = manifest.split("train")
    assert [r.id for r in records] == AUGMENTED
    assert {r.id for r in records if r.mask} == set(TRAIN)
    assert (counts["masks_from_sbd"], counts["train"]["compared_with_masks"]) == (0, 2)


def test_disagreements_of_table_xml_and_masks_are_counted_by_image(root, sbd, tmp_path):
    rows = {"2007_000032": "aeroplane person", "2007_000039": "tvmonitor chair", "2008_000002": "tvmonitor"}
    rows |= {"2008_000003": "train person", "2007_000033": "aeroplane", "2008_000009": "cow"}
    table = tmp_path / "labels.csv"
    table.write_text("image_id,split,classes\n" + "".join(f"{i},trainval,{names}\n" for i, names in rows.items()))
    write_mat(sbd / "cls" / "2008_000003.mat", label_map((18,)))
    (root / "Annotations" / "2008_000003.xml").write_text("<annotation><object><name>tram</name></object></annotation>")
    (root / "Annotations" / "2007_000033.xml").unlink()
    manifest, counts = read(root, train="train_aug", sbd=sbd, labels=table)
    assert by_id(manifest)["2007_000039"].labels == (8, 19)
    assert counts["train"] == {
        "images_without_label": 0,
        "compared_with_xml": 4,
        "differ_from_xml": 2,  # the chair, and the unknown name
        "compared_with_masks": 4,
        "differ_from_masks": 2,  # the chair, and the person that SBD does not have
    }
    assert counts["val"] == {
        "images_without_label": 0,
        "compared_with_xml": 1,
        "differ_from_xml": 1,
        "compared_with_masks": 2,
        "differ_from_masks": 1,
    }


def test_test_split_has_neither_masks_nor_labels(root, tmp_path):
    # person layout: the only annotations that come with VOC's test images
    shutil.copy(root / "Annotations" / "2008_000009.xml", root / "Annotations" / f"{TEST[0]}.xml")
    manifest, _ = read(root, test="test")
    records = manifest.split("test")
    assert [(r.id, r.mask, r.labels, r.label_source) for r in records] == [(i, None, (), "none") for i in TEST]
    write_manifest(manifest, tmp_path / "m.csv", tmp_path / "c.json")
    assert read_manifest(tmp_path / "m.csv", tmp_path / "c.json").split("test") == records


def test_test_labels_of_the_table(root):
    rows = [*((i, "trainval,person") for i in {**TRAIN, **VAL}), (TEST[1], "test,cow person")]
    (root / "labels.csv").write_text("image_id,split,classes\n" + "".join(f"{i},{rest}\n" for i, rest in rows))
    records = read(root, test="test")[0].split("test")
    assert [(r.labels, r.label_source) for r in records] == [((), "table"), ((9, 14), "table")]


def test_images_of_the_test_list_are_checked(root):
    (root / "JPEGImages" / f"{TEST[0]}.jpg").unlink()
    with pytest.raises(UserError, match=f"image {TEST[0]} of the test list: no file"):
        read(root, test="test")
    (root / "ImageSets/Segmentation/test.txt").write_text("2007_000033\n")
    with pytest.raises(UserError, match="image 2007_000033 is in both lists, val and test"):
        read(root, test="test")


def test_images_without_label_are_left_out_of_training_alone(root):
    for image_id in ("2007_000039", "2007_000033"):
        (root / "Annotations" / f"{image_id}.xml").write_text("<annotation/>")
    manifest, counts = read(root)
    assert [r.id for r in manifest.records] == ["2007_000032", *VAL]
    assert counts["train"]["images_without_label"] == 1


def test_rotation_tags_are_not_applied(root):
    path = root / "JPEGImages" / "2007_000032.jpg"
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    manifest, counts = read(root)
    assert (manifest.records[0].height, manifest.records[0].width) == (12, 16)
    assert counts["images_with_rotation_tag"] == 1


def test_faults_of_drawn_masks_name_the_file_they_were_drawn_from(root, sbd):
    write_mat(sbd / "cls" / "2008_000002.mat", np.zeros((12, 20), np.uint8))
    write_mat(sbd / "cls" / "2008_000003.mat", np.full((12, 16), 33, np.uint8))
    with pytest.raises(UserError) as caught:
        read(root, train="train_aug", sbd=sbd)
    assert f"{sbd}/cls/2008_000002.mat: 20 x 12 pixels, but its image is 16 x 12" in str(caught.value)
    assert f"{sbd}/cls/2008_000003.mat: value 33 is none of the 20 classes" in str(caught.value)


def test_wrong_folders(root, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.root: no such folder"):
        read(tmp_path / "a" / "b" / "nothing")
    with pytest.raises(UserError, match=r"dataset\.sbd: no folder .*cls; name the folder"):
        read(root, sbd=tmp_path)
