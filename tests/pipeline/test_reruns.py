"""Which stages a change reruns: the table a person plans experiments with."""

import pytest

from sfc.config import load_params

SEGMENTATION = ["train_seg", "predict", "evaluate@seg"]
LABELS = ["pseudo_labels", "evaluate@pseudo_labels", *SEGMENTATION]
REFINEMENT = ["crf", "evaluate@crf", "train_irn", *LABELS]
CAMS = ["infer_cam", "evaluate@cam", *REFINEMENT]
TRAINING = ["train_sfc", *CAMS]
EVALUATION = ["evaluate@cam", "evaluate@crf", "evaluate@pseudo_labels", "evaluate@seg"]
ALL = ["prepare", "label_stats", *TRAINING]


def test_all_stages_run_once(sketch):
    assert sorted(sketch.first_run) == sorted(ALL)
    sketch.put()
    assert sketch.repro() == []


@pytest.mark.parametrize(
    ("param", "value", "stages"),
    [
        ("dataset.train", "other", ALL),
        ("ibr.n", 8, ["label_stats", *TRAINING]),
        ("dc.c_ibr", 2.5, ["label_stats", *TRAINING]),
        ("sfc.batch_size", 3, ["label_stats", *TRAINING]),
        ("sfc.lr", 0.0123, TRAINING),
        ("msdw.w_scale", 0.123, TRAINING),
        ("cam.scales", [1.0, 1.25], CAMS),
        ("fusion.crf.prototype_weight", 0.123, REFINEMENT),
        ("crf.iterations", 7, REFINEMENT),
        ("irn.radius", 7, ["train_irn", *LABELS]),
        ("fusion.walk.prototype_weight", 0.123, LABELS),
        ("walk.beta", 12.0, LABELS),
        ("pseudo_labels.refine", "crf", LABELS),
        ("seg.steps", 123, SEGMENTATION),
        ("predict.crf.iterations", 7, ["predict", "evaluate@seg"]),
        ("fusion.eval.bg_offset", 0.123, ["evaluate@cam"]),
        ("evaluate.gallery", 3, EVALUATION),
    ],
)
def test_a_param_reruns_its_stages_and_what_follows(sketch, param, value, stages):
    # beside them, what the case before changed comes back from the run cache without running
    sketch.put(**{param: value})
    assert sorted(sketch.repro()) == sorted(stages)


def test_going_back_runs_nothing(sketch):
    sketch.put(**{"ibr.n": 5})
    assert "train_sfc" in sketch.repro()
    sketch.put()
    output = sketch.dvc("repro")
    assert "Running stage" not in output
    assert "Stage 'train_sfc' is cached - skipping run" in output
    assert sketch.git("diff", "--stat") == ""


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("sfc/refinement/random_walk.py", {"crf", "train_irn", "pseudo_labels", *SEGMENTATION, *EVALUATION}),
        ("sfc/segmentation/deeplab.py", set(SEGMENTATION)),
        ("sfc/evaluation/confusion.py", set(EVALUATION)),
        ("stages/predict.py", {"predict", "evaluate@seg"}),
        ("sfc/errors.py", set()),
    ],
)
def test_an_edited_file_reruns_the_stages_that_import_it(sketch, file, stages):
    sketch.put()
    path = sketch.root / file
    text = path.read_text()
    path.write_text(text + "\n# edited\n")
    ran = set(sketch.repro())
    path.write_text(text)
    assert ran == stages


def test_bytecode_changes_nothing(sketch):
    sketch.put()
    sketch.repro()
    for folder in ("sfc/data", "sfc/calibration", "sfc/evaluation"):
        cache = sketch.root / folder / "__pycache__"
        cache.mkdir(exist_ok=True)
        (cache / "module.cpython-311.pyc").write_bytes(b"bytecode")
    assert sketch.repro() == []


def test_numbers_set_on_the_command_line_are_numbers(sketch):
    sketch.put()
    output = sketch.dvc("exp", "run", "-S", "sfc.lr=1e-5", "train_sfc")
    assert "Running stage 'train_sfc'" in output
    assert sketch.lock()["train_sfc"]["params"]["params.yaml"]["sfc"]["lr"] == 0.00001
    assert load_params(sketch.root / "params.yaml").get("sfc.lr") == 0.00001


def test_metrics_diff_shows_what_changed(sketch):
    sketch.put(**{"fusion.eval.bg_offset": 0.321})
    sketch.repro()
    diff = sketch.dvc("metrics", "diff")
    assert "metrics/cam.json" in diff
    assert "metrics/seg.json" not in diff
