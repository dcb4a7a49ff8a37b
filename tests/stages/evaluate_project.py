"""A folder as the stages before `evaluate` leave it."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import yaml
from click.testing import CliRunner
from PIL import Image

from sfc.data.manifest import Manifest, Record, write_manifest
from sfc.example_archive import ExampleArchive
from sfc.label_archive import LabelArchiveWriter
from sfc.localization.store import CamWriter
from stages.evaluate import main

CLASSES = ("ant", "bee", "cat")


class Project:
    """Its params.yaml, manifest and masks, and what to put there for a product to be evaluated."""

    def __init__(self, folder, preset):
        params = yaml.safe_load(preset.read_text())
        params["evaluate"] |= {"class_sets": {"many": ["ant"], "few": ["bee", "cat"]}, "gallery": 3, "worst": 1}
        self.folder, self.params, self.truth = folder, params, {}
        for name in ("out", "metrics", "plots", "masks"):
            (folder / name).mkdir()
        self.records = [self._record(split, i) for split in ("val", "train") for i in range(4)]
        self.write()

    def _record(self, split, i, size=(24, 32)):
        rng = np.random.default_rng(i)
        name, truth = f"{split}{i}", np.repeat(rng.integers(0, 3, (size[0], 1), np.uint8), size[1], axis=1)
        truth[0] = 255
        image, mask = self.folder / "masks" / f"{name}.jpg", self.folder / "masks" / f"{name}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(image)
        Image.fromarray(truth).save(mask)
        self.truth[name] = truth
        return Record(name, split, image, mask, *size, (0, 1), "hash", "masks")

    def write(self, masks=True):
        records = [r if masks else SimpleNamespace(**{**vars(r), "mask": None}) for r in self.records]
        write_manifest(
            Manifest(tuple(records), CLASSES), self.folder / "out/manifest.csv", self.folder / "out/classes.json"
        )
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params))

    def archive(self, name, split, change=lambda labels: labels):
        with LabelArchiveWriter(self.folder / "out" / name) as writer:
            for record in self.records:
                if record.split == split:
                    writer.write(record.id, change(self.truth[record.id].copy()))

    def cams(self, kinds=("classifier", "prototype")):
        """Maps that are right everywhere, made of one scale at full size."""
        (self.folder / "out/cams").mkdir()
        ids = [r.id for r in self.records]
        writer = CamWriter(self.folder / "out/cams", kinds=kinds, fused=kinds, scales=(1.0,), ids=ids)
        for r in self.records:
            right = np.stack([self.truth[r.id] == k for k in range(3)]).astype(np.float32)
            writer.write(r.id, [np.stack([right] * len(kinds))])
        writer.finish()

    def run(self, product):
        return CliRunner().invoke(main, [product])

    def metrics(self, product):
        return json.loads((self.folder / f"metrics/evaluate_{product}.json").read_text())

    def examples(self, product):
        content = (self.folder / f"out/examples/{product}.zip").read_bytes()
        return ExampleArchive(content, source=product).index

    def per_class(self, product):
        with (self.folder / f"plots/evaluate_{product}_per_class.csv").open() as file:
            return list(csv.DictReader(file))
