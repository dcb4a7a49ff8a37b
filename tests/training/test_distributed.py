"""Two processes give the result of one: gloo on the CPU."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = textwrap.dedent(
    """
    import sys
    import torch
    sys.path.insert(0, {root!r})
    from tests.methods.tiny import CLASSES, CROP, objective
    from sfc.calibration.image_bank import ImageBank
    from sfc.training import distributed
    from sfc.training.loop import train
    from sfc.training.optim import poly, sgd

    distributed.start(torch.device("cpu"))
    bank = ImageBank(num_classes=CLASSES, crop=CROP, draws=3, replacement=True, exclude_batch=False,
                     allow_empty=False, seed=0)
    model = objective(bank=bank)

    def batches(first):
        for step in range(first, 3):
            numbers = torch.Generator().manual_seed(step)
            rows = dict(
                image=torch.randint(0, 256, (6, 3, CROP, CROP), generator=numbers, dtype=torch.uint8),
                box=torch.tensor([[0, 0, CROP, CROP]] * 6),
                label=(torch.rand(6, CLASSES, generator=numbers) > 0.5).float(),
            )
            mine = distributed.share(6)
            yield {{name: value[mine] for name, value in rows.items()}}

    rows = train(model, batches=batches, steps=3, lr_factor=poly(3, 0.9), clip_norm=1.0, precision="fp32",
                 optimiser=sgd([dict(params=list(model.parameters()), lr=0.1, weight_decay=1e-4)], momentum=0.9),
                 device=torch.device("cpu"), checkpoint=None, progress=lambda items, **_: items, log_every=1)
    if distributed.is_main():
        torch.save({{"rows": rows, "weights": model.state_dict()}}, sys.argv[1])
    distributed.stop()
    """
)


def launch(script, result, world):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, script, result], env={**shared, "RANK": str(rank), "WORLD_SIZE": str(world)})
        for rank in range(world)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * world
    return torch.load(result, weights_only=True)


def test_two_processes_equal_one(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(root=str(ROOT)))
    one = launch(script, tmp_path / "one.pt", world=1)
    two = launch(script, tmp_path / "two.pt", world=2)
    for row_one, row_two in zip(one["rows"], two["rows"], strict=True):
        for name, value in row_one.items():
            assert abs(value - row_two[name]) < 1e-4 * max(abs(value), 1), (name, value, row_two[name])
    for name, weight in one["weights"].items():
        if isinstance(weight, torch.Tensor) and weight.is_floating_point():
            assert torch.allclose(weight, two["weights"][name], atol=1e-4), name


GOES_ON = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import torch
    sys.path.insert(0, {root!r})
    from sfc.training import distributed
    from sfc.training.checkpoint import Checkpoint
    from tests.training.test_loop import Quadratic, feed, run

    distributed.start(torch.device("cpu"))
    model, result = Quadratic(), Path(sys.argv[1])
    folder = result.parent / "checkpoint"
    checkpoint = Checkpoint(folder, fingerprint="a", every_seconds=0.0, note=lambda text: None) if {keeps!r} else None

    def batches(first):
        for batch in feed(first, stop_at={stop_at!r}):  # each process sees other samples
            yield {{name: value + distributed.rank() for name, value in batch.items()}}

    try:
        rows = run(model, checkpoint=checkpoint, batches=batches)
    except KeyboardInterrupt:
        rows = None
    if distributed.is_main():
        torch.save({{"rows": rows, "weights": model.state_dict()}}, result)
    distributed.stop()
    """
)


def test_two_processes_that_were_killed_have_the_curve_of_two_that_were_not(tmp_path):
    """A row of the curve that is open at the checkpoint holds what both have seen until then."""

    def launched(keeps, stop_at=None):
        script = tmp_path / "run.py"
        script.write_text(GOES_ON.format(root=str(ROOT), keeps=keeps, stop_at=stop_at))
        return launch(script, tmp_path / "result.pt", world=2)

    whole = launched(keeps=False)
    assert launched(keeps=True, stop_at=13)["rows"] is None
    assert list((tmp_path / "checkpoint").glob("*.pt"))
    again = launched(keeps=True)
    assert again["rows"] == whole["rows"]
    assert all(torch.equal(weight, again["weights"][name]) for name, weight in whole["weights"].items())


def test_gather_rows_and_global_mean_of_uneven_shares(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            import torch
            sys.path.insert(0, {str(ROOT)!r})
            from sfc.training import distributed
            distributed.start(torch.device("cpu"))
            values = torch.arange(5.0)
            mine = values[distributed.share(5)]
            mean = distributed.average(distributed.global_mean(mine.sum(), len(mine)))
            rows = distributed.gather_rows(mine[:, None])
            if distributed.is_main():
                torch.save({{"mean": mean, "rows": rows}}, sys.argv[1])
            distributed.stop()
            """
        )
    )
    result = launch(script, tmp_path / "result.pt", world=2)
    assert result["mean"].item() == 2.0
    assert result["rows"].flatten().tolist() == [0, 1, 2, 3, 4]
