"""Which images are meant, and what their results are called."""

from pathlib import Path

import pytest

from sfc.deployment.sources import find_images
from sfc.errors import UserError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/b.JPG",
        "in/a.png",
        "in/sub/a.webp",
        "in/.hidden.png",
        "in/notes.md",
        "in/v.1.jpeg",
        "in/out/a.png",
    ):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def found(*sources):
    return {id: str(path) for id, path in find_images(sources).items()}


def test_a_folder_with_its_folders(tree):
    inside = {"a": "in/a.png", "b": "in/b.JPG", "out/a": "in/out/a.png", "sub/a": "in/sub/a.webp", "v.1": "in/v.1.jpeg"}
    assert found("in") == inside
    put(".git/x.png", "in/.cache/deep/x.png")
    assert found(".") == {f"in/{id}": path for id, path in inside.items()}


def test_a_way_up_and_down_again_is_none(tree):
    assert found("in/su?/../a.png") == {"a": "in/sub/../a.png"}
    assert list(found("in/a.png/**")) == ["a"]


def put(*paths):
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("where", ["in/results", "in", "."])
def test_results_are_passed_over_and_photographs_beside_them_are_not(tree, where):
    before = found("in")
    results = [f"{where}/{name}/in/a.png" for name in ("labels", "overlays", "heat_maps")]
    put(f"{where}/segments.csv", *results)
    assert found("in") == before
    assert found("in/**/*") == before
    assert found(".") == {f"in/{id}": path for id, path in before.items()}


def test_folders_of_these_names_without_a_table_hold_photographs(tree):
    put("in/labels/c.png", "in/sub/overlays/d.png")
    assert {"labels/c", "sub/overlays/d"} <= found("in").keys()


def test_results_that_are_named_are_meant(tree):
    put("in/segments.csv", "in/labels/c.png")
    assert found("in/labels") == {"c": "in/labels/c.png"}
    assert found("in/labels/*.png") == found("in/labels/c.png") == {"c": "in/labels/c.png"}
    put("old/segments.csv", "old/labels/c.png")
    with pytest.raises(UserError, match=r"^old: no image there but results of earlier runs"):
        found("old")


def test_images_of_one_name_in_several_folders_are_told_apart(tree):
    assert found("in/a.png", "in/b.JPG", "in/sub") == {"a": "in/a.png", "b": "in/b.JPG", "sub/a": "in/sub/a.webp"}
    assert found("in/out", "in/sub") == {"out/a": "in/out/a.png", "sub/a": "in/sub/a.webp"}
    Path("list.txt").write_text(f"{tree}/in/out/a.png\n{tree}/in/sub/a.webp\n{tree}/in/b.JPG\n")
    assert list(found("list.txt")) == ["out/a", "sub/a", "b"]


def test_folders_in_a_list(tree):
    Path("in/list.txt").write_text(f"sub\n{tree / 'in/out'}\nb.JPG\n")
    assert found("in/list.txt") == {"sub/a": "in/sub/a.webp", "a": str(tree / "in/out/a.png"), "b": "in/b.JPG"}
    Path("in/none").mkdir()
    Path("in/list.txt").write_text("none\n")
    with pytest.raises(UserError, match=r"^in/list.txt: none: no image there"):
        found("in/list.txt")


def test_files_globs_and_an_image_named_twice(tree):
    assert found("in/b.JPG") == {"b": "in/b.JPG"}
    assert found("in/*.png", "in/a.png") == {"a": "in/a.png"}
    assert found("in/**/*.webp") == {"sub/a": "in/sub/a.webp"}
    assert found("i[n]/b*") == {"in/b": "in/b.JPG"}


def test_lists_are_read_from_here_or_from_beside_them(tree):
    Path("here.txt").write_text(f"in/a.png\n\n{tree / 'in/b.JPG'}\n", encoding="utf-8-sig")
    assert found("here.txt") == {"in/a": "in/a.png", "b": str(tree / "in/b.JPG")}
    Path("in/beside.txt").write_text("sub/a.webp\nmissing.jpg\n../in/a.png\n")
    assert found("in/beside.txt") == {"sub/a": "in/sub/a.webp", "missing": "missing.jpg", "a": "in/../in/a.png"}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["in", "gone.jpg"], "gone.jpg: no such file or folder"),
        (["in/*.gif"], r"in/\*.gif: no image there \(a file that ends in .jpg, "),
        (["empty"], "empty: no image there"),
        (["in/a.png", "in/a.jpg"], "in/a.png and in/a.jpg: the results of both would be called a; segment them into"),
        (["in"], "in/a.jpg and in/a.png: the results of both would be called a; segment them into"),
        (
            ["in/su?/../../b.jpg"],
            r"in/su\?/../../b.jpg: in/sub/../../b.jpg lies outside in, and would be written there",
        ),
        (["x" * 300], "x{300}: no such file or folder"),
        (["none.txt"], "none.txt: an empty list"),
        (["latin.txt"], "latin.txt: not a list of paths in UTF-8"),
        (["zeros.txt"], "zeros.txt: not a list of paths in UTF-8 .it holds zero bytes.; save it as UTF-8"),
    ],
)
def test_what_is_no_source_is_one_line(tree, sources, message):
    Path("empty").mkdir()
    put("in/a.jpg", "b.jpg")
    Path("none.txt").write_text("\n")
    Path("zeros.txt").write_bytes("in/a.jpg".encode("utf-16-le"))
    Path("latin.txt").write_bytes(b"\xe4.png")
    with pytest.raises(UserError, match=f"^{message}"):
        found(*sources)
