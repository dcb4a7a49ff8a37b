"""Each preset builds the models of every method and trains them a step."""

from pathlib import Path

import pytest
import torch

from sfc.calibration.method import Setup
from sfc.irn.network import IrnNetwork
from sfc.methods import METHODS
from sfc.params import parse_params, read_yaml
from sfc.segmentation.objective import SegmentationObjective
from stages import preset, train_seg

PRESETS = sorted((Path(__file__).resolve().parents[2] / "presets").glob("*.yaml"))
COUNTS = {"voc": 20, "coco14": 80, "table": 5}  # foreground classes of each kind of data set


def batch(classes):
    numbers = torch.Generator().manual_seed(0)
    labels = (torch.rand(2, classes, generator=numbers) < 0.5).float()
    mask = torch.randint(0, classes + 1, (2, 64, 64), generator=numbers, dtype=torch.uint8)
    return {
        "image": torch.randint(0, 256, (2, 3, 64, 64), generator=numbers, dtype=torch.uint8),
        "box": torch.tensor([[0, 0, 64, 64], [0, 8, 64, 48]]),
        "label": labels,
        "mask": mask,
    }


def learns(objective, batch):
    """One step forward and back: finite, and every learning parameter that the loss reaches gets a gradient."""
    loss = objective.train()(batch)["loss"]
    assert loss.isfinite()
    loss.backward()
    gradients = [p.grad for p in objective.parameters() if p.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_builds_and_trains_its_models(path):
    params = parse_params(read_yaml(preset.preset_text(path), source=path.stem))
    classes = COUNTS[params.get("dataset.kind")]
    train_cam = params.get("train_cam").model_copy(update={"crop": 64})
    for method in METHODS.values():
        sections = {name: params.get(name) for name in method.sections}
        trunk = {"num_classes": classes, **train_cam.backbone.model_dump(exclude={"weights"})}
        setup = Setup(trunk, train_cam.crop, train_cam.random_seed, torch.ones(classes))
        learns(method.objective(setup, **sections), batch(classes))
    network = train_seg._network(params.get("seg"), classes + 1)
    scales = params.get("seg.train_scales")
    objective = SegmentationObjective(network, train_scales=scales, loss="ce", seed=0, batch_size=2)
    learns(objective, batch(classes))
    irn = params.get("irn").backbone
    edges = IrnNetwork(**irn.model_dump(exclude={"weights"}))
    assert edges.train()(torch.rand(1, 3, 64, 64)).shape == (1, 16, 16)
