"""What `bench.chosen` has counted, as tables: of single networks, and of methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from bench import markdown
from bench.background_rules import NOTHING, RELEASED, Rule
from bench.chosen_counts import PARTS, Counts
from sfc.evaluation.bootstrap import Bootstrap
from sfc.evaluation.class_sets import resolve_sets
from sfc.evaluation.confusion import mean_iou
from sfc.methods import METHODS
from sfc.params import load_params

CONSTANT = "constant background"  # the best one of the choice
FIXED = (str(NOTHING), str(RELEASED), CONSTANT)
SET = "few"  # the class set that has columns of its own, where a run has it


@dataclass(frozen=True)
class Network:
    """One network's counts.

    Attributes:
        alike: equal for networks that may be compared: step, images, classes, and the section train_cam but the method.
        few: label-map values of the classes in the set "few".
        counts: "val" and "train" -> (rows, images, 3, K).
    """

    run: str
    method: str
    alike: dict[str, Any]
    rows: list[dict[str, Any]]
    counts: dict[str, np.ndarray]
    few: list[int]
    bootstrap: Bootstrap

    @property
    def step(self) -> int:
        return self.alike["step"]

    @property
    def main(self) -> list[int]:
        """Rows of the chosen readings of the map that stands for the method."""
        fused = METHODS[self.method].network.fused
        name = fused[0] if len(fused) == 1 else "sum"
        return [n for n, row in enumerate(self.rows) if row["name"].split(",")[0] == name]

    def compares(self, other: Network) -> bool:
        """Whether the two differ by method, or by the params of theirs, alone, and are resampled alike."""
        return (self.alike, self.few, self.bootstrap) == (other.alike, other.few, other.bootstrap)


def tables(networks: Sequence[Path]) -> str:
    """Markdown of those networks, RUN/networks/STEP.safetensors, that `bench.chosen` has counted."""
    found = [_network(path) for path in networks if Counts(path).complete()]
    if not found:
        return "No network has been measured yet."
    return "\n\n".join([_chosen(found), _differences(found), _by_fixed_rules(found)])


def _network(path: Path) -> Network:
    params, found = load_params(path.parents[1] / "params.yaml").get("evaluate"), Counts(path)
    facts = found.facts()
    return Network(
        run=path.parents[1].name,
        method=facts["method"],
        alike=facts["alike"],
        rows=facts["rows"],
        counts={part: found.read(part) for part in PARTS},
        few=resolve_sets(params.class_sets, facts["alike"]["classes"]).get(SET, []),
        bootstrap=Bootstrap(**params.bootstrap.model_dump()),
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
    images = [", ".join(f"{part} {len(ids):,}" for part, ids in n.alike["ids"].items()) for n in networks]
    said = "; ".join(dict.fromkeys(images))
    return f"mIoU in percent, with its interval over images; images: {said}.\n\n{markdown.table(header, rows)}"


def _correlated(network: Network) -> bool:
    return METHODS[network.method].network.correlated


def _figures(network: Network, part: str, number: int) -> tuple[str, str]:
    counts = network.counts[part][number]
    limits = _limits(mean_iou(_resampled(network, counts)), network)
    return f"{100 * mean_iou(counts.sum(0)):.1f}{limits}", _few(network, counts.sum(0))


def _few(network: Network, counts: np.ndarray) -> str:
    miou = mean_iou(counts[..., network.few])
    return "-" if np.isnan(miou) else f"{100 * miou:.1f}"


def _resampled(network: Network, counts: np.ndarray) -> np.ndarray:
    """(R, 3, K) sums of (images, 3, K); the same draws for every map of the same images."""
    return network.bootstrap.resampled(dict(enumerate(counts)))


def _limits(values: np.ndarray, network: Network) -> str:
    """The interval of resampled values in 0..1, in percent; "" without any."""
    known, level = values[~np.isnan(values)], network.bootstrap.level
    if not known.size:
        return ""
    low, high = 100 * np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return f" [{low:.1f}, {high:.1f}]"


def _differences(networks: Sequence[Network]) -> str:
    """Networks that were trained alike, by the maps that stand for their methods, on the same resamples of images."""
    header = ("step", "", "val", "few", "other training images", "few")
    order = sorted(networks, key=lambda network: list(METHODS).index(network.method), reverse=True)
    pairs = [pair for pair in combinations(order, 2) if pair[0].compares(pair[1])]
    rows = [
        _difference(one, first, other, second) for one, other in pairs for first in one.main for second in other.main
    ]
    return f"Differences in points.\n\n{markdown.table(header, rows)}"


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
    return f"{gap:+.1f}{_limits(resampled[0] - resampled[1], network)}"


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
    return f"By fixed rules, val; the constant background is of the choice.\n\n{markdown.table(header, rows)}"
