import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sfc.evaluation import drawing
from sfc.evaluation.cam_rule import CamRule
from sfc.evaluation.gallery import cam_block, choose, label_block, write_sheets
from sfc.label_archive import LabelArchive, LabelArchiveWriter

RULE = {"fg_gain": 2.0, "bg_offset": 0.4}
BOTH = RULE | {"weights": {"classifier": 1.0, "prototype": 1.0}}
CLASSIFIER, PROTOTYPE = RULE | {"weights": {"classifier": 1.0}}, RULE | {"weights": {"prototype": 1.0}}


def many_records(tiny, labels):
    return [replace(tiny.records[0], id=str(i), labels=tuple(found)) for i, found in enumerate(labels)]


def test_every_class_appears_where_possible(tiny):
    rng = np.random.default_rng(0)
    labels = [sorted({int(min(rng.geometric(0.5) - 1, 6))}) for _ in range(300)] + [[7]]
    chosen = choose(many_records(tiny, labels), 16)
    assert len(chosen) == 16
    assert {label for record in chosen for label in record.labels} == {i for found in labels for i in found}
    assert chosen == choose(many_records(tiny, labels), 16)


def test_the_rest_is_spread_evenly_in_list_order(tiny):
    chosen = [int(record.id) for record in choose(many_records(tiny, [[0]] * 101), 11)]
    assert chosen == [0, 6, 16, 26, 36, 46, 56, 66, 76, 86, 96]


@pytest.mark.parametrize("count", [0, 1, 3, 5, 99])
def test_never_more_than_asked_or_than_there_are(tiny, count):
    assert len(choose(tiny.records, count)) == min(count, len(tiny.records))


def test_rare_classes_come_first_when_places_are_few(tiny):
    records = many_records(tiny, [[0]] * 5 + [[1], [1], [2]])
    assert [record.id for record in choose(records, 1)] == ["7"]
    assert [record.id for record in choose(records, 2)] == ["5", "7"]


def captions(block):
    return [[caption for caption, _ in row] for row in block.rows]


def test_cam_block_names_every_map(tiny):
    rule = CamRule(tiny.store(), **BOTH)
    block = cam_block(rule, tiny.manifest.classes, tiny.records[1])
    assert block.title == "train1: ant, cat"
    assert captions(block) == [
        ["image", "labels: classifier", "labels: sum", "ant: classifier", "cat: classifier", ""],
        ["ground truth", "labels: prototype", "colours", "ant: prototype", "cat: prototype", ""],
    ]


def test_two_kinds_without_a_sum_have_a_block(tiny):
    block = cam_block(CamRule(tiny.store(fused=("prototype",)), **PROTOTYPE), tiny.manifest.classes, tiny.records[0])
    assert captions(block) == [
        ["image", "labels: classifier", "colours", "ant: classifier", "", ""],
        ["ground truth", "labels: prototype", "", "ant: prototype", "", ""],
    ]


def test_more_classes_than_fit_go_to_further_rows(tiny):
    classes = [f"class{i}" for i in range(4)]
    record = replace(tiny.records[0], labels=(0, 1, 2, 3))
    rule = CamRule(tiny.store(("classifier",)), **CLASSIFIER)
    rule.normalised = lambda record: torch.rand(1, 5, record.height, record.width)
    assert captions(cam_block(rule, classes, record)) == [
        ["image", "ground truth", "labels: classifier", "colours", *(f"class{i}: classifier" for i in range(3))],
        ["", "", "", "", "class3: classifier", "", ""],
    ]


def test_image_without_class_has_no_heat_map(tiny):
    block = cam_block(CamRule(tiny.store(), **BOTH), tiny.manifest.classes, tiny.records[2])
    assert block.title == "train2: no class"
    assert captions(block)[0] == ["image", "labels: classifier", "labels: sum", "", "", ""]


def archive(tiny, records):
    path = tiny.folder / "labels.zip"
    with LabelArchiveWriter(path) as writer:
        for record in records:
            writer.write(record.id, np.full((record.height, record.width), 2, np.uint8))
    return LabelArchive(path)


def test_label_block_shows_the_product_in_its_colours(tiny):
    record = tiny.records[0]
    block = label_block(archive(tiny, [record]), tiny.manifest.classes, "crf", record)
    assert captions(block) == [["image", "ground truth", "crf", "colours"]]
    product, legend = (np.asarray(block.rows[0][column][1]) for column in (2, 3))
    colour = product[drawing.TILE[1] // 2, drawing.TILE[0] // 2]
    assert (product == colour).all(-1).mean() > 0.5  # class 2 everywhere but on the margins
    assert (legend == colour).all(-1).any()


def test_every_class_colour_stands_out_from_the_background():
    shown = np.asarray(drawing.label_picture(np.arange(256, dtype=np.uint8)[None].repeat(192, 0)))
    colours = {tuple(colour) for colour in shown.reshape(-1, 3).tolist()} - {(0, 0, 0), drawing.FAINT}
    assert all(max(colour) >= 76 for colour in colours)


def test_image_without_mask_says_so(tiny):
    record = replace(tiny.records[0], mask=None)
    shown = np.asarray(label_block(archive(tiny, [record]), tiny.manifest.classes, "crf", record).rows[0][1][1])
    expected = np.asarray(drawing.blank("no mask"))
    assert (shown == expected).all()


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_sheets_are_files_of_equal_bytes(tiny):
    rule = CamRule(tiny.store(), **BOTH)
    written = []
    for name in ("first", "second"):
        folder = tiny.folder / name
        folder.mkdir()
        blocks = [cam_block(rule, tiny.manifest.classes, record) for record in tiny.records]
        assert write_sheets(folder, "cam", "cam on train", blocks) == 2
        written.append(digests(folder))
    assert list(written[0]) == ["cam_1.png", "cam_2.png"]
    assert written[0] == written[1]
    with Image.open(tiny.folder / "first" / "cam_1.png") as sheet:
        assert sheet.width > 6 * drawing.TILE[0]
        assert sheet.height > 8 * drawing.TILE[1]


def test_no_image_makes_no_sheet(tiny):
    assert write_sheets(tiny.folder, "cam", "cam on train", []) == 0


def test_heat_grows_brighter():
    colours = drawing.heat_colours(np.linspace(0, 1, 21)[None])[0]
    assert (np.diff(colours @ [0.299, 0.587, 0.114]) > 0).all()


def test_long_names_are_cut_to_their_width():
    assert drawing.shorten("cat", 200, 13) == "cat"
    cut = drawing.shorten("a very long class name that nobody can read", 80, 13)
    assert cut.endswith("...")
    assert drawing.font(13).getlength(cut) <= 80


def test_legend_of_a_large_label_set_fits_one_tile():
    tile = drawing.legend(list(range(40)), [f"class {i}" for i in range(40)])
    assert tile.size == drawing.TILE
