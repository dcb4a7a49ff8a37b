"""dvc.yaml says what is true: dependencies are imports, params are what is asked for, nothing defeats the run cache."""

import ast
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]
# they check params or print, and cannot change a result; params are tracked by value
CONFIG = {"config", "config_evaluation", "config_seg", "config_types", "params"}
NO_DEPENDENCY = {
    "sfc",
    "sfc.errors",
    "sfc.launch",
    "sfc.memory",
    "sfc.sealed",
    "sfc.storage",
    "stages",
    "stages._stage",
    "stages._copies",
    "stages._ending",
    "stages._errors",
    "stages._gpu",
    "stages._lock",
    "stages._params",
    "stages._places",
    "stages._precision",
    "stages._scratch",
    *(f"sfc.{name}" for name in CONFIG),
}


def spec(stage):
    return STAGES[stage].get("do", STAGES[stage])


@pytest.fixture(scope="module")
def imported():
    """Stage -> its modules and params, as Python sees them."""
    script = Path(__file__).with_name("imports.py")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script, *STAGES], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {line["stage"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert set(found) == set(STAGES), done.stderr
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_declared_code_is_imported_code(imported, stage):
    wanted = {f"stages/{stage}.py"}
    for module in set(imported[stage]["modules"]) - NO_DEPENDENCY:
        package, _, rest = module.partition(".")
        if package == "sfc":
            folder = f"sfc/{rest.split('.')[0]}"
            wanted.add(folder if (ROOT / folder).is_dir() else f"{folder}.py")
        else:
            assert rest == stage or rest.startswith("_"), f"stages.{stage} imports another stage, {module}"
            wanted.add(f"stages/{rest}.py")
    declared = {path for path in spec(stage)["deps"] if path.startswith(("sfc/", "stages/"))}
    assert declared == wanted


def test_imports_of_the_library_stand_at_the_top():
    late = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*(ROOT / "sfc").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
        if path != ROOT / "sfc/params.py"  # asks every method for its sections, and decides only whether a run starts
        for scope in ast.walk(ast.parse(path.read_text()))
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(scope)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("sfc", "stages"))
        or (isinstance(node, ast.Import) and any(a.name.split(".")[0] in ("sfc", "stages") for a in node.names))
    ]
    assert late == []  # else the test above would not see them


TOP = {*CONFIG, "errors", "launch", "memory", "randomness", "sealed", "storage"}
NETWORKS = {"backbone", "model_file"}
MAY_IMPORT = {
    "backbone": TOP,
    "data": TOP,
    "readers": {*TOP, "coco_masks", "data", "label_table"},
    "exchange": {*TOP, "coco_masks", "data", "label_archive", "label_table"},
    "proposals": {*TOP, "coco_masks", "data", "fusion", "label_archive", "localization"},
    "demo": {*TOP, "backbone", "data", "training"},
    "label_table": TOP,
    "label_archive": {*TOP, "data"},
    "dense_crf": {*TOP, "data"},
    "training": TOP,
    "calibration": {*TOP, *NETWORKS, "data", "training"},
    "methods": {*TOP, *NETWORKS, "calibration", "data", "training"},
    "params": {*TOP, "methods"},
    "localization": {*TOP, "backbone", "data"},
    "fusion": {*TOP, "data"},
    "label_stats": {*TOP, "calibration", "data"},
    "voc_results": {*TOP, "data", "label_archive"},
    "irn": {*TOP, *NETWORKS, "data", "training"},
    "walk": {*TOP, *NETWORKS, "data", "fusion", "irn", "localization"},
    "segmentation": {*TOP, *NETWORKS, "data", "dense_crf", "label_archive", "training"},
    "evaluation": {*TOP, "data", "example_archive", "fusion", "label_archive", "localization"},
    "example_archive": TOP,
    "offsets": {*TOP, "data", "dense_crf", "evaluation", "fusion", "localization"},
    "analysis": {*TOP, "calibration", "data"},
    "report": {*TOP, "example_archive"},
    "deployment": {
        *(TOP | NETWORKS),
        *("data", "dense_crf", "evaluation", "fusion", "label_table", "segmentation"),
    },
}


def test_imports_point_down():
    upward = []
    for path in sorted((ROOT / "sfc").rglob("*.py")):
        room = path.relative_to(ROOT / "sfc").parts[0].removesuffix(".py")
        nodes = list(ast.walk(ast.parse(path.read_text())))
        modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        rooms = {module.split(".")[1] for module in modules if module.startswith("sfc.")}
        upward += [f"{path.name} -> sfc.{other}" for other in rooms - MAY_IMPORT.get(room, TOP) - {room}]
        # the one that reads params, and those that are commands
        if path.name not in ("params.py", "shapes.py", "trunk.py"):
            upward += [f"{path.name} -> {module}" for module in modules & {"click", "stages", "yaml", "ruamel.yaml"}]
    assert upward == []


def templated(params):
    """As dvc.yaml writes the names of params that depend on the method."""
    return {param.replace("{method}", "${train_cam.method}") for param in params}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "evaluate"])
def test_declared_params_are_asked_for(imported, stage):
    declared = ["params.yaml:" if param == {"params.yaml": None} else param for param in spec(stage)["params"]]
    assert len(declared) == len(imported[stage]["params"])
    assert set(declared) == templated(imported[stage]["params"])


def test_declared_params_of_evaluate_are_asked_for(imported):
    asked = templated(imported["evaluate"]["params"])
    own = {"cam": {"fusion.${train_cam.method}.eval"}, "crf": set()}
    for key, item in STAGES["evaluate"]["foreach"].items():
        declared = {param.replace("${item.section}", item["section"]) for param in spec("evaluate")["params"]}
        assert declared == {"evaluate", *own.get(key, {"pseudo_labels.refine"})}
        assert declared <= asked


@pytest.mark.parametrize("stage", STAGES)
def test_commands_hold_nothing_that_depends_on_the_machine(stage):
    launcher, _, rest = spec(stage)["cmd"].partition(" -m ")
    # these would do all the work in every process
    alone = stage in ("prepare", "label_stats", "analyse", "report")
    assert launcher == ("python" if alone else r"\${SFC_LAUNCH:-python}")
    assert rest == (f"stages.{stage} ${{key}}" if stage == "evaluate" else f"stages.{stage}")


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_defeats_the_run_cache(stage):
    # an output that is not cached would, and one that persists would be taken for the beginning of the next run
    assert all(isinstance(out, str) for out in spec(stage).get("outs", []))
    for metric in spec(stage).get("metrics", []):
        assert list(metric.values()) == [{"cache": False}]  # metrics belong to git
    assert "plots" not in spec(stage)  # DVC would draw them a second time
    assert not STAGES[stage].keys() & {"always_changed", "frozen"}


def test_each_metric_and_plot_of_a_stage_is_shown():
    made = set()
    for stage in STAGES:
        for key in STAGES[stage].get("foreach", [""]):
            paths = [*spec(stage).get("outs", []), *(next(iter(metric)) for metric in spec(stage).get("metrics", []))]
            made.update(path.replace("${key}", key) for path in paths)
    assert set(PIPELINE["metrics"]) == {path for path in made if path.startswith("metrics/")}
    shown = set()
    for entry in PIPELINE["plots"]:
        shown.update([entry] if isinstance(entry, str) else next(iter(entry.values()))["y"])
    assert shown <= made
    assert shown >= {path for path in made if path.startswith(("plots/", "out/gallery/"))}


def test_the_report_depends_on_all_it_shows():
    deps = set(spec("report")["deps"])
    assert {path for path in deps if path.startswith("metrics/")} == set(PIPELINE["metrics"])
    plots = [next(iter(entry.values())) for entry in PIPELINE["plots"] if isinstance(entry, dict)]
    assert deps >= {f".dvc/plots/{plot['template']}.json" for plot in plots}
    assert deps >= {path for plot in plots for path in plot["y"]}
    products = STAGES["evaluate"]["foreach"]
    assert {entry for entry in PIPELINE["plots"] if isinstance(entry, str)} == {f"out/gallery/{p}" for p in products}
    assert deps >= {f"out/examples/{product}.zip" for product in products}


def test_titles_of_plots_do_not_end_a_string_of_the_page():
    titles = [title for entry in PIPELINE["plots"] if isinstance(entry, dict) for title in entry]
    assert [title for title in titles if set(title) & set("'\"\\")] == []  # DVC writes them into scripts as they are


def test_the_bundled_remote_holds_the_data():
    (out,) = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]
    assert (out["path"], out["remote"]) == ("data", "bundle")

    def content(md5):
        found = (ROOT / "store" / "files" / "md5" / md5[:2] / md5[2:]).read_bytes()
        assert hashlib.md5(found).hexdigest() == md5.removesuffix(".dir")
        return found

    files = json.loads(content(out["md5"]))
    assert len(files) == out["nfiles"]
    for file in files:
        content(file["md5"])
    stored = [path for path in (ROOT / "store").rglob("*") if path.is_file()]
    assert len(stored) <= 900
    trunk = next(file["md5"] for file in files if file["relpath"] == "trunk.safetensors")
    sizes = {"".join(path.parts[-2:]): path.stat().st_size for path in stored}
    assert sizes.pop(trunk) <= 25_000_000
    assert sum(sizes.values()) <= 8_000_000
