"""The demo data set: drawn scenes in VOC layout with exact masks and a long tail of classes.

python -m sfc.demo.shapes OUT [--images N] [--imbalance R] [--size PIXELS] [--seed S]
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from sfc.data.images import palette_png
from sfc.demo.drawings import CLASSES, OBJECTS, draw_background, draw_object
from sfc.randomness import generator

CLASSES_PER_IMAGE = 1.7
OVERSAMPLING = 3  # drawn this much larger, then reduced; odd, so that a mask pixel is the centre of its 3 x 3
SHAPES = ((0.75, 1.0), (0.75, 1.0), (1.0, 1.0), (1.0, 0.75))  # height and width over --size
REACH = (0.95, 0.66, 0.52)  # largest size over the image's sides of one, two or three objects
CAR_HEIGHT = 0.55  # of a car that fills the image's long side
SMALLEST_SHARE = 0.015  # of the image that each of its classes keeps when others stand before it


def write_shapes(out: Path, *, images: int, imbalance: float, size: int, seed: int) -> None:
    """Write `images` training images, and a quarter as many for validation, in VOC layout.

    The image counts of the classes fall geometrically by `imbalance` from the first to the last in the training
    split, and are equal in the validation split. Image-level labels are in labels.csv.

    Args:
        out: folder to make or to fill.
        images: training images, at least 1.
        imbalance: count of the most frequent class over that of the rarest, at least 1.
        size: long side of an image in pixels.
    """
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    (out / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    table = ["image_id,split,classes"]
    for split, count, ratio in (("train", images, imbalance), ("val", max(1, images // 4), 1.0)):
        ids = []
        for number, kinds in enumerate(label_sets(generator(seed, f"{split} labels"), count, ratio)):
            image, mask = draw_scene(generator(seed, split, number), kinds, size)
            ids.append(f"{split}_{number:04d}")
            image.save(out / "JPEGImages" / f"{ids[-1]}.jpg", quality=90, subsampling=0)
            (out / "SegmentationClass" / f"{ids[-1]}.png").write_bytes(palette_png(mask, optimize=True))
            table.append(f"{ids[-1]},{split},{' '.join(CLASSES[kind] for kind in kinds)}")
        (out / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    (out / "labels.csv").write_text("\n".join(table) + "\n", encoding="utf-8")


def label_sets(rng: np.random.Generator, images: int, imbalance: float) -> list[tuple[int, ...]]:
    """Sorted class indices of each image: one to three each, 1.7 in the mean, class counts falling geometrically."""
    share = imbalance ** -np.linspace(0, 1, len(CLASSES))
    counts = np.maximum(1, np.round(CLASSES_PER_IMAGE * images * share / share.sum())).astype(int)
    labels = rng.permutation(np.repeat(np.arange(len(CLASSES)), counts))
    sets: list[set[int]] = [{int(kind)} for kind in labels[:images]]
    for kind in labels[images:]:
        # Any image with room may take it; the last class of many images may find none, and is then left out.
        room = [s for s in sets if len(s) < 3 and kind not in s]
        if room:
            room[rng.integers(len(room))].add(int(kind))
    return [tuple(sorted(kinds)) for kinds in sets]


def draw_scene(rng: np.random.Generator, kinds: tuple[int, ...], size: int) -> tuple[Image.Image, np.ndarray]:
    """An RGB image with one object of each class, and its mask, (H, W) uint8 (0 background, class i is i + 1)."""
    while True:
        height, width = (round(size * part) for part in SHAPES[rng.integers(len(SHAPES))])
        large = (height * OVERSAMPLING, width * OVERSAMPLING)
        colours = draw_background(rng, *large)
        mask = np.zeros(large, np.uint8)
        for kind in rng.permutation(kinds):
            _place(rng, int(kind), len(kinds), colours, mask)
        middle = OVERSAMPLING // 2
        mask = mask[middle::OVERSAMPLING, middle::OVERSAMPLING]
        if all((mask == kind + 1).mean() >= SMALLEST_SHARE for kind in kinds):
            image = Image.fromarray(colours).resize((width, height), Image.Resampling.BOX)
            return image, mask


def _place(rng: np.random.Generator, kind: int, objects: int, colours: np.ndarray, mask: np.ndarray) -> None:
    """Draw an object where it hides little: the best of several random places."""
    height, width = mask.shape
    _, _, aspect, tallness = OBJECTS[kind]
    reach = REACH[objects - 1] * rng.uniform(0.75, 1.0)
    tall = round(min(reach * width / aspect, reach * height, reach * CAR_HEIGHT * max(height, width) * tallness))
    pixels, shape = draw_object(rng, kind, tall)
    places = []
    for _ in range(12):
        top, left = (rng.integers(room + 1) for room in np.subtract(mask.shape, shape.shape))
        places.append(np.s_[top : top + shape.shape[0], left : left + shape.shape[1]])
    window = min(places, key=lambda place: np.count_nonzero(mask[place][shape]))
    colours[window][shape] = pixels[shape]
    mask[window][shape] = kind + 1


def _holds_other(out: Path) -> bool:
    """Whether there is anything and it is no drawing of this command, whose classes.txt has the demo's classes."""
    if not out.is_dir() or not any(out.iterdir()):
        return False
    classes = out / "classes.txt"
    return not classes.is_file() or classes.read_bytes().split() != [name.encode() for name in CLASSES]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--images", type=click.IntRange(1), default=340, help="Training images; a quarter more for validation.")
@click.option(
    "--imbalance", type=click.FloatRange(1, 1e6), default=22.0, help="Images of the first class over the last."
)
@click.option("--size", type=click.IntRange(32, 4096), default=256, help="Long side of an image in pixels.")
@click.option("--seed", type=int, default=0)
def main(out: str, images: int, imbalance: float, size: int, seed: int) -> None:
    """Draw the demo data set into the folder OUT, which is empty or holds such a data set."""
    if not out:
        raise click.BadParameter("'' is no path; is a variable of the shell not set?", param_hint="OUT")
    if imbalance != imbalance:
        raise click.BadParameter("nan is no number", param_hint="--imbalance")
    try:
        if _holds_other(Path(out)):
            raise click.BadParameter(f"{out}: something else lies there; name another folder", param_hint="OUT")
        write_shapes(Path(out), images=images, imbalance=imbalance, size=size, seed=seed)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or out}: {error.strerror}; name another folder, or make room"
        ) from None
    click.echo(f"{images + max(1, images // 4):,} images and masks in {out}")


if __name__ == "__main__":
    main()
