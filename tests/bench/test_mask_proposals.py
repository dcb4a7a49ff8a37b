"""Proposals drawn from ground truth: what each kind of damage does, and that the command measures the stage's vote."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.mask_proposals import KINDS, main, proposals, regions
from sfc.data.images import IGNORE
from sfc.data.manifest import Manifest, write_manifest
from sfc.label_archive import LabelArchiveWriter
from sfc.localization.store import CamWriter
from sfc.proposals.archive import ProposalArchive
from tests.data import folder as data

ROOT = Path(__file__).resolve().parents[2]
SIZE = 20, 24


def truth(seed=0):
    label = np.zeros(SIZE, np.uint8)
    label[2:9, 3:12] = 1
    label[12:18, 4 + seed : 20] = 2
    label[0] = IGNORE
    return label


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Three images, CAMs that point at what they show, and labels that are a little small."""
    monkeypatch.chdir(tmp_path)
    Path("out/cams").mkdir(parents=True)
    found = []
    for seed in range(3):
        data.write_mask(Path(f"masks/{seed}.png"), truth(seed))
        record = data.record(Path(f"{seed}.png"), SIZE, (0, 1), mask=Path(f"masks/{seed}.png"), seed=seed)
        found.append(dataclasses.replace(record, image_hash=f"{seed:016x}"))
    write_manifest(Manifest(tuple(found), ("ant", "bee")), "out/manifest.csv", "out/classes.json")
    kinds = ("classifier", "prototype")
    cams = CamWriter("out/cams", kinds=kinds, fused=kinds, scales=(1.0,), ids=[r.id for r in found])
    with LabelArchiveWriter("out/pseudo_labels.zip") as walk, LabelArchiveWriter("out/crf.zip") as crf:
        for seed, record in enumerate(found):
            shown = np.stack([truth(seed) == value for value in (0, 1, 2)])
            cams.write(record.id, [np.stack([shown, shown]).astype(np.float32)])
            small = truth(seed)
            small[:, :5] = small[0] = 0
            walk.write(record.id, small)
            crf.write(record.id, np.zeros(SIZE, np.uint8))
    cams.finish()
    Path("params.yaml").write_text((ROOT / "presets/voc12.yaml").read_text())
    return found


@pytest.mark.parametrize(("arguments", "status"), [((), 1), (("--write", "nosuch", "x.zip"), 2)])
def test_what_cannot_be_measured_is_one_line(tmp_path, monkeypatch, arguments, status):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == status
    assert done.output.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "x.zip").exists()


def test_regions_are_the_connected_parts_of_each_class():
    label = truth()
    label[15, 22] = 1
    found = regions(label)
    assert len(found) == 4
    np.testing.assert_array_equal(sum(mask.astype(int) for mask in found), label != IGNORE)
    assert all(len(np.unique(label[mask])) == 1 for mask in found)


@pytest.mark.parametrize("kind", KINDS)
def test_proposals_are_the_same_each_time_and_none_is_empty(records, kind):
    first, again = proposals(records[0], kind), proposals(records[0], kind)
    assert len(first) == len(again)
    assert all(mask.any() and np.array_equal(mask, other) for mask, other in zip(first, again, strict=True))


def test_each_kind_of_damage_is_what_it_is_called():
    whole = regions(truth())
    drawn = {kind: damage(whole, np.random.default_rng(1)) for kind, damage in KINDS.items()}
    assert drawn["perfect"] == whole
    assert 0 < len(drawn["missing"]) < len(whole)
    np.testing.assert_array_equal(sum(mask.astype(int) for mask in drawn["parts"]), truth() != IGNORE)
    assert 2 * len(whole) <= len(drawn["parts"]) <= 5 * len(whole)
    assert any(not np.array_equal(mask, rough) for mask, rough in zip(whole, drawn["rough"], strict=True))
    for mask, rough in zip(whole, drawn["rough"], strict=True):
        assert (mask & rough).sum() > 0.3 * (mask | rough).sum()
    larger = [merged.sum() > mask.sum() for mask, merged in zip(whole, drawn["merged"], strict=True)]
    assert 0 < sum(larger) < len(whole)


def test_the_table_says_what_the_vote_is_worth(records):
    done = CliRunner().invoke(main)
    assert done.exit_code == 0, done.output
    lines = [[cell.strip() for cell in line.split("|")] for line in done.output.splitlines()]
    rows = {tuple(cells[1:3]): cells[3:5] for cells in lines}
    assert len(rows) == 3 + 3 * len(KINDS)  # a heading and its rule, without proposals, each kind under three rules
    walk, crf = map(float, rows["none", ""])
    assert walk < 95
    assert crf < 30  # all background
    assert rows["perfect", "as params.yaml"][0] == "100.0"
    assert float(rows["perfect", "as params.yaml"][1]) == crf  # labels without a class win nothing
    assert rows["perfect", "unclaimed: keep"][0] == "100.0"


def test_proposals_are_written_as_the_stage_reads_them(records):
    assert CliRunner().invoke(main, ["--write", "parts", "parts.zip"]).exit_code == 0
    archive = ProposalArchive("parts.zip")
    for record in records:
        for mask, wanted in zip(archive.masks_of(record), proposals(record, "parts"), strict=True):
            np.testing.assert_array_equal(mask, wanted)
