"""The method of docs/own_method.md, put into a copy of the project as that page says: its own text, word for word."""

import re
from pathlib import Path

from ruamel.yaml import YAML


def add(root: Path) -> None:
    """One new file, its line in the registry, its params sections, its section's name in dvc.yaml."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (root / "docs/own_method.md").read_text(), re.MULTILINE | re.DOTALL)
    method, registered = (text for kind, text in blocks if kind == "python")
    yaml = YAML()
    own, stage = (yaml.load(text) for kind, text in blocks if kind == "yaml")
    (root / "sfc/methods/peak.py").write_text(method)
    registry = root / "sfc/methods/__init__.py"
    line, _, _ = registered.partition("\n")
    text = registry.read_text().replace("from sfc.methods.base", f"{line}\nfrom sfc.methods.base")
    registry.write_text(re.sub(r"(registry\(.*)\)", r"\1, PEAK)", text))
    params = yaml.load(root / "params.yaml")
    params["train_cam"]["method"] = "peak"
    params["fusion"].update(own.pop("fusion"))
    params.update(own)
    yaml.dump(params, root / "params.yaml")
    pipeline = yaml.load(root / "dvc.yaml")
    pipeline["stages"]["label_stats"]["params"].append(stage["params"][-1])
    yaml.dump(pipeline, root / "dvc.yaml")
