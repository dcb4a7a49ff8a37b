"""The loop: schedule, clipping, non-finite losses; how it goes on after a kill is in test_checkpoint.py."""

import pytest
import torch
from torch import nn

from sfc.errors import UserError
from sfc.training.loop import train
from sfc.training.optim import poly, sgd

STEPS = 25


class Quadratic(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 1)

    def forward(self, batch):
        error = (self.layer(batch["x"]) - batch["y"]).square().mean()
        return {"loss": error, "mse": error}


def feed(first, *, stop_at=None):
    for step in range(first, STEPS):
        if step == stop_at:
            raise KeyboardInterrupt
        numbers = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=numbers)
        yield {"x": x, "y": x.sum(dim=1, keepdim=True)}


def run(
    model, *, checkpoint=None, stop_at=None, lr=0.05, clip_norm=1.0, batches=None, momentum=0.9, watch=None, stop=None
):
    return train(
        model,
        batches=batches or (lambda first: feed(first, stop_at=stop_at)),
        steps=STEPS,
        optimiser=sgd([{"params": list(model.parameters()), "lr": lr, "weight_decay": 0.0}], momentum=momentum),
        lr_factor=poly(STEPS, 0.9),
        clip_norm=clip_norm,
        precision="fp32",
        device=torch.device("cpu"),
        checkpoint=checkpoint,
        progress=lambda items, **_: items,
        watch=watch,
        stop=stop,
    )


def test_the_curve_holds_the_mean_of_every_ten_steps():
    rows = run(Quadratic(), lr=1e-9)
    assert [row["step"] for row in rows] == [10, 20, 25]
    model = Quadratic()
    values = [model(batch)["loss"].item() for batch in feed(0)]
    assert rows[0]["mse"] == pytest.approx(sum(values[:10]) / 10, rel=1e-4)
    assert rows[2]["loss"] == pytest.approx(sum(values[20:]) / 5, rel=1e-4)


def test_each_row_is_shown_when_it_is_there_and_only_the_loss_is_minimised():
    class Watched(Quadratic):
        def forward(self, batch):
            return super().forward(batch) | {"weight": self.layer.weight.sum()}  # not detached, and yet in no loss

    seen, plain, watched = [], Quadratic(), Watched()
    rows = run(watched, watch=lambda row: seen.append(dict(row)))
    assert seen == rows
    assert [set(row) for row in rows] == [{"step", "loss", "mse", "weight"}] * 3
    run(plain)
    assert torch.equal(plain.layer.weight, watched.layer.weight)


def test_equals_plain_sgd_with_poly_schedule_and_clipping():
    model, plain = Quadratic(), Quadratic()
    run(model, lr=0.5, clip_norm=0.1, momentum=0.0)
    for step, batch in enumerate(feed(0)):
        plain.zero_grad()
        plain(batch)["loss"].backward()
        norm = sum(p.grad.square().sum() for p in plain.parameters()).sqrt()
        with torch.no_grad():
            for p in plain.parameters():
                p -= 0.5 * (1 - step / STEPS) ** 0.9 * p.grad * min(1.0, 0.1 / (norm.item() + 1e-6))
    assert torch.allclose(model.layer.weight, plain.layer.weight, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run():
    def broken(first):
        for batch in feed(first):
            yield {**batch, "y": batch["y"] * float("nan")}

    with pytest.raises(UserError, match="not finite at step 10"):
        run(Quadratic(), batches=broken)
