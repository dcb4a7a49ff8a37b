"""The bench of the GPU's stages runs at toy size, and the whole run is reckoned as by hand."""

import sys

import pytest
import torch
from click.testing import CliRunner

from bench import gpu, gpu_parts, loading, sizes
from bench.reckoning import TRAIN, VAL, Measured, pays, reckoned, table, units
from bench.sizes import IMAGE, changed, params_at
from sfc.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("stage", gpu_parts.PARTS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_every_part_is_measured(stage, device):
    part = gpu_parts.PARTS[stage](params_at("tiny"), torch.device(device), IMAGE["tiny"])
    found = gpu.measured(part, torch.device(device), 0.001)
    assert part.stage == stage
    assert part.images == 2
    assert found.seconds > 0
    assert found.flops > 10**6
    assert found.peak is None or found.peak > 0


def test_sparse_products_of_the_walk_do_not_count_as_dense_ones(monkeypatch):
    flops = []
    for steps in (4, 64):
        monkeypatch.setitem(sizes._TINY, "walk.steps", steps)
        part = gpu_parts.PARTS["pseudo_labels"](params_at("tiny"), CPU, IMAGE["tiny"])
        flops.append(gpu.measured(part, CPU, 0.001).flops)
    assert flops[0] == flops[1]


def test_without_pydensecrf_the_run_is_reckoned_without_the_crf(monkeypatch):
    whole = gpu.core_seconds(params_at("tiny"), IMAGE["tiny"])
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    core = gpu.core_seconds(params_at("tiny"), IMAGE["tiny"])
    assert (set(whole), set(core)) == ({"read", "write", "crf", "predict"}, {"read", "write"})
    stages = gpu._stages(params_at("tiny"), {}, {}, core)
    assert (stages["crf"].host, stages["predict"].host) == (0, 0)
    assert gpu._stages(params_at("tiny"), {}, {}, whole)["crf"].host == whole["crf"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(monkeypatch):
    monkeypatch.setattr(gpu, "keep_freed_memory", lambda: None)  # it would last beyond the test
    done = CliRunner().invoke(gpu.main, ["--scale", "tiny"])
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1)
    assert "--device cuda: torch sees no GPU here" in done.output


def test_a_matrix_product_has_a_rate():
    assert gpu.matrix_peak(CPU, 64, 0.01) > 10**6


def test_loading_is_measured_alone(tmp_path):
    settings = {"size": IMAGE["tiny"], "photographs": 4, "seconds": 0.01, "workers": 0, "device": CPU}
    found = loading.images_a_second(params_at("tiny"), tmp_path, **settings)
    assert list(found) == ["train_cam", "train_irn", "train_seg", "infer_cam", "predict"]
    assert min(found.values()) > 0


def test_the_run_is_that_of_the_paper():
    assert units(params_at("full")) == {
        "train_cam": 3966,  # 661 steps, 6 times
        "infer_cam": TRAIN,
        "crf": TRAIN,
        "train_irn": 990,
        "pseudo_labels": TRAIN,
        "train_seg": 20000,
        "predict": VAL,
    }


@pytest.mark.parametrize(
    ("measured", "seconds", "limit"),
    [
        (Measured(100, device=0.3, loading=0.1), 32, "GPU"),
        (Measured(100, device=0.1, loading=0.3), 32, "loading"),
        (Measured(100, device=0.1, loading=0.0, serial=0.3), 42, "own process"),
        (Measured(100, device=0.1, loading=0.1, host=1.6), 52, "workers"),
        (Measured(100, device=0.0, loading=0.0, host=1.6, serial=0.1), 42, "workers"),
    ],
)
def test_the_slower_side_decides(measured, seconds, limit):
    assert reckoned(measured, cores=4, start=2.0) == (pytest.approx(seconds), limit)


def test_the_table_adds_up():
    stages = {"one": Measured(60, device=1.0, loading=0.1), "two": Measured(120, device=0.0, loading=0.0, host=2.0)}
    lines = table(stages, cores=2, start=0.0)
    assert lines[-3] == "| one | 60 | 1,000.0 | - | 100.0 | - | GPU | 1.0 |"
    assert lines[-1].endswith("| 3.0 |")


def test_compiling_pays_only_over_enough_steps():
    assert not pays(1.0, 0.9, start_up=100, count=1000)
    assert pays(1.0, 0.9, start_up=99, count=1000)


def test_an_unknown_param_is_refused():
    with pytest.raises(UserError, match=r"cam\.crop: there is no such param"):
        changed({"cam": {"flip": True}}, {"cam.crop": 3})
    assert changed({"cam": {"flip": True}}, {"cam.flip": False}) == {"cam": {"flip": False}}
