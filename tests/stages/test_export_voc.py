"""The archive for the VOC server: what is in it, equal bytes, and what is refused."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sfc.data.images import voc_palette
from sfc.data.manifest import Manifest, Record, write_manifest
from sfc.label_archive import LabelArchiveWriter
from sfc.readers.voc import VOC_CLASSES
from stages.export_voc import main

SIZES = {"2008_000006": (5, 7), "2008_000001": (4, 3), "2008_000002": (1, 1)}


def write(sizes=SIZES, classes=VOC_CLASSES, value=None):
    """Manifest with these test images and one other, and predictions of `sizes`; returns the label maps."""
    Path("out").mkdir(exist_ok=True)
    records = [Record(i, "test", Path("a.jpg"), None, *size, (), "", "table") for i, size in SIZES.items()]
    records.append(Record("2007_000033", "val", Path("a.jpg"), None, 2, 2, (0,), "", "table"))
    write_manifest(Manifest(tuple(records), tuple(classes)), "out/manifest.csv", "out/classes.json")
    rng = np.random.default_rng(0)
    labels = {id: rng.integers(0, 21, size, dtype=np.uint8) for id, size in sizes.items()}
    if value is not None:
        labels["2008_000001"][0, 0] = value
    with LabelArchiveWriter("out/predictions.zip") as writer:
        for id, label in labels.items():
            writer.write(id, label)
    return labels


def run(*options):
    return CliRunner().invoke(main, options)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_archive_is_what_the_server_takes():
    labels = write()
    done = run()
    assert done.exit_code == 0, done.output
    with tarfile.open("out/voc_results.tar.gz", "r:gz") as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == [
            f"results/VOC2012/Segmentation/comp6_test_cls/{id}.png" for id in sorted(SIZES)
        ]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.isfile()) for m in members} == {(0, 0, 0, "", "", True)}
        for member in members:
            with Image.open(io.BytesIO(tar.extractfile(member).read())) as image:
                assert image.mode == "P"
                np.testing.assert_array_equal(np.array(image), labels[Path(member.name).stem])
                found = np.reshape(image.getpalette(), (-1, 3))
                np.testing.assert_array_equal(found[:21], voc_palette()[:21])


def test_equal_predictions_are_equal_bytes_under_any_name():
    write()
    assert run("--to", "a.tar.gz").exit_code == run("--to", "b/c.tgz").exit_code == 0
    assert Path("a.tar.gz").read_bytes() == Path("b/c.tgz").read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": {"2008_000006": (5, 7)}}, "lacks test image 2008_000001 (2 lacking, 0 others); set predict.split"),
        (
            {"sizes": {**SIZES, "2007_000033": (2, 2)}},
            "holds 2007_000033, which is no test image (0 lacking, 1 others)",
        ),
        ({"sizes": {**SIZES, "2008_000001": (3, 4)}}, "2008_000001 is 3x4, its image 4x3"),
        ({"value": 21}, "2008_000001 has the value 21, no class"),
        ({"value": 255}, "2008_000001 has the value 255, no class"),
        ({"classes": VOC_CLASSES[::-1]}, "out/classes.json has others"),
    ],
)
def test_what_the_server_would_refuse_is_refused_here(settings, message):
    write(**settings)
    done = run()
    assert done.exit_code == 1
    assert message in done.output.splitlines()[-1]
    assert [path.name for path in sorted(Path("out").iterdir())] == ["classes.json", "manifest.csv", "predictions.zip"]


def test_without_predictions_or_test_split_it_says_so():
    write()
    Path("out/predictions.zip").unlink()
    assert "out/predictions.zip: no such file" in run().output
    text = Path("out/manifest.csv").read_text()
    Path("out/manifest.csv").write_text(text.replace(",test,", ",val,"))
    assert "no image in split test" in run().output
