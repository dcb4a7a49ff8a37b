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


def found(*sources, skip="in/out"):
    return {id: str(path) for id, path in find_images(sources, skip=Path(skip)).items()}


def test_a_folder_with_its_folders_but_not_its_results(tree):
    assert found("in") == {"a": "in/a.png", "b": "in/b.JPG", "sub/a": "in/sub/a.webp", "v.1": "in/v.1.jpeg"}


def test_earlier_results_elsewhere_are_no_images(tree):
    Path("in/sub/segments.csv").touch()
    assert found("in") == {"a": "in/a.png", "b": "in/b.JPG", "v.1": "in/v.1.jpeg"}
    assert found("in/sub/a.webp") == {"a": "in/sub/a.webp"}


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
        (["in/out"], "in/out: no image outside "),
        (["in/a.png", "in/sub"], "in/a.png and in/sub/a.webp: the results of both would be called a; name the folder"),
        (["none.txt"], "none.txt: an empty list"),
        (["latin.txt"], "latin.txt: not a list of paths in UTF-8"),
    ],
)
def test_what_is_no_source_is_one_line(tree, sources, message):
    Path("empty").mkdir()
    Path("none.txt").write_text("\n")
    Path("latin.txt").write_bytes(b"\xe4.png")
    with pytest.raises(UserError, match=f"^{message}"):
        found(*sources)
