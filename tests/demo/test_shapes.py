import csv
import filecmp

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sfc.demo.drawings import CLASSES, draw_object
from sfc.demo.shapes import draw_scene, label_sets, main
from sfc.randomness import generator
from tests.readers.voc_folder import read


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(main, [str(out), "--images", "24", "--size", "64", "--imbalance", "4"])
    assert result.exit_code == 0, result.output
    return out


def test_demo_is_a_valid_data_set_whose_masks_show_its_labels(demo):
    manifest, counts = read(demo)
    assert (counts["train"]["images_without_label"], counts["train"]["differ_from_masks"]) == (0, 0)
    assert (len(manifest.split("train")), len(manifest.split("val"))) == (24, 6)
    assert {r.label_source for r in manifest.records} == {"table"}
    (demo / "labels.csv").rename(demo / "labels.txt")
    from_masks, _ = read(demo)
    (demo / "labels.txt").rename(demo / "labels.csv")
    assert [r.labels for r in from_masks.records] == [r.labels for r in manifest.records]


def test_same_seed_same_bytes(demo, tmp_path):
    for folder, seed in (("same", "0"), ("other", "1")):
        args = [str(tmp_path / folder), "--images", "24", "--size", "64", "--imbalance", "4", "--seed", seed]
        assert CliRunner().invoke(main, args).exit_code == 0
    files = [path.relative_to(demo) for path in demo.rglob("*") if path.is_file()]
    assert filecmp.cmpfiles(demo, tmp_path / "same", files, shallow=False)[0] == files
    images = [f for f in files if f.suffix == ".jpg"]
    assert filecmp.cmpfiles(demo, tmp_path / "other", images, shallow=False)[1] == images


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["voc"], "voc: something else lies there; name another folder"),
        ([""], "'' is no path; is a variable of the shell not set?"),
        (["file/x"], "Not a directory; name another folder, or make room"),
        (["new", "--imbalance", "nan"], "nan is no number"),
        (["new", "--size", "999999999"], "999999999 is not in the range 32<=x<=4096"),
    ],
)
def test_what_is_there_stays_and_what_cannot_be_is_one_line(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc/labels.csv").write_text("mine")
    (tmp_path / "file").touch()
    done = CliRunner().invoke(main, [*arguments, "--images", "1"])
    assert done.exit_code in (1, 2)
    assert done.output.splitlines()[-1].startswith("Error: ")
    assert said in done.output.splitlines()[-1]
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["file", "voc", "labels.csv"]


def test_a_drawing_may_be_drawn_anew(demo):
    arguments = [str(demo), "--images", "24", "--size", "64", "--imbalance", "4"]
    assert CliRunner().invoke(main, arguments).exit_code == 0


def test_table_names_the_splits(demo):
    with open(demo / "labels.csv") as file:
        assert {row["split"] for row in csv.DictReader(file)} == {"train", "val"}


def test_default_counts_fall_by_twenty_or_more_and_fit_the_budget():
    options = {option.name: option.default for option in main.params}
    sets = label_sets(np.random.default_rng(0), options["images"], options["imbalance"])
    counts = np.bincount(np.concatenate(sets), minlength=len(CLASSES))
    assert (np.diff(counts) < 0).all()
    assert counts[0] >= 20 * counts[-1]
    assert counts[-1] >= 8
    assert {len(kinds) for kinds in sets} == {1, 2, 3}
    files = 2 * (options["images"] + options["images"] // 4) + 4
    assert files < 900
    val = label_sets(np.random.default_rng(0), options["images"] // 4, 1.0)
    assert np.bincount(np.concatenate(val)).min() >= 8


def test_image_and_mask_line_up():
    """Away from its edges an object's pixels look like the object, not like the muted background."""
    bus = CLASSES.index("bus") + 1
    image, mask = draw_scene(generator(0, "test", 1), (bus - 1,), 128)
    assert image.size == mask.shape[::-1]
    saturation = np.asarray(image.convert("HSV"))[..., 1] / 255
    assert set(np.unique(mask)) == {0, bus}
    assert saturation[mask == bus].mean() > saturation[mask == 0].mean() + 0.2


@pytest.mark.parametrize("kind", range(len(CLASSES)))
def test_objects_vary_but_fill_their_box(kind):
    colours, shape = draw_object(generator(0, "test", kind), kind, 60)
    other, _ = draw_object(generator(1, "test", kind), kind, 60)
    assert colours.shape == (*shape.shape, 3)
    assert 0.3 < shape.mean() < 0.95
    assert not np.array_equal(colours, other)


def test_masks_carry_the_palette(demo):
    mask = Image.open(next((demo / "SegmentationClass").iterdir()))
    assert mask.mode == "P"
    assert mask.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
