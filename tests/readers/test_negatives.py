"""Training images that show no class, in every layout: they stay where that is known, and silence is not knowledge."""

import numpy as np
import pytest

from sfc.errors import UserError
from sfc.readers.coco import read_coco
from sfc.readers.table import read_table
from tests.data.folder import write_image, write_mask
from tests.readers.coco_folder import make_coco
from tests.readers.voc_folder import make_voc, read

QUIET = {"workers": 1, "progress": lambda items, total, label: items}


@pytest.fixture
def voc(tmp_path):
    return make_voc(tmp_path / "voc")


def by_table(root):
    (root / "labels.csv").write_text("image_id,split,classes\nt0,train,ant\nt1,train,\nt2,train,bee\n")


def by_xml(root):
    (root / "Annotations").mkdir()
    for image_id, name in (("t0", "ant"), ("t1", None), ("t2", "bee")):
        text = f"<object><name>{name}</name></object>" if name else ""
        (root / f"Annotations/{image_id}.xml").write_text(f"<annotation>{text}</annotation>")


def by_masks(root):
    write_mask(root / "SegmentationClass/t1.png", np.eye(12, 16) * 255)


WAYS = {"table": by_table, "xml": by_xml, "masks": by_masks}
FORGET = {"table": "labels.csv", "xml": "Annotations/t1.xml", "masks": "SegmentationClass/t1.png"}


@pytest.mark.parametrize("source", WAYS)
def test_voc_keeps_or_leaves_out_an_image_that_is_listed_without_a_class(voc, source):
    WAYS[source](voc)
    for negatives, wanted in ((False, ["t0", "t2"]), (True, ["t0", "t1", "t2"])):
        manifest, counts = read(voc, negatives=negatives)
        found = manifest.split("train")
        assert [record.id for record in found] == wanted
        assert {record.label_source for record in found} == {source}
        assert counts["train"]["images_without_label"] == 1
    assert found[1].labels == ()
    assert found[1].mask == voc / "SegmentationClass/t1.png"


@pytest.mark.parametrize("negatives", [False, True])
@pytest.mark.parametrize("source", WAYS)
def test_an_image_that_no_source_tells_of_is_no_negative(voc, source, negatives):
    WAYS[source](voc)
    told = voc / FORGET[source]
    if source == "table":
        told.write_text(told.read_text().replace("t1,train,\n", ""))
    else:
        told.unlink()
    means = {"table": "an empty cell", "xml": "a file without objects", "masks": "a mask of zeros"}[source]
    said = f"image t1: no label; those of the train split come from the {source}, where {means} means no class"
    with pytest.raises(UserError, match=said):
        read(voc, negatives=negatives)


def test_negatives_alone_are_nothing_to_train_on(voc):
    by_table(voc)
    (voc / "labels.csv").write_text("image_id,split,classes\nt0,train,\nt1,train,\nt2,train,\n")
    with pytest.raises(UserError, match="no image of list train has a label"):
        read(voc, negatives=True)


@pytest.mark.parametrize(("negatives", "wanted"), [(False, ["a", "c"]), (True, ["a", "b", "c"])])
def test_a_table_keeps_rows_without_classes(tmp_path, negatives, wanted):
    for name in "abc":
        write_image(tmp_path / f"{name}.png", 12, 16)
    write_mask(tmp_path / "m.png", np.zeros((12, 16)))
    (tmp_path / "labels.csv").write_text("image,classes,mask\na.png,fox;bear,\nb.png, ,m.png\nc.png,fox,\n")
    named = {"train": "train", "val": "val", "test": None, "labels": tmp_path / "labels.csv", "classes": None}
    manifest, counts = read_table(tmp_path, **named, negatives=negatives, **QUIET)
    assert [record.id for record in manifest.records] == wanted
    assert counts["train"]["images_without_label"] == 1
    compared = {"compared_with_masks": 1, "differ_from_masks": 0} if negatives else {}
    assert counts["train"] == {"images_without_label": 1, **compared}


def test_of_coco_images_without_annotations_stay_and_those_of_crowds_alone_do_not(tmp_path):
    """Image 34 has no annotation, image 30 a crowd of persons: it has no label, but shows some."""
    root = make_coco(tmp_path / "coco")
    named = {"train": "train2014", "val": "val2014", "test": None}
    for negatives, wanted in ((False, [9, 25, 36]), (True, [9, 25, 34, 36])):
        folder = tmp_path / f"masks{negatives}"
        folder.mkdir()
        drawn = {"mask_folder": folder, "mask_path": folder}
        manifest, counts = read_coco(root, **named, negatives=negatives, **drawn, **QUIET)
        found = manifest.split("train")
        assert [int(record.id[-12:]) for record in found] == wanted
        assert counts["train"]["images_without_label"] == 2
        assert counts["train"]["compared_with_masks"] == len(wanted)
    assert (found[2].labels, found[2].label_source) == ((), "instances")
    assert found[2].mask.is_file()
