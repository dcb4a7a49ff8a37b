"""Stages that are killed at random moments: nothing half-written, the same bytes in the end, no process left.

`pytest tests/pipeline/test_kills.py --kills 200 --attack-seed 7` kills more of them, at other moments.
"""

import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
import yaml

from sfc.sealed import is_whole
from tests.forked import wait_for
from tests.pipeline.copies import MADE, arguments, content, copy_of, made, unfinished
from tests.pipeline.project import Project

AGAIN = 4  # kills before a stage may run to its end
QUICK = {"SFC_CHECKPOINT_SECONDS": "0", "SFC_WORKERS": "1"}
GONE = 15  # seconds after which nothing of a killed stage may run


# a stage with shards of so few images that the tiny data set has several, and, slowly, with a pause after each
IN_SHARDS = """
import importlib
import sys
import time

from sfc import sealed
from sfc.localization import store
from stages import _labels

store.SHARD, _labels.SMALLEST = 3, 2
module = sys.argv.pop(1)
if module == "slowly":
    sealed._sync_folder = lambda folder: time.sleep(1)
    module = sys.argv.pop(1)
main = importlib.import_module(module).main
"""
SHARDS = {"infer_cam": 6, "crf": 6, "pseudo_labels": 6, "predict": 2}


@pytest.fixture
def fresh(real, tmp_path):
    """Makes copies of the project with all stages' outputs, links to one set of files that must never be written to."""

    return lambda name: copy_of(real, tmp_path / name)


@pytest.fixture
def fresh_in_shards(fresh, forker, tmp_path):
    """As `fresh`, of a project whose CAMs are in several shards; its stages are run as IN_SHARDS."""
    base = fresh("base")
    edit(base, lambda params: (params["walk"].update(batch_size=2), params["predict"].update(batch_size=2)))
    (base / "in_shards.py").write_text(IN_SHARDS)
    forker.run(base, "in_shards", "stages.infer_cam")

    def make(name):
        folder = copy_of(Project(base), tmp_path / name)
        shutil.copy(base / "in_shards.py", folder)
        return folder

    return make


def test_the_stages_are_those_of_the_pipeline():
    assert len(MADE) == 15
    assert all(MADE.values())


def test_killed_at_random_moments(fresh_in_shards, forker, pytestconfig):
    fresh = fresh_in_shards
    kills, chance = pytestconfig.getoption("--kills"), random.Random(pytestconfig.getoption("--attack-seed"))
    pristine, whole, sessions = fresh("pristine"), {}, []
    for number in range(-(-kills // AGAIN)):
        stage = chance.choice(list(MADE))
        if stage not in whole:
            folder, begun = fresh(f"whole-{number}"), time.monotonic()
            forker.run(folder, "in_shards", *arguments(stage), **QUICK)
            whole[stage] = made(folder, stage), time.monotonic() - begun
        expected, seconds = whole[stage]
        folder, before = fresh(f"killed-{number}"), made(pristine, stage)
        if chance.random() < 0.5:  # as DVC, which takes the old ones away
            for path in MADE[stage]:
                shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()
        for _ in range(AGAIN):
            process = forker.start(folder, "in_shards", *arguments(stage), **QUICK)
            time.sleep(chance.uniform(0, seconds))
            process.send_signal(signal.SIGKILL)
            assert process.wait() in (0, -signal.SIGKILL), (stage, process.said())
            sessions.append(process.pid)
            for path, found in made(folder, stage).items():
                assert found in (None, before[path], expected[path]), f"{stage}: {path} is half-written"
        said = forker.run(folder, "in_shards", *arguments(stage), **QUICK)
        assert made(folder, stage) == expected, (stage, said)
        assert unfinished(folder) == []
        shutil.rmtree(folder)
    assert made(pristine, ("infer_cam", ""))  # links to it went to every copy
    wait_for_the_end(sessions)


@pytest.mark.parametrize("stage", SHARDS)
def test_a_stage_that_was_killed_goes_on_at_its_next_shard(fresh_in_shards, forker, stage):
    folder, whole = fresh_in_shards("killed"), fresh_in_shards("whole")
    forker.run(whole, "in_shards", f"stages.{stage}", **QUICK)
    expected, before = made(whole, (stage, "")), made(folder, (stage, ""))
    done = 0
    while done < SHARDS[stage] - 1:  # killed after each of them
        process = forker.start(folder, "in_shards", "slowly", f"stages.{stage}", **QUICK)
        wait_for(lambda: sealed_shards(folder, stage) > done or process.poll() is not None)  # noqa: B023 - at once
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.said()
        assert made(folder, (stage, "")) == before
        assert bool(done) == (f"{stage}: goes on after {done} of {SHARDS[stage]} shards" in process.said())
        done = sealed_shards(folder, stage)
    said = forker.run(folder, "in_shards", f"stages.{stage}", **QUICK)
    assert f"{stage}: goes on after {done} of {SHARDS[stage]} shards" in said
    assert made(folder, (stage, "")) == expected
    assert unfinished(folder) == []


def sealed_shards(folder, stage):
    """How many shards of a stage's unfinished work are whole; crf has two files of each."""
    files = [path for path in (folder / ".scratch" / stage).rglob("[0-9]*[!6]") if is_whole(path)]
    return len(files) // (2 if stage == "crf" else 1)


def wait_for_the_end(sessions):
    deadline = time.monotonic() + GONE
    while (found := running(sessions)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not found, [process.cmdline() for process in found]


def running(sessions):
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.mark.parametrize(("stage", "processes"), [("crf", 5), ("train_seg", 3)])
def test_workers_end_with_the_stage_that_was_killed(fresh, forker, stage, processes):
    """Beside the stage and its two workers, CRFs have a fork server and a tracker of what they share."""
    folder = fresh("project")
    edit(folder, lambda params: params["crf"].update(iterations=300))
    process = forker.start(folder, f"stages.{stage}", SFC_WORKERS="2")
    wait_for(lambda: process.poll() is not None or len(running([process.pid])) >= processes)
    time.sleep(1)
    assert process.poll() is None, process.said()
    process.send_signal(signal.SIGKILL)
    wait_for_the_end([process.pid])


def edit(folder, change):
    """Change the params of a copy."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    change(params)
    (folder / "params.yaml").unlink()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.mark.parametrize("stage", ["train_cam", "train_irn", "train_seg"])
def test_a_training_saves_a_checkpoint_on_notice_even_if_all_its_processes_get_it(fresh, forker, stage):
    folder = fresh("project")
    for section, steps in {"train_cam": {"epochs": 300}, "irn": {"epochs": 300}, "seg": {"steps": 1000}}.items():
        edit(folder, lambda params, section=section, steps=steps: params[section].update(steps))
    forker.run(folder, "stages.label_stats")
    process = forker.start(folder, f"stages.{stage}", SFC_WORKERS="2", SFC_CHECKPOINT_SECONDS="10000")
    wait_for(lambda: re.search(r" [1-9]\d*/", process.said()) or process.poll() is not None)
    assert process.poll() is None, process.said()
    for _ in range(3):  # from the cluster, from torchrun
        os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, process.said()
    (step,) = [int(path.stem) for path in (folder / ".scratch" / stage).rglob("*.pt")]
    assert f"{stage}: stopped at step {step}\n" in process.said()
    assert f"{stage}: ended by SIGTERM" in process.said()
    again = forker.start(folder, f"stages.{stage}", SFC_WORKERS="2")
    wait_for(lambda: f"goes on from step {step}, from a scratch checkpoint in .scratch/{stage}" in again.said())
    again.send_signal(signal.SIGKILL)
    wait_for_the_end([process.pid, again.pid])


def test_a_stage_that_resumes_does_not_change_what_was_linked(fresh, forker):
    """Outputs may be links into DVC's cache."""
    folder = fresh("project")
    before = made(folder, ("infer_cam", ""))
    other = Path(folder.parent / "kept")
    shutil.copytree(folder / "out/cams", other, copy_function=os.link)
    forker.run(folder, "stages.infer_cam")
    assert content(other) == before["out/cams"]
