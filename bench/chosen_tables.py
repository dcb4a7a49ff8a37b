"""What `bench.chosen` has counted, as tables: of single networks, and of methods side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from bench.background_rules import Rule
from sfc.data.manifest import read_manifest
from sfc.evaluation.bootstrap import Bootstrap
from sfc.evaluation.class_sets import resolve_sets
from sfc.evaluation.confusion import mean_iou
from sfc.methods import METHODS
from sfc.params import load_params

FIXED = ("nothing added", "released", "constant background")
SET = "few"  # the class set that has columns of its own, where a run has it


@dataclass(frozen=True)
class Network:
    """One network's counts.

    Attributes:
        pair: networks that have it in common differ by their method alone.
        few: label-map values of the classes in the set "few".
        counts: "val" and "train" -> (rows, images, 3, K).
    """

    run: str
    method: str
    pair: tuple
    step: int
    images: dict[str, int]
    rows: list[dict[str, Any]]
    counts: dict[str, np.ndarray]
    few: list[int]
    bootstrap: Bootstrap

    @property
    def main(self) -> list[int]:
        """Rows of the chosen readings of the map that stands for the method."""
        fused = METHODS[self.method].network.fused
        name = fused[0] if len(fused) == 1 else "sum"
        return [n for n, row in enumerate(self.rows) if row["name"].split(",")[0] == name]


def counts_path(network: Path) -> Path:
    """Where the counts of a run's networks/STEP.safetensors are kept."""
    return network.parents[1] / f"chosen/{network.stem}.npz"


def tables(runs: Sequence[Path]) -> str:
    """Markdown of all networks that were counted in folders of runs."""
    networks = [_network(run, path) for run in runs for path in sorted((run / "chosen").glob("*.npz"))]
    if not networks:
        return "No network has been measured yet."
    return "\n\n".join([_chosen(networks), _differences(networks), _by_fixed_rules(networks)])


def _network(run: Path, path: Path) -> Network:
    params = load_params(run / "params.yaml")
    classes = read_manifest(run / "out/manifest.csv", run / "out/classes.json").classes
    with np.load(path) as found:
        facts = json.loads(str(found["facts"]))
        counts = {part: found[part] for part in ("val", "train")}
    return Network(
        run=run.name,
        method=params.get("train_cam.method"),
        pair=(params.get("train_cam.random_seed"), params.get("train_cam.epochs"), facts["step"]),
        counts=counts,
        few=resolve_sets(params.get("evaluate").class_sets, classes).get(SET, []),
        bootstrap=Bootstrap(**params.get("evaluate").bootstrap.model_dump()),
        **facts,
    )


def _chosen(networks: Sequence[Network]) -> str:
    """A row for each reading that was chosen."""
    header = ("run", "step", "map", "chosen", "the choice", "val", "few", "other training images", "few")
    rows = []
    for network in networks:
        for number, row in enumerate(network.rows):
            if row["name"] in FIXED:
                continue
            products = row["map"]["products"]
            read = f"{('no product', '1 product', '2 products')[products]}, " if _correlated(network) else ""
            rows.append(
                (
                    network.run,
                    f"{network.step:,}",
                    row["name"],
                    f"{read}{Rule(**row['rule'])}",
                    f"{row['miou']:.1f}",
                    *(cell for part in ("val", "train") for cell in _figures(network, part, number)),
                )
            )
    said = ", ".join(f"{part} {count:,}" for part, count in networks[0].images.items())
    return f"mIoU in percent, with its interval over images; images: {said}.\n\n{_markdown(header, rows)}"


def _correlated(network: Network) -> bool:
    return METHODS[network.method].network.correlated


def _figures(network: Network, part: str, number: int) -> tuple[str, str]:
    counts = network.counts[part][number]
    low, high = _limits(mean_iou(_resampled(network, counts)), network)
    return f"{100 * mean_iou(counts.sum(0)):.1f} [{low:.1f}, {high:.1f}]", _few(network, counts.sum(0))


def _few(network: Network, counts: np.ndarray) -> str:
    miou = mean_iou(counts[..., network.few])
    return "-" if np.isnan(miou) else f"{100 * miou:.1f}"


def _resampled(network: Network, counts: np.ndarray) -> np.ndarray:
    """(R, 3, K) sums of (images, 3, K); the same draws for every map of the same images."""
    return network.bootstrap.resampled(dict(enumerate(counts)))


def _limits(values: np.ndarray, network: Network) -> tuple[float, float]:
    level = network.bootstrap.level
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return 100 * low, 100 * high


def _differences(networks: Sequence[Network]) -> str:
    """Methods that were trained alike, by the maps that stand for them, on the same resamples of the images."""
    header = ("step", "", "val", "few", "other training images", "few")
    rows = []
    for one, other in combinations(networks, 2):
        if one.pair == other.pair and one.method != other.method:
            one, other = sorted((one, other), key=lambda n: list(METHODS).index(n.method), reverse=True)
            for first in one.main:
                for second in other.main:
                    rows.append(_difference(one, first, other, second))
    return f"Differences in points.\n\n{_markdown(header, rows)}"


def _difference(one: Network, first: int, other: Network, second: int) -> tuple[str, ...]:
    cells = []
    for part in ("val", "train"):
        pair = one.counts[part][first], other.counts[part][second]
        for classes in (slice(None), one.few):
            cells.append(_gap(one, *pair, classes))
    names = [f"{network.run} {network.rows[number]['name']}" for network, number in ((one, first), (other, second))]
    return (f"{one.step:,}", " - ".join(names), *cells)


def _gap(network: Network, one: np.ndarray, other: np.ndarray, classes: slice | list[int]) -> str:
    gap = 100 * (mean_iou(one.sum(0)[..., classes]) - mean_iou(other.sum(0)[..., classes]))
    if np.isnan(gap):  # none of the classes occurs
        return "-"
    resampled = [mean_iou(_resampled(network, counts)[..., classes]) for counts in (one, other)]
    low, high = _limits(resampled[0] - resampled[1], network)
    return f"{gap:+.1f} [{low:.1f}, {high:.1f}]"


def _by_fixed_rules(networks: Sequence[Network]) -> str:
    """The same networks by rules that are not chosen for a map, on val; "few" in brackets."""
    header = ("run", "step", "map", "products", "seeds", *FIXED)
    rows = []
    for network in networks:
        cells: dict[tuple, list[str]] = {}
        for number, row in enumerate(network.rows):
            if row["name"] in FIXED:
                counts = network.counts["val"][number].sum(0)
                cells.setdefault(tuple(row["map"].values()), []).append(
                    f"{100 * mean_iou(counts):.1f} ({_few(network, counts)})"
                )
        rows += [(network.run, f"{network.step:,}", *map(str, each), *found) for each, found in cells.items()]
    return f"By fixed rules, val; the constant background is of the choice.\n\n{_markdown(header, rows)}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["--"] * len(header), *rows))
