"""Exported models: labels of the network at sizes that the export never saw, and files that know what they are."""

import io
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sfc.data.images import image_size, resize_image, scaled_size
from sfc.data.manifest import Record
from sfc.deployment.export import (
    WholeImages,
    as_pillow_resizes,
    exported,
    metadata,
    rounded_side,
    write_onnx,
    write_pt2,
)
from sfc.deployment.exported import LABELS, ExportedModel
from sfc.errors import UserError
from sfc.model_file import SEGMENTATION, ModelFacts
from sfc.segmentation.deeplab import DeepLabV2
from sfc.segmentation.inference import labels_of, predict_labels
from sfc.segmentation.largefov import LargeFOV
from tests.data.folder import record

STORE = Path(__file__).resolve().parents[2] / "store/files/md5"
CPU = torch.device("cpu")
FACTS = ModelFacts(
    task=SEGMENTATION,
    network={},
    classes=("cat", "dog"),
    palette=((0, 0, 0), (128, 0, 0), (0, 128, 0)),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    image_scale=1.0,
    params={"seg": {"lr": 0.1}},
)


def deeplab(image_scale):
    torch.manual_seed(0)
    network = DeepLabV2(arch="resnet18", num_classes=3, atrous_rates=(1, 3), image_scale=image_scale).eval()
    torch.nn.init.normal_(network.aspp.branches[0].weight, std=0.3)
    return balanced(network, network.aspp.branches[0].bias)


def largefov(image_scale):
    torch.manual_seed(0)
    network = LargeFOV(arch="resnet18", num_classes=3, atrous_rates=(12,), image_scale=image_scale).eval()
    return balanced(network, network.classes.bias)


def balanced(network, bias):
    """Shift the classes' logits to a common mean, so that label maps hold all of them."""
    with torch.no_grad():
        scenes = torch.from_numpy(np.concatenate([scene for scene in images() if scene.shape == (1, 192, 256, 3)]))
        whole = WholeImages(network, scales=(1.0,), merge="max", flip=False)
        bias -= whole(scenes)[0].mean((0, 2, 3))
    return network


CASES = {
    "deeplab": (deeplab, 1.0, {"scales": (1.0, 0.75), "merge": "max", "flip": True}),
    "largefov": (largefov, 0.5, {"scales": (1.0,), "merge": "mean", "flip": False}),
}


def images():
    """Scenes of the bundled data, of the sizes they have, in batches; and noise of odd sizes."""
    listing = json.loads(next(STORE.rglob("*.dir")).read_text())
    jpegs = [file["md5"] for file in listing if file["relpath"].endswith(".jpg")][::60]
    scenes = [np.array(Image.open(io.BytesIO((STORE / md5[:2] / md5[2:]).read_bytes()))) for md5 in jpegs]
    numbers = np.random.default_rng(0)
    noise = [numbers.integers(0, 256, (b, *size, 3), dtype=np.uint8) for b, *size in ((3, 97, 131), (1, 33, 250))]
    return [*(scene[None] for scene in scenes), *noise]


@pytest.fixture(scope="module")
def quiet():
    """Tracing logs so much that recording it for a failure would take most of the time."""
    logging.disable(logging.DEBUG)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module", params=list(CASES))
def case(request, tmp_path_factory, quiet):
    """Folder with a.onnx, b.onnx and a.pt2; what the network itself gives of all images; how it looks at them; it."""
    build, image_scale, look = CASES[request.param]
    folder, network = tmp_path_factory.mktemp("export"), build(image_scale)
    whole = WholeImages(network, **look)
    with torch.no_grad():
        wanted = [[part.numpy() for part in whole.eval()(torch.from_numpy(batch))] for batch in images()]
    program, known = exported(build(image_scale), **look), metadata(FACTS, **look)
    write_onnx(program, folder / "a.onnx", known)
    write_pt2(program, folder / "a.pt2", known)
    if request.param == "largefov":
        write_onnx(exported(build(image_scale), **look), folder / "b.onnx", known)
    return folder, wanted, look, network


def test_onnx_gives_the_labels_and_logits_of_the_network(case):
    folder, wanted, look, _ = case
    model = ExportedModel(folder / "a.onnx", CPU)
    assert model.facts == FACTS
    assert {"scales": model.scales, "merge": model.merge, "flip": model.flip} == look
    equal = []
    for batch, (logits, labels) in zip(images(), wanted, strict=True):
        (found,) = model._session.run([LABELS], {"images": batch})
        assert (found.shape, found.dtype) == (batch.shape[:3], np.uint8)
        np.testing.assert_allclose(model.logits(batch), logits, atol=1e-3 * np.abs(logits).max())
        equal.append((found == labels).mean())
    assert min(equal) >= 0.999
    assert all(len(np.unique(labels)) == 3 for _, labels in wanted[:-2])  # the scenes'


def test_onnx_gives_the_labels_of_photographs(case, photographs):
    """Of each, against the network as `segment` and `predict` run it in 32-bit numbers."""
    folder, *_, network = case
    model, apart = ExportedModel(folder / "a.onnx", CPU), {}
    chosen = photographs[:: max(1, len(photographs) // 6)][:6]
    of = [Record(path.stem, "", path, None, *image_size(path), (), "", "") for path in chosen]
    look = {"scales": model.scales, "merge": model.merge, "flip": model.flip, "precision": "fp32", "device": CPU}
    wanted = dict(predict_labels(network, [[record] for record in of], **look, crf=None, workers=0))
    rows = model.rows(of, workers=0, broken=lambda record, error: pytest.fail(str(error)))
    for id, labels in labels_of(rows, align_corners=False, crf=None, known=False, workers=0):
        apart[id] = (labels != wanted[id]).mean()
    assert len(apart) == len(of)
    assert max(apart.values()) <= 0.001, apart
    assert all(len(np.unique(labels)) > 1 for labels in wanted.values())


def test_pt2_gives_the_labels_of_the_network(case):
    folder, wanted, *_ = case
    extra = {"sfc": ""}
    module = torch.export.load(folder / "a.pt2", extra_files=extra).module()
    assert extra["sfc"] == FACTS.to_json()
    for batch, (_, labels) in zip(images(), wanted, strict=True):
        assert (module(torch.from_numpy(batch))[1].numpy() == labels).mean() >= 0.999


def test_memory_that_runs_out_is_not_the_serialisers_fault(monkeypatch, tmp_path):
    def save(*args, **options):
        raise MemoryError

    monkeypatch.setattr(torch.export, "save", save)
    with pytest.raises(MemoryError):
        write_pt2(SimpleNamespace(_guards_code=[]), tmp_path / "a.pt2", {})
    assert list(tmp_path.iterdir()) == []


def test_equal_models_are_equal_bytes_that_name_no_path(case):
    folder, *_ = case
    content = (folder / "a.onnx").read_bytes()
    assert str(Path(__file__).resolve().parents[2]).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content
    if (folder / "b.onnx").exists():
        assert (folder / "b.onnx").read_bytes() == content


def test_images_that_fail_are_told_and_left_out(case, tmp_path):
    folder, *_ = case
    records = [record(tmp_path / f"im{i}.png", (20, 30), seed=i) for i in range(3)]
    records[1].image.write_bytes(b"no image")
    model, told = ExportedModel(folder / "a.onnx", CPU), []
    rows = model.rows(records, workers=0, broken=lambda record, error: told.append((record.id, str(error))))
    assert [(r.id, logits.shape) for r, logits in rows] == [("im0", (3, 20, 30)), ("im2", (3, 20, 30))]
    assert [id for id, _ in told] == ["im1"]
    model.logits = lambda images: model._session.run(["logits"], {"images": images[0]})
    assert (
        list(model.rows(records[:1], workers=0, broken=lambda record, error: told.append((record.id, str(error)))))
        == []
    )
    assert told[1][1].startswith(f"{records[0].image}: {folder / 'a.onnx'} cannot be run on 20 x 30 pixels (")


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5, 0.3, 2.0, 0.1])
def test_rounded_side_is_scaled_size(scale):
    for side in range(1, 3000):
        if (side * scale * 2) % 2 != 1 or scale in (0.5, 0.75, 1.5, 2.0):  # of others floats have halves by chance
            assert rounded_side(side, scale) == scaled_size((side, side), scale)[0]


@pytest.mark.parametrize("scale", [0.5, 1.3])
def test_resizing_in_the_graph_is_pillows(scale):
    scene = images()[0][0]
    wanted = resize_image(scene, *scaled_size(scene.shape, scale)).astype(float)
    found = as_pillow_resizes(torch.from_numpy(scene).permute(2, 0, 1)[None], scale)[0].permute(1, 2, 0).numpy()
    apart = np.abs(found - wanted)
    assert apart.max() <= 2
    assert (apart > 0).mean() < 0.03


def test_other_files_are_one_line(case, tmp_path):
    onnx = pytest.importorskip("onnx")
    folder, *_ = case
    with pytest.raises(UserError, match=r"none\.onnx: no such file; write it by python -m stages\.export"):
        ExportedModel(tmp_path / "none.onnx", CPU)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"bad\.onnx: onnxruntime cannot load it \("):
        ExportedModel(tmp_path / "bad.onnx", CPU)
    model = onnx.load(folder / "a.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UserError, match=r"other\.onnx: not what python -m stages\.export writes"):
        ExportedModel(tmp_path / "other.onnx", CPU)
    for settings in ("{", "[" * 100_000, "3", "{}", '{"scales": 1, "merge": "max", "flip": true}'):
        onnx.helper.set_model_props(model, {"sfc": FACTS.to_json(), "sfc.settings": settings})
        onnx.save(model, tmp_path / "other.onnx")
        with pytest.raises(UserError, match=r"other\.onnx: sfc\.settings in it is damaged; export the model again"):
            ExportedModel(tmp_path / "other.onnx", CPU)


def test_without_the_extra_it_says_what_to_install(case, monkeypatch):
    folder, *_ = case
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs the package onnxruntime.*pip install '\.\[export\]'"):
        ExportedModel(folder / "a.onnx", CPU)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"needs the packages onnx and onnxscript.*pip install '\.\[export\]'"):
        write_onnx(None, folder / "c.onnx", {})
