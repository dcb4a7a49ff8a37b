"""A trunk for the demo to start from, as the paper starts from ImageNet: it tells drawn objects of other classes apart.

python -m sfc.demo.trunk FILE [--classes N] [--images N] [--epochs N] [--size PIXELS] [--seed S]

The classes are random compositions of the parts that the demo's objects are made of, on the demo's backgrounds. None
of them is one of the demo's classes, and there are no masks: what the trunk knows of the demo is what parts look like.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from sfc.backbone import Backbone
from sfc.data.images import normalise
from sfc.data.pool import ordered_map
from sfc.demo.drawings import Pen, draw_background, painted
from sfc.memory import keep_freed_memory
from sfc.randomness import generator
from sfc.training.loop import train
from sfc.training.optim import poly, sgd

ARCH = "resnet18_half"
BATCH = 64
LR, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4  # usual for a small ResNet from scratch
PARTS = (3, 6)  # of a composition, both included
OVERSAMPLING = 2  # drawn this much larger, then reduced


def composition(seed: int, kind: int) -> Callable[[Pen], None]:
    """How to draw an object of class `kind`: parts of fixed form, place and hue, whose colours vary with the object."""
    rng = generator(seed, "composition", kind)
    steps = [_part(rng) for _ in range(rng.integers(PARTS[0], PARTS[1] + 1))]

    def draw(pen: Pen) -> None:
        for step in steps:
            step(pen)

    return draw


def _part(rng: np.random.Generator) -> Callable[[Pen], None]:
    x, y, hue = rng.uniform(0.3, 0.9), rng.uniform(0.25, 0.75), rng.uniform(0, 360)
    w, h, r = *rng.uniform(0.15, 0.45, size=2), rng.uniform(0.12, 0.25)
    saturation, value = rng.uniform(0.3, 0.9), rng.uniform(0.4, 0.95)
    corners = [(x + dx * w, y + dy * h) for dx, dy in rng.uniform(-1, 1, size=(rng.integers(3, 6), 2))]

    def colour(pen: Pen) -> tuple[int, int, int]:
        return pen.paint(hue, saturation, value)

    return (
        lambda pen: pen.disc(x, y, r, fill=colour(pen)),
        lambda pen: pen.box(x - w / 2, y - h / 2, x + w / 2, y + h / 2, fill=colour(pen), radius=0.05),
        lambda pen: pen.polygon(*corners, fill=colour(pen)),
        lambda pen: pen.wheel(x, y, r),
        lambda pen: pen.window(x - w / 2, y - h / 2, x + w / 2, y + h / 2),
        lambda pen: pen.bar(x - w, y - h / 2, x + w, y + h / 2, width=0.09, fill=colour(pen)),
    )[rng.integers(6)]


def draw_example(number: int, *, classes: int, size: int, seed: int) -> tuple[np.ndarray, int]:
    """Image `number`: (size, size, 3) uint8 with one object somewhere on a background, and its class."""
    rng = generator(seed, "trunk example", number)
    kind = int(rng.integers(classes))
    side = size * OVERSAMPLING
    picture = draw_background(rng, side, side)
    aspect = 1.2
    tall = round(side * rng.uniform(0.5, 0.8))
    colours, shape = painted(rng, composition(seed, kind), aspect, tall)
    top, left = (int(rng.integers(room + 1)) for room in np.subtract(picture.shape[:2], shape.shape))
    window = np.s_[top : top + shape.shape[0], left : left + shape.shape[1]]
    picture[window][shape] = colours[shape]
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX)), kind


class _Classifier(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.backbone = Backbone(arch=ARCH, strides=(1, 2, 2, 2), batch_norm="train")
        self.classes = nn.Linear(self.backbone.channels[-1], classes)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        trunk = self.backbone
        scores = self.classes(trunk(normalise(batch["image"], None, mean=trunk.mean, std=trunk.std))[-1].mean((2, 3)))
        right = (scores.argmax(1) == batch["kind"]).float().mean()
        return {"loss": F.cross_entropy(scores.float(), batch["kind"]), "accuracy": right}


def pretrained(
    *, classes: int, images: int, epochs: int, size: int, seed: int, workers: int, progress: Callable
) -> tuple[dict[str, Tensor], float]:
    """The trunk's tensors, and the share of images told apart in the last steps of training.

    Args:
        images: to draw; they are seen `epochs` times, mirrored half of the time.
        workers: processes that draw.
        progress: called as progress(items, total=n, label=text).
    """
    draw = partial(draw_example, classes=classes, size=size, seed=seed)
    drawn = list(progress(ordered_map(draw, range(images), workers=workers), total=images, label="drawing"))
    pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2)
    kinds = torch.tensor([kind for _, kind in drawn])
    steps = images // BATCH * epochs

    def batches(first: int) -> Iterator[dict[str, Tensor]]:
        for step in range(first, steps):
            epoch, place = divmod(step, images // BATCH)
            order = generator(seed, "trunk order", epoch).permutation(images)
            rows = torch.from_numpy(order[place * BATCH : (place + 1) * BATCH])
            mirrored = torch.from_numpy(generator(seed, "trunk mirror", step).random(BATCH) < 0.5)
            batch = pictures[rows]
            yield {"image": torch.where(mirrored[:, None, None, None], batch.flip(3), batch), "kind": kinds[rows]}

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _Classifier(classes).to(memory_format=torch.channels_last)
    group = {"params": list(network.parameters()), "lr": LR, "weight_decay": WEIGHT_DECAY}
    rows = train(
        network, batches=batches, steps=steps, optimiser=sgd([group], momentum=MOMENTUM), lr_factor=poly(steps, 1.0),
        clip_norm=None, precision="fp32", device=torch.device("cpu"), checkpoint=None, progress=progress,
    )  # fmt: skip
    state = {name: value.contiguous() for name, value in network.backbone.state_dict().items()}
    return state, float(np.mean([row["accuracy"] for row in rows[-3:]]))


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions in float16, which halves the file; batch norm, whose variances may be tiny, stays as it is."""
    return {name: value.half() if value.dim() == 4 else value for name, value in state.items()}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--classes", type=click.IntRange(2), default=64)
@click.option("--images", type=click.IntRange(BATCH), default=9000)
@click.option("--epochs", type=click.IntRange(1), default=6)
@click.option("--size", type=click.IntRange(32), default=96, help="Side of an image in pixels.")
@click.option("--seed", type=int, default=0)
def main(file: Path, classes: int, images: int, epochs: int, size: int, seed: int) -> None:
    """Train the trunk and write it to FILE (safetensors), for `backbone.weights`."""

    if file.suffix != ".safetensors":
        raise click.BadParameter(f"{file}: it is read by its ending; name it .safetensors", param_hint="FILE")
    try:  # before minutes of training
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.exists()
        file.open("ab").close()
        if not before:
            file.unlink()
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}; name a file that can be written") from None

    def progress(items, *, total: int, label: str):
        return tqdm(items, total=total, desc=label, mininterval=1.0, dynamic_ncols=True, file=sys.stderr)

    keep_freed_memory()
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    state, accuracy = pretrained(
        classes=classes, images=images, epochs=epochs, size=size, seed=seed, workers=workers, progress=progress
    )
    save_file(half(state), file)
    click.echo(f"a trunk that told apart {100 * accuracy:.1f} % of its last training images, to {file}")


if __name__ == "__main__":
    main()
