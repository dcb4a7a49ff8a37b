"""The table of a folder of results: read again whatever a killed process left, and what is none of ours."""

from pathlib import Path

import numpy as np
import pytest

from sfc.deployment.results import check_images, heading, read_rows, row_of, table_bytes, table_rows
from sfc.errors import UserError

CLASSES = ("cat", "dog")
LABEL = np.array([[0, 2, 2], [0, 0, 2]], np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*ids, end=b"", label=LABEL):
    """A folder o with results of images in the folder `in`."""
    for id in ids:
        for path in (Path(f"o/labels/{id}.png"), Path(f"in/{id}.jpg")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    rows = [row_of(id, Path(f"in/{id}.jpg"), label, CLASSES) for id in ids]
    Path("o/segments.csv").write_bytes(table_bytes([heading(CLASSES), *rows]) + end)
    return rows


def test_a_row():
    (row,) = write("sub/a")
    found = dict(zip(heading(CLASSES), row, strict=True))
    about = {"image": "in/sub/a.jpg", "label_map": "labels/sub/a.png", "overlay": "overlays/sub/a.jpg"}
    assert found == {
        **about,
        **{"height": "2", "width": "3", "background_pixels": "3", "background_share": "0.5"},
        **{"cat_pixels": "0", "cat_share": "0.0", "dog_pixels": "3", "dog_share": "0.5"},
    }


def test_rows_come_back_whatever_is_in_a_name():
    strange = ["a", 'q"uo,te', "two\nlines", "é", b"latin-\xe9".decode("utf-8", "surrogateescape")]
    rows = write(*strange)
    assert list(read_rows(Path("o"), CLASSES).values()) == rows


def test_rows_without_their_label_map_are_gone():
    write("a", "b")
    Path("o/labels/a.png").unlink()
    assert list(read_rows(Path("o"), CLASSES)) == ["labels/b.png"]


def test_the_later_of_two_rows_holds():
    first, second = write("a", "b")
    again = row_of("a", Path("in/a.jpg"), LABEL * 0, CLASSES)
    Path("o/segments.csv").write_bytes(table_bytes([heading(CLASSES), first, second, again]))
    assert read_rows(Path("o"), CLASSES) == {"labels/a.png": again, "labels/b.png": second}


def test_a_line_without_an_end_is_none():
    rows = write("a", "b", "two\nlines")
    whole = Path("o/segments.csv").read_bytes()
    for length in range(len(whole)):
        Path("o/segments.csv").write_bytes(whole[:length])
        found = list(read_rows(Path("o"), CLASSES).values())
        assert found == rows[: len(found)]
    assert len(found) == 2


def test_rows_are_in_the_order_of_the_sources_behind_those_of_other_runs():
    rows = {row[1]: row for row in write("z", "b", "a")}
    images = {"a": Path("in/a.jpg"), "c": Path("in/c.jpg"), "b": Path("in/b.jpg")}
    assert [row[1] for row in table_rows(images, rows)] == ["labels/z.png", "labels/a.png", "labels/b.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,price\n1,2\n", "not the table that this command writes"),
        (table_bytes([heading(["cow"])]), "results of a model with other classes"),
        (table_bytes([heading(CLASSES), ["x"], heading(CLASSES)]), r"\['x'\] has 1 cells of 11"),
        (b"\x00\xff\n", "not the table"),
    ],
)
def test_other_tables_are_refused(content, message):
    Path("o").mkdir()
    Path("o/segments.csv").write_bytes(content)
    with pytest.raises(UserError, match=f"^o/segments.csv: {message}"):
        read_rows(Path("o"), CLASSES)


def test_no_result_takes_the_place_of_what_is_another():
    images = {"a": Path("in/a.jpg")}
    write("a")
    rows = read_rows(Path("o"), CLASSES)
    check_images(Path("o"), images, rows)
    check_images(Path("o"), {"a": Path("in/../in/a.jpg").absolute()}, rows)
    other = Path("other/a.jpg")
    other.parent.mkdir()
    other.touch()
    with pytest.raises(UserError, match=r"^o/labels/a.png is the result of in/a.jpg, and that of other/a.jpg would"):
        check_images(Path("o"), {"a": other}, rows)
    Path("in/a.jpg").rename("in/moved.jpg")
    check_images(Path("o"), {"a": other}, rows)
    with pytest.raises(UserError, match=r"^o/labels/a.png: lies where results go"):
        check_images(Path("o"), {"a": Path("o/labels/a.png")}, rows)
    Path("o/segments.csv").unlink()
    with pytest.raises(UserError, match=r"^o/labels: holds files, and no segments.csv says that they are results"):
        check_images(Path("o"), images, {})
