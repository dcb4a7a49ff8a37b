import pytest

from sfc.errors import UserError
from sfc.example_archive import ExampleArchive, ExampleArchiveWriter


@pytest.fixture
def content(tmp_path):
    def write(name="a.zip"):
        with ExampleArchiveWriter(tmp_path / name) as archive:
            archive.write("one/image.jpg", b"pixels")
            archive.finish({"product": "cam", "labels": [{"name": "köder"}]})
        return (tmp_path / name).read_bytes()

    return write


def test_what_is_written_is_read(content):
    archive = ExampleArchive(content(), source="a.zip")
    assert archive.index == {"product": "cam", "labels": [{"name": "köder"}]}
    assert archive.read("one/image.jpg") == b"pixels"


def test_equal_content_is_equal_bytes(content):
    assert content("a.zip") == content("b.zip")


def test_damage_is_one_line(content):
    with pytest.raises(UserError, match=r"^a.zip: not an archive of examples; run the stage evaluate again$"):
        ExampleArchive(content()[:40], source="a.zip")
    with pytest.raises(UserError, match=r"^a.zip: two is missing or damaged"):
        ExampleArchive(content(), source="a.zip").read("two")
    flipped = content().replace(b"pixels", b"pixelz")
    with pytest.raises(UserError, match=r"^a.zip: one/image.jpg is missing or damaged"):
        ExampleArchive(flipped, source="a.zip").read("one/image.jpg")
