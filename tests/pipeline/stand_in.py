"""Stands in for `python` in `python -m stages.NAME`: writes what dvc.yaml says the stage makes, and computes nothing.

Every byte written depends on all of the stage's inputs and params, as in the real stage, so that DVC sees a change
wherever there might be one.
"""

import hashlib
import json
import sys
from pathlib import Path

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def main(module: str, key: str = "") -> None:
    params = yaml.load(Path("params.yaml").read_text(), LOADER)
    spec = yaml.load(Path("dvc.yaml").read_text(), LOADER)["stages"][module.removeprefix("stages.")]
    item = spec.get("foreach", {}).get(key, {})
    spec = spec.get("do", spec)

    known = {"key": key, **_dotted("item", item), "dataset.root": params["dataset"]["root"]}
    known["train_cam.method"] = params["train_cam"]["method"]

    def fill(text: str) -> str:
        for name, value in known.items():  # items first: they hold further names
            text = text.replace(f"${{{name}}}", value)
        return text

    digest = hashlib.sha256(module.encode())
    for path in map(Path, map(fill, spec["deps"])):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.read_bytes())
    for name in spec["params"]:
        value = params
        if name == {"params.yaml": None}:  # all of them
            digest.update(json.dumps(value).encode())
            continue
        for part in fill(name).split("."):
            value = value[part]
        if name == "dataset":
            value = {key: item for key, item in value.items() if key != "tuning"}  # goes to out/tuning.json alone
        digest.update(json.dumps(value).encode())
    for out in [*spec.get("outs", []), *spec.get("metrics", [])]:
        path = Path(fill(out if isinstance(out, str) else next(iter(out))))
        own = {"method.json": _method, "tuning.json": _tuning}
        _write(path, own[path.name](params) if path.name in own else digest.hexdigest())


def _dotted(prefix: str, values: dict) -> dict:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _method(params: dict) -> str:
    """What the method reads, as the real label_stats tells: nothing of the others'."""
    sys.path.insert(0, str(Path.cwd()))
    from sfc.methods import METHODS  # not at the top: it takes seconds, and label_stats alone asks

    return json.dumps({name: params[name] for name in METHODS[params["train_cam"]["method"]].sections})


def _tuning(params: dict) -> str:
    return json.dumps(params["dataset"]["tuning"])


def _write(path: Path, text: str) -> None:
    if path.suffix == "":
        path = path / "content"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json" and path.name not in ("method.json", "tuning.json"):
        text = json.dumps({"value": int(text[:8], 16)})
    path.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[2:])
