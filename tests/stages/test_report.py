import json
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from PIL import Image

from sfc.example_archive import ExampleArchiveWriter
from stages import report
from stages.report import main

COPIED = ("dvc.yaml", "params.yaml", "presets", ".dvc/plots", ".dvc/config")
CURVE = "step,loss,value\n10,loss,0.5\n20,loss,0.25\n"


@pytest.fixture
def project(tmp_path, monkeypatch, pytestconfig):
    """What the stages before `report` leave of a data set without masks, as far as the report reads it."""
    monkeypatch.chdir(tmp_path)
    for name in COPIED:
        source = pytestconfig.rootpath / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, _folder(tmp_path / name))
    for folder in ("metrics", "plots", "out/examples"):
        (tmp_path / folder).mkdir(parents=True)
    write = {
        "metrics/prepare.json": json.dumps({"classes": 2, "train": {"images": 4, "images_with_mask": 0}}),
        "metrics/evaluate_crf.json": json.dumps({"train": {"images": 0, "note": "nothing to measure"}}),
        "out/label_stats.csv": "class,n,demand,n_extra,dc\nant,3,1,1,1.5\nbee,1,1,1,2.5\n",
        "plots/train_seg.csv": CURVE,
    }
    for name, text in write.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def _folder(path):
    path.parent.mkdir(exist_ok=True)
    return path


def commit():
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for args in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "state"]):
        subprocess.run([*git, *args], check=True)


def run(*args, code=0):
    result = CliRunner().invoke(main, args)
    assert result.exit_code == code, result.output
    return result.output


def test_a_page_of_what_there_is(project):
    assert "report: out/report.html, 0." in run()
    text = (project / "out/report.html").read_text()
    assert "Exactly the preset <code>demo</code>" in text
    assert "nothing to measure" in text
    found = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    titles = [chart["title"]["text"] for chart in found["charts"] if "title" in chart]
    assert titles == ["Images and distribution coefficient of each class", "Training of the segmentation model"]
    assert str(project) not in text


def test_equal_bytes_when_run_again(project):
    run()
    first = (project / "out/report.html").read_bytes()
    (project / "out/report.html").chmod(0o444)  # as a link into the cache
    run()
    assert (project / "out/report.html").read_bytes() == first


def test_params_are_compared_with_the_nearest_preset(project):
    text = (project / "params.yaml").read_text()
    assert "batch_size: 10" in text
    (project / "params.yaml").write_text(text.replace("batch_size: 10", "batch_size: 11"))
    run()
    page = (project / "out/report.html").read_text()
    assert "The nearest preset is <code>demo</code>" in page
    assert "<code>seg.batch_size</code></td><td>10</td>" in page


def test_a_preset_that_does_not_fit_the_code_is_left_out(project):
    broken = project / "presets/demo.yaml"
    broken.write_text(broken.read_text() + "peak: {of: another method}\n")
    run()
    assert "the preset <code>demo</code>" not in (project / "out/report.html").read_text()


def test_plots_of_ones_own_are_shown(project):
    pipeline = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(pipeline.replace("plots:\n", "plots:\n  - own.png\n  - own.csv\n", 1))
    Image.new("RGB", (5, 5), "red").save(project / "own.png")
    (project / "own.csv").write_text("a,b\n1,2\n3,4\n")
    run()
    page = (project / "out/report.html").read_text()
    assert '<h3>own.png</h3><img src="data:image/jpeg;base64,' in page
    assert '"b":"4"' in page


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics/prepare.json", "{", "metrics/prepare.json: not JSON; run its stage again"),
        ("out/examples/crf.zip", "no zip", "out/examples/crf.zip: not an archive of examples"),
        ("plots/train_seg.csv", "step,loss\n1,2\n", "dvc.yaml: plot 'Training of the segmentation model': "),
        ("plots/evaluate_seg_confusion.json", "[", "plots/evaluate_seg_confusion.json: not the table"),
        ("plots/evaluate_seg_confusion.json", "[[1]]", "dvc.yaml: plot "),
        (
            "metrics/prepare.json",
            '{"train": {"classes_per_image": "x"}}',
            "metrics/prepare.json: not what its stage writes",
        ),
        ("metrics/evaluate_crf.json", '{"train": 3}', "metrics/evaluate_crf.json: not what its stage writes (train: "),
        (
            "metrics/evaluate_crf.json",
            '{"train": {}}',
            "metrics/evaluate_crf.json: not what its stage writes (train.images:",
        ),
        ("metrics/train_cam.json", '{"a":' * 400 + "1" + "}" * 400, "metrics/train_cam.json: no figures of a stage"),
        ("metrics/analyse.json", '{"head": "ant"}', "metrics/analyse.json: not what its stage writes"),
        ("out/label_stats.csv", "class,n,dc\nant,x,1\n", "out/label_stats.csv: line 2: not what its stage writes (n: "),
        ("out/label_stats.csv", b"class,n,dc\n\xff,1,1\n", "out/label_stats.csv: no CSV in UTF-8"),
        (
            "plots/evaluate_crf_per_class.csv",
            "class,iou\nant,1\n",
            "plots/evaluate_crf_per_class.csv: line 2: not what",
        ),
    ],
)
def test_damaged_input_is_one_line_and_leaves_no_page(project, name, text, message):
    (project / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    output = run(code=1)
    assert output.startswith(f"Error: {message}")
    assert output.count("\n") == 1
    assert list((project / "out").glob("*report*")) == []


def test_an_index_of_another_form(project):
    with ExampleArchiveWriter(project / "out/examples/crf.zip") as archive:
        archive.finish({"examples": []})
    assert run(code=1).startswith("Error: out/examples/crf.zip: not what its stage writes (meaning: ")


@pytest.mark.parametrize("where", ["report_page", "filled_plots"])
def test_a_fault_of_ours_is_not_blamed_on_a_file(project, monkeypatch, where):
    def fault(*_, **__):
        return {}["fault"]

    monkeypatch.setattr(report, where, fault)
    assert run(code=1).startswith("Error: unexpected KeyError at ")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("dvc.yaml/x.html", "dvc.yaml/x.html: cannot be written (dvc.yaml is no folder)"),
        ("metrics", "metrics: cannot be written (a folder lies there)"),
    ],
)
def test_a_place_that_takes_no_page_is_told_before_any_work(project, monkeypatch, out, message):
    for work in ("workspace", "read_run", "filled_plots", "report_page"):
        monkeypatch.setattr(report, work, None)
    assert run("--out", out, code=1).startswith(f"Error: {message}")


def test_outside_a_clone_is_one_line(project):
    (project / "dvc.yaml").unlink()
    said = "dvc.yaml: no such file; the report shows the plots that it names: run it in a clone, see docs/install.md"
    assert run(code=1) == f"Error: {said}\n"
    (project / "dvc.yaml").mkdir()
    assert run(code=1) == "Error: dvc.yaml: Is a directory\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [("", "metrics"), ("[]", "metrics"), ("metrics: 3", "metrics"), ("metrics: []", "plots"), ("plots: []", "metrics")],
)
def test_a_pipeline_that_declares_nothing_to_show_is_one_line(project, text, key):
    (project / "dvc.yaml").write_text(text)
    assert run(code=1) == f"Error: dvc.yaml: no list `{key}` at its top, as git has one; put it back\n"


@pytest.mark.parametrize(
    "plot", ["{}", "{a: {x: b}, c: {x: d}}", "{3: {x: a}}", "{a: 3}", "{a: {y: {3: x}}}", "{a: {x: {3: x}, y: b}}"]
)
def test_a_plot_that_is_none_is_one_line(project, plot):
    pipeline = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(pipeline.replace("plots:\n", f"plots:\n  - {plot}\n", 1))
    text = run(code=1)
    assert text.startswith("Error: dvc.yaml: plots: {")
    assert text.count("\n") == 1


def test_nothing_run_yet_is_one_line(project):
    (project / "out/label_stats.csv").unlink()
    assert "this run: no metrics or no out/label_stats.csv; run `dvc repro`" in run(code=1)


def test_experiments_that_are_not_there(project):
    commit()
    output = run("nosuch", code=1)
    assert output.startswith("Error: nosuch: unknown Git revision 'nosuch'; `dvc exp show` lists the experiments")
    assert "HEAD is named twice" in run("HEAD", "HEAD", code=1)
    assert run("HEAD", "", code=1) == "Error: EXP: '' names nothing; is a variable of the shell not set?\n"


def test_a_commit_beside_the_workspace(project):
    commit()
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("batch_size: 10", "batch_size: 11"))
    assert "report: out/comparison.html" in run("HEAD")
    page = (project / "out/comparison.html").read_text()
    assert "<td>11</td><td>10</td>" in page  # the workspace first
    assert '"rev":"HEAD"' in page
    assert '"rev":"workspace"' in page
    assert not (project / "out/report.html").exists()


def test_runs_of_other_classes_are_not_compared(project):
    commit()
    (project / "out/label_stats.csv").write_text("class,n,demand,n_extra,dc\ncow,3,1,1,1.5\n")
    assert "HEAD and workspace are of different classes" in run("HEAD", code=1)


def test_examples_are_shown(project):
    with ExampleArchiveWriter(project / "out/examples/crf.zip") as archive:
        archive.write("one/image.jpg", b"pixels")
        example = {"id": "one", "fixed": True, "rank": None, "iou": None, "of_class": {}, "shows": [1], "extra": []}
        picture = {"kind": "image", "map": None, "label": None, "file": "one/image.jpg"}
        index = {"product": "crf", "meaning": "m", "split": "train", "images": 4, "main": "labels", "ious": []}
        archive.finish({**index, "labels": [], "scale": [], "examples": [{**example, "pictures": [picture]}]})
    run()
    assert "data:image/jpeg;base64,cGl4ZWxz" in (project / "out/report.html").read_text()
