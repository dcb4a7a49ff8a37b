"""Every row of the benchmark runs, at toy size, and both of its forms agree."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bench import __main__ as bench
from bench import peak
from bench.measure import Pair, Row, difference, measure

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", bench.ROWS)
def test_both_forms_agree(name):
    row = bench.ROWS[name]
    measured = measure(row, scale="tiny", device=CPU, repeats=1)
    assert measured.difference <= row.tolerance
    assert measured.plain > 0
    assert measured.ours > 0


@pytest.mark.parametrize("name", bench.ROWS)
def test_every_scale_has_the_same_arguments(name):
    tiny, small, full = (set(bench.ROWS[name].sizes[scale]) for scale in ("tiny", "small", "full"))
    assert tiny == small == full


def test_difference_is_relative_to_the_plain_form():
    plain = (torch.tensor([2.0, -8.0]), np.array([1, 2]))
    assert difference(plain, plain) == 0
    assert difference(plain, (torch.tensor([2.0, -7.0]), np.array([1, 2]))) == 1 / 8
    assert difference(plain, (torch.tensor([2.0, -8.0]), np.array([2, 2]))) == 1 / 2
    assert difference(plain, (torch.tensor([2.0]), np.array([1, 2]))) == float("inf")
    assert difference(plain, (torch.tensor([2.0, float("nan")]), np.array([1, 2]))) == float("inf")


def test_peak_counts_what_a_form_takes():
    def take(mib):
        return (torch.ones(mib << 18).sum(),)

    row = Row("take", "", lambda device: Pair(lambda: take(64), lambda: take(1)), {"tiny": {}}, tolerance=0)
    measured = measure(row, scale="tiny", device=CPU, repeats=1)
    if measured.plain_peak is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert 60 < measured.plain_peak < 80
    assert measured.ours_peak < 16


def test_command_prints_a_table_and_fails_on_disagreement(monkeypatch):
    monkeypatch.setattr(bench, "keep_freed_memory", lambda: None)  # it would last beyond the test
    wrong = Row("wrong", "1 -> 2", lambda device: Pair(lambda: ([1.0],), lambda: ([2.0],)), {"tiny": {}}, tolerance=0.5)
    monkeypatch.setitem(bench.ROWS, "confusion", wrong)
    good = CliRunner().invoke(bench.main, ["--only", "threshold-sweep", "--scale", "tiny", "--repeats", "1"])
    assert good.exit_code == 0
    assert "| threshold-sweep |" in good.output
    bad = CliRunner().invoke(bench.main, ["--only", "confusion", "--scale", "tiny", "--repeats", "1"])
    assert bad.exit_code == 1
    assert "disagree: wrong" in bad.output


@pytest.mark.parametrize("module", [bench, peak])
@pytest.mark.parametrize("device", ["", "nosuch", "xpu"])
def test_a_device_that_is_not_there_is_one_line(module, device, monkeypatch):
    monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
    done = CliRunner().invoke(module.main, ["--device", device])
    assert done.exit_code == 2
    said = f"Error: Invalid value for --device: {device!r} is no device that torch sees here ("
    assert done.output.splitlines()[-1].startswith(said)


@pytest.mark.parametrize("only", [(), ("--only", "confusion")])
def test_the_gpus_stages_follow_the_whole_table(monkeypatch, only):
    monkeypatch.setattr(bench, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(bench, "ROWS", {"confusion": bench.ROWS["confusion"]})
    monkeypatch.setattr(bench.gpu, "lines", lambda device, scale: [f"stages on {device} at scale {scale}"])
    done = CliRunner().invoke(bench.main, [*only, "--scale", "tiny", "--repeats", "1"])
    assert done.exit_code == 0
    assert ("stages on cpu at scale tiny" in done.output) == (only == ())
