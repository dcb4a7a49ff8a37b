"""A method of one's own, as CONTRIBUTING says to add one: what the test puts into a copy of the project."""

from pathlib import Path

from ruamel.yaml import YAML

METHOD = '''"""Peak: the classifier scored by the largest value of each map instead of the mean."""

from __future__ import annotations

from sfc.calibration.losses import classification_loss
from sfc.calibration.method import Method, Setup
from sfc.calibration.network import CamNetwork
from sfc.calibration.objective import Objective, batch_images, total
from sfc.config_types import Positive, Section


class PeakParams(Section):
    sharpness: Positive


class PeakNetwork(CamNetwork):
    kinds = ("peak",)
    fused = ("peak",)


class PeakObjective(Objective):
    def __init__(self, network: PeakNetwork, *, sharpness: float):
        super().__init__(network)
        self.sharpness = sharpness

    def forward(self, batch):
        maps = self.network(batch_images(batch, self.network.backbone), hierarchy=False)
        peaks = (self.sharpness * maps.class_logits.float()).logsumexp(dim=(2, 3)) / self.sharpness
        means = self.classification(maps, batch["label"])
        return total({"means": means, "peaks": classification_loss(peaks, batch["label"])})


def _objective(setup: Setup, *, peak: PeakParams) -> PeakObjective:
    return PeakObjective(PeakNetwork(**setup.trunk), **peak.model_dump())


PEAK = Method("peak", {"peak": PeakParams}, PeakNetwork, _objective, losses=("means", "peaks"))
'''
RULE = {"weights": {"peak": 1.0}, "fg_gain": 1.0, "bg_offset": 0.0}
WALK = {"foreground_power": 1.0, "background": 0.25, "whole_power": None}


def add(root: Path) -> None:
    """One new file, its line in the registry, its params section, its line in dvc.yaml."""
    (root / "sfc/methods/peak.py").write_text(METHOD)
    registry = root / "sfc/methods/__init__.py"
    text = registry.read_text()
    text = text.replace("from sfc.methods.sfc import", "from sfc.methods.peak import PEAK\nfrom sfc.methods.sfc import")
    registry.write_text(text.replace("(BASE, SIPE, SFC)", "(BASE, SIPE, SFC, PEAK)"))
    yaml = YAML()
    params = yaml.load(root / "params.yaml")
    params["train_cam"]["method"] = "peak"
    params["peak"] = {"sharpness": 2.0}
    params["fusion"]["peak"] = {"crf": RULE, "walk": RULE | WALK, "eval": RULE}
    yaml.dump(params, root / "params.yaml")
    pipeline = yaml.load(root / "dvc.yaml")
    pipeline["stages"]["label_stats"]["params"].append("peak")
    yaml.dump(pipeline, root / "dvc.yaml")
