"""What SECURITY.md promises of the code as a whole; the other promises have tests beside what they are about."""

import ast
import os
import re
from pathlib import Path

import pytest
import torch
import torchvision

from sfc.backbone.build import build_trunk
from sfc.backbone.weights import load_backbone_weights
from sfc.errors import UserError
from sfc.sealed import sealed
from sfc.training.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for room in ("sfc", "stages", "bench") for path in sorted((ROOT / room).rglob("*.py"))]
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:: (\w+))?`")


class Ran:
    """Unpickled, it makes the file `ran`."""

    def __reduce__(self):
        return (os.mkdir, ("ran",))


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors"])
def test_no_code_in_weights_runs(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Ran()}, name)
    trunk = build_trunk("resnet18", output_stride=16, frozen_stages=0, batch_norm="train")
    with pytest.raises(UserError, match=rf"^{name}: cannot be read as weights"):
        load_backbone_weights(trunk, name)
    assert not Path("ran").exists()
    torch.load(name, weights_only=False)  # the attack is one
    assert Path("ran").exists()


def test_no_code_in_scratch_checkpoints_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with sealed(Path("000000005.pt")) as path:
        torch.save({"fingerprint": "a", "state": {"step": 5, "weights": Ran()}}, path)
    notes = []
    assert Checkpoint(Path(), fingerprint="a", every_seconds=0, note=notes.append).load() is None
    assert notes == ["the scratch checkpoint 000000005.pt is damaged and passed over"]
    assert not Path("ran").exists()


def test_weights_of_torchvision_are_checked_when_they_come(monkeypatch):
    asked = {}

    class Weights:
        url = "https://example.org/resnet18-f37072fd.pth"

        def get_state_dict(self, **how):
            asked.update(how)
            return {}

    monkeypatch.setattr(torchvision.models, "get_weight", lambda name: Weights())
    trunk = build_trunk("resnet18", output_stride=16, frozen_stages=0, batch_norm="train")
    with pytest.raises(UserError, match=r"lacks conv1\.weight"):
        load_backbone_weights(trunk, "ResNet18_Weights.IMAGENET1K_V1")
    assert (asked["check_hash"], asked["weights_only"]) == (True, True)


@pytest.mark.parametrize("content", ["pickle", b"", b"junk"])
def test_weights_of_torchvision_that_lie_in_the_cache_are_checked_too(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints/resnet18-f37072fd.pth"
    cached.parent.mkdir()
    if content == "pickle":
        torch.save({"conv1.weight": Ran()}, cached)
    else:
        cached.write_bytes(content)
    trunk = build_trunk("resnet18", output_stride=16, frozen_stages=0, batch_norm="train")
    with pytest.raises(UserError, match=rf"^{cached}: not the file that torchvision publishes as .*; delete it"):
        load_backbone_weights(trunk, "ResNet18_Weights.IMAGENET1K_V1")
    assert not Path("ran").exists()


def suspicious(call):
    """What a call does that no file from elsewhere may decide; None if nothing."""
    name = ast.unparse(call.func)
    said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in ("eval", "exec", "compile", "os.system", "os.popen") or said.get("shell") == "True":
        return "runs code or a shell"
    if name == "torch.load" and said.get("weights_only") != "True":
        return "unpickles"
    if said.get("allow_pickle") not in (None, "False"):
        return "unpickles"
    if name.endswith((".extract", ".extractall", ".unpack_archive")):
        return "lets an archive name files to write"
    if name.split(".")[-1] == "YAML" and said.get("typ") not in ("'safe'", "'rt'"):
        return "reads YAML that may make objects"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
        return "reads YAML that may make objects"
    if name == "Image.open" and "formats" not in said:
        return "opens whatever Pillow knows"
    return None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("eval(x)", True), ("torch.load(x)", True), ("torch.load(x, weights_only=False)", True),
        ("torch.load(x, weights_only=True)", False), ("np.load(x, allow_pickle=True)", True),
        ("file.extractall(x)", True), ("YAML()", True), ("YAML(typ='unsafe')", True), ("YAML(typ='safe')", False),
        ("yaml.load(x)", True), ("Image.open(x)", True), ("Image.open(x, formats=y)", False),
        ("run(x, shell=True)", True), ("model.eval()", False), ("re.compile(x)", False),
    ],
)  # fmt: skip
def test_what_is_suspicious(text, found):
    assert bool(suspicious(ast.parse(text).body[0].value)) == found


def test_no_line_of_the_program_is():
    assert len(SOURCES) > 100
    nodes = ((path, node) for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    for path, node in nodes:
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            assert suspicious(node) is None, f"{where}: {suspicious(node)}"
        if isinstance(node, ast.Import):
            assert not PICKLES & {alias.name.split(".")[0] for alias in node.names}, where
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in PICKLES, where


def test_every_promise_names_tests_that_there_are():
    promises = re.split(r"^### ", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    assert len(promises) >= 6
    for promise in promises:
        named = NAMED.findall(promise)
        assert named, promise.splitlines()[0]
        for file, test in named:
            functions = [
                n.name for n in ast.parse((ROOT / file).read_text(encoding="utf-8")).body if hasattr(n, "name")
            ]
            assert not test or test in functions, f"{file}: {test}"
