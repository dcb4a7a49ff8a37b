"""The paper's settings, and our figures beside the paper's."""

import json

import pandas as pd

from stages._paper import SETTINGS, ablation_table, main_figures, main_table, spread


def figures(**of_run):
    """One seed's rows: run -> its classifier mIoU; the prototype has 1 more, the sum 2, and set `few` twice as much."""
    return pd.DataFrame(
        {"run": run, "seed": seed, "split": "train", "product": "cam", "map": cam, "miou": v + i, "miou_few": 2 * v + i}
        for run, values in of_run.items()
        for seed, v in enumerate(values)
        for i, cam in enumerate(("classifier", "prototype", "sum"))
    )


def test_every_setting_is_scored_by_its_cam_and_shown_beside_the_papers_figure():
    text = ablation_table(
        4, figures(Base=[9.0], **{"both scales": [10.0]}, I=[20.0, 22.0], II=[30.0], V=[50.0]), ["few"]
    )
    assert "| Base | no | no | no | classifier | train | 1 | 9.0 | 55.1 |" in text
    assert "| both scales | no | no | no | classifier | train | 1 | 10.0 | - |" in text
    assert "| I | yes | no | no | classifier | train | 2 | 21.0 ± 1.4 | 55.9 |" in text
    assert "| II | no | yes | yes | sum | train | 1 | 32.0 | 62.4 |" in text
    assert "| III | yes | yes | no | sum | train | 0 | - | 62.4 |" in text
    assert "| IV | yes | no | yes | sum | train | 0 | - | 58.1 |" in text
    text = ablation_table(5, figures(VI=[1.0], VII=[2.0], VIII=[3.0], V=[4.0]), ["few"])
    assert "| VII | yes | no | train | 1 | 4.0 | 63.7 |" in text
    assert "| VIII | no | yes | train | 1 | 5.0 | 63.6 |" in text


def test_gains_are_differences_within_a_seed():
    text = ablation_table(7, figures(Base=[10.0, 20.0], V=[13.0, 24.0], VI=[15.0]), ["few"])
    # of the sum (2 more) over Base's classifier: 5 and 6; few: 2 * 13 + 2 - 2 * 10 = 8 and 10
    assert f"| V | overall | train | 2 | {spread(pd.Series([5.0, 6.0]))} | 9.6 |" in text
    assert f"| V | few | train | 2 | {spread(pd.Series([8.0, 10.0]))} | 12.9 |" in text
    assert "| VI | overall | train | 1 | 7.0 | 6.9 |" in text


def test_the_papers_figures_stand_beside_its_own_split_alone():
    other = figures(V=[50.0]).assign(split="val")
    assert "| sum | val | 1 | 52.0 | - |" in ablation_table(6, other, [])


def test_main_results_take_the_map_that_stands_for_each_method_and_every_product():
    cams = figures(base=[44.0], sipe=[50.0], sfc=[60.0])
    cams["stands_for"] = cams["run"].map({"base": "classifier", "sipe": "prototype", "sfc": "sum"})
    label = {"run": "sfc", "seed": 0, "split": "val", "product": "seg", "map": "labels", "miou": 70.0}
    label["stands_for"] = "labels"
    paper = {("sfc", "cam", "train"): 64.7, ("sfc", "seg", "val"): 71.2}
    text = main_table(pd.concat([cams, pd.DataFrame([label])]), paper=paper)
    assert "| base | CAM | train | 1 | 44.0 | - |" in text
    assert "| sipe | CAM | train | 1 | 51.0 | - |" in text
    assert "| sfc | CAM | train | 1 | 62.0 | 64.7 |" in text
    assert "| sfc | segmentation | val | 1 | 70.0 | 71.2 |" in text


def test_segmentation_stands_beside_the_papers_figure_of_its_own_trunk():
    seg = ("sfc", "seg", "val")
    assert main_figures("voc12", "deeplabv2", "resnet101")[seg] == 71.2
    assert main_figures("voc", "largefov", "wideresnet38")[seg] == 70.2
    assert main_figures("coco14", "deeplabv2", "resnet101")[seg] == 46.8
    assert seg not in main_figures("voc12", "deeplabv2", "resnet50")
    assert main_figures("coco14", "largefov", "wideresnet38") == {("sipe", "seg", "val"): 43.6}
    assert main_figures("table", "deeplabv2", "resnet18")["sfc", "cam", "train"] == 64.7


def test_settings_differ_from_one_another():
    changes = [json.dumps(setting.changes, sort_keys=True) for setting in SETTINGS.values()]
    assert len(set(changes)) == len(changes)
