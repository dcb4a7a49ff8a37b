"""Base: its CAM and its loss against loops in float64, and that every method's network is found again on file."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfc.calibration.objective import batch_images
from sfc.errors import UserError
from sfc.methods import METHODS, load_cam_network, save_cam_network
from sfc.methods.base import BaseNetwork, BaseObjective
from tests.methods.tiny import CLASSES, base_network, batch, network, sipe_network

LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def images(batch=2, height=48, width=64):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def loop_cam(logits, feature, iters):
    """Eq. 2 with the background made before the correlation, pixel by pixel; (C, H, W) and (D, H, W) float64."""
    size = logits.shape[1:]
    cam = np.array([np.maximum(c, 0) / (np.maximum(c, 0).max() + 1e-5) for c in logits])
    cam = np.concatenate([1 - cam.max(axis=0, keepdims=True), cam]).reshape(1 + len(cam), -1)
    pixels = [p / (np.linalg.norm(p) + 1e-5) for p in feature.reshape(len(feature), -1).T]
    affinity = np.array([[max(0.0, p @ q) for q in pixels] for p in pixels])
    for column in affinity.T:
        column /= column.sum() + 1e-5
    for _ in range(iters):
        cam = np.array(
            [[sum(row[i] * affinity[i, j] for i in range(len(row))) for j in range(len(row))] for row in cam]
        )
    return cam.reshape(-1, *size)


@pytest.mark.parametrize("iters", [0, 1, 2])
def test_cam_is_eq_2_on_the_features_themselves(iters):
    net = base_network(pcm_iters=iters).eval()
    found = net.infer(images(), LABELS, flip=False, mask_absent=False)
    assert found.shape == (2, 1, 1 + CLASSES, 3, 4)
    exact = copy.deepcopy(net).double()
    with torch.no_grad():
        layer4 = exact.backbone(images().double())[-1]
        logits = exact.classifier(layer4)
        small = F.interpolate(images().double(), size=layer4.shape[2:], mode="bilinear", align_corners=True)
    feature = torch.cat([small, layer4], dim=1).numpy()
    for b in range(2):
        np.testing.assert_allclose(found[b, 0].detach(), loop_cam(logits[b].numpy(), feature[b], iters), atol=1e-5)


def test_flip_makes_the_maps_mirror_with_the_image():
    net = base_network().eval()
    straight = net.infer(images(), LABELS, flip=True, mask_absent=True)
    mirrored = net.infer(images().flip(3), LABELS, flip=True, mask_absent=True)
    assert torch.allclose(straight, mirrored.flip(4), atol=1e-4)
    assert straight[0, 0, 2].abs().max() == 0  # an absent class


def test_loss_and_gradients_are_those_of_eq_1():
    objective = BaseObjective(base_network()).eval()
    found = objective(batch())
    found["loss"].backward()
    exact = copy.deepcopy(objective.network).double()
    exact.zero_grad()
    layer4 = exact.backbone(batch_images(batch(), exact.backbone).double())[-1]
    terms = []
    for b, labels in enumerate(batch()["label"]):
        for c, label in enumerate(labels):
            cells = [exact.classifier.weight[c, :, 0, 0] @ layer4[b, :, y, x] for y, x in np.ndindex(4, 4)]
            score = sum(cells) / len(cells)
            terms.append(-torch.log(torch.sigmoid(score if label else -score)))
    loss = sum(terms) / len(terms)
    loss.backward()
    assert set(found) == {"loss", "cls"}
    assert found["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in objective.network.named_parameters():
        if parameter.requires_grad:
            wanted = exact.get_parameter(name).grad.float()
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())


def test_base_is_the_classifier_alone():
    assert {name.split(".")[0] for name in base_network().state_dict()} == {"backbone", "classifier"}
    assert (BaseNetwork.kinds, BaseNetwork.fused) == (("classifier",), ("classifier",))


@pytest.mark.parametrize(("method", "build"), [("base", base_network), ("sipe", sipe_network), ("sfc", network)])
def test_the_network_of_every_method_comes_back_from_its_file(tmp_path, method, build):
    net = build().eval()
    assert type(net) is METHODS[method].network
    save_cam_network(net, tmp_path / "a", method=method, classes=("a", "b", "c"), params={})
    again = load_cam_network(tmp_path / "a", "cpu")
    assert (type(again), again.config) == (type(net), net.config)
    kwargs = {"flip": True, "mask_absent": False}
    torch.testing.assert_close(again.infer(images(), LABELS, **kwargs), net.infer(images(), LABELS, **kwargs))
    assert again.infer(images(), LABELS, **kwargs).shape[1] == len(net.kinds)


def test_a_file_of_another_method_is_refused(tmp_path):
    save_cam_network(base_network(), tmp_path / "a", method="seam", classes=("a", "b", "c"), params={})
    with pytest.raises(UserError, match="not what the stage train_cam of this version writes"):
        load_cam_network(tmp_path / "a", "cpu")
