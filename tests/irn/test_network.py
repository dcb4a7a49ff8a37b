"""IRN's network: sizes, what learns, mirror images, files."""

import numpy as np
import pytest
import torch
from PIL import Image

from sfc.errors import UserError
from sfc.irn.network import IrnNetwork, IrnObjective, load_irn, save_irn
from sfc.irn.pair_loss import pair_loss


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return IrnNetwork(arch="resnet18").eval()


def batch(crop=48, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.choice([0, 1, 2, 255], size=(2, 3, 3)), np.ones((16, 16), int))[:, :crop, :crop]
    return {
        "image": torch.tensor(rng.integers(0, 256, (2, 3, crop, crop)), dtype=torch.uint8),
        "box": torch.tensor([[0, 0, crop, crop], [5, 0, crop, 30]]),
        "mask": torch.tensor(mask, dtype=torch.uint8),
    }


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 16), (47, 61), (64, 32)])
def test_one_logit_for_every_four_by_four_pixels_of_any_image(network, size):
    logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, -(-size[0] // 4), -(-size[1] // 4))
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("arch", "channels"), [("resnet34", (64, 64, 128, 256, 512)), ("resnet50", (64, 256, 512, 1024, 2048))]
)
def test_heads_are_those_of_the_paper_on_any_trunk(arch, channels):
    network = IrnNetwork(arch=arch).eval()
    assert network(torch.zeros(1, 3, 40, 24)).shape == (1, 10, 6)
    learnt = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert learnt == 32 * sum(channels) + 5 * 2 * 32 + 160 + 1


def test_flip_averages_the_logits_of_both_images(network):
    images = torch.randn(2, 3, 24, 50)
    expected = torch.sigmoid((network(images) + network(images.flip(3)).flip(2)[:, :, -13:]) / 2)
    torch.testing.assert_close(network.edges(images, flip=True), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.edges(images, flip=False), network(images).sigmoid())


def test_objective_is_the_pair_loss_at_a_quarter_of_the_crop(network):
    sample = batch()
    objective = IrnObjective(network, radius=3).train()
    losses = objective(sample)
    small = [np.asarray(Image.fromarray(m.numpy()).resize((12, 12), Image.Resampling.NEAREST)) for m in sample["mask"]]
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 255
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 255
    images = (sample["image"].float() - mean) / std
    images[1, :, :5] = images[1, :, :, 30:] = 0
    expected = pair_loss(network(images).sigmoid(), torch.tensor(np.stack(small)), 3)
    for name, value in expected._asdict().items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5)


def test_heads_learn_and_the_trunk_does_not(network):
    torch.manual_seed(0)
    objective = IrnObjective(IrnNetwork(arch="resnet18"), radius=3).train()
    state = {name: value.clone() for name, value in objective.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(objective(batch())["loss"])
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0]
    for name, value in objective.state_dict().items():
        assert torch.equal(value, state[name]) == name.startswith("network.backbone."), name


def test_file_rebuilds_the_network(network, tmp_path):
    path = tmp_path / "irn.safetensors"
    save_irn(network, path, params={"irn": {"radius": 10}})
    first = path.read_bytes()
    loaded = load_irn(path, "cpu")
    images = torch.randn(1, 3, 20, 20)
    torch.testing.assert_close(loaded(images), network(images), rtol=1e-4, atol=1e-5)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    save_irn(loaded, path, params={"irn": {"radius": 10}})
    assert path.read_bytes() == first


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors: no such file; run the stage train_irn first"):
        load_irn(tmp_path / "none.safetensors", "cpu")
    (tmp_path / "bad.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(UserError, match=r"bad\.safetensors: not what the stage train_irn"):
        load_irn(tmp_path / "bad.safetensors", "cpu")
