"""Known classes by name, and from tables however they name an image."""

from pathlib import Path

import pytest

from sfc.deployment.known_labels import read_labels
from sfc.errors import UserError

CLASSES = ("cat", "dog", "polar_bear")
IMAGES = {"a": Path("in/a.png"), "sub/b": Path("in/sub/b.jpg")}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()


def known_classes(labels, images, classes):
    return read_labels(labels).of_images(images, classes)


def table(text, path="in/labels.csv"):
    Path(path).write_text(text)
    return known_classes(path, IMAGES, CLASSES)


def test_names_hold_for_all_images():
    assert known_classes("dog,cat", IMAGES, CLASSES) == {"a": (0, 1), "sub/b": (0, 1)}
    assert known_classes("polar bear", IMAGES, CLASSES) == {"a": (2,), "sub/b": (2,)}


@pytest.mark.parametrize("name", ["sub/b.jpg", "in/sub/b.jpg", "b.jpg", "b", "sub/b", "sub\\b.jpg"])
def test_an_image_by_every_name(name):
    assert table(f"image,classes\n{name},dog cat\n") == {"sub/b": (0, 1)}


def test_of_several_names_the_one_that_says_most_decides():
    known = [("in/sub/b.jpg", "cat"), ("sub/b", "dog"), ("b.jpg", "polar_bear"), ("b", "cat dog")]
    wanted = [(0,), (1,), (2,), (0, 1)]
    for first, shown in enumerate(wanted):
        rows = [f"{name},{classes}\n" for name, classes in known[first:]]
        for text in ("".join(rows), "".join(reversed(rows))):
            assert table(f"image,classes\n{text}") == {"sub/b": shown}


def test_tables_as_the_readers_and_the_manifest_have_them():
    assert table("image_id,split,classes\na,train,dog\nb,val,\n") == {"a": (1,), "sub/b": ()}
    assert table("id,image,classes\nx,in/a.png,cat\n", "manifest.csv") == {"a": (0,)}
    assert table("image,classes\na.png,polar bear;dog\n") == {"a": (1, 2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,classes\na,dgo\n", "in/labels.csv: line 2: unknown class 'dgo'; did you mean dog?"),
        (
            "image,classes\na,background\n",
            "in/labels.csv: line 2: unknown class 'background'; it is always there",
        ),
        ("image,classes\na,dog\na,cat\n", "in/labels.csv: line 3: a stands in the table with other classes already"),
        ("file,classes\na,dog\n", "in/labels.csv: column image is missing"),
    ],
)
def test_faults_of_a_table_are_one_line(text, message):
    with pytest.raises(UserError) as error:
        table(text)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("none.csv", "--labels none.csv: no such file"),
        ("missing.txt", "--labels: 'missing.txt' is neither a file nor a class; the model knows cat, dog, polar_bear"),
        ("in", "--labels: 'in' is neither a file nor a class; the model knows cat, dog, polar_bear"),
        ("cot", "--labels: 'cot' is neither a file nor a class; did you mean cat?"),
        ("cat,cow", "--labels: 'cow' is no class; "),
        ("background", "--labels: 'background' is always there; name classes beside it, or none for all"),
        ("cat,background", "--labels: 'background' is always there; "),
        (",".join(["cat"] * 100 + ["cow"]), "--labels: 'cow' is no class; "),
        (",", "--labels: ',' names no class; the model knows cat, dog, polar_bear"),
        ("", "--labels: '' names no class; the model knows cat, dog, polar_bear"),
    ],
)
def test_no_such_table_or_class(labels, message):
    with pytest.raises(UserError) as error:
        known_classes(labels, IMAGES, CLASSES)
    assert str(error.value).startswith(message)
    assert "dataset." not in str(error.value)


def test_the_form_of_a_table_is_seen_without_a_model():
    Path("in/labels.csv").write_text("file,classes\na,dog\n")
    with pytest.raises(UserError, match=r"^in/labels.csv: column image is missing"):
        read_labels("in/labels.csv")
    with pytest.raises(UserError, match=r"in/labels.csv: line 2: unknown class 'x'; the model knows cat, dog"):
        table("image,classes\na,x\n")
