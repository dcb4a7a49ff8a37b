"""Figures and tables as the page shows them."""

import pytest

from sfc.report.charts import balance_charts, spread_chart, steps_chart
from sfc.report.run import class_figures, step_figures
from sfc.report.tables import all_metrics, class_columns, data_rows, differences, params_rows, set_names, side_by_side
from tests.report.conftest import TITLES


def test_every_map_of_every_product_and_split_is_a_step(run):
    found = step_figures(run(), TITLES)  # nothing of Segmentation: it was not made
    assert [(f.step, f.split, f.main) for f in found] == [
        ("CAM, classifier", "train", False),
        ("CAM, sum", "train", True),
        ("CAM, classifier", "val", False),
        ("CAM, sum", "val", True),
        ("CRF", "train", True),
    ]
    total = found[1]
    assert (total.miou, total.low, total.high, total.sets) == (51.0, 49.0, 53.0, {"many": 50.0, "few": 1.5})
    assert (total.images, total.over, total.under, total.baseline, total.oracle) == (4, 30.0, 20.0, 8.0, 70.0)
    assert (found[4].low, found[4].sets, found[4].oracle) == (None, {}, None)


def test_without_masks_a_step_has_no_figures(run):
    found = step_figures(run(miou=None), TITLES)
    assert [(f.step, f.images, f.miou, f.baseline) for f in found] == [("CAM", 0, None, None), ("CRF", 0, None, None)]
    assert steps_chart(found) is None
    assert balance_charts(class_figures(run("other", miou=None), TITLES), {"ant": 1, "bee": 2}) == []


def test_the_chart_of_steps_names_splits_or_runs(run):
    one = steps_chart(step_figures(run(), TITLES))["data"]["values"]
    assert [(row["step"], row["series"], row["mIoU"]) for row in one[1:3]] == [
        ("CAM, sum", "train images", 51.0),
        ("CAM, classifier", "val images", 50.0),
    ]
    both = [f for name, miou in (("A", 50.0), ("B", 40.0)) for f in step_figures(run(name, miou), TITLES)]
    rows = steps_chart(side_by_side(both))["data"]["values"]
    assert [(row["step"], row["series"], row["mIoU"]) for row in rows[:2]] == [
        ("CAM, classifier (train)", "A", 50.0),
        ("CAM, classifier (train)", "B", 40.0),
    ]


def test_balance_is_from_the_most_frequent_class_to_the_rarest_and_leaves_out_what_is_unknown(run):
    figures = class_figures(run(), TITLES)
    charts = balance_charts(figures, {"bee": 7, "ant": 3})
    assert [chart["title"]["text"] for chart in charts] == [["CAM, classifier"], ["CAM, sum"], ["CRF"]]
    rows = charts[0]["data"]["values"]
    assert [(row["class"], row["place"], row["kind"], row["share"]) for row in rows] == [
        ("ant (3)", 1, "over-activated", 30.0),
        ("ant (3)", 1, "under-activated", -20.0),
    ]


def test_images_are_counted_by_their_iou():
    rows = spread_chart({"A": [0.0, 4.9, 5.0, 100.0], "B": [99.0]})["data"]["values"]
    counted = {(row["run"], row["from"]): row["images"] for row in rows if row["images"]}
    assert counted == {("A", 0): 2, ("A", 5): 1, ("A", 95): 1, ("B", 95): 1}


def test_differences_are_to_the_same_step_of_the_first_run(run):
    figures = side_by_side([f for n, m in (("A", 50.0), ("B", 42.5)) for f in step_figures(run(n, m), TITLES)])
    assert [f.run for f in figures[:4]] == ["A", "B", "A", "B"]
    assert differences(figures, "A") == [None, -7.5] * 5
    assert differences(figures, "none of them") == [None] * 10


def test_columns_of_classes_stand_side_by_side(run):
    figures = [f for n, m in (("A", 50.0), ("B", 42.5)) for f in class_figures(run(n, m), TITLES)]
    columns = class_columns(figures, "A")
    assert [(c["step"], c["run"]) for c in columns] == [
        (step, name) for step in ("CAM, classifier", "CAM, sum", "CRF") for name in ("A", "B")
    ]
    assert columns[1]["cells"]["ant"] == {"iou": (42.5, -7.5), "over": (30.0, 0.0), "under": (20.0, 0.0)}
    assert columns[1]["cells"]["bee"] == {"iou": (None, None), "over": (30.0, 0.0), "under": (None, None)}
    assert columns[0]["cells"]["ant"]["iou"] == (50.0, None)


def test_classes_are_shown_on_the_split_that_charts_show(run):
    rows = [dict(row, split="val", shown="no") for row in run().per_class["crf"]]
    both = run("both", per_class={"crf": [*run("x").per_class["crf"], *rows]})
    assert {f.split for f in class_figures(both, TITLES)} == {"train"}


def test_params_that_differ_from_the_preset_or_between_runs(run):
    a, b = run("A", params={"x": 1, "y": 2, "z": 3}), run("B", params={"x": 1, "y": 5, "new": [1]})
    preset = {"x": 1, "y": 2, "z": 4}
    assert params_rows([a], {"x": 1, "y": 2, "z": 3}) == []
    assert params_rows([a, b], preset) == [
        ("y", 2, [2, 5], True),
        ("z", 4, [3, "-"], True),
        ("new", "-", ["-", [1]], True),
    ]
    assert params_rows([a], preset) == [("z", 4, [3], False)]


def test_metrics_as_written(run):
    a, b = run("A", metrics={"m": {"x": {"y": 1}, "z": None}}), run("B", metrics={"m": {"x": {"y": 2}}, "n": {"q": 1}})
    assert all_metrics([a, b]) == [
        ("m", [("x.y", [1, 2], True), ("z", [None, None], False)]),
        ("n", [("q", [None, 1], True)]),
    ]
    assert data_rows({"classes": 2, "train": {"images": 4}}) == [{"split": "train", "images": 4}]


@pytest.mark.parametrize(("params", "order"), [(["few", "many"], ["few", "many"]), ([], ["many", "few"])])
def test_class_sets_are_in_the_order_of_the_params(run, params, order):
    names = {f"evaluate.class_sets.{name}": [] for name in params}
    assert set_names(step_figures(run(), TITLES), names) == order
