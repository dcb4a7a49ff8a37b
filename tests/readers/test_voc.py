import shutil

import numpy as np
import pytest

from sfc.errors import UserError
from sfc.readers.voc import VOC_CLASSES
from sfc.readers.voc_lists import read_list
from tests.data.folder import write_image, write_mask
from tests.readers.voc_folder import CLASSES, TRAIN, VAL, make_voc, read

TABLE = "image_id,split,classes\nt0,train,ant bee\nt1,train,ant\nt2,train,\nv0,val,cat\nv1,val,\n"


@pytest.fixture
def root(tmp_path):
    return make_voc(tmp_path / "voc")


def labels(manifest, split="train"):
    return {r.id: r.labels for r in manifest.split(split)}


def sources(manifest):
    return {r.split: r.label_source for r in manifest.records}


def write_xml(root, names_of):
    (root / "Annotations").mkdir()
    for image_id, names in names_of.items():
        objects = "".join(f"<object><name>{name}</name></object>" for name in names)
        (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")


def test_labels_from_masks(root):
    manifest, counts = read(root)
    assert manifest.classes == CLASSES
    assert labels(manifest) == TRAIN
    assert labels(manifest, "val") == VAL
    assert counts == {
        "images_with_rotation_tag": 0,
        "train": {"images_without_label": 0},
        "val": {"images_without_label": 1},
    }
    record = manifest.split("train")[1]
    assert (record.height, record.width, record.label_source) == (12, 16, "masks")
    assert record.image == root / "JPEGImages" / "t1.jpg"
    assert record.mask == root / "SegmentationClass" / "t1.png"


def test_hash_follows_the_image(root):
    before, _ = read(root)
    write_image(root / "JPEGImages" / "t1.jpg", 12, 16, seed=99)
    after, _ = read(root)
    changed = [a.id for a, b in zip(after.records, before.records, strict=True) if a.image_hash != b.image_hash]
    assert changed == ["t1"]


def test_table_comes_before_xml_before_masks(root, tmp_path):
    write_xml(root, {"t0": ["bee"], "t1": ["bee", "bee"], "t2": ["cat"], "v0": ["cat"], "v1": []})
    manifest, _ = read(root)
    assert sources(manifest) == {"train": "xml", "val": "xml"}
    assert labels(manifest) == {"t0": (1,), "t1": (1,), "t2": (2,)}
    elsewhere = tmp_path / "other.csv"
    elsewhere.write_text(TABLE)
    manifest, counts = read(root, labels=elsewhere)
    assert sources(manifest) == {"train": "table", "val": "table"}
    assert labels(manifest) == {"t0": (0, 1), "t1": (0,)}
    assert counts["train"]["images_without_label"] == 1
    (root / "labels.csv").write_text(TABLE.replace("ant bee", "bee cat"))
    assert labels(read(root)[0]) == {"t0": (1, 2), "t1": (0,)}


def test_split_the_table_does_not_know_takes_the_next_source(root):
    (root / "labels.csv").write_text("\n".join(TABLE.splitlines()[:4]))
    manifest, _ = read(root)
    assert sources(manifest) == {"train": "table", "val": "masks"}


def test_table_must_know_every_image_of_a_split(root):
    (root / "labels.csv").write_text(TABLE.replace("t1,", "x1,"))
    with pytest.raises(UserError, match="image t1: no label; those of the train split come from the table"):
        read(root)


@pytest.mark.parametrize("rows", ["t0.jpg,train,ant bee\nt1.jpg,train,ant\n", ""])
def test_a_table_that_knows_no_image_is_not_passed_over(root, rows):
    (root / "labels.csv").write_text(f"image_id,split,classes\n{rows}")
    with pytest.raises(UserError, match=r"labels\.csv: .*knows no image of the lists; .* such as t0"):
        read(root)


def test_unknown_label(root):
    (root / "labels.csv").write_text(TABLE.replace("ant bee", "ant bea"))
    with pytest.raises(UserError, match="image t0: unknown class 'bea'; did you mean bee"):
        read(root)


def test_classes_apart_by_commas_are_refused_and_not_dropped(root):
    (root / "labels.csv").write_text(TABLE.replace("ant bee", "ant,bee"))
    with pytest.raises(UserError, match=r"labels\.csv: line 2 has more cells than columns; write spaces between"):
        read(root)


@pytest.mark.parametrize(("row", "said"), [("t1,val,ant", "val"), ("t1,other,ant", "other"), ("t1,,ant", "")])
def test_the_splits_of_the_table_are_those_of_the_lists(root, row, said):
    (root / "labels.csv").write_text(TABLE.replace("t1,train,ant", row))
    shutil.copy(root / "ImageSets/Segmentation/train.txt", root / "ImageSets/Segmentation/mine.txt")
    with pytest.raises(UserError, match=f"image t1 is of split '{said}', but in the list mine; correct either"):
        read(root, train="mine")


def test_the_splits_of_the_table_may_name_the_role_the_list_or_one_that_is_not_read(root):
    shutil.copy(root / "ImageSets/Segmentation/train.txt", root / "ImageSets/Segmentation/mine.txt")
    for split in ("train", "mine", "train_aug"):
        (root / "labels.csv").write_text(TABLE.replace(",train,", f",{split},"))
        assert sources(read(root, train="mine")[0])["train"] == "table"


def test_no_label_at_all(root):
    (root / "labels.csv").write_text("image_id,split,classes\nt0,train,\nt1,train,\nt2,train,\n")
    with pytest.raises(UserError, match="no image of list train has a label"):
        read(root)


def test_both_line_formats_name_the_same_images(root):
    lines = [f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png" for i in TRAIN]
    (root / "ImageSets/Segmentation/paths.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    assert read_list(root, "paths") == list(TRAIN) == read_list(root, "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t0\nt1\nt0\n", "image t0 stands on line 1 already"),
        ("t0 -1\n", "line 1: expected an id"),
        ("../../elsewhere/t0\n", "line 1: expected an id"),
        ("/etc/t0\n", "line 1: expected an id"),
        ("\n\n", "the list is empty"),
    ],
)
def test_faulty_lists(root, text, message):
    (root / "ImageSets/Segmentation/train.txt").write_text(text)
    with pytest.raises(UserError, match=rf"train\.txt: .*{message}"):
        read(root)


def test_missing_list_root_and_mask_folder(root):
    with pytest.raises(UserError, match=r"nothing\.txt: no such list"):
        read(root, train="nothing")
    with pytest.raises(
        UserError, match=r"dataset\.root: no such folder \S+; name the one that has JPEGImages/ in it, or run dvc pull"
    ):
        read(root / "nothing")
    with pytest.raises(UserError, match=r"dataset\.masks: no such folder"):
        read(root, masks="Nothing")
    (root / "JPEGImages").rename(root / "images")
    with pytest.raises(
        UserError, match=r"dataset\.root: no folder \S+JPEGImages; name the folder that has JPEGImages/"
    ):
        read(root)


def test_splits_must_be_disjoint(root):
    (root / "ImageSets/Segmentation/val.txt").write_text("v0\nt1\n")
    with pytest.raises(UserError, match="image t1 is in both lists, train and val"):
        read(root)


def test_masks_of_training_images_may_be_missing_if_labels_are_known(root):
    for image_id in ("t0", "t2"):
        (root / "SegmentationClass" / f"{image_id}.png").unlink()
    with pytest.raises(UserError, match=r"2 problems\n  image t0: no label; .* come from the masks, .*\n  image t2"):
        read(root)
    (root / "labels.csv").write_text(TABLE)
    records = {r.id: r for r in read(root)[0].records}
    assert records["t0"].mask is None
    assert records["t1"].mask is not None


def test_masks_of_validation_images_may_not_be_missing(root):
    (root / "SegmentationClass" / "v0.png").unlink()
    with pytest.raises(UserError, match="image v0 of the val list has no mask"):
        read(root)


def test_augmented_masks_come_first(root):
    shutil.copytree(root / "SegmentationClass", root / "SegmentationClassAug")
    assert {r.mask.parent.name for r in read(root)[0].records} == {"SegmentationClassAug"}
    chosen = read(root, masks="SegmentationClass")[0]
    assert {r.mask.parent.name for r in chosen.records} == {"SegmentationClass"}


def test_class_names(root):
    assert read(root, classes=("x", "y", "z"))[0].classes == ("x", "y", "z")
    (root / "classes.txt").unlink()
    assert read(root)[0].classes == VOC_CLASSES


def test_every_broken_file_is_named_at_once(root):
    (root / "JPEGImages/t0.jpg").write_bytes(b"broken")
    write_mask(root / "SegmentationClass/t1.png", np.zeros((12, 15)))
    write_mask(root / "SegmentationClass/t2.png", np.full((12, 16), 4))
    (root / "SegmentationClass/v0.png").write_bytes(b"broken")
    with pytest.raises(UserError) as caught:
        read(root)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{root}: 4 problems"
    assert "t0.jpg: does not decode" in lines[1]
    assert "t1.png: 15 x 12 pixels, but its image is 16 x 12" in lines[2]
    assert "t2.png: value 4 is none of the 3 classes" in lines[3]
    assert "v0.png: does not decode" in lines[4]


def test_names_that_no_file_can_have(root, tmp_path):
    name = "x" * 300
    for changes, message in (
        ({"train": name}, "no such list"),
        ({"masks": name}, r"dataset\.masks: no such folder"),
        ({"sbd": tmp_path / name}, r"dataset\.sbd: no folder"),
        ({"labels": tmp_path / name}, "no such label table"),
    ):
        with pytest.raises(UserError, match=message):
            read(root, **changes)
    with pytest.raises(UserError, match=r"dataset\.root: no such folder"):
        read(root / name)
    (tmp_path / "sbd/cls").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text(f"t0\n{name}\n")
    with pytest.raises(UserError, match=f"image {name} of the train list: no file"):
        read(root, sbd=tmp_path / "sbd")


def test_missing_images_are_counted(root):
    ids = [f"x{i}" for i in range(12)]
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids))
    with pytest.raises(UserError) as caught:
        read(root)
    lines = str(caught.value).splitlines()
    assert "12 problems" in lines[0]
    assert len(lines) == 10
    assert lines[-1].strip() == "and 4 more"


def test_names_with_spaces_accents_and_other_extensions(root):
    """In bare lists and in lists of paths; accents as macOS writes them, apart from their letters."""
    for old, new in (("t0", "mein Köter 1"), ("t1", "a.b"), ("t2", "Straße")):
        suffix = {"t0": ".JPG", "t1": ".jpeg", "t2": ".jpg"}[old]
        (root / f"JPEGImages/{old}.jpg").rename(root / f"JPEGImages/{new}{suffix}")
        (root / f"SegmentationClass/{old}.png").rename(root / f"SegmentationClass/{new}.PNG")
    path = root / "ImageSets/Segmentation/train.txt"
    wanted = {"mein Köter 1": (0,), "a.b": (0, 2), "Straße": (1,)}

    def found():
        return {record.id: record.labels for record in read(root)[0].split("train")}

    path.write_text("\ufeffmein Ko\u0308ter 1\r\na.b\r\n\r\nStraße\r\n", encoding="utf-8", newline="")
    assert found() == wanted
    paths = [f"/JPEGImages/{i}.jpg /SegmentationClass/{i}.png" for i in wanted]
    path.write_text("\n".join(paths), encoding="utf-8")
    assert found() == wanted
