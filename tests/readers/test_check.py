import builtins
import io

from PIL import Image

from sfc.readers.check import inspect
from tests.data.folder import write_image


def test_an_image_is_read_once(tmp_path, monkeypatch):
    """For its pixels, its hash and its rotation tag."""
    path = tmp_path / "a.jpg"
    write_image(path, 12, 16)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)
    opened, real = [], open

    def counted(file, *args, **kwargs):
        opened.append(file)
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", counted)
    monkeypatch.setattr(io, "open", counted)
    facts = inspect(path, None, 3)
    monkeypatch.undo()
    assert opened == [path]
    assert (facts.height, facts.width, facts.rotated, facts.mask_classes) == (12, 16, True, None)
