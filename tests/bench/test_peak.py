"""The share of the peak: operations are counted, and the command names what takes the time."""

import torch
from click.testing import CliRunner

from bench import peak


def test_operations_of_a_product_and_its_gradient():
    a, b = (torch.ones(4, 5), torch.ones(5, 6, requires_grad=True))
    assert peak.flops(lambda: (torch.mm(a, b),)) == 2 * 4 * 5 * 6
    assert peak.flops(lambda: torch.mm(a, b).sum().backward()) == 2 * 2 * 4 * 5 * 6


def test_hottest_operation_comes_first():
    a = torch.ones(512, 512)
    rows = peak.hottest(lambda: (torch.mm(a, a), a[:2, :2] + 1), torch.device("cpu"))
    assert rows[0][1:] == (1, "aten::mm")
    assert [share for share, *_ in rows] == sorted((share for share, *_ in rows), reverse=True)
    assert sum(share for share, *_ in rows) <= 1 + 1e-9


def test_command(monkeypatch):
    monkeypatch.setattr(peak, "keep_freed_memory", lambda: None)  # it would last beyond the test
    done = CliRunner().invoke(peak.main, ["--scale", "tiny", "--repeats", "1"])
    assert done.exit_code == 0, done.output
    for name in ("fp32", "bf16"):
        assert f"{name}: square matrix products reach" in done.output
        assert f"SFC training step, {name}: " in done.output
        assert f"CAM inference, one scale and flip, {name}: " in done.output
    assert done.output.count("aten::") >= 20
