import numpy as np
import pytest
from PIL import ExifTags, Image

from sfc.data.manifest import read_manifest, write_manifest
from sfc.errors import UserError
from sfc.label_archive import LabelArchive, LabelArchiveWriter
from sfc.localization.store import CamStore, CamWriter
from sfc.readers.table import read_table
from tests.data.folder import write_image, write_mask


@pytest.fixture
def root(tmp_path):
    for name in ("1.JPG", "2.jpeg", "sub/1.png", "Füchse am Bach.jpg"):
        write_image(tmp_path / "mine" / name, 12, 16)
    return tmp_path / "mine"


def read(root, text, encoding="utf-8", **changes):
    (root / "labels.csv").write_bytes(text.encode(encoding))
    settings = {"train": "train", "val": "val", "test": None, "labels": root / "labels.csv", "classes": None}
    settings["negatives"] = False
    return read_table(root, **{**settings, "workers": 2, "progress": lambda items, total, label: items, **changes})


def labels(manifest):
    return {r.id: " ".join(manifest.classes[i] for i in r.labels) for r in manifest.records}


def test_images_and_classes_alone(root):
    manifest, counts = read(root, "image,classes\n1.JPG,fox bear\n2.jpeg,bear\nsub/1.png,\nFüchse am Bach.jpg,fox\n")
    assert manifest.classes == ("bear", "fox")
    assert labels(manifest) == {"1": "bear fox", "2": "bear", "Füchse am Bach": "fox"}
    assert {(r.split, r.mask, r.label_source, r.height) for r in manifest.records} == {("train", None, "table", 12)}
    assert counts == {"images_with_rotation_tag": 0, "train": {"images_without_label": 1}}
    assert manifest.members("val") == []


def test_byte_order_mark_windows_line_ends_and_what_spreadsheets_add(root):
    text = "image , classes,note,\r\n1.JPG, fox ,seen twice,\r\nsub\\1.png,bear,,\r\n,,,\r\n\r\n"
    manifest, _ = read(root, text, encoding="utf-8-sig")
    assert labels(manifest) == {"1": "fox", "sub_1": "bear"}
    assert manifest.records[1].image == root / "sub/1.png"


@pytest.mark.parametrize("mark", [";", "|", " ; "])
def test_separators_let_names_hold_spaces_in_every_row(root, mark):
    manifest, _ = read(root, f"image,classes\n1.JPG,polar bear{mark}fox\n2.jpeg,polar  bear\n")
    assert manifest.classes == ("fox", "polar_bear")
    assert labels(manifest) == {"1": "fox polar_bear", "2": "polar_bear"}


def test_a_forgotten_separator_is_seen(root):
    with pytest.raises(UserError, match=r"line 4: write ; between the classes bear and fox"):
        read(root, "image,classes\n1.JPG,bear;fox\n2.jpeg,bear\nsub/1.png,bear fox\n", classes=("bear", "fox"))


def test_splits_and_masks(root):
    write_mask(root / "m/2.png", np.eye(12, 16) * 2)
    text = "split,mask,classes,image\na,,fox,1.JPG\nb,m/2.png,bear,2.jpeg\nb,,,sub/1.png\nc,,,Füchse am Bach.jpg\n"
    manifest, counts = read(root, text, train="a", val="b", test="c")
    assert [(r.id, r.split, r.mask) for r in manifest.records] == [
        ("1", "train", None),
        ("2", "val", root / "m/2.png"),
        ("sub_1", "val", None),  # kept: only training needs a class
        ("Füchse am Bach", "test", None),
    ]
    # the mask shows value 2, fox; the table says bear
    assert counts["val"] == {"images_without_label": 1, "compared_with_masks": 1, "differ_from_masks": 1}
    with pytest.raises(UserError, match=r"line 5: split 'c' is none of dataset.train, val and test \(a, b\)"):
        read(root, text, train="a", val="b")


def test_class_names_given(root):
    assert read(root, "image,classes\n1.JPG,fox\n", classes=("fox", "wolf"))[0].classes == ("fox", "wolf")
    with pytest.raises(UserError, match="line 2: unknown class 'fix'; did you mean fox"):
        read(root, "image,classes\n1.JPG,fix\n", classes=("fox", "wolf"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,class\n1.JPG,fox\n", r"labels\.csv: column classes is missing; the first line must be image,classes"),
        ("", r"column image is missing"),
        ("image,classes\n1.JPG,fox\n,bear\n", "line 3: no image"),
        ("image,classes\n1.JPG,fox,bear\n", "line 2 has more cells than columns; write ; between classes"),
        ("image,classes\n1.JPG,fox\n1.JPG,fox\n", r"line 3: 1\.JPG stands on line 2 already; delete one"),
        ("image,classes\nsub/1.png,fox\nsub_1.png,fox\n", "line 3: sub_1.png has the id of sub/1.png on line 2, sub_1"),
        ("image,classes\n/etc/1.jpg,fox\n", "line 2: image /etc/1.jpg must be a file's path from dataset.root"),
        ("image,classes\nC:\\mine\\1.jpg,fox\n", "line 2: image .* must be a file's path from dataset.root"),
        (
            "image,classes,mask\n1.JPG,fox,../1.png\n",
            "line 2: mask ../1.png must be a file's path from dataset.root",
        ),
        ("image,classes\n.,fox\n", r"line 2: image \. must be a file's path from dataset\.root"),
        ("image,classes,mask\n1.JPG,fox,./\n", r"line 2: mask \./ must be a file's path from dataset\.root"),
        (f"image,classes\n{'x' * 300}.jpg,fox\n", r"line 2: there is no file \S+x\.jpg"),
        ("image,classes\n1.JPG\n", "line 2: expected image,classes"),
        ("image,classes,classes\n1.JPG,fox,bear\n", "column classes comes twice; rename or delete one of the two"),
        ("image,classes\n3.jpg,fox\n", r"labels\.csv: line 2: there is no file \S+3\.jpg"),
        ("image,classes,mask\n1.JPG,fox,m/1.png\n", r"line 2: there is no file \S+m/1\.png"),
        (
            'image,classes\n1.JPG,"fox\n2.jpeg,fox\nsub/1.png,bear\n',
            r"labels\.csv: from line 2 on: no CSV .*; is a quote open\?",
        ),
        ('image,classes\n1.JPG,"fox\n2.jpeg,fox"\n', r"a cell goes on over lines up to line 3; close its quote"),
        ("image,classes\n1.JPG,Fox\n2.jpeg,fox\n", "Fox and fox would be two classes; write the name in one way"),
        ("image,classes\n1.JPG,\n", "no image of split train has a class"),
        ("image,classes\n1.JPG,background\n", "background is added as value 0"),
    ],
)
def test_faulty_tables(root, text, message):
    with pytest.raises(UserError, match=message):
        read(root, text)


def test_table_must_be_utf_8_and_inside_the_folder(root, tmp_path):
    with pytest.raises(UserError, match=r"labels\.csv: not a CSV file in UTF-8"):
        read(root, "image,classes\nFüchse am Bach.jpg,fox\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"other\.csv: no such label table; see dataset\.labels"):
        read(root, "", labels=root / "other.csv")
    with pytest.raises(UserError, match=r"dataset\.labels: move .* so that DVC sees when it changes"):
        read(root, "", labels=tmp_path / "labels.csv")
    with pytest.raises(UserError, match=r"dataset\.root: no such folder"):
        read_table(
            root / "x",
            train="a",
            val="b",
            test=None,
            labels=root / "x",
            classes=None,
            negatives=False,
            workers=0,
            progress=lambda i, total: i,
        )


def test_names_are_found_however_they_are_written(root):
    (root / "Füchse am Bach.jpg").rename(root / "Fu\u0308chse am Bach.jpg")  # as macOS takes accents apart
    write_image(root / "a.jpg", 12, 16)
    write_image(root / "A.jpg", 12, 16, seed=1)
    text = "image,classes\nF\u00fcchse am Bach.jpg,fox\nSUB/1.PNG,bear\n1.jpg,fox\nA.jpg,fox\na.jpg,bear\n"
    found = {r.id: r.image.relative_to(root).as_posix() for r in read(root, text)[0].records}
    assert found == {
        "F\u00fcchse am Bach": "Fu\u0308chse am Bach.jpg",
        "SUB_1": "sub/1.png",
        "1": "1.JPG",
        "A": "A.jpg",
        "a": "a.jpg",
    }
    with pytest.raises(UserError, match=r"line 2: there is no file \S+a\.JPG"):  # which of the two?
        read(root, "image,classes\na.JPG,fox\n")


def test_a_mask_drawn_on_a_rotated_view_is_explained(root):
    tag = Image.Exif()
    tag[ExifTags.Base.Orientation] = 6
    Image.open(root / "1.JPG").save(root / "turned.jpg", exif=tag)
    write_mask(root / "m.png", np.zeros((16, 12)))
    message = r"m\.png: 12 x 16 pixels, but its image is 16 x 12; the image has a rotation tag, which is not applied"
    with pytest.raises(UserError, match=message):
        read(root, "image,classes,mask\nturned.jpg,fox,m.png\n")


def test_masks_are_checked(root):
    write_mask(root / "m.png", np.full((12, 16), 3))
    with pytest.raises(UserError, match=r"m\.png: value 3 is none of the 1 classes"):
        read(root, "image,classes,mask\n1.JPG,fox,m.png\n")


def test_strange_names_pass_through_manifest_archive_and_store(root, tmp_path):
    manifest, _ = read(root, "image,classes\nFüchse am Bach.jpg,fox\nsub/1.png,fox\n")
    files = tmp_path / "m.csv", tmp_path / "c.json"
    write_manifest(manifest, *files)
    assert read_manifest(*files) == manifest
    ids = [record.id for record in manifest.records]
    assert ids == ["Füchse am Bach", "sub_1"]
    label = np.arange(6, dtype=np.uint8).reshape(2, 3)
    with LabelArchiveWriter(tmp_path / "a.zip") as archive:
        for id in ids:
            archive.write(id, label)
    archive = LabelArchive(tmp_path / "a.zip")
    assert list(archive.ids) == ids
    np.testing.assert_array_equal(archive.read(ids[0]), label)
    maps = [np.random.default_rng(0).random((2, 2, 3, 4), dtype=np.float32)]
    kinds = ("classifier", "prototype")
    writer = CamWriter(tmp_path, kinds=kinds, fused=kinds, scales=(1.0,), ids=ids)
    for id in ids:
        writer.write(id, maps)
    writer.finish()
    store = CamStore(tmp_path)
    assert list(store.ids) == ids
    np.testing.assert_array_equal(store.read(ids[0])[0], maps[0])


def test_commas_in_a_quoted_cell_part_classes(root):
    assert read(root, 'image,classes\n1.JPG,"dog, polar bear"\n')[0].classes == ("dog", "polar_bear")
