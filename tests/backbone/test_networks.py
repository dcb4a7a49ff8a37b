"""Other trunks than the usual ResNets in the three networks: they learn, infer, and come back from file."""

import numpy as np
import pytest
import torch
from PIL import Image

from sfc.analysis.images import shared_features
from sfc.data.manifest import Record
from sfc.errors import UserError
from sfc.irn.network import IrnNetwork, IrnObjective, load_irn, save_irn
from sfc.localization.multiscale import infer_cams
from sfc.methods import load_cam_network, save_cam_network
from sfc.methods.base import BaseObjective
from sfc.methods.sipe import SipeObjective
from sfc.segmentation.deeplab import DeepLabV2
from sfc.segmentation.inference import image_logits
from sfc.segmentation.models import load_segmenter, save_segmenter
from sfc.segmentation.objective import SegmentationObjective
from sfc.walk.pseudo_labels import IrnReader
from tests.methods.tiny import CLASSES, base_network, batch, objective, sipe_network

CONVOLUTIONAL = ["timm/test_convnext", "timm/resnext50_32x4d", "timm/regnetx_002", "resnet18_half"]
VIT = ["timm/test_vit", "timm/vit_small_patch14_dinov2"]
CPU = torch.device("cpu")
LABELS = torch.tensor([[1.0, 0.0, 1.0]])


def labelled():
    mask = torch.arange(4).repeat(4, 1).repeat_interleave(16, 0).repeat_interleave(16, 1).to(torch.uint8)
    return {**{name: batch()[name] for name in ("image", "box")}, "mask": mask.repeat(4, 1, 1)}


def cam_objective(method, **trunk):
    if method == "base":
        return BaseObjective(base_network(**trunk))
    if method == "sipe":
        return SipeObjective(sipe_network(**trunk), w_gsc=1.0)
    return objective(network_changes=trunk, w_proto=1.0, w_scale=1.0)


def edge_objective(**trunk):
    return IrnObjective(IrnNetwork(**{"frozen_stages": 0, **trunk}), radius=3)


def seg_objective(**trunk):
    model = DeepLabV2(num_classes=4, atrous_rates=(1, 2), image_scale=1.0, **trunk)
    return SegmentationObjective(model, train_scales=(0.5,), loss="ce", seed=0, batch_size=4)


def learns(objective, sample):
    """One backward pass reaches every parameter that is to learn, in the trunk, too."""
    objective.train()(sample)["loss"].backward()
    wanted = [p for p in objective.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in wanted)
    trunk = [p for p in objective.network.backbone.parameters() if p.requires_grad]
    assert trunk
    return sum(p.grad.abs().sum() for p in trunk) > 0


@pytest.mark.parametrize("method", ["base", "sipe", "sfc"])
@pytest.mark.parametrize("arch", [*CONVOLUTIONAL, *VIT])
def test_cam_network_learns_and_infers(tmp_path, arch, method):
    objective = cam_objective(method, arch=arch, frozen_stages=2)
    assert learns(objective, batch())
    net = objective.network.eval()
    cams = net.infer(torch.randn(1, 3, 41, 70), LABELS, flip=True, mask_absent=False)
    stride = 14 if "patch14" in arch else 16
    assert cams.shape == (1, len(net.kinds), 1 + CLASSES, -(-41 // stride), -(-70 // stride))
    assert cams.isfinite().all()
    save_cam_network(net, tmp_path / "base", method=method, classes=("a", "b", "c"), params={})
    again = load_cam_network(tmp_path / "base", CPU)
    image = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(again(image).class_logits, net(image).class_logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", CONVOLUTIONAL)
def test_affinity_network_learns_and_comes_back(tmp_path, arch):
    objective = edge_objective(arch=arch)
    assert learns(objective, labelled())
    net = objective.network.eval()
    assert net(torch.zeros(1, 3, 41, 70)).shape == (1, 11, 18)
    save_irn(net, tmp_path / "irn", params={})
    again = load_irn(tmp_path / "irn", CPU)
    image = torch.randn(1, 3, 33, 50)
    torch.testing.assert_close(again.edges(image, flip=True), net.edges(image, flip=True))


@pytest.mark.parametrize("arch", [*CONVOLUTIONAL, "timm/vit_small_patch8_224"])
def test_segmentation_model_learns_and_comes_back(tmp_path, arch):
    objective = seg_objective(arch=arch)
    assert learns(objective, labelled())
    net = objective.network.eval()
    assert net(torch.zeros(1, 3, 41, 70)).shape == (1, 4, 6, 9)
    save_segmenter(net, tmp_path / "seg", classes=("a", "b", "c"), params={})
    image = torch.randn(1, 3, 33, 50)
    torch.testing.assert_close(load_segmenter(tmp_path / "seg", CPU)(image), net(image))


@pytest.mark.parametrize("arch", VIT)
def test_networks_that_need_a_finer_stride_refuse_a_vision_transformer_in_one_line(arch):
    for make, stride in ((edge_objective, 4), (seg_objective, 8)):
        with pytest.raises(UserError, match=rf"^backbone\.arch: {arch} has .* this network needs {stride}; name"):
            make(arch=arch)


@pytest.mark.parametrize("arch", [*CONVOLUTIONAL, *VIT])
def test_cams_in_bfloat16_are_close_to_those_in_float32(arch):
    net = base_network(arch=arch).eval()
    image = torch.randn(1, 3, 48, 64)
    plain = net.infer(image, LABELS, flip=True, mask_absent=False)
    with torch.autocast("cpu", torch.bfloat16):
        half = net.to(torch.bfloat16).infer(image, LABELS, flip=True, mask_absent=False)
    assert (plain - half).abs().mean() < 0.05


class Seen(Exception):  # noqa: N818 - no error: it ends a pass as soon as the trunk has its images
    pass


def images_of(trunk, run):
    """The images that `run` gives to the trunk first."""
    seen = []

    def look(module, arguments):
        seen.extend(arguments)
        raise Seen

    handle = trunk.register_forward_pre_hook(look)
    with pytest.raises(Seen):
        run()
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("make", [lambda **trunk: cam_objective("sfc", **trunk), edge_objective, seg_objective])
def test_training_images_are_normalised_for_the_trunk(make):
    objective = make(arch="timm/test_convnext")
    sample = {**batch(), **labelled()}
    found = images_of(objective.network.backbone, lambda: objective.train()(sample))
    wanted = torch.zeros(found.shape)
    for b, (top, left, bottom, right) in enumerate(sample["box"].tolist()):
        inside = (slice(None), slice(top, bottom), slice(left, right))
        wanted[b][inside] = sample["image"][b][inside].float() / 127.5 - 1  # test_convnext: mean and std 0.5
    torch.testing.assert_close(found, wanted)


def test_whole_images_are_normalised_for_the_trunk(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    record = Record("a", "train", tmp_path / "a.png", None, 32, 48, (0, 2), "", "table")
    wanted = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    torch.manual_seed(0)
    cam = base_network(arch="timm/test_convnext").eval()
    seg = seg_objective(arch="timm/test_convnext").network.eval()
    save_irn(IrnNetwork(arch="timm/test_convnext"), tmp_path / "irn", params={})
    edges = IrnReader(tmp_path / "irn", scale=1.0, flip=False, precision="fp32", device=CPU)
    common = {"batch_size": 1, "precision": "fp32", "device": CPU, "workers": 0}
    multiscale = {"num_classes": CLASSES, "scales": (1.0,), "flip": False, "mask_absent": False, **common}
    features = {"use_masks": False, "scale": 1.0, "bkg_scale": 0.5, "progress": lambda items, **_: items, **common}
    raw = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    for trunk, run in (
        (cam.backbone, lambda: dict(infer_cams(cam, [[record]], **multiscale))),
        (cam.backbone, lambda: shared_features(cam, [record], **features)),
        (seg.backbone, lambda: image_logits(seg, raw, scales=(1.0,), merge="mean", flip=False)),
        (edges._network.backbone, lambda: edges([record])),
    ):
        torch.testing.assert_close(images_of(trunk, run), wanted)
