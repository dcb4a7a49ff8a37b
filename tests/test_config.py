"""params.yaml: every preset loads, every slip is refused with its name, numbers are numbers."""

import copy
from pathlib import Path

import pydantic
import pytest
import yaml

from sfc.config import SECTIONS, Section
from sfc.errors import UserError
from sfc.params import Yaml12Loader, load_params, parse_params

ROOT = Path(__file__).resolve().parents[1]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
VOC = ROOT / "presets" / "voc12.yaml"


@pytest.fixture
def values():
    """The mapping in presets/voc12.yaml, to be spoilt."""
    return yaml.load(VOC.read_text(), Loader=Yaml12Loader)


def put(mapping, dotted, value):
    *path, last = dotted.split(".")
    for name in path:
        mapping = mapping[name]
    mapping[last] = value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_params_file_loads(path):
    params = load_params(path)
    assert set(params.sections) == set(SECTIONS)


def test_values_arrive_typed():
    params = load_params(VOC)
    assert params.get("ibr").n == 4
    assert params.get("sfc.batch_size") == 16
    assert params.get("sfc").backbone.weights == "ResNet50_Weights.IMAGENET1K_V1"
    assert params.get("fusion.walk").prototype_weight == 0.3
    assert params.get("cam").scales == (1.0, 0.5, 1.5, 2.0)
    assert params.get("irn").clip_norm is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-5", 0.00001),
        ("1e-05", 0.00001),
        ("1E-5", 0.00001),
        ("1.e-5", 0.00001),
        (".5e-3", 0.0005),
        ("+2e3", 2000.0),
        ("2.5e+2", 250.0),
        ("0.00001", 0.00001),
        ("3", 3.0),
    ],
)
def test_numbers_are_read_as_yaml_1_2_does(tmp_path, text, number):
    path = tmp_path / "params.yaml"
    path.write_text(VOC.read_text().replace("  lr: 0.1\n  head_lr_scale", f"  lr: {text}\n  head_lr_scale"))
    assert load_params(path).get("sfc.lr") == number


def test_names_that_look_like_numbers_stay_text(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(VOC.read_text().replace("train: train_aug", "train: e10").replace("val: val", "val: 1e"))
    assert (load_params(path).get("dataset.train"), load_params(path).get("dataset.val")) == ("e10", "1e")


@pytest.mark.parametrize("where", ["sfc.backbone.arch", "irn.backbone.arch", "seg.backbone.arch"])
@pytest.mark.parametrize("arch", ["resnet34", "timm/convnext_tiny.fb_in22k", "timm/vit_small_patch14_dinov2"])
def test_a_trunk_has_a_known_name_or_timms(values, where, arch):
    put(values, where, arch)
    assert parse_params(values).get(where.split(".")[0]).backbone.arch == arch


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("dataset.kind", "coco", "param dataset.kind: input should be 'voc', 'voc12', 'coco14' or 'table'"),
        ("sfc.lrr", 0.1, "unknown param sfc.lrr; did you mean sfc.lr?"),
        ("sfc.seed.bkg_scal", 0.3, "unknown param sfc.seed.bkg_scal; did you mean sfc.seed.bkg_scale?"),
        ("sfc.backbone.weigths", "none", "unknown param sfc.backbone.weigths; did you mean sfc.backbone.weights?"),
        ("fusion.eval.fg_gian", 2.0, "unknown param fusion.eval.fg_gian; did you mean fusion.eval.fg_gain?"),
        ("fusion.evall", {}, "unknown section fusion.evall; did you mean fusion.eval?"),
        ("wlak", {}, "unknown section wlak; did you mean walk?"),
        ("sfc.lr", "0.1", "param sfc.lr: input should be a valid number (got '0.1')"),
        ("sfc.lr", -0.1, "param sfc.lr: input should be greater than 0 (got -0.1)"),
        ("sfc.lr", float("nan"), "param sfc.lr"),
        ("sfc.epochs", 2.5, "param sfc.epochs"),
        ("sfc.epochs", True, "param sfc.epochs"),
        ("sfc.precision", "fp16", "param sfc.precision: input should be 'fp32' or 'bf16' (got 'fp16')"),
        ("sfc.long_side", [640, 320], "sfc.long_side"),
        ("irn.rescale", [1.5, 0.5], "irn.rescale"),
        ("seg.scale_draw", "uniform", "seg.scales: [0.5, 0.75, 1.0, 1.25, 1.5] must be [smallest, largest]"),
        ("seg.backbone.arch", "wideresnet", "param seg.backbone.arch"),
        ("sfc.backbone.arch", "wideresnet38", "param sfc.backbone.arch"),
        (
            "sfc.backbone.arch",
            "resnet152",
            "param sfc.backbone.arch: input should be resnet18, resnet34, resnet50, resnet101 or timm/name (got",
        ),
        ("irn.backbone.arch", "timm/", "param irn.backbone.arch: input should be"),
        ("seg.backbone.arch", "timm/../x", "param seg.backbone.arch: input should be resnet18"),
        ("sfc.method", "seam", "param sfc.method: input should be 'cam', 'sipe' or 'sfc'"),
        ("sfc.lr", float("inf"), "param sfc.lr: input should be a finite number"),
        ("cam.scales", 1.0, "param cam.scales"),
        ("cam.scales", [1.0, 0.0], "param cam.scales.1: input should be greater than 0"),
        ("walk", None, "walk"),
        ("fusion", None, "fusion: expected the parts crf, walk and eval"),
        ("fusion.crf", None, "fusion.crf"),
    ],
)
def test_slips_are_refused_by_name(values, where, value, message):
    put(values, where, value)
    with pytest.raises(UserError) as error:
        parse_params(values)
    assert message in str(error.value)
    assert str(error.value).startswith("params.yaml: ")
    assert "\n" not in str(error.value)


def test_every_missing_param_is_named(values):
    for name, model in SECTIONS.items():
        for field in model.model_fields:
            spoilt = copy.deepcopy(values)
            section = spoilt
            for part in name.split("."):
                section = section[part]
            del section[field]
            with pytest.raises(UserError, match=f"param {name}.{field} is missing"):
                parse_params(spoilt)


def test_every_missing_section_is_named(values):
    for name in SECTIONS:
        spoilt = copy.deepcopy(values)
        *path, last = name.split(".")
        del (spoilt[path[0]] if path else spoilt)[last]
        with pytest.raises(UserError, match=f"section {name} is missing"):
            parse_params(spoilt)


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_a_file_that_is_no_mapping_is_refused(values):
    with pytest.raises(UserError, match="expected sections"):
        parse_params(values, source="mine.yaml")


@pytest.mark.parametrize("name", [1, True, None])
def test_a_section_name_that_is_no_text_is_refused(values, name):
    with pytest.raises(UserError, match=f"unknown section {name}"):
        parse_params({**values, name: {}})


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_params(tmp_path / "params.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("sfc: [1,\nibr: {")
    with pytest.raises(UserError, match=r"broken\.yaml: not valid YAML") as error:
        load_params(broken)
    assert "\n" not in str(error.value)
    (tmp_path / "p.yaml").write_bytes("# größer\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"p\.yaml: not UTF-8 text .*; save it as UTF-8"):
        load_params(tmp_path / "p.yaml")


def test_sections_are_frozen():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        load_params(VOC).get("ibr").n = 8


def test_no_param_has_a_default_in_code():
    def models(model):
        yield model
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                yield from models(field.annotation)

    defaults = [
        f"{name}.{field}"
        for name, section in SECTIONS.items()
        for model in models(section)
        for field, info in model.model_fields.items()
        if not info.is_required()
    ]
    assert defaults == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "voc", "sbd": "x"}, "dataset.sbd: has no meaning for kind voc; set it to null"),
        ({"kind": "coco14", "classes": ("a",)}, "dataset.classes: has no meaning for kind coco14; set it to null"),
        (
            {"kind": "table", "labels": "x", "masks": "y"},
            "dataset.masks: has no meaning for kind table; set it to null",
        ),
        ({"kind": "table"}, "dataset.labels: name the table"),
        ({"test": "val"}, "dataset.train, dataset.val and dataset.test must differ"),
    ],
)
def test_params_that_do_not_fit_the_kind_of_data_set(values, change, message):
    values["dataset"] |= {"masks": None} | change
    with pytest.raises(UserError) as caught:
        parse_params(values)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
