"""The sections of params.yaml: every complete file loads, every slip is refused with its name."""

import copy
from pathlib import Path

import pydantic
import pytest

from sfc.config import SECTIONS
from sfc.config_types import Section
from sfc.errors import UserError
from sfc.methods import METHODS
from sfc.params import known_sections, load_params, method_section_names, parse_params, read_yaml

ROOT = Path(__file__).resolve().parents[1]
VOC = ROOT / "presets" / "voc12.yaml"


@pytest.fixture
def values():
    """The mapping in presets/voc12.yaml, to be spoilt."""
    return read_yaml(VOC.read_text(), source="voc12")


def put(mapping, dotted, value):
    *path, last = dotted.split(".")
    for name in path:
        mapping = mapping[name]
    mapping[last] = value


@pytest.mark.parametrize("path", [ROOT / "params.yaml", VOC], ids=lambda path: path.stem)
def test_every_complete_file_loads(path):
    assert set(load_params(path).sections) == set(known_sections())


def test_values_arrive_typed():
    params = load_params(VOC)
    assert params.get("ibr").n == 4
    assert params.get("train_cam.batch_size") == 16
    assert params.get("train_cam").backbone.weights == "ResNet50_Weights.IMAGENET1K_V1"
    assert params.get("fusion.sfc.walk").weights == {"classifier": 1.0, "prototype": 0.3}
    assert params.get("fusion.sipe.walk.background") is None
    assert params.get("cam").scales == (1.0, 0.5, 1.5, 2.0)
    assert params.get("irn").clip_norm is None


@pytest.mark.parametrize("where", ["train_cam.backbone.arch", "irn.backbone.arch", "seg.backbone.arch"])
@pytest.mark.parametrize("arch", ["resnet34", "timm/convnext_tiny.fb_in22k", "timm/vit_small_patch14_dinov2"])
def test_a_trunk_has_a_known_name_or_timms(values, where, arch):
    put(values, where, arch)
    assert parse_params(values).get(where.split(".")[0]).backbone.arch == arch


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("dataset.kind", "coco", "param dataset.kind: input should be 'voc', 'coco14' or 'table'"),
        ("train_cam.lrr", 0.1, "unknown param train_cam.lrr; did you mean train_cam.lr?"),
        ("sfc.prototype.bkg_scal", 0.3, "unknown param sfc.prototype.bkg_scal; did you mean sfc.prototype.bkg_scale?"),
        (
            "train_cam.backbone.weigths",
            "none",
            "unknown param train_cam.backbone.weigths; did you mean train_cam.backbone.weights?",
        ),
        (
            "fusion.sfc.eval.fg_gian",
            2.0,
            "unknown param fusion.sfc.eval.fg_gian; did you mean fusion.sfc.eval.fg_gain?",
        ),
        (
            "fusion.sfc.eval.fg_gain",
            {"prototype": 0.1},
            "fusion.sfc.eval.fg_gain: of prototype, but each CAM is read here, and they are classifier, prototype",
        ),
        (
            "fusion.sfc.eval.fg_gain",
            {"classifier": 1.0, "prototype": 0.0},
            "fusion.sfc.eval.fg_gain.prototype: input should be greater than 0 (got 0.0)",
        ),
        ("fusion.sfc.eval.fg_gain", "2", "param fusion.sfc.eval.fg_gain"),
        ("fusion.sfc.evall", {}, "unknown section fusion.sfc.evall; did you mean fusion.sfc.eval?"),
        ("fusion.sip", {}, "unknown section fusion.sip; did you mean fusion.sipe?"),
        ("wlak", {}, "unknown section wlak; did you mean walk?"),
        ("train_sfc", {}, "unknown section train_sfc; did you mean train_cam?"),
        ("train_cam.lr", "0.1", "param train_cam.lr: input should be a valid number (got '0.1')"),
        ("train_cam.lr", -0.1, "param train_cam.lr: input should be greater than 0 (got -0.1)"),
        ("train_cam.lr", float("nan"), "param train_cam.lr"),
        ("train_cam.epochs", 2.5, "param train_cam.epochs"),
        ("train_cam.epochs", True, "param train_cam.epochs"),
        (
            "train_cam.precision",
            "fp16",
            "param train_cam.precision: input should be 'fp32' or 'bf16' (got 'fp16')",
        ),
        ("train_cam.long_side", [640, 320], "train_cam.long_side: [640, 320] must be [smallest, largest]"),
        ("irn.rescale", [1.5, 0.5], "irn.rescale: [1.5, 0.5] must be [smallest, largest]"),
        ("seg.scale_draw", "uniform", "seg.scales: [0.5, 0.75, 1.0, 1.25, 1.5] must be [smallest, largest]"),
        ("seg.model", "largefov", "seg.atrous_rates: [6, 12, 18, 24] must be one rate for model largefov"),
        ("seg.backbone.arch", "wideresnet", "param seg.backbone.arch"),
        ("train_cam.backbone.arch", "wideresnet38", "param train_cam.backbone.arch"),
        (
            "train_cam.method",
            "sfcc",
            f"train_cam.method: no method sfcc; there are {', '.join(METHODS)}; did you mean sfc?",
        ),
        ("train_cam.method", "cam", "train_cam.method: no method cam; there are base, sipe, sfc"),
        ("train_cam.lr", float("inf"), "param train_cam.lr: input should be a finite number"),
        (
            "train_cam.backbone.arch",
            "resnet152",
            "param train_cam.backbone.arch: input should be resnet18, resnet18_half, resnet34, resnet50, resnet101 or "
            "timm/name (got",
        ),
        ("irn.backbone.arch", "timm/", "param irn.backbone.arch: input should be"),
        ("seg.backbone.arch", "timm/../x", "param seg.backbone.arch: input should be resnet18"),
        ("cam.scales", 1.0, "param cam.scales"),
        ("cam.scales", [1.0, 0.0], "param cam.scales.1: input should be greater than 0"),
        ("cam.scales", [1e9], "param cam.scales.0: input should be less than or equal to 16 (got 1000000000.0)"),
        ("cam.scales", [1.0, 0.5, 1.0], "param cam.scales: 1.0 comes twice; remove one (got (1.0, 0.5, 1.0))"),
        ("predict.scales", [1.0, 1.0], "param predict.scales: 1.0 comes twice; remove one"),
        ("cam.splits", ["train", "train"], "param cam.splits: train comes twice; remove one (got ('train', 'train'))"),
        ("walk.steps", 10**8, "param walk.steps: input should be less than or equal to 10000 (got 100000000)"),
        ("walk.radius", 1000, "param walk.radius: input should be less than or equal to 32 (got 1000)"),
        ("irn.radius", 33, "param irn.radius: input should be less than or equal to 32 (got 33)"),
        ("crf.iterations", 10**8, "param crf.iterations: input should be less than or equal to 10000"),
        ("predict.crf.iterations", 10**8, "param predict.crf.iterations: input should be less than or equal to 10000"),
        ("cam.pcm_iters", 10**8, "param cam.pcm_iters: input should be less than or equal to 10000"),
        ("cam.seed_pcm_iters", 10**8, "param cam.seed_pcm_iters: input should be less than or equal to 10000"),
        ("sfc.pcm_iters", 10**8, "param sfc.pcm_iters: input should be less than or equal to 10000"),
        ("walk.scale", 1e9, "param walk.scale: input should be less than or equal to 16"),
        ("train_cam.crop", 1, "param train_cam.crop: input should be greater than or equal to 16 (got 1)"),
        ("irn.crop", 10**9, "param irn.crop: input should be less than or equal to 16384"),
        (
            "train_cam.long_side",
            [320, 10**9],
            "param train_cam.long_side.1: input should be less than or equal to 16384",
        ),
        ("train_cam.random_seed", 2**64, "param train_cam.random_seed: input should be less than 18446744073709551616"),
        ("irn.random_seed", -1, "param irn.random_seed: input should be greater than or equal to 0"),
        ("seg.random_seed", 2**64, "param seg.random_seed: input should be less than"),
        ("crf.gaussian_sxy", 1e-30, "param crf.gaussian_sxy: input should be greater than or equal to 0.1 (got 1e-30)"),
        ("crf.bilateral_srgb", 1e-30, "param crf.bilateral_srgb: input should be greater than or equal to 0.1"),
        ("predict.crf.bilateral_sxy", 1e-6, "param predict.crf.bilateral_sxy: input should be greater than or equal"),
        ("evaluate.sweep.step", 1e-12, "evaluate.sweep.step: 1e-12 makes more than 10,000 thresholds; raise it"),
        ("evaluate.class_sets", {"many": []}, "param evaluate.class_sets.many: list should have at least 1 item"),
        (
            "evaluate.class_sets",
            {"": ["cat"]},
            "evaluate.class_sets: a set has no name, and its figure is called after",
        ),
        ("evaluate.class_sets", {" ": ["cat"]}, "evaluate.class_sets: a set has no name"),
        ("analyse.split", "val", "analyse.split: there are CAMs of the splits in cam.splits alone"),
        ("train_cam.negative_share", 1.5, "param train_cam.negative_share: input should be less than or equal to 1"),
        (
            "irn.negative_share",
            0.01,
            "irn.negative_share: 0.01 of a batch of 32 must be some images, but not all: 0.031 to 0.97, 0 for none",
        ),
        ("seg.negative_share", 0.99, "seg.negative_share: 0.99 of a batch of 10 must be some images, but not all: 0.1"),
        (
            "train_cam.negative_share",
            0.25,
            "train_cam.negative_share: there are no negatives while dataset.negatives is false; set that to true",
        ),
        ("dataset.negatives", "keep", "param dataset.negatives: input should be a valid boolean (got 'keep')"),
        ("walk", None, "walk"),
        ("fusion", None, f"fusion: expected the parts {', '.join(METHODS)}"),
        ("fusion.sfc", 3, "fusion.sfc: expected the parts crf, walk, eval"),
        ("fusion.sfc.crf", None, "fusion.sfc.crf"),
        (
            "fusion.sfc.crf.weights",
            {"classifier": 0.0, "prototype": 0.0},
            "fusion.sfc.crf.weights: all are 0, so no CAM is left",
        ),
        ("fusion.sfc.crf.weights", {}, "param fusion.sfc.crf.weights: dictionary should have at least 1 item"),
        (
            "fusion.sfc.crf.weights",
            {"prototype": -1.0},
            "param fusion.sfc.crf.weights.prototype: input should be greater than or equal to 0",
        ),
        (
            "sfc.prototype.empty",
            "none",
            "param sfc.prototype.empty: input should be 'zero' or 'skip' (got 'none')",
        ),
        ("sfc.prototype.seed_range", "map", "param sfc.prototype.seed_range: input should be 'none' or 'image'"),
        ("train_cam.schedule.hold", 1.5, "param train_cam.schedule.hold: input should be less than or equal to 1"),
        ("cam.pcm_iters", -1, "param cam.pcm_iters: input should be greater than or equal to 0"),
        (
            "fusion.sipe.eval.weights",
            {"classifier": 1.0},
            "fusion.sipe.eval.weights: of classifier, but the CAMs that stand for sipe are prototype; name these",
        ),
        ("fusion.sfc.walk.background", None, "fusion.sfc.walk.background: stands beside the walk of the foreground"),
        ("fusion.sipe.walk.background", 0.2, "fusion.sipe.walk.background: stands beside the walk of the foreground"),
        ("fusion.sipe.walk.whole_power", None, "fusion.sipe.walk.whole_power: there is no walk"),
    ],
)
def test_slips_are_refused_by_name(values, where, value, message):
    put(values, where, value)
    with pytest.raises(UserError) as error:
        parse_params(values)
    assert message in str(error.value)
    assert str(error.value).startswith("params.yaml: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("cam.scales", [0.0], "param cam.scales.0: input should be greater than 0 (got 0.0)"),
        ("seg.atrous_rates", [0], "param seg.atrous_rates.0: input should be greater than or equal to 1 (got 0)"),
        ("cam.splits", ["foo"], "param cam.splits.0: input should be 'train' or 'val' (got 'foo')"),
        ("dc.c_ibr", -1.0, "param dc.c_ibr: input should be 'auto' or 'simulate' or greater than 0 (got -1.0)"),
        ("dc.n_iter", 0, "param dc.n_iter: input should be 'auto' or greater than or equal to 1 (got 0)"),
    ],
)
def test_a_slip_is_told_once(values, where, value, message):
    put(values, where, value)
    with pytest.raises(UserError) as error:
        parse_params(values)
    assert str(error.value) == f"params.yaml: {message}"


def test_seeds_and_sweeps_at_their_limits(values):
    put(values, "train_cam.random_seed", 2**64 - 1)
    put(values, "evaluate.sweep", {"start": 0.0, "stop": 1.0, "step": 1e-4})
    assert parse_params(values).get("train_cam.random_seed") == 2**64 - 1


def without(values, dotted):
    spoilt = copy.deepcopy(values)
    *path, last = dotted.split(".")
    section = spoilt
    for part in path:
        section = section[part]
    del section[last]
    return spoilt


def test_every_missing_param_is_named(values):
    for name, model in known_sections().items():
        for field in model.model_fields:
            with pytest.raises(UserError, match=f"param {name}.{field} is missing"):
                parse_params(without(values, f"{name}.{field}"))


@pytest.mark.parametrize("method", METHODS)
def test_products_at_reading_are_refused_where_there_is_no_correlation(values, method):
    put(values, "train_cam.method", method)
    put(values, "cam.seed_pcm_iters", 0)  # of SFC, and no other's concern
    assert parse_params(values).get("cam.pcm_iters") is None
    put(values, "cam.pcm_iters", 1)
    if METHODS[method].network.correlated:
        assert parse_params(values).get("cam.pcm_iters") == 1
    else:
        with pytest.raises(UserError) as error:
            parse_params(values)
        assert f"cam.pcm_iters: method {method} has no pixel correlation (PCM); set it to null" in str(error.value)


def test_base_and_sfc_correlate_pixels():
    assert {name: METHODS[name].network.correlated for name in ("base", "sipe", "sfc")} == {
        "base": True, "sipe": False, "sfc": True,
    }  # fmt: skip


@pytest.mark.parametrize("name", [*known_sections(), "fusion", *(f"fusion.{method}" for method in METHODS)])
def test_every_missing_section_is_named(values, name):
    with pytest.raises(UserError, match=f"section {name} is missing"):
        parse_params(without(values, name))


def test_every_method_brings_its_sections(values):
    for name, method in METHODS.items():
        put(values, "train_cam.method", name)
        params = parse_params(values)
        assert list(params.method_sections()) == list(method.sections)
        assert all(isinstance(params.get(section), model) for section, model in method.sections.items())
        assert params.get("fusion.{method}.eval") is params.get(f"fusion.{name}.eval")
        assert params.get("fusion.{method}.eval.fg_gain") == values["fusion"][name]["eval"]["fg_gain"]
    assert set(method_section_names()) == {name for method in METHODS.values() for name in method.sections}
    assert len(set(method_section_names())) == len(method_section_names())


def test_no_section_means_two_things():
    models = {}
    for method in METHODS.values():
        for name, model in method.sections.items():
            assert models.setdefault(name, model) is model
            assert name not in SECTIONS


@pytest.mark.parametrize("name", [1, True, None])
def test_a_section_name_that_is_no_text_is_refused(values, name):
    with pytest.raises(UserError, match=f"unknown section {name}"):
        parse_params({**values, name: {}})


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
        for name, section in known_sections().items()
        for model in models(section)
        for field, info in model.model_fields.items()
        if not info.is_required()
    ]
    assert defaults == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "coco14", "sbd": "x"}, "dataset.sbd: has no meaning for kind coco14; set it to null"),
        ({"kind": "coco14", "classes": ("a",)}, "dataset.classes: has no meaning for kind coco14; set it to null"),
        (
            {"kind": "table", "labels": "x", "masks": "y"},
            "dataset.masks: has no meaning for kind table; set it to null",
        ),
        ({"kind": "table"}, "dataset.labels: name the table"),
        ({"test": "val"}, "dataset.train: train, val and test must differ"),
    ],
)
def test_params_that_do_not_fit_the_kind_of_data_set(values, change, message):
    values["dataset"] |= {"masks": None} | change
    with pytest.raises(UserError) as caught:
        parse_params(values)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
