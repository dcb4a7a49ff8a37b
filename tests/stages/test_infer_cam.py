import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from sfc.backbone import IMAGENET_MEAN, IMAGENET_STD
from sfc.data.images import normalise
from sfc.localization import store
from sfc.localization.store import SHARD, CamStore
from sfc.methods import load_cam_network
from stages import infer_cam
from stages.infer_cam import main
from tests.stages.cam_project import write_cam_project
from tests.stages.running import goes_on_after_a_kill, launched


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "0")
    return lambda: CliRunner().invoke(main)


def set_cam(name, value):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["cam"][name] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))


def _bytes(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "out/cams").iterdir())}


@pytest.mark.parametrize("mask_absent", [False, True])
def test_writes_the_maps_of_every_image(tmp_path, run, mask_absent):
    records = write_cam_project(tmp_path, 9)
    set_cam("mask_absent", mask_absent)
    done = run()
    assert done.exit_code == 0, done.output
    store = CamStore(tmp_path / "out/cams")
    assert (store.ids, store.kinds, store.scales) == (
        tuple(r.id for r in records),
        ("classifier", "prototype"),
        (1.0, 0.5),
    )
    network = load_cam_network(tmp_path / "out/cam.safetensors", torch.device("cpu"))
    for record in records:
        image = torch.from_numpy(np.array(Image.open(record.image))).permute(2, 0, 1)[None]
        labels = torch.zeros(1, 2)
        labels[0, list(record.labels)] = 1
        with torch.inference_mode():
            alone = network.infer(
                normalise(image, None, mean=IMAGENET_MEAN, std=IMAGENET_STD), labels, flip=True, mask_absent=mask_absent
            )[0]
        expected = alone[:, [0, *(i + 1 for i in record.labels)]]
        np.testing.assert_allclose(store.read(record.id)[0], expected, rtol=1e-3, atol=1e-4)
    metrics = json.loads((tmp_path / "metrics/infer_cam.json").read_text())
    assert metrics["images"] == {"train": 8, "val": 1}
    assert set(metrics["empty"]) == {"classifier", "prototype"}


def test_products_of_the_correlation_at_reading(tmp_path, run):
    """The network on file was trained with two products; null reads as trained, a number with that many."""
    records = write_cam_project(tmp_path, 3)
    found = {}
    for products in (None, 2, 0):
        set_cam("pcm_iters", products)
        assert run().exit_code == 0
        found[products] = CamStore(tmp_path / "out/cams").read(records[0].id)[0]
    np.testing.assert_array_equal(found[None], found[2])
    assert np.ptp(found[0][0, 1]) > 2 * np.ptp(found[2][0, 1])  # not averaged over the image
    set_cam("pcm_iters", 2)
    set_cam("seed_pcm_iters", 0)
    assert run().exit_code == 0
    classifier, prototype = CamStore(tmp_path / "out/cams").read(records[0].id)[0]
    np.testing.assert_array_equal(classifier, found[2][0])
    np.testing.assert_array_equal(prototype, found[0][1])
    assert not np.array_equal(prototype, found[2][1])


def test_runs_again_over_read_only_results_with_the_same_bytes(tmp_path, run):
    write_cam_project(tmp_path, 5)
    assert run().exit_code == 0
    first = _bytes(tmp_path)
    for path in (tmp_path / "out/cams").iterdir():
        path.chmod(0o444)
    (tmp_path / "out/cams/stale.safetensors").touch()
    assert run().exit_code == 0
    assert _bytes(tmp_path) == first


def test_goes_on_at_the_shard(tmp_path, run, monkeypatch):
    write_cam_project(tmp_path, 8)
    monkeypatch.setattr(store, "SHARD", 2)
    goes_on_after_a_kill(monkeypatch, infer_cam, ["out/cams", "metrics/infer_cam.json"], shards=4)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path, run):
    write_cam_project(tmp_path, SHARD + 3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun does
    assert run().exit_code == 0
    torch.set_num_threads(threads)
    alone = _bytes(tmp_path)
    assert len(alone) == 3  # two shards and the index
    launched("stages.infer_cam", processes=2)
    assert _bytes(tmp_path) == alone


def test_a_missing_image_is_one_line(tmp_path, run):
    records = write_cam_project(tmp_path, 2)
    records[1].image.unlink()
    done = run()
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == f"Error: {records[1].image}: no such file"
    assert not list((tmp_path / "out").glob("*cams*"))
