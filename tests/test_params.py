"""params.yaml as YAML 1.2: numbers are numbers, words are words, and what no params file holds is refused."""

from pathlib import Path

import pytest

from sfc.errors import UserError
from sfc.params import load_params, parse_params, read_yaml

ROOT = Path(__file__).resolve().parents[1]
VOC = ROOT / "presets" / "voc12.yaml"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-5", 0.00001),
        ("1e-05", 0.00001),
        ("1E-5", 0.00001),
        ("1.e-5", 0.00001),
        (".5e-3", 0.0005),
        ("+2e3", 2000.0),
        ("2.5e+2", 250.0),
        ("0.00001", 0.00001),
        ("3", 3.0),
    ],
)
def test_numbers_are_read_as_yaml_1_2_does(tmp_path, text, number):
    path = tmp_path / "params.yaml"
    path.write_text(VOC.read_text().replace("  lr: 0.1\n  head_lr_scale", f"  lr: {text}\n  head_lr_scale"))
    assert load_params(path).get("train_cam.lr") == number


def test_words_and_leading_zeros_are_read_as_yaml_1_2_does():
    text = "{a: on, b: off, c: yes, d: no, e: 010, f: 0o10, g: true, h: 1e-4, i: 1e-05, j: 0.1, k: 12:30, l: null}"
    assert read_yaml(text, source="x") == {
        "a": "on", "b": "off", "c": "yes", "d": "no", "e": 10, "f": 8, "g": True, "h": 0.0001, "i": 0.00001, "j": 0.1,
        "k": "12:30", "l": None,
    }  # fmt: skip


def test_names_that_look_like_numbers_stay_text(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(VOC.read_text().replace("train: train_aug", "train: e10").replace("val: val", "val: 1e"))
    assert (load_params(path).get("dataset.train"), load_params(path).get("dataset.val")) == ("e10", "1e")


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("dc:\n  norm: mean\n  n_iter: 660\n  norm: eq6\n")
    with pytest.raises(UserError) as error:
        load_params(path)
    assert 'params.yaml: not valid YAML: line 4: found duplicate key "norm"' in str(error.value)
    assert "\n" not in str(error.value)
    path.write_text("dc: {}\nibr: {}\ndc: {}\n")
    with pytest.raises(UserError, match='line 3: found duplicate key "dc"'):
        load_params(path)


@pytest.mark.parametrize("value", ["&a [*a]", "&a {x: *a}", "&a [[{x: [*a]}]]"])
def test_a_value_that_holds_itself_is_refused(value):
    with pytest.raises(UserError, match=r"^p: not valid YAML: an alias \(\*\) names what it stands in"):
        read_yaml(f"x: {value}", source="p")


def test_aliases_that_would_unfold_to_billions_are_refused_at_once():
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    text = "\n".join(["a0: &a0 [1, 1]", *levels])
    with pytest.raises(UserError, match=r"^p: not a params file: its aliases stand for more than 1,000,000 values"):
        read_yaml(text, source="p")
    assert read_yaml("\n".join(["a0: &a0 [1, 1]", *levels[:3]]), source="p")["a1"] == [[1, 1]] * 10


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [touch ran]", "!!python/name:os.system ''", "!x 1"])
def test_tags_run_no_code(tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^p: not valid YAML: "):
        read_yaml(f"x: {tag}", source="p")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("2012-02-30", "line 2: "), ("2012-13-45", "line 2: "), ("0x_", "line 2: "), ("9" * 5000, "line 2: "),
        ("!!int abc", ""), ("!!int ''", ""), ("!!bool x", ""),
        ("[!!str 2001-99-99, 2012-02-30]", "line 2: day is out of range"), ('"\\UFFFFFFFF"', ""),
    ],
)  # fmt: skip
def test_values_that_only_look_like_numbers_or_dates_are_one_line(value, where):
    with pytest.raises(UserError, match=f"^params.yaml: not valid YAML: {where}.*; put the value in quotes$"):
        read_yaml(f"a: 1\nb: {value}\n", source="params.yaml")


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_params(tmp_path / "params.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("sfc: [1,\nibr: {")
    with pytest.raises(UserError, match=r"broken\.yaml: not valid YAML") as error:
        load_params(broken)
    assert "\n" not in str(error.value)
    (tmp_path / "p.yaml").write_bytes("# größer\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"p\.yaml: not UTF-8 text .*; save it as UTF-8"):
        load_params(tmp_path / "p.yaml")


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_a_file_that_is_no_mapping_is_refused(values):
    with pytest.raises(UserError, match="expected sections"):
        parse_params(values, source="mine.yaml")
