"""Gradients on the logits: Eq. 10 against autograd and loops, over intervals, processes and restarts."""

import csv
import textwrap
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sfc.calibration.gradients import GradientRecord, write_gradients
from sfc.training.checkpoint import Checkpoint
from sfc.training.loop import train
from sfc.training.optim import poly, sgd
from tests.methods.tiny import CLASSES, CROP, objective
from tests.training.test_distributed import launch

ROOT = Path(__file__).resolve().parents[2]
STEPS = 5


def scores_and_labels(step, batch=6):
    numbers = torch.Generator().manual_seed(step)
    score = 3 * torch.randn(batch, CLASSES, generator=numbers)
    labels = (torch.rand(batch, CLASSES, generator=numbers) > 0.6).float()
    labels[:, 2] = 0  # a class that no image shows
    return score, labels


def by_loops(steps):
    """Eq. 10 sample by sample in float64; the gradient is autograd's, of the cross entropy of one logit."""
    found = torch.full((2, CLASSES), float("nan"), dtype=torch.float64)
    for c in range(CLASSES):
        for side, shown in enumerate((1, 0)):
            values = []
            for step in steps:
                for score, label in zip(*scores_and_labels(step), strict=True):
                    if label[c] == shown:
                        z = score[c].double().requires_grad_()
                        F.binary_cross_entropy_with_logits(z, label[c].double()).backward()
                        values.append(-z.grad)
            if values:
                found[side, c] = torch.stack(values).mean()
    return found


def test_means_are_eq_10_of_every_interval():
    record = GradientRecord(CLASSES, interval=2, intervals=2)
    for step in range(STEPS):
        record.add(*scores_and_labels(step))
    found = record.means()
    for interval, steps in enumerate(([0, 1], [2, 3, 4])):  # the fifth step counts to the last interval
        expected = by_loops(steps)
        assert torch.allclose(found[interval].double(), expected, rtol=1e-5, equal_nan=True)
        assert torch.equal(found[interval].isnan(), torch.tensor([[False, False, True], [False] * 3]))
    assert (found[:, 0, :2] > 0).all()
    assert (found[:, 1] < 0).all()


def test_table(tmp_path):
    record = GradientRecord(CLASSES, interval=3, intervals=2)
    for step in range(3):
        record.add(*scores_and_labels(step))
    write_gradients(record, tmp_path / "gradients.csv", ("ant", "bee", "cat"))
    rows = list(csv.DictReader((tmp_path / "gradients.csv").open()))
    assert [(row["step"], row["class"]) for row in rows] == [(s, c) for s in "36" for c in ("ant", "bee", "cat")]
    assert float(rows[1]["positive"]) == pytest.approx(by_loops(range(3))[0, 1].item(), rel=1e-4)
    assert (rows[2]["positive"], rows[3]["negative"]) == ("", "")


def batches(first, stop_at=None):
    for step in range(first, STEPS):
        if step == stop_at:
            raise KeyboardInterrupt
        numbers = torch.Generator().manual_seed(step)
        yield {
            "image": torch.randint(0, 256, (4, 3, CROP, CROP), generator=numbers, dtype=torch.uint8),
            "box": torch.tensor([[0, 0, CROP, CROP]] * 4),
            "label": (torch.rand(4, CLASSES, generator=numbers) > 0.5).float(),
        }


def trained(*, record=True, checkpoint=None, stop_at=None):
    model = objective()
    if record:
        model.gradients = GradientRecord(CLASSES, interval=2, intervals=3)
    rows = train(
        model, batches=lambda first: batches(first, stop_at), steps=STEPS, lr_factor=poly(STEPS, 0.9), clip_norm=1.0,
        optimiser=sgd([{"params": list(model.parameters()), "lr": 0.1, "weight_decay": 0.0}], momentum=0.9),
        precision="fp32", device=torch.device("cpu"), checkpoint=checkpoint, progress=lambda items, **_: items,
    )  # fmt: skip
    return model, rows


def test_recording_changes_no_bit_of_the_training():
    (plain, plain_rows), (recorded, rows) = trained(record=False), trained()
    assert rows == plain_rows
    weights = recorded.network.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in plain.network.state_dict().items())
    assert recorded.gradients.counts.sum() == STEPS * 4 * CLASSES


def test_a_restart_loses_nothing(tmp_path):
    def checkpoint():
        return Checkpoint(tmp_path / "run", fingerprint="a", every_seconds=0, note=print)

    with pytest.raises(KeyboardInterrupt):
        trained(checkpoint=checkpoint(), stop_at=3)  # in the middle of an interval
    again, whole = trained(checkpoint=checkpoint())[0].gradients, trained()[0].gradients
    assert torch.equal(again.sums, whole.sums)
    assert torch.equal(again.counts, whole.counts)


SCRIPT = """
import sys
import torch
sys.path.insert(0, {root!r})
from sfc.calibration.gradients import GradientRecord
from sfc.training import distributed
from tests.calibration.test_gradients import CLASSES, scores_and_labels

distributed.start(torch.device("cpu"))
record = GradientRecord(CLASSES, interval=2, intervals=1)
for step in range(2):
    score, labels = scores_and_labels(step, batch=5)
    mine = distributed.share(5)
    record.add(score[mine], labels[mine])
torch.save({{"means": record.means(), "counts": record.counts}}, sys.argv[1] + str(distributed.rank()))
if distributed.is_main():
    torch.save({{}}, sys.argv[1])
distributed.stop()
"""


def test_every_process_holds_the_sums_of_all(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT.format(root=str(ROOT))))
    launch(script, str(tmp_path / "two"), world=2)
    record = GradientRecord(CLASSES, interval=2, intervals=1)
    for step in range(2):
        record.add(*scores_and_labels(step, batch=5))
    for rank in (0, 1):
        found = torch.load(tmp_path / f"two{rank}", weights_only=True)
        assert torch.equal(found["counts"], record.counts)
        assert torch.allclose(found["means"], record.means(), rtol=1e-5, equal_nan=True)
