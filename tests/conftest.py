"""Options and fixtures of all tests."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.forked import Forker

ROOT = Path(__file__).resolve().parents[1]
# the longest come first, so that no process is left alone with them; of those that share a project one, that makes it
FIRST = [
    f"tests/{name}"
    for name in (
        "pipeline/test_stages", "pipeline/paper_tables/", "pipeline/test_reruns", "stages/test_on_gpu",
        "deployment/test_export", "pipeline/",
    )
]  # fmt: skip

torch.set_num_threads(min(2, torch.get_num_threads()))  # on tiny tensors more threads only wait for one another


def pytest_addoption(parser):
    parser.addoption(
        "--golden",
        default=str(ROOT.parent / "shared" / "golden"),
        help="folder with the inputs and outputs of the public implementations (*.npz)",
    )
    parser.addoption(
        "--photographs",
        default=str(ROOT.parent / "shared" / "real" / "VOC2012" / "JPEGImages"),
        help="folder with photographs (*.jpg), as those of PASCAL VOC",
    )
    parser.addoption("--kills", type=int, default=20, help="how often tests/pipeline/test_kills.py kills a stage")
    parser.addoption("--damages", type=int, default=60, help="how many damages tests/pipeline/test_damage.py does")
    parser.addoption("--attack-seed", type=int, default=0, help="which kills and damages, and when")


def pytest_collection_modifyitems(items):
    """The longest tests first; those marked gpu are skipped where torch sees no GPU."""
    items.sort(key=lambda item: next((i for i, name in enumerate(FIRST) if item.nodeid.startswith(name)), len(FIRST)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="torch sees no GPU here"))


@pytest.fixture
def golden(request):
    """Load golden arrays by file name: `golden("sipe")` is a mapping of name to array."""
    folder = Path(request.config.getoption("--golden"))

    def load(name: str):
        if not folder.is_dir():
            pytest.skip(f"no golden arrays in {folder}; name their folder with --golden")
        return np.load(folder / f"{name}.npz", allow_pickle=False)

    return load


@pytest.fixture(scope="session")
def photographs(request):
    """The photographs at hand, by name."""
    folder = Path(request.config.getoption("--photographs"))
    return sorted(folder.glob("*.jpg")) or pytest.skip(f"no photographs in {folder}; name their folder: --photographs")


@pytest.fixture(scope="session")
def forker():
    """Starts stages in processes of their own, in no time."""
    with Forker() as forker:
        yield forker
