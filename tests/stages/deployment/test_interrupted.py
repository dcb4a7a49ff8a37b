"""`segment` interrupted and killed: what is done stays, and the same command does all."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from sfc.deployment.sources import find_images
from stages import _results, segment
from tests.stages.deployment.runs import NAMES, images, rows, run


def ended_after(done, monkeypatch, *options):
    """Ctrl-C while the next image's overlay is drawn."""
    count, draw = iter(range(done)), _results.label_overlay

    def drawn(*args):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return draw(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_results, "label_overlay", drawn)
        return run(segment, *options, status=1)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_is_interrupted_leaves_results_and_the_same_command_does_all(project, monkeypatch, workers):
    monkeypatch.setenv("SFC_WORKERS", workers)
    run(segment, ".", "--out", "whole")
    photographs = find_images(["."])
    said = ended_after(2, monkeypatch, ".", "--out", "o")
    assert "segment: ended after 2 of 5 images, which stay in o; the same command does all" in said
    assert "Aborted!" in said
    assert [row["label_map"] for row in rows()] == ["labels/im0.png", "labels/im2.png"]  # of one size
    assert find_images(["."]) == photographs
    run(segment, ".", "--out", "o")
    files = sorted(path.relative_to("whole") for path in Path("whole").rglob("*"))
    assert sorted(path.relative_to("o") for path in Path("o").rglob("*")) == files
    for file in files:
        assert (Path("whole") / file).is_dir() or (Path("o") / file).read_bytes() == (Path("whole") / file).read_bytes()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed(project, forker, end):
    more = [f"more{i:02}" for i in range(90)]  # of im0's size, so done before im1 and im3: 3 s to be killed in
    for name in more:
        shutil.copy("im0.png", f"{name}.png")
    options = [".", "--out", "o", "--no-flip", "--scales=1"]
    process = forker.start(Path.cwd(), "stages.segment", *options, SFC_WORKERS="2")
    while not Path("o/labels/more02.png").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(end)
    assert process.wait() == (-end if end == signal.SIGKILL else 128 + end), process.said()
    assert ("ended by SIGTERM" in process.said()) == (end == signal.SIGTERM)
    Path("o/labels/.im1.png.999999999.partial.png").write_text("half")
    photographs = [*NAMES, *more]
    assert list(find_images(["."])) == photographs
    assert all(Path("o", row["label_map"]).is_file() for row in rows() if None not in row.values())
    run(segment, *options)
    assert images() == [f"{name}.png" for name in photographs]
    assert sorted(path.stem for path in Path("o/labels").iterdir()) == photographs
