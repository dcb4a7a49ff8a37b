"""The table of a folder of results: read again whatever a killed process left, and what is none of ours."""

from pathlib import Path

import numpy as np
import pytest

from sfc.deployment.results import (
    check_images,
    heading,
    heat_map_path,
    read_rows,
    row_of,
    table_bytes,
    table_rows,
)
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


def test_a_row(folder):
    (row,) = write("sub/a")
    found = dict(zip(heading(CLASSES), row, strict=True))
    about = {"image": f"{folder}/in/sub/a.jpg", "label_map": "labels/sub/a.png", "overlay": "overlays/sub/a.jpg"}
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


@pytest.fixture
def other(folder):
    """Another photograph of the name a.jpg, in a folder of its own."""
    path = folder / "other/in/a.jpg"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_an_image_takes_its_own_place_from_any_folder_and_by_any_path(folder, monkeypatch):
    write("a")
    Path("linked").symlink_to("in")
    for path in ("in/a.jpg", "in/../in/a.jpg", "linked/a.jpg", folder / "in/a.jpg"):
        check_images(Path("o"), {"a": Path(path)}, read_rows(Path("o"), CLASSES))
    monkeypatch.chdir("in")
    check_images(Path("../o"), {"a": Path("a.jpg")}, read_rows(Path("../o"), CLASSES))


def test_no_result_takes_the_place_of_another_images(folder, other, monkeypatch):
    write("a")
    rows = read_rows(Path("o"), CLASSES)
    said = f"^o/labels/a.png is the result of {folder}/in/a.jpg, and that of other/in/a.jpg would replace it; name"
    with pytest.raises(UserError, match=said):
        check_images(Path("o"), {"a": Path("other/in/a.jpg")}, rows)
    monkeypatch.chdir("other")  # where the path from the working directory is the same
    with pytest.raises(UserError, match=f"is the result of {folder}/in/a.jpg, and that of in/a.jpg would replace it"):
        check_images(folder / "o", {"a": Path("in/a.jpg")}, rows)


def test_results_of_an_image_that_is_gone_are_not_replaced_until_they_are_deleted(folder, other):
    write("a")
    Path("in/a.jpg").unlink()
    said = rf"is the result of {folder}/in/a.jpg \(gone\), and that of .* by --out, or delete that label map$"
    with pytest.raises(UserError, match=said):
        check_images(Path("o"), {"a": other}, read_rows(Path("o"), CLASSES))
    Path("o/labels/a.png").unlink()
    check_images(Path("o"), {"a": other}, read_rows(Path("o"), CLASSES))


def test_a_row_that_does_not_say_in_which_folder_its_image_lies_is_no_images(folder):
    (row,) = write("a")
    rows = {row[1]: ["in/a.jpg", *row[1:]]}
    with pytest.raises(UserError, match=r"is the result of in/a.jpg \(of an unknown folder\), and that of in/a.jpg"):
        check_images(Path("o"), {"a": Path("in/a.jpg")}, rows)


@pytest.mark.parametrize("name", ["labels", "overlays", "heat_maps"])
def test_no_result_takes_the_place_of_what_is_no_result(name):
    write("a")
    rows = read_rows(Path("o"), CLASSES)
    Path(f"o/{name}").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=f"^o/{name}/a.png: lies where results go"):
        check_images(Path("o"), {"a": Path(f"o/{name}/a.png")}, rows)
    Path(f"mine/{name}").mkdir(parents=True)
    check_images(Path("mine"), {"a": Path("in/a.jpg")}, {})
    Path(f"mine/{name}/x").touch()
    with pytest.raises(UserError, match=f"^mine/{name}: holds files, and no segments.csv says that they are results"):
        check_images(Path("mine"), {"a": Path("in/a.jpg")}, {})


def test_heat_maps_have_files_of_their_own():
    of = [("x", name) for name in ("a/b", "a_b", "a%2Fb", "a.b", "b", ".b", "/b")] + [("x.a", "b"), ("x/a", "b")]
    assert len({heat_map_path(*one) for one in of}) == len(of)
    assert heat_map_path("sub/x", "polar bear") == "heat_maps/sub/x.polar bear.jpg"
    assert all("/" not in heat_map_path("x", name).removeprefix("heat_maps/") for _, name in of)
