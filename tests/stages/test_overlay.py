"""One params file laid over another: values and comments of the overlay, everything else as the base has it."""

from pathlib import Path
from textwrap import dedent

import pytest

from sfc.errors import UserError
from sfc.params import read_yaml
from stages._overlay import overlaid, with_param
from stages.preset import preset_text

ROOT = Path(__file__).resolve().parents[2]

BASE = dedent("""\
    # The base.
    # Two lines.
    dc: # weights
      norm: mean # eq6: as printed
      c_ibr: 3.0 # released
      n_iter: 660

    # above crf
    crf:
      mode: label
      bilateral: {sxy: 50.0, srgb: 5.0} # of two

    seg:
      backbone:
        arch: resnet50 # a trunk
        weights: null
      scales: [0.5, 1.0]

    evaluate:
      class_sets: # by count
        many: [dog, cat]
        few: [cow]
      gallery: 16
    """)


def changes(overlay):
    """(lines of the base that are gone, lines that stand there instead)."""
    old, new = BASE.splitlines(), overlaid(BASE, dedent(overlay), source="mine").splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def test_the_base_over_itself_is_the_base():
    assert overlaid(BASE, BASE, source="mine") == BASE


def test_values_come_with_their_comments_or_keep_those_of_the_base():
    gone, came = changes("""\
        # The base.
        # Two lines.
        dc:
          norm: eq6
          c_ibr: auto # of my data
          n_iter: auto # steps
        seg:
          backbone: # mine
            arch: resnet18
    """)
    assert gone == [
        "  norm: mean # eq6: as printed", "  c_ibr: 3.0 # released", "  n_iter: 660",
        "  backbone:", "    arch: resnet50 # a trunk",
    ]  # fmt: skip
    assert came == [
        "  norm: eq6 # eq6: as printed", "  c_ibr: auto # of my data", "  n_iter: auto # steps",
        "  backbone: # mine", "    arch: resnet18 # a trunk",
    ]  # fmt: skip


def test_the_comment_at_the_top_is_the_overlays():
    assert overlaid(BASE, "# Mine.\ndc: {norm: mean}\n", source="mine").splitlines()[:2] == [
        "# Mine.",
        "dc: {norm: mean} # weights",
    ]
    assert overlaid(BASE, "crf:\n  mode: prob\n", source="mine").startswith("dc: # weights")


def test_comments_above_a_key_come_along():
    text = overlaid(BASE, "# Mine.\n\n# other\ncrf:\n  # why\n  # prob\n  mode: prob\n", source="mine")
    assert "\n\n# other\ncrf:\n  # why\n  # prob\n  mode: prob\n  bilateral" in text
    assert "above crf" not in text


@pytest.mark.parametrize("value", ["{}", "{many: [ox]}", "\n    rare: [ox]\n    many:\n      [\n        ox,\n      ]"])
def test_values_that_are_no_sections_are_replaced_as_a_whole(value):
    _, _, there = overlaid(BASE, f"evaluate:\n  class_sets: {value}\n", source="mine").partition("evaluate:\n")
    lines = f"  class_sets: {value}".splitlines()
    assert there.splitlines() == [f"{lines[0].rstrip()} # by count", *lines[1:], "  gallery: 16"]


def test_another_indentation_is_taken_to_that_of_the_base():
    overlay = "evaluate:\n    class_sets:\n        all:\n          - dog\n          - cow\n    gallery: 3\n"
    _, _, there = overlaid(BASE, overlay, source="mine").partition("evaluate:\n")
    assert there == "  class_sets: # by count\n      all:\n        - dog\n        - cow\n  gallery: 3\n"


def test_a_hash_in_a_value_is_no_comment():
    _, came = changes("seg:\n  backbone:\n    weights: 'a # b'\n    arch: c#d # e # f\n")
    assert came == ["    arch: c#d # e # f", "    weights: 'a # b'"]


def test_empty_values():
    assert "    weights:\n  scales" in overlaid(BASE, "seg:\n  backbone:\n    weights:\n", source="mine")


def test_an_empty_value_ends_on_its_keys_line():
    header = "# The base.\n# Two lines.\n"
    gone, came = changes(f"{header}dc:\n  norm: # none yet\n\n  # why\n  c_ibr: auto\n  n_iter:\n")
    assert gone == ["  norm: mean # eq6: as printed", "  c_ibr: 3.0 # released", "  n_iter: 660"]
    assert came == ["  norm: # none yet", "  # why", "  c_ibr: auto # released", "  n_iter:"]
    overlay = "seg:\n  backbone:\n    arch: # a\n    weights:\n  scales:\n    - 1.0\n    - # b\ndc:\n  norm: # c"
    _, came = changes(header + overlay)
    assert came == ["  norm: # c", "    arch: # a", "    weights:", "  scales:", "    - 1.0", "    - # b"]


def test_an_empty_value_of_the_base_takes_no_other_key_along():
    base = "dc:\n  norm: # none yet\n  c_ibr: 3.0\ncrf:\n  mode:\n\n# above seg\nseg:\n  lr: 1\n"
    text = overlaid(base, "dc:\n  norm: eq6\ncrf:\n  mode: prob\n", source="mine")
    assert text == "dc:\n  norm: eq6 # none yet\n  c_ibr: 3.0\ncrf:\n  mode: prob\n\n# above seg\nseg:\n  lr: 1\n"


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ("seg:\n  backbone:\n    archh: x\n", "unknown param seg.backbone.archh; did you mean seg.backbone.arch?"),
        ("", "expected sections such as train_cam: and crf:"),
        ("[]", "expected sections such as train_cam: and crf:"),
        ("{dc: {norm: eq6}}", "expected sections such as train_cam: and crf:, each on lines of its own"),
        ("dc: [", "not valid YAML"),
        ("dc:\n  norm: a\n  norm: b\n", 'line 3: found duplicate key "norm"'),
    ],
)
def test_what_cannot_be_laid_over_is_refused(overlay, message):
    with pytest.raises(UserError) as error:
        overlaid(BASE, overlay, source="mine")
    assert str(error.value).startswith("mine: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["voc12", "demo"])
def test_one_param_set_leaves_every_other_line_as_it_is(name):
    before = preset_text(ROOT / f"presets/{name}.yaml")
    after = with_param(before, "dataset.tuning", '["2007_000032", "a, b"]')
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    ((old, new),) = changed
    assert old.startswith("  tuning: [] # ")
    assert new == old.replace("[]", '["2007_000032", "a, b"]')
    assert with_param(after, "dataset.tuning", "[]") == before
    assert read_yaml(after, source="after")["dataset"]["tuning"] == ["2007_000032", "a, b"]
    deep = with_param(before, "train_cam.backbone.arch", "resnet101")
    assert read_yaml(deep, source="deep")["train_cam"]["backbone"]["arch"] == "resnet101"


def test_a_list_on_lines_of_its_own_is_replaced_whole():
    text = "dataset:\n    root: data # four\n    tuning:\n      - x\n    kind: voc\n"
    assert with_param(text, "dataset.tuning", '["a"]') == text.replace("tuning:\n      - x", 'tuning: ["a"]')


@pytest.mark.parametrize("text", ['{"dataset": {"tuning": [], "root": "data"}}', "dataset: {tuning: [], root: data}\n"])
def test_a_file_of_another_style_is_refused(text):
    with pytest.raises(UserError, match=r"nothing is changed; set dataset.tuning to \[\"a\"\] in it"):
        with_param(text, "dataset.tuning", '["a"]')
