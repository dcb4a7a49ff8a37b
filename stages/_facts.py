"""What decides the figures of an experiment: commands, params, and hashes of code and data, as dvc.lock holds them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvc.dependency import loads_from
from dvc.exceptions import DvcException
from dvc.repo import Repo

from sfc.errors import UserError
from sfc.params import read_text, read_yaml
from stages._queue import at, git


def read_params() -> dict[str, Any]:
    """params.yaml as it is."""
    return read_yaml(read_text("params.yaml"), source="params.yaml")


def value(params: dict[str, Any], name: str) -> Any:
    """A param by its dotted name; UserError if it is not there."""
    for part in name.split("."):
        if not isinstance(params, dict) or part not in params:
            raise UserError(f"params.yaml: no param {name}")
        params = params[part]
    return params


def changed(params: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
    """A copy with values as typed for params by dotted names; UserError if one is not there."""
    params = json.loads(json.dumps(params))
    for name, text in changes.items():
        section, _, last = name.rpartition(".")
        value(params, name)
        value(params, section)[last] = read_yaml(text, source=name)
    return params


class Facts:
    """Of the workspace as it is now. What experiments have recorded compares with it by digests.

    Every digest is of a chain: the stages that measure some products, and all before them. Products of stages are left
    out of it, since what makes them is in.
    """

    def __init__(self):
        self._params = read_params()
        self._hashes: dict[str, str] = {}
        self._chains: dict[str, list[str]] = {}
        self._resolved: dict[str, list] = {}

    def wanted(self, targets: Sequence[str], changes: dict[str, str]) -> str:
        """The digest that an experiment with these params changed (as typed) will have.

        Raises:
            UserError: the pipeline cannot be read, or code or data are missing, or code is not in git.
        """
        params = changed(self._params, changes)
        chain = {}
        for stage in self._resolve(targets, params):
            names = [name for dep in stage.deps if hasattr(dep, "params") for name in dep.params]
            deps = [dep.def_path for dep in stage.deps if not hasattr(dep, "params")]
            read = {name: value(params, name) for name in names}
            chain[stage.addressing.rpartition(":")[2]] = (stage.cmd, deps, read, [out.def_path for out in stage.outs])
        made = {path for *_, outs in chain.values() for path in outs}
        sources = {path for _, deps, *_ in chain.values() for path in deps} - made
        self._hash(sorted(sources - self._hashes.keys()))
        facts = {
            name: (cmd, {path: self._hashes[path] for path in deps if path in sources}, read)
            for name, (cmd, deps, read, _) in chain.items()
        }
        self._chains[digest := _digest(facts)] = sorted(facts)
        return digest

    def recorded(self, commit: str, wanted: str) -> bool:
        """Whether what an experiment ran has this digest, by its dvc.lock."""
        lock = read_yaml(at(commit, "dvc.lock"), source="dvc.lock") or {}
        chain = {name: lock.get("stages", {}).get(name, {}) for name in self._chains[wanted]}
        made = {out["path"] for stage in chain.values() for out in stage.get("outs", [])}
        facts = {
            name: (
                stage.get("cmd"),
                {dep["path"]: dep.get("md5") for dep in stage.get("deps", []) if dep["path"] not in made},
                stage.get("params", {}).get("params.yaml", {}),
            )
            for name, stage in chain.items()
        }
        return _digest(facts) == wanted

    def _resolve(self, targets: Sequence[str], params: dict[str, Any]) -> list:
        """The chain's stages as dvc.yaml gives them with these params, read anew where what it interpolates differs."""
        names = sorted(set(re.findall(r"\$\{([\w.]+)\}", read_text("dvc.yaml"))))
        used = [value(params, name) for name in names if name.partition(".")[0] in params]
        key = json.dumps([*targets, used])
        if key not in self._resolved:
            self._resolved[key] = _stages(targets, params)
        return self._resolved[key]

    def _hash(self, paths: list[str]) -> None:
        for path in paths:
            if not Path(path).exists():
                raise UserError(f"{path}: no such file or folder; dvc pull it, or see dataset.root")
        inside = [path for path in paths if not Path(path).is_absolute()]
        new = git("ls-files", "--others", "--exclude-standard", "--", *inside).splitlines() if inside else []
        if new:
            raise UserError(
                f"{new[0]}: git does not know it, so experiments would run without it; git add and commit it"
            )
        try:
            with Repo() as repo:
                anchor = next(iter(repo.index.stages))
                deps = loads_from(anchor, [str(Path(path).absolute()) for path in paths])
                self._hashes |= {path: dep.get_hash().value for path, dep in zip(paths, deps, strict=True)}
        except DvcException as error:
            raise UserError(f"the pipeline cannot be read: {_why(error)}") from None


def _stages(targets: Sequence[str], params: dict[str, Any]) -> list:
    """Read dvc.yaml with these params, in a folder where params.yaml can have them."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy("dvc.yaml", folder)
        text = json.dumps(params)  # which is YAML 1.2
        (Path(folder) / "params.yaml").write_text(text, encoding="utf-8")
        try:
            with Repo(folder, uninitialized=True) as repo:
                stages = {
                    stage.addressing: stage
                    for target in targets
                    for stage in repo.stage.collect(f"{folder}/dvc.yaml:{target}", with_deps=True)
                }
                return list(stages.values())
        except DvcException as error:
            raise UserError(f"the pipeline cannot be read: {_why(error)}") from None


def _why(error: DvcException) -> str:
    return " ".join(f"{error}: {error.__cause__ or ''}".split())


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
