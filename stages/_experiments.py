"""Which experiments have been measured, by everything that decides their figures; a table of them on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo

from sfc.errors import UserError
from sfc.params import Yaml12Loader
from stages._stage import output
from stages._workspace import applied

KEYS = ("run", "seed", "changes", "fingerprint", "product", "split", "map", "images", "protocol")


@dataclass(frozen=True)
class Run:
    """One experiment: its name in the tables, its seed, and every param it sets (dotted name -> value as typed)."""

    name: str
    seed: int
    changes: dict[str, str]

    @property
    def key(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.changes.items())


class Fingerprints:
    """What decides a product's figures beside the run's changes, as DVC tracks it.

    For the stage that measures the product and all stages before it: commands, the params they read, and the md5 of
    code and data they depend on. Taken when the object is made, from the files as they are, not from dvc.lock.
    """

    def __init__(self, products: list[str]):
        self._params = yaml.load(Path("params.yaml").read_text(encoding="utf-8"), Loader=Yaml12Loader)
        self._chains = {}
        try:
            with Repo() as repo:
                md5: dict[str, str] = {}
                for product in products:
                    stages = [s for s in repo.stage.collect(f"evaluate@{product}", with_deps=True) if s.cmd]
                    self._chains[product] = [_facts(stage, stages, md5) for stage in stages]
        except DvcException as error:
            raise UserError(f"the pipeline cannot be read: {' '.join(str(error).split())}") from None

    def of(self, product: str, run: Run) -> str:
        """16 hexadecimal digits."""
        params = applied(self._params, run.changes)
        chain = [{**facts, "params": {name: _value(params, name) for name in facts["params"]}} for facts in
                 self._chains[product]]  # fmt: skip
        text = json.dumps(sorted(chain, key=lambda facts: facts["name"]), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _facts(stage, chain, md5: dict[str, str]) -> dict[str, Any]:
    """`md5` remembers the dependencies that were looked at before."""
    made = {out.fs_path for other in chain for out in other.outs}
    deps, params = {}, []
    for dep in stage.deps:
        if hasattr(dep, "params"):
            params += dep.params
        elif dep.fs_path not in made:
            if not dep.exists:
                raise UserError(f"{dep.def_path}: no such file or folder; dvc pull it, or see dataset.root")
            deps[dep.def_path] = md5.setdefault(dep.fs_path, "") or dep.get_hash().value
            md5[dep.fs_path] = deps[dep.def_path]
    return {"name": stage.addressing, "cmd": str(stage.cmd), "deps": deps, "params": sorted(params)}


def _value(params: dict, name: str) -> Any:
    for part in name.split("."):
        params = params[part]
    return params


class Figures:
    """The CSV of measured figures: a row each product, split and CAM of a run. Rows of other fingerprints stay."""

    def __init__(self, path: Path):
        self.path = path
        kinds = {"seed": int, "fingerprint": str}
        self._rows = pd.read_csv(path, dtype=kinds).to_dict("records") if path.exists() else []
        if any(set(KEYS) - set(row) for row in self._rows[:1]):
            raise UserError(f"{path}: not a table of this command; move it away or name another --out")

    def has(self, run: Run, product: str, fingerprint: str) -> bool:
        return any(self._is(row, run, product, fingerprint) for row in self._rows)

    @staticmethod
    def _is(row: dict, run: Run, product: str, fingerprint: str) -> bool:
        return (row["changes"], row["product"], row["fingerprint"]) == (run.key, product, fingerprint)

    def add(self, run: Run, product: str, fingerprint: str) -> None:
        """Take over metrics/PRODUCT.json and write the table at once."""
        path = Path("metrics") / f"{product}.json"
        for split, found in json.loads(path.read_text(encoding="utf-8")).items():
            shared = {"run": run.name, "seed": run.seed, "changes": run.key, "fingerprint": fingerprint}
            shared |= {"product": product, "split": split, "images": found["images"]}
            shared |= {"protocol": found.get("protocol", found.get("note"))}
            maps = {name: value for name, value in found.items() if isinstance(value, dict) and "miou" in value}
            for name, values in (maps or {"labels": found}).items():
                numbers = {key: value for key, value in values.items() if key.startswith(("miou", "false_"))}
                self._rows.append({**shared, "map": name, **numbers})
        with output(self.path) as temporary:
            self.frame().to_csv(temporary, index=False, float_format="%.6f")

    def frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self._rows)
        figures = dict.fromkeys(("miou", *(name for name in frame.columns if name not in KEYS)))
        return frame.reindex(columns=[*KEYS, *figures])

    def of(self, wanted: list[tuple[Run, str, str]]) -> pd.DataFrame:
        """The rows of these (run, product, fingerprint)s alone."""
        rows = [{**row, "run": run.name} for run, *key in wanted for row in self._rows if self._is(row, run, *key)]
        return pd.DataFrame(rows, columns=list(self.frame().columns))
