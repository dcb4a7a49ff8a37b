"""Which stages a change reruns: the table a person plans experiments with."""

import json

import pytest

from sfc.params import load_params, method_section_names

SEGMENTATION = ["train_seg", "predict", "evaluate@seg"]
LABELS = ["pseudo_labels", "evaluate@pseudo_labels", *SEGMENTATION]
REFINEMENT = ["crf", "evaluate@crf", "train_irn", *LABELS]
CAMS = ["infer_cam", "evaluate@cam", "analyse", *REFINEMENT]
TRAINING = ["train_cam", *CAMS]
EVALUATION = ["evaluate@cam", "analyse", "evaluate@crf", "evaluate@pseudo_labels", "evaluate@seg"]
ALL = ["prepare", "label_stats", *TRAINING, "report"]

READS = {  # what each stage's params are, besides those of the stages before it
    "prepare": {"dataset"},
    "label_stats": {*method_section_names(), "train_cam.batch_size", "train_cam.method"},
    "train_cam": {"train_cam"},
    "infer_cam": {"cam"},
    "crf": {"fusion.sfc.crf", "crf"},
    "train_irn": {"irn"},
    "pseudo_labels": {"fusion.sfc.walk", "walk", "pseudo_labels", "refine"},
    "train_seg": {"seg"},
    "predict": {"predict"},
    "analyse": {"analyse"},
    "evaluate@cam": {"evaluate", "fusion.sfc.eval"},
    "evaluate@crf": {"evaluate"},
    "evaluate@pseudo_labels": {"evaluate", "pseudo_labels.refine"},
    "evaluate@seg": {"evaluate", "pseudo_labels.refine"},
}
PARTS = {"train_cam.batch_size", "train_cam.method", "pseudo_labels.refine"}  # params that a stage reads alone
REPORT = ["report"]  # shows all params and depends on all that was measured: any change writes it anew


def test_all_stages_run_once(sketch):
    assert sorted(sketch.first_run) == sorted(ALL)
    sketch.put()
    assert sketch.repro() == []


def test_every_section_is_read_by_its_stages_alone(sketch):
    sections = load_params(sketch.root / "params.yaml").sections
    others = {name for name in sections if name.startswith("fusion.") and not name.startswith("fusion.sfc.")}
    assert set().union(*READS.values()) == {*sections, *PARTS} - others
    fields = {name: list(type(section).model_fields) for name, section in sections.items()}
    changes = {f"{name}.{names[0]}": "changed" for name, names in fields.items() if name != "train_cam"}
    # a method that is not there would change which params the stages read
    sketch.put(**changes, **{"train_cam.random_seed": 3, "train_cam.batch_size": 3})
    found = changed(sketch, "params.yaml")
    assert found.pop("report") == {name.partition(".")[0] for name in sections}
    assert found == {**READS, "label_stats": READS["label_stats"] - {"train_cam.method"}}


def changed(project, file):
    """Stage -> what `dvc status` says of it has changed: names of params in params.yaml, else paths."""
    found = {}
    for stage, changes in json.loads(project.dvc("status", "--json")).items():
        deps = {}
        for change in changes:
            deps |= change["changed deps"]
        found[stage] = set(deps[file]) if file else set(deps)
    return found


@pytest.mark.parametrize(
    ("param", "value", "stages"),
    [
        ("ibr.n", 8, ["label_stats", *TRAINING]),
        ("msdw.w_proto", 0.5, ["label_stats", *TRAINING]),
        ("sipe.w_gsc", 3.0, ["label_stats"]),  # of another method: counted again in a second, and nothing follows
        ("base.pcm_iters", 1, ["label_stats"]),
        ("fusion.sipe.crf.bg_offset", 0.3, []),
        ("cam.scales", [1.0, 1.25], CAMS),
        ("walk.beta", 12.0, LABELS),
        ("refine.proposals", "proposals/a.zip", LABELS),
        ("seg.steps", 123, SEGMENTATION),
        ("evaluate.gallery", 3, EVALUATION),
        ("fusion.sfc.eval.weights.prototype", 0.123, ["evaluate@cam", "analyse"]),
        ("fusion.sfc.walk.whole_power", 2.0, LABELS),
        ("analyse.images", 12, ["analyse"]),
        ("dataset.tuning", ["x"], ["prepare", *EVALUATION]),  # masks no longer counted: nothing is trained again
    ],
)
def test_a_param_reruns_its_readers_and_what_follows(sketch, param, value, stages):
    # beside them, what the case before changed comes back from the run cache without running
    sketch.put(**{param: value})
    assert sorted(sketch.repro()) == sorted([*stages, *REPORT])


def test_params_of_sfc_do_not_train_sipe_again(sketch):
    sketch.put(**{"train_cam.method": "sipe"})
    assert "train_cam" in sketch.repro()
    of_sfc = {"ibr.n": 1, "dc.norm": "eq6", "msdw.w_scale": 0.1, "sfc.pcm_iters": 0, "fusion.sfc.crf.bg_offset": 1.0}
    sketch.put(**{"train_cam.method": "sipe"}, **of_sfc)
    assert sketch.repro() == ["label_stats", *REPORT]
    sketch.put(**{"train_cam.method": "sipe", "sipe.infer_feature": "semantic"})
    assert "train_cam" in sketch.repro()


def test_going_back_runs_nothing(sketch):
    sketch.put(**{"ibr.n": 8})
    sketch.repro()
    sketch.put()
    output = sketch.dvc("repro")
    assert "Running stage" not in output
    assert "Stage 'train_cam' is cached - skipping run" in output
    assert sketch.git("diff", "--stat") == ""


NETWORK = {"train_cam", "infer_cam", "analyse"}  # train or load the CAM network
CRF = {"crf", "predict"}
EDITS = {
    "sfc/readers/coco.py": {"prepare"},
    "sfc/readers/voc.py": {"prepare"},
    "sfc/walk/random_walk.py": {"pseudo_labels"},
    "sfc/dense_crf.py": CRF,
    "sfc/irn/pair_loss.py": {"train_irn", "pseudo_labels"},  # one trains IRN's network, the other loads it
    "sfc/demo/drawings.py": set(),
    "sfc/methods/sipe.py": NETWORK,
    "sfc/segmentation/deeplab.py": {"train_seg", "predict"},
    "sfc/evaluation/gallery.py": {stage for stage in EVALUATION if stage != "analyse"},
    "sfc/label_stats.py": {"label_stats"},
    "sfc/voc_results.py": set(),  # of a command that is no stage
    "sfc/exchange/voc.py": {"prepare"},
    "sfc/proposals/vote.py": {"pseudo_labels"},
    "sfc/fusion.py": {"crf", "pseudo_labels", *(stage for stage in EVALUATION if stage != "analyse")},
    "sfc/report/charts.py": {"report"},
    "sfc/errors.py": set(),  # cannot change a result
}


def test_a_comment_makes_stale_what_its_file_can_change(sketch):
    sketch.put()
    sketch.repro()
    for name in EDITS:
        path = sketch.root / name
        path.write_text(path.read_text() + "\n# a comment\n")
    try:
        stale = changed(sketch, None)
    finally:
        sketch.git("checkout", "--quiet", "sfc")
    units = {name: name if name.count("/") == 1 else name.rpartition("/")[0] for name in EDITS}
    assert {name: {stage for stage, deps in stale.items() if unit in deps} for name, unit in units.items()} == EDITS


def test_bytecode_is_nobodys_dependency(sketch):
    sketch.put()
    sketch.repro()
    for name in ("sfc/data/__pycache__/crops.cpython-311.pyc", "sfc/training/__pycache__/loop.cpython-312.pyc"):
        (sketch.root / name).parent.mkdir(exist_ok=True)
        (sketch.root / name).write_text("bytecode")
    assert sketch.repro() == []


def test_numbers_set_on_the_command_line_are_numbers(sketch):
    sketch.put()
    assert "Running stage 'train_cam'" in sketch.dvc("exp", "run", "-S", "train_cam.lr=1e-5", "train_cam")
    assert sketch.lock()["train_cam"]["params"]["params.yaml"]["train_cam"]["lr"] == 0.00001
    assert load_params(sketch.root / "params.yaml").get("train_cam.lr") == 0.00001
