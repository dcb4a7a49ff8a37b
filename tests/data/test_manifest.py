from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfc.data.manifest import Manifest, Record, read_manifest, read_tuning, write_manifest, write_tuning
from sfc.errors import UserError

CLASSES = ("dog", "ant", "bee")


def record(image_id, split="train", labels=(0, 2), mask=Path("m/a.png")):
    return Record(image_id, split, Path(f"i/{image_id}.jpg"), mask, 375, 500, labels, "ab12", "xml")


def test_round_trip(tmp_path):
    manifest = Manifest((record("a"), record("b, c", "val", (), None), record("d", labels=(1,))), CLASSES)
    files = tmp_path / "m.csv", tmp_path / "c.json"
    write_manifest(manifest, *files)
    assert read_manifest(*files) == manifest
    assert files[0].read_text().splitlines()[1] == "a,train,i/a.jpg,m/a.png,375,500,dog bee,ab12,xml"


@pytest.mark.parametrize("names", ['["ant", "bee", "dog"]', '["bee", "ant", "dog"]'])
def test_class_names_in_another_order_are_refused(tmp_path, names):
    """Of CAMs and label maps made before, each would then stand for another class."""
    files = tmp_path / "m.csv", tmp_path / "c.json"
    write_manifest(Manifest((record("a", labels=(1,)), record("b")), CLASSES), *files)
    files[1].write_text(names)
    said = (
        rf"^{files[0]}, line 3: image b has the classes dog bee, which {files[1]} has in another order; rerun prepare$"
    )
    with pytest.raises(UserError, match=said):
        read_manifest(*files)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (-5, 5)])
def test_an_image_without_pixels_is_refused(tmp_path, height, width):
    files = tmp_path / "m.csv", tmp_path / "c.json"
    write_manifest(Manifest((record("a"), replace(record("b"), height=height, width=width)), CLASSES), *files)
    said = rf"^{files[0]}, line 3: image b is {height} pixels high and {width} wide; rerun prepare$"
    with pytest.raises(UserError, match=said):
        read_manifest(*files)


def test_split_and_label_matrix():
    manifest = Manifest((record("a"), record("b", "val", ()), record("c", labels=(1,))), CLASSES)
    train = manifest.split("train")
    assert [r.id for r in train] == ["a", "c"]
    matrix = manifest.label_matrix(train)
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0]]
    with pytest.raises(UserError, match="no image in split test"):
        manifest.split("test")


def test_missing_file_and_unknown_class(tmp_path):
    files = tmp_path / "m.csv", tmp_path / "c.json"
    with pytest.raises(UserError, match="run prepare"):
        read_manifest(*files)
    write_manifest(Manifest((record("a"),), CLASSES), *files)
    files[1].write_text('["dog"]')
    with pytest.raises(UserError, match=r"not a manifest that fits .*bee"):
        read_manifest(*files)


@pytest.mark.parametrize("text", ["", "{", "null", "3", '"dog"', '{"dog": 1}', "[]", "[1]", '["dog", null]', "\xff"])
def test_damaged_class_names(tmp_path, text):
    files = tmp_path / "m.csv", tmp_path / "c.json"
    write_manifest(Manifest((record("a"),), CLASSES), *files)
    files[1].write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=rf"^{files[1]}: not a list of class names[^\n]*; rerun prepare$"):
        read_manifest(*files)


@pytest.mark.parametrize(
    "text",
    [
        "id\n1\n",
        "id,split,image,mask,height,width,classes,image_hash,label_source\na,train\n",
        "\xff",
        'id\n"' + "x" * 140_000,
    ],
)
def test_a_damaged_manifest(tmp_path, text):
    files = tmp_path / "m.csv", tmp_path / "c.json"
    write_manifest(Manifest((record("a"),), CLASSES), *files)
    files[0].write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=rf"^{files[0]}: not a manifest that fits [^\n]+; rerun prepare$"):
        read_manifest(*files)


def test_images_for_tuning_have_no_mask_for_whoever_measures(tmp_path):
    files = tmp_path / "m.csv", tmp_path / "c.json"
    manifest = Manifest((record("a"), record("b", "val"), record("c")), CLASSES)
    write_manifest(manifest, *files)
    assert read_manifest(*files, tuning=tmp_path / "t.json") == manifest
    write_tuning(["c", "b"], tmp_path / "t.json")
    assert read_tuning(tmp_path / "t.json") == ("c", "b")
    measured = read_manifest(*files, tuning=tmp_path / "t.json")
    assert measured.tuning == {"b", "c"}
    assert measured.records == tuple(replace(r, mask=None if r.id in "bc" else r.mask) for r in manifest.records)
    assert read_manifest(*files) == manifest


@pytest.mark.parametrize("text", ["{", "7", "[1]", '["z"]'])
def test_a_damaged_list_for_tuning_is_one_line(tmp_path, text):
    files = tmp_path / "m.csv", tmp_path / "c.json"
    write_manifest(Manifest((record("a"),), CLASSES), *files)
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=r"t\.json: .*rerun prepare") as refused:
        read_manifest(*files, tuning=tmp_path / "t.json")
    assert "\n" not in str(refused.value)
