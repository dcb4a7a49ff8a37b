"""Every part of the growth table runs, in order, at toy size; a part of a kind that grows faster is seen."""

import json
import time

import pytest
from click.testing import CliRunner

from bench import growth
from bench.growth import Taken

IN_PROCESS = [part for part in growth.PARTS if not part.startswith("dvc")]


def test_parts_leave_what_the_next_ones_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in IN_PROCESS:
        growth.PARTS[part](40)
    for product in ("cam", "crf"):
        found = json.loads((tmp_path / f"metrics/evaluate_{product}.json").read_text())
        assert found["train"]["images"] == 40
    assert json.loads((tmp_path / "metrics/label_stats.json").read_text())["images"] == 40


def test_a_table_with_growth(monkeypatch):
    few, many = Taken(1.0, 2.0, 3.0), Taken(8.0, 20.0, 30.0)
    found = {10: {"linear": few, "square": few}, 100: {"linear": many, "square": Taken(8.0, 200.0, 3.0)}}
    monkeypatch.setattr(growth, "_in_folder", lambda images, only: found[images])
    done = CliRunner().invoke(growth.main, ["--images", "10", "--images", "100"])
    assert done.exit_code == 0, done.output
    assert "| linear | 1.0 | 8.0 | 1.00 | 3 | 30 |" in done.output
    assert "| square | 1.0 | 8.0 | 10.00 | 3 | 3 |" in done.output


def test_seconds_and_memory_of_a_part(tmp_path, monkeypatch):
    kept = []

    def part(images):
        kept.append(bytearray(images << 20))
        time.sleep(0.05)

    monkeypatch.setitem(growth.PARTS, "manifest: read", part)
    seconds, processor, peak = growth._measured("manifest: read", 64)
    assert seconds >= 0.05
    assert processor >= 0
    if not peak:
        pytest.skip("this system does not tell a process's peak memory")
    assert peak >= 60
