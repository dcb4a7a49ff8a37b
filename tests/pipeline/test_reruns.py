"""Which stages a change reruns: the table a person plans experiments with."""

import json

import pytest

from sfc.params import load_params

SEGMENTATION = ["train_seg", "predict", "evaluate@seg"]
LABELS = ["pseudo_labels", "evaluate@pseudo_labels", *SEGMENTATION]
REFINEMENT = ["crf", "evaluate@crf", "train_irn", *LABELS]
CAMS = ["infer_cam", "evaluate@cam", "analyse", *REFINEMENT]
TRAINING = ["train_sfc", *CAMS]
EVALUATION = ["evaluate@cam", "evaluate@crf", "evaluate@pseudo_labels", "evaluate@seg"]
ALL = ["prepare", "label_stats", *TRAINING]

READS = {  # what each stage's params are, besides those of the stages before it
    "prepare": {"dataset"},
    "label_stats": {"ibr", "dc", "sfc.batch_size"},
    "train_sfc": {"sfc", "ibr", "msdw", "sipe"},
    "infer_cam": {"cam"},
    "crf": {"fusion.crf", "crf"},
    "train_irn": {"irn"},
    "pseudo_labels": {"fusion.walk", "walk", "pseudo_labels"},
    "train_seg": {"seg"},
    "predict": {"predict"},
    "analyse": {"analyse", "fusion.eval"},
    "evaluate@cam": {"evaluate", "fusion.eval"},
    "evaluate@crf": {"evaluate"},
    "evaluate@pseudo_labels": {"evaluate"},
    "evaluate@seg": {"evaluate"},
}


def test_all_stages_run_once(sketch):
    assert sorted(sketch.first_run) == sorted(ALL)
    sketch.put()
    assert sketch.repro() == []


def test_every_section_is_read_by_its_stages_alone(sketch):
    sections = load_params(sketch.root / "params.yaml").sections
    assert set().union(*READS.values()) == {*sections, "sfc.batch_size"}
    some_field = {name: next(iter(type(section).model_fields)) for name, section in sections.items()}
    sketch.put(**{f"{name}.{field}": "changed" for name, field in some_field.items()}, **{"sfc.batch_size": 3})
    status = json.loads(sketch.dvc("status", "--json"))
    assert {
        stage: {param for change in changes for param in change["changed deps"]["params.yaml"]}
        for stage, changes in status.items()
    } == READS


@pytest.mark.parametrize(
    ("param", "value", "stages"),
    [
        ("ibr.n", 8, ["label_stats", *TRAINING]),
        ("cam.scales", [1.0, 1.25], CAMS),
        ("walk.beta", 12.0, LABELS),
        ("seg.steps", 123, SEGMENTATION),
        ("evaluate.gallery", 3, EVALUATION),
        ("fusion.eval.prototype_weight", 0.123, ["evaluate@cam", "analyse"]),
        ("analyse.images", 12, ["analyse"]),
    ],
)
def test_a_param_reruns_its_readers_and_what_follows(sketch, param, value, stages):
    # beside them, what the case before changed comes back from the run cache without running
    sketch.put(**{param: value})
    assert sorted(sketch.repro()) == sorted(stages)


def test_going_back_runs_nothing(sketch):
    sketch.put(**{"ibr.n": 8})
    sketch.repro()
    sketch.put()
    output = sketch.dvc("repro")
    assert "Running stage" not in output
    assert "Stage 'train_sfc' is cached - skipping run" in output
    assert sketch.git("diff", "--stat") == ""


def test_an_edited_file_reruns_the_stages_that_import_it(sketch):
    sketch.put()
    for name in ("sfc/data/__pycache__/crops.cpython-311.pyc", "sfc/training/__pycache__/loop.cpython-312.pyc"):
        (sketch.root / name).parent.mkdir(exist_ok=True)
        (sketch.root / name).write_text("bytecode is nobody's dependency")
    for name in ("sfc/errors.py", "sfc/segmentation/deeplab.py"):  # the first cannot change a result
        with (sketch.root / name).open("a") as file:
            file.write("\n# edited\n")
    assert sorted(sketch.repro()) == sorted(SEGMENTATION)
    sketch.git("checkout", "--quiet", "sfc")


def test_numbers_set_on_the_command_line_are_numbers(sketch):
    sketch.put()
    assert "Running stage 'train_sfc'" in sketch.dvc("exp", "run", "-S", "sfc.lr=1e-5", "train_sfc")
    assert sketch.lock()["train_sfc"]["params"]["params.yaml"]["sfc"]["lr"] == 0.00001
    assert load_params(sketch.root / "params.yaml").get("sfc.lr") == 0.00001
