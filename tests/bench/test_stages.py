"""Stages end to end on a few images of toy size: the table has them all, and its shares are of the whole."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench import stages


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_all_stages(photographs, monkeypatch):
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    done = CliRunner().invoke(
        stages.main,
        [str(photographs), "--images", "3", "--scale", "tiny", "--precision", "fp32"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("| ")]
    header, _, *table = rows
    assert "3 photographs" in done.stdout
    assert [row[0] for row in table] == ["infer_cam", "crf", "pseudo_labels", "predict"]
    for row in table:
        shares = {name: float(cell) for name, cell in zip(header[3:], row[3:], strict=True) if cell}
        assert sum(shares.values()) == pytest.approx(100, abs=5)  # rounded one by one
        assert all(share >= 0 for share in shares.values())
        assert float(row[2]) > 0
    used = {row[0]: {name for name, cell in zip(header[3:], row[3:], strict=True) if cell} for row in table}
    assert used["infer_cam"] >= {"decoding", "network", "writing"}
    assert used["crf"] >= {"decoding", "CRF", "maps", "writing"}
    assert used["pseudo_labels"] >= {"decoding", "network", "walk", "maps", "writing"}
    assert used["predict"] >= {"decoding", "network", "CRF", "writing"}


def test_what_is_no_folder():
    done = CliRunner().invoke(stages.main, ["/dev/null"])
    assert (done.exit_code, done.output) == (1, "Error: /dev/null: Not a directory\n")


def test_an_image_that_is_none(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    done = CliRunner().invoke(stages.main, [str(tmp_path), "--scale", "tiny", "--precision", "fp32"])
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith(f"Error: {tmp_path / 'a.jpg'}: does not decode")


def test_a_folder_without_images(tmp_path):
    done = CliRunner().invoke(stages.main, [str(tmp_path)])
    assert done.exit_code == 1
    assert "no image in this folder" in done.output
