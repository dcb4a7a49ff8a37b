"""Presets: written with their comments, compared, never over edits; each holds only what differs from voc12."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from sfc.evaluation.class_sets import resolve_sets
from sfc.params import field_names, known_sections, parse_params, read_yaml
from stages import preset
from stages._presets import flat
from tests.forked import wait_for

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


def params_of(name):
    return parse_params(read_yaml(preset.preset_text(ROOT / f"presets/{name}.yaml"), source=name))


def git(*args):
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *args], check=True)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with the presets and a committed params.yaml of the demo."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "presets", "presets")
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "state")
    return tmp_path / "params.yaml"


def run(*args, code=0):
    result = CliRunner().invoke(preset.main, args)
    assert result.exit_code == code, result.output
    return result


def test_without_a_name_lists_all(project):
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "coco14",
        "demo",
        "table",
        "voc12",
        "voc12_largefov",
        "voc12_paper",
        "voc_sample",
    ]
    assert "as released" in lines[3]


def test_a_broken_preset_of_ones_own_stands_in_nobodys_way(project):
    (project.parent / "presets/mine.yaml").write_bytes(b"# \xff\xfe")
    (project.parent / "presets/other.yaml").mkdir()
    (project.parent / "presets/third.yaml").write_text("# Third.\ntrain_cam: [")
    lines = {line.split()[0]: line for line in run().stdout.splitlines()}
    assert len(lines) == 10
    assert "(cannot be read: presets/mine.yaml: not UTF-8 text" in lines["mine"]
    assert "(cannot be read: " in lines["other"]
    assert lines["third"].endswith("Third")
    project.write_text(project.read_text() + "# mine\n")
    assert "params.yaml has edits that git does not have" in run("voc12", code=1).output
    run("voc12", "--force")
    for name in ("mine", "other", "third"):
        assert len(run(name, code=1).output.splitlines()) == 1


def test_writes_the_preset_and_prints_each_change(project):
    result = run("voc12_paper")
    assert project.read_text() == preset.preset_text(ROOT / "presets/voc12_paper.yaml")
    lines = result.stdout.splitlines()
    assert "dc.norm: instances -> eq6" in lines
    assert "train_cam.long_side: [224, 320] -> [320, 640]" in lines
    assert "evaluate.class_sets.few: [wagon, bicycle] -> [motorbike, boat, horse, bus, sheep, cow]" in lines
    assert "dataset.labels: null -> null" not in lines
    assert not any(line.startswith("ibr.n:") for line in lines)
    assert f"{len(lines)} of" in result.stderr
    assert run("voc12_paper").stdout == ""  # a preset is no edit, though not committed


HELD = """
import time
from pathlib import Path

from stages import preset

def held(*arguments):
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return flat(*arguments)

flat, preset.flat = preset.flat, held
main = preset.main
"""


def test_two_at_once_and_one_that_was_killed_leave_a_whole_file(project, forker):
    Path("held.py").write_text(HELD)
    first = forker.start(project.parent, "held", "voc12")
    wait_for(lambda: Path("begun").exists() or first.poll() is not None)
    assert first.poll() is None, first.said()
    message = f"Error: preset params.yaml is at work in this folder already: process {first.pid} on "
    assert run("voc12_paper", code=1).stderr.startswith(message)
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 128 + signal.SIGTERM
    assert first.said() == "preset: ended by SIGTERM\n"
    assert project.read_bytes() == (ROOT / "params.yaml").read_bytes()
    left = Path(".params.yaml.1.partial.yaml")
    left.write_text("ibr")
    run("voc12_paper")
    assert project.read_text() == preset.preset_text(ROOT / "presets/voc12_paper.yaml")
    assert not left.exists()
    assert not Path(".scratch").exists()


def test_a_preset_may_begin_with_a_byte_order_mark(project):
    Path("presets/mine.yaml").write_text("# Mine.\ntrain_cam:\n  lr: 0.2\n", encoding="utf-8-sig")
    run("mine")
    assert project.read_text().startswith("# Mine.\n")
    assert read_yaml(project.read_text(), source="params.yaml")["train_cam"]["lr"] == 0.2


def test_where_the_equations_are_undefined_the_presets_of_voc_do_as_released():
    for path in PRESETS:
        params = params_of(path.stem)
        released = {"voc12": "mean", "voc12_largefov": "mean", "voc12_paper": "eq6"}
        assert params.get("dc.norm") == released.get(path.stem, "instances")
    params = params_of("voc12")
    assert (params.get("sfc.prototype").empty, params.get("sfc.prototype").seed_range) == ("zero", "none")
    assert (params.get("train_cam.schedule").hold, params.get("cam.pcm_iters")) == (0.0, None)


def test_sets_of_other_names_are_shown_as_gone(project):
    assert "evaluate.class_sets.many: [car, house, tree] -> -" in run("table").stdout.splitlines()


def test_uncommitted_edits_stay_without_force(project):
    edited = project.read_text().replace("epochs: 8", "epochs: 9")
    project.write_text(edited)
    assert "params.yaml has edits that git does not have" in run("voc12", code=1).output
    assert project.read_text() == edited
    git("commit", "--quiet", "--all", "--message", "mine")
    assert "train_cam.epochs: 9 -> 6" in run("voc12").stdout
    project.write_text(edited + "# not committed\n")
    assert "train_cam.epochs: 9 -> 6" in run("voc12", "--force").stdout


def test_what_git_has_with_other_ends_of_lines_or_as_a_link_is_no_edit(project):
    project.write_bytes(project.read_bytes().replace(b"epochs: 8", b"epochs: 9").replace(b"\n", b"\r\n"))
    git("commit", "--quiet", "--all", "--message", "of another system")
    git("config", "core.autocrlf", "true")
    run("voc12")
    mine = project.rename(project.with_name("mine.yaml"))
    project.symlink_to(mine.name)
    before = mine.read_bytes()
    run("demo")
    assert mine.read_bytes() == before
    assert not project.is_symlink()


def test_edits_to_a_file_that_git_looks_away_from_stay_too(project):
    edited = project.read_text() + "# mine\n"
    project.write_text(edited)
    git("update-index", "--skip-worktree", "params.yaml")
    assert "params.yaml has edits that git does not have" in run("voc12", code=1).output
    git("update-index", "--no-skip-worktree", "params.yaml")
    git("rm", "--quiet", "--cached", "params.yaml")
    Path(".gitignore").write_text("*\n")
    git("commit", "--quiet", "--message", "params.yaml is ignored")
    assert "params.yaml has edits that git does not have" in run("voc12", code=1).output
    assert project.read_text() == edited


def test_a_file_that_is_not_utf_8_is_replaced_only_by_force(project, monkeypatch):
    project.write_bytes("# größer\n".encode("latin-1"))
    assert "params.yaml has edits that git does not have" in run("demo", code=1).output
    monkeypatch.setenv("PATH", "")  # no git: nobody knows whether the edits are kept
    assert "params.yaml has edits that git does not have" in run("demo", code=1).output
    run("demo", "--force")
    assert project.read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_params_of_the_repository_are_what_the_demo_writes(project):
    project.unlink()
    run("demo")
    assert project.read_bytes() == (ROOT / "params.yaml").read_bytes()


@pytest.mark.parametrize("before", [None, b"", b"\xff\xfe"])
def test_where_no_params_were_there_is_nothing_to_compare(project, before):
    project.unlink() if before is None else project.write_bytes(before)
    result = run("table", "--force")
    assert result.stdout == ""
    assert re.fullmatch(r"params.yaml is now the preset table, of \d\d\d params\n", result.stderr)


def test_the_complete_preset_is_written_as_it_stands(project):
    run("voc12")
    assert project.read_bytes() == (ROOT / "presets/voc12.yaml").read_bytes()


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_complete_once_written(project, path):
    run(path.stem)
    params = parse_params(read_yaml(project.read_text(), source="params.yaml"))
    assert set(params.sections) == set(known_sections())
    assert len(project.read_text().splitlines()) >= len((ROOT / "presets/voc12.yaml").read_text().splitlines()) - 5
    values = flat(read_yaml(project.read_text(), source="params.yaml"))
    for name, value in flat(read_yaml(path.read_text(), source=path.stem)).items():
        assert values[name] == value


def written(path):
    """Dotted name -> value and comment as they stand in the file, of all keys but bare headings."""
    found, keys = {}, []
    for line in path.read_text().splitlines():
        if key := re.match(r"((?:  )*)(\w+): *(.*)", line):
            keys[len(key[1]) // 2 :] = [key[2]]
            found[".".join(keys)] = key[3]
    return {name: rest for name, rest in found.items() if rest}


@pytest.mark.parametrize("path", [path for path in PRESETS if path.stem != "voc12"], ids=lambda path: path.stem)
def test_a_preset_says_only_what_differs(path):
    same = written(path).items() & written(ROOT / "presets/voc12.yaml").items()
    assert same == set()


def value(values, name):
    """A param by its dotted name; Ellipsis where the file is silent."""
    for part in name.split("."):
        values = values.get(part, ...) if isinstance(values, dict) else ...
    return values


@pytest.mark.parametrize("path", [path for path in PRESETS if path.stem != "voc12"], ids=lambda path: path.stem)
def test_a_preset_repeats_a_value_only_to_say_why(path):
    mine, complete = (read_yaml(p.read_text(), source=p.stem) for p in (path, ROOT / "presets/voc12.yaml"))
    params = [name for section, model in known_sections().items() for name in field_names(section, model)]
    sections = {".".join(name.split(".")[:depth]) for name in params for depth in range(1, name.count(".") + 1)}
    same = [
        name
        for name in params
        if name not in sections
        and value(mine, name) == value(complete, name)
        and "#" not in written(path).get(name, "")
    ]
    assert same == []


def test_a_slip_in_a_preset_is_named(project):
    Path("presets/mine.yaml").write_text("train_cam:\n  lrr: 0.1\n")
    refused = "Error: presets/mine.yaml: unknown param train_cam.lrr; did you mean train_cam.lr?\n"
    assert run("mine", code=1).output == refused
    Path("presets/mine.yaml").write_text("train_cam:\n  lr: -0.1\n")
    assert "presets/mine.yaml: param train_cam.lr: input should be greater than 0" in run("mine", code=1).output
    Path("presets/mine.yaml").write_text("train_cam:\n  ? [lr]\n  : 0.1\n")
    assert run("mine", code=1).output.startswith("Error: presets/mine.yaml: ")
    assert "unexpected" not in run("mine", code=1).output
    Path("presets/voc12.yaml").write_text("dc:\n")
    assert (
        run("demo", code=1).output
        == "Error: presets/voc12.yaml: section dataset is missing; copy it from presets/voc12.yaml\n"
    )
    assert project.read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_unknown_name(project):
    assert "there is no preset voc; there are coco14, demo," in run("voc", code=1).output


def test_class_sets_of_coco_hold_every_class_once():
    sets = params_of("coco14").get("evaluate.class_sets")
    members = [name for names in sets.values() for name in names]
    assert len(members) == len(set(members)) == 80
    assert resolve_sets(sets, members).keys() == {"many", "medium", "few"}


def test_the_papers_preset_reads_its_equations():
    paper = params_of("voc12_paper")
    assert (paper.get("dc.norm"), paper.get("dc.c_ibr"), paper.get("dc.n_iter")) == ("eq6", "auto", "auto")
    assert (paper.get("msdw.w_proto"), paper.get("msdw.w_scale"), paper.get("msdw.reduction")) == (1.0, 1.0, "sum")
    assert (paper.get("sfc.prototype").mode, paper.get("sfc.proto_norm"), paper.get("sfc.bkg_before_pcm")) == (
        "threshold", "none", False,
    )  # fmt: skip
    for use in ("crf", "walk", "eval"):
        fusion = paper.get(f"fusion.sfc.{use}")
        assert (fusion.weights, fusion.fg_gain, fusion.bg_offset) == ({"classifier": 1.0, "prototype": 1.0}, 1.0, 0.0)


def test_photographs_are_read_by_the_released_rules():
    params = params_of("voc12")
    for method in ("base", "sfc"):
        walk = params.get(f"fusion.{method}.walk")
        assert (walk.foreground_power, walk.whole_power, walk.background) == (1.3, 1.69, 0.25)
        uses = [params.get(f"fusion.{method}.{use}") for use in ("crf", "walk", "eval")]
        assert {(use.fg_gain, use.bg_offset) for use in uses} == {(2.0, 0.4)}
    prototype = [params.get(f"fusion.sfc.{use}.weights")["prototype"] for use in ("crf", "walk", "eval")]
    assert prototype == [0.7, 0.3, 1.0]


def test_the_sample_of_photographs_keeps_the_released_weights_and_has_offsets_of_its_own():
    released, sample = params_of("voc12"), params_of("voc_sample")
    offsets = {"base": {0.4}, "sipe": {0.3}, "sfc": {0.8}}
    for method, wanted in offsets.items():
        walk = sample.get(f"fusion.{method}.walk")
        assert (walk.foreground_power, walk.background, walk.whole_power) == (None, None, 1.0)
        for use in ("crf", "walk", "eval"):
            found, before = (params.get(f"fusion.{method}.{use}") for params in (sample, released))
            assert (found.weights, found.fg_gain) == (before.weights, before.fg_gain)
            assert {found.bg_offset} == wanted
