"""Run a command as from a shell, and look at what `segment` wrote."""

import csv
import io
import os
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from tests.stages.predict_project import SIZES

STRONG = {"iterations": 2, "gaussian_compat": 60.0, "bilateral_srgb": 40.0}  # a CRF that changes labels of noise
NAMES = [f"im{i}" for i in range(len(SIZES))]


def run(command, *options, status=0):
    done = CliRunner().invoke(command.main, [str(option) for option in options])
    assert done.exit_code == status, done.output
    return done.output


def label(name, folder="o"):
    return (Path(folder) / "labels" / f"{name}.png").read_bytes()


def values(png):
    return np.array(Image.open(io.BytesIO(png)))


def rows(folder="o"):
    with open(Path(folder) / "segments.csv", newline="") as file:
        return list(csv.DictReader(file))


def images(folder="o"):
    """The images in the table, as they are called from the working directory."""
    return [os.path.relpath(row["image"]) for row in rows(folder) if os.path.isabs(row["image"])]


def table(folder="o"):
    return {Path(row["image"]).stem: row for row in rows(folder)}
