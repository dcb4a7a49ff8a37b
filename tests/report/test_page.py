import json
import re
from dataclasses import replace

import pytest

from sfc.report.page import Plot, report_page
from tests.report.conftest import TITLES

PRESET = ("demo", {"dataset.root": "data", "dataset.kind": "voc", "train_cam.method": "sfc", "seg.steps": 200})


def page(*runs, plots=()):
    return report_page(runs, titles=TITLES, preset=PRESET, plots=plots)


def body(text):
    """What is written out, without scripts and style."""
    return re.sub(r"<(script|style).*?</\1>", "", text[text.index("<body>") :], flags=re.DOTALL)


def words(text):
    return " ".join(re.sub(r"<[^>]+>", " ", body(text)).split())


def data(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_what_was_run_and_found_is_written_out(run):
    text = words(page(run()))
    assert "What this run made" in text
    assert "seg.steps 200 300" in text
    assert "train_cam.method" not in text  # as in the preset
    assert "4 images, 4 with a mask; 1.5 classes an image, labels from table" in text
    assert "classes 2, and background" in text
    assert "CAM, sum train 51.0 49.0 to 53.0" in text
    assert "evaluate_crf" in text


def test_nothing_comes_from_elsewhere(run):
    text = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page(run()), flags=re.DOTALL)
    named = re.findall(r'\s(?:src|href)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert [name for name in named if not name.startswith(("data:", "#"))] == []
    assert "@import" not in text


def test_every_chart_and_plot_has_its_place(run):
    plots = [Plot("curve", spec={"mark": "line"}), Plot("sheet", image="data:image/jpeg;base64,AAAA")]
    text = page(run(), plots=plots)
    charts = data(text)["charts"]
    assert charts[-1] == {"mark": "line"}
    assert sorted(map(int, re.findall(r'data-chart="(\d+)"', text))) == list(range(len(charts)))
    assert 'src="data:image/jpeg;base64,AAAA"' in body(text)


def test_names_of_classes_and_params_cannot_break_the_page(run):
    nasty = '</script><script>alert("1")</script>&'
    one = run(
        classes=[{"class": nasty, "n": "3", "dc": "1.5"}],
        params={nasty: nasty},
        metrics={"prepare": {nasty: nasty}},
        per_class={},
    )
    text = page(one, plots=[Plot(nasty, spec={"title": nasty})])
    assert nasty not in text
    assert data(text)["charts"][-1]["title"] == nasty
    assert text.count("&lt;/script&gt;&lt;script&gt;alert") >= 3


def test_without_masks_it_says_so(run):
    text = words(page(run(miou=None)))
    assert "No image of this data set has a pixel mask, so there is nothing to measure" in text
    assert "mIoU of each step" not in text
    assert "ant 3 1.50" in text


@pytest.mark.parametrize("miou", [50.0, None])
def test_masks_that_were_used_up_are_named(run, miou):
    one = run(miou=miou)
    metrics = {
        name: {split: {**found, "tried_on_masks_of": {"train": 20}} for split, found in splits.items()}
        for name, splits in one.metrics.items()
        if name.startswith("evaluate_")
    }
    text = words(page(replace(one, metrics={**one.metrics, **metrics})))
    said = "Background offsets were tried, and may be chosen, on the masks of 20 train images ( dataset.tuning )"
    assert f"{said}, which no figure counts." in text
    assert "No threshold is chosen on the masks" not in text
    assert "are only measured against." not in text


def test_two_runs_stand_side_by_side(run):
    text = words(page(run("A"), run("B", 42.5, params={**run("x").params, "seg.steps": 900})))
    assert "2 runs side by side" in text
    assert "seg.steps 200 300 900" in text
    assert re.search(r"CRF train A 50\.0 .* CRF train B 42\.5 -7\.5", text)


def test_a_run_with_little_left_is_still_shown(run):
    text = words(page(run(metrics={"prepare": {"classes": 2}}, per_class={}, examples={})))
    assert "This run has no pictures" in text


def test_equal_runs_make_equal_bytes(run):
    assert page(run("A")) == page(replace(run("B"), name="A"))


@pytest.mark.parametrize("script", ["charts.js", "table.js", "pictures.js", "gallery.js", "viewer.js"])
def test_scripts_cannot_end_their_element(pytestconfig, script):
    assert "</script" not in (pytestconfig.rootpath / "sfc/report/page" / script).read_text()
