"""What a stage's annotations say: which params it is handed, and which it declares."""

from pathlib import Path
from typing import Annotated

import click
import pytest
from click.testing import CliRunner

from sfc.config import Crf, Fusion
from sfc.config_types import Section
from sfc.methods import METHODS
from stages._stage import MethodSections, Param, stage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def params(tmp_path, monkeypatch):
    """Writes params.yaml of the released settings with other text in it."""
    monkeypatch.chdir(tmp_path)

    def write(old="", new=""):
        text = (ROOT / "presets/voc12.yaml").read_text()
        assert old in text
        Path("params.yaml").write_text(text.replace(old, new))

    write()
    return write


def test_sections_values_and_options_arrive(params):
    seen = {}

    @click.argument("product")
    @stage("Do it.", reads="this", writes="that")
    @click.option("--fast", is_flag=True)
    def main(
        product: str,
        fast: bool,
        crf: Crf,
        fusion: Annotated[Fusion, Param("fusion.{method}.crf")],
        batch_size: Annotated[int, Param("train_cam.batch_size")],
    ) -> str:
        seen.update(locals())
        return "done"

    assert main.sfc_params() == ("crf", "fusion.{method}.crf", "train_cam.batch_size")
    result = CliRunner().invoke(main, ["cam", "--fast"])
    assert result.exit_code == 0, result.output
    assert (seen["product"], seen["fast"], seen["batch_size"]) == ("cam", True, 16)
    assert seen["crf"].iterations == 10
    assert seen["fusion"].weights == {"classifier": 1.0, "prototype": 0.7}
    assert result.output.startswith("done in ")
    params("method: sfc", "method: sipe")
    CliRunner().invoke(main, ["cam"])
    assert seen["fusion"].weights == {"prototype": 1.0}


def test_help_names_the_params():
    @stage("Do it.", reads="this", writes="that")
    def main(crf: Crf, fusion: Annotated[Fusion, Param("fusion.{method}.crf")]) -> str:
        return "done"

    @stage("Do nothing.", reads="this", writes="that")
    def idle() -> str:
        return "done"

    text = CliRunner().invoke(main, ["--help"]).output
    assert "Reads:  this\n  Writes: that\n  Params: crf, fusion.{method}.crf\n" in text
    assert "Params: none" in CliRunner().invoke(idle, ["--help"]).output


@pytest.mark.parametrize("method", METHODS)
def test_the_sections_of_the_method_arrive_declared_or_not(params, method):
    params("method: sfc", f"method: {method}")
    seen = []

    def main(sections: Annotated[dict[str, Section], MethodSections(declared=True)]) -> str:
        seen.append(sections)
        return "done"

    def other(sections: Annotated[dict[str, Section], MethodSections(declared=False)]) -> str:
        seen.append(sections)
        return "done"

    main, other = (stage("Do it.", reads="this", writes="that")(function) for function in (main, other))
    assert main.sfc_params() == tuple(dict.fromkeys(name for known in METHODS.values() for name in known.sections))
    assert {"base", "sipe", "sfc", "ibr", "dc", "msdw"} <= set(main.sfc_params())
    assert other.sfc_params() == ()
    for command in (main, other):
        assert CliRunner().invoke(command).exit_code == 0
    assert [{name: type(section) for name, section in sections.items()} for sections in seen] == [
        dict(METHODS[method].sections)
    ] * 2


def test_a_slip_in_params_is_one_line(params):
    params("  iterations: 10\n  gt_prob", "  iterationz: 10\n  gt_prob")

    @stage("Do it.", reads="this", writes="that")
    def main(crf: Crf) -> str:
        return "done"

    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert result.output.startswith("Error: params.yaml: ")
    assert "unknown param crf.iterationz; did you mean crf.iterations?" in result.output
    assert len(result.output.splitlines()) == 1
