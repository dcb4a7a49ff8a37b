import pytest

from sfc.errors import UserError
from sfc.label_table import class_indices, read_label_table
from sfc.readers.labels import check_class_names, read_xml_labels

XML = """<annotation><object><name>dog</name><part><name>head</name></part></object>
<object><name> cat </name><difficult>1</difficult></object><object><name>dog</name></object></annotation>"""


DEPTHS = "".join(f'<!ENTITY e{depth} "{f"&e{depth - 1};" * 10}">' for depth in range(1, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'<!DOCTYPE a [<!ENTITY e0 "0123456789">{DEPTHS}]><annotation><object><name>&e9;</name></object></annotation>',
         "amplification"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><object><name>&x;</name></object>'
         "</annotation>", "undefined entity"),
    ],
    ids=["unfolds to gigabytes", "names another file"],
)  # fmt: skip
def test_annotations_unfold_nothing(tmp_path, text, message):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(UserError, match=rf"a\.xml: not a VOC annotation file \(.*{message}"):
        read_xml_labels(tmp_path / "a.xml")


def table(folder, text):
    path = folder / "labels.csv"
    path.write_bytes(text.encode())
    return path


def test_table(tmp_path):
    read = read_label_table(table(tmp_path, "\ufeffimage_id,split,classes\r\na,train,dog cat dog\r\nb,val,\r\n"))
    assert read == {"a": ("train", ("dog", "cat")), "b": ("val", ())}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,classes\na,dog\n", "column split is missing"),
        ("", "column image_id is missing"),
        ("image_id,split,classes\na,train,dog\na,val,cat\n", "line 3: image a comes a second time"),
        ("image_id,split,classes\na,train\n", "line 2: expected image_id,split,classes"),
        ("image_id,split,classes\n,train,dog\n", "line 2: expected image_id,split,classes"),
        (
            "image_id,split,classes\na,train,dog,cat\n",
            "line 2 has more cells than columns; write spaces between",
        ),
        ("image_id,split,classes,classes\na,train,dog,cat\n", "column classes comes twice; rename or delete one"),
        ('image_id,split,classes\na,train,"dog\nb,train,cat\n', r"from line 2 on: no CSV .*; is a quote open\?"),
    ],
)
def test_faulty_tables(tmp_path, text, message):
    with pytest.raises(UserError, match=rf"labels\.csv: {message}"):
        read_label_table(table(tmp_path, text))


def test_missing_table_and_binary_file(tmp_path):
    for name in ("nothing.csv", "x" * 300):
        with pytest.raises(UserError, match="no such label table"):
            read_label_table(tmp_path / name)
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a CSV file"):
        read_label_table(tmp_path / "labels.csv")


def test_xml_takes_objects_but_not_their_parts(tmp_path):
    (tmp_path / "a.xml").write_text(XML)
    assert read_xml_labels(tmp_path / "a.xml") == ("dog", "cat")
    (tmp_path / "a.xml").write_text(XML[:50])
    with pytest.raises(UserError, match=r"a\.xml: not a VOC annotation"):
        read_xml_labels(tmp_path / "a.xml")


@pytest.mark.parametrize("encoding", ["shift_jis", "utf-7", "klingon"])
def test_xml_in_an_encoding_that_cannot_be_read(tmp_path, encoding):
    (tmp_path / "a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?>\n<annotation></annotation>')
    with pytest.raises(UserError, match=r"a\.xml: not a VOC annotation file"):
        read_xml_labels(tmp_path / "a.xml")


def test_class_indices():
    assert class_indices(["dog", "ant"], ("ant", "bee", "dog")) == (0, 2)
    with pytest.raises(UserError, match="unknown class 'dgo'; did you mean dog"):
        class_indices(["dgo"], ("ant", "bee", "dog"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "0 classes"),
        ([f"c{i}" for i in range(255)], "255 classes"),
        (["dog", "traffic light"], "must be one word"),
        (["dog", "c\x1bat"], "must be one word"),
        (["background", "dog"], "foreground classes only"),
        (["dog", "ant", "dog"], "class dog comes twice"),
    ],
)
def test_faulty_class_names(classes, message):
    with pytest.raises(UserError, match=f"here: .*{message}"):
        check_class_names(classes, "here")
