"""Whatever is in a table, a JSON file or an archive: it is read, or it is one UserError, and never anything else."""

import io
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sfc.data.manifest import Manifest, read_manifest, write_manifest
from sfc.errors import UserError
from sfc.label_archive import LabelArchive, LabelArchiveWriter
from sfc.label_table import read_label_table
from sfc.localization.store import CamStore, CamWriter
from sfc.model_file import SEGMENTATION, ModelFacts, load_model, save_model
from sfc.params import load_params
from sfc.readers.table import read_table
from sfc.training.checkpoint import Checkpoint
from tests.data.folder import record
from tests.test_bad_params import VOC

fuzzed = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def mutations(content):
    """Bytes near `content`: some replaced, cut out or put in, or the end cut off."""
    edit = st.tuples(
        st.integers(0, max(0, len(content) - 1)), st.integers(0, 40), st.binary(max_size=12) | st.just(b"\n")
    )

    def apply(edits, length):
        found = content
        for place, gone, new in edits:
            found = found[:place] + new + found[place + gone :]
        return found[:length]

    whole = st.just(len(content) + 100)
    return st.builds(apply, st.lists(edit, max_size=4), whole | whole | st.integers(0, len(content)))


def one_line_at_most(read, *, listing=False):
    """`read()`; a UserError must be one line, or with `listing` a list of problems."""
    said = []
    try:
        return read()
    except UserError as error:
        said = str(error).splitlines()
    assert said[0].strip()
    assert len(said) == 1 or (listing and all(line.startswith("  ") for line in said[1:])), said
    return None


cells = st.text(st.sampled_from('ab,;| "\n\r\t\0\\/.é\ufeff…') | st.characters(), max_size=14)


def as_table(rows):
    return "\n".join(map(",".join, rows)).encode("utf-8", "replace")


TABLES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.lists(cells, max_size=6), max_size=6).map(as_table),
    mutations(b"image_id,split,classes\na,train,cat dog\nb,val,\nc,train,cat\n"),
)  # fmt: skip


@fuzzed
@given(content=TABLES)
def test_label_tables(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "table.csv"
    path.write_bytes(content)
    table = one_line_at_most(lambda: read_label_table(path), listing=True)
    if table is not None:
        assert all(id and len(set(row.classes)) == len(row.classes) for id, row in table.items())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 3)).save(root / name)
    return root


OWN_TABLES = TABLES | mutations(b"image,classes,mask,split\na.png,cat;dog,,train\nb.png,cat,,val\n")


@fuzzed
@given(content=OWN_TABLES)
def test_tables_of_ones_own_images(images, content):
    path = images / "table.csv"
    path.write_bytes(content)
    settings = {"train": "train", "val": "val", "test": None, "labels": path, "classes": None}
    one_line_at_most(
        lambda: read_table(images, **settings, negatives=False, workers=1, progress=lambda items, **_: items),
        listing=True,
    )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    records = [record(folder / f"im{i}.png", (4, 5), labels) for i, labels in enumerate([(0,), (0, 1), ()])]
    write_manifest(Manifest(tuple(records), ("cat", "dog")), folder / "manifest.csv", folder / "classes.json")
    return folder, {name: (folder / name).read_bytes() for name in ("manifest.csv", "classes.json")}


@fuzzed
@given(data=st.data())
def test_manifests(manifest, data):
    folder, whole = manifest
    damaged = data.draw(st.sampled_from(list(whole)))
    contents = mutations(whole[damaged])
    if damaged == "classes.json":
        contents |= json_values.map(lambda value: json.dumps(value).encode())
    for name, content in whole.items():
        (folder / name).write_bytes(data.draw(contents) if name == damaged else content)
    one_line_at_most(lambda: read_manifest(folder / "manifest.csv", folder / "classes.json"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cams")
    writer = CamWriter(folder, kinds=("a", "b"), scales=(1.0, 0.5), ids=["x", "y"], fused=("a", "b"))
    for id in ("x", "y"):
        writer.write(id, [np.zeros((2, 2, 3, 3), np.float32)] * 2)
    writer.finish()
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@fuzzed
@given(data=st.data())
def test_stores_of_cams(store, data):
    folder, whole = store
    damaged = data.draw(st.sampled_from(list(whole)))
    contents = mutations(whole[damaged])
    if damaged == "index.json":
        index = json.loads(whole[damaged])
        changed = st.dictionaries(st.sampled_from(list(index)), json_values, max_size=2).map(lambda new: index | new)
        contents |= (json_values | changed).map(lambda value: json.dumps(value).encode())
    for name, content in whole.items():
        (folder / name).write_bytes(data.draw(contents) if name == damaged else content)
    opened = one_line_at_most(lambda: CamStore(folder))
    for id in opened.ids if opened else ():
        maps = one_line_at_most(lambda id=id, opened=opened: opened.read(id))
        assert maps is None or all(array.ndim == 4 for array in maps)


def label_archive():
    buffer = io.BytesIO()
    with LabelArchiveWriter(buffer) as writer:
        for id in ("a", "b"):
            writer.write(id, np.arange(30, dtype=np.uint8).reshape(5, 6))
    return buffer.getvalue()


def other_archive(names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in names:
            file.writestr(zipfile.ZipInfo(name or "x"), content)
    return buffer.getvalue()


names = st.text(st.sampled_from("ab./\\:é\n") | st.characters(codec="utf-8"), max_size=12)
ARCHIVES = mutations(label_archive()) | st.lists(
    st.tuples(names, st.binary(max_size=30)), max_size=3, unique_by=lambda pair: pair[0]
).map(other_archive)


@fuzzed
@given(content=ARCHIVES)
def test_archives_of_label_maps(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "labels.zip"
    path.write_bytes(content)
    archive = one_line_at_most(lambda: LabelArchive(path))
    for id in archive.ids if archive else ():
        try:
            label = archive.read(id)
        except UserError:
            continue  # names the image, whose name may be anything here
        assert label.dtype == np.uint8


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(0)
    facts = ModelFacts(
        task=SEGMENTATION, network={"sizes": [3, 2]}, classes=("cat",), palette=((0, 0, 0), (128, 0, 0)),
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), image_scale=1.0, params={},
    )  # fmt: skip
    save_model(torch.nn.Linear(3, 2), path, facts)
    return path, path.read_bytes()


def build(network):
    small = torch.nn.Linear(*network["sizes"])
    small.backbone = SimpleNamespace(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return small


@fuzzed
@given(data=st.data())
def test_models(model, data):
    path, whole = model
    path.write_bytes(data.draw(mutations(whole)))
    loaded = one_line_at_most(lambda: load_model(path, build, "cpu", task=SEGMENTATION))
    assert loaded is None or loaded.weight.shape == (2, 3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint = Checkpoint(folder, fingerprint="a", every_seconds=0, note=lambda text: None)
    checkpoint.save({"step": 5, "weights": torch.arange(5.0)})
    return checkpoint, {path: path.read_bytes() for path in folder.iterdir()}


@fuzzed
@given(data=st.data())
def test_checkpoints(saved, data):
    checkpoint, whole = saved
    damaged = data.draw(st.sampled_from(sorted(whole)))
    content = data.draw(mutations(whole[damaged]))
    for path, before in whole.items():
        path.write_bytes(content if path == damaged else before)
    state = checkpoint.load()
    assert state is None or (state["step"] == 5 and torch.equal(state["weights"], torch.arange(5.0)))
    assert state is not None or content != whole[damaged]


@fuzzed
@given(
    content=mutations(VOC.read_bytes()[:3000])
    | st.binary(max_size=60)
    | json_values.map(lambda v: json.dumps(v).encode())
)
def test_params_files(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_bytes(content)
    one_line_at_most(lambda: load_params(path))
