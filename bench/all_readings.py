"""The maps of one CAM network in every reading, with one forward pass for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfc.calibration.network import CamNetwork
from sfc.config import Cam
from sfc.data.manifest import Record
from sfc.data.pool import threaded_map
from sfc.fusion import normalise_scales, weighted_sum
from sfc.localization.multiscale import infer_cams, ready
from stages._stage import device, progress, workers


@dataclass(frozen=True)
class Map:
    """One map of a network.

    Attributes:
        name: a kind, or "sum" of those that stand for the method.
        products: with the pixel correlation, of the classifier's map.
        seeds: of the map that prototypes take their seeds from.
    """

    name: str
    products: int
    seeds: int


class Reader:
    """Reads whole images: one scale, no flip, absent classes masked.

    Args:
        network: is not to be used otherwise any more.
        cam: batch size and precision.
        weights: of the kinds in `network.fused`.

    Attributes:
        maps: all that a network has. Its sum comes with seeds from the map as measured, and from before the
            correlation.
    """

    def __init__(self, network: CamNetwork, cam: Cam, weights: Mapping[str, float]):
        self._network = ready(network, pcm_iters=None, seed_pcm_iters=None, precision=cam.precision)
        self._cam, self._kinds = cam, network.kinds
        self._rows = [network.kinds.index(kind) for kind in network.fused]
        self._weights = [weights[kind] for kind in network.fused]
        alike = [(0, 0), (1, 1), (2, 2)] if network.correlated else [(0, 0)]
        apart = [(1, 0), (2, 0)] if network.correlated and "prototype" in network.kinds else []
        self._products = [*alike, *apart]
        sums = [Map("sum", *products) for products in self._products] if len(network.fused) > 1 else []
        self.maps = [*(Map(kind, *products) for kind in network.kinds for products in alike), *sums]

    def each(self, records: Sequence[Record], label: str, count: Callable[[Record, dict[Map, Tensor]], None]) -> None:
        """Call `count`, from several threads, with each record and its maps.

        A map is (1 + present classes, H, W) float32 in 0..1, background first; a sum is divided by its weights' sum.
        """
        by_id, threads = {record.id: record for record in records}, workers()
        cams = infer_cams(
            _AllReadings(self._network, self._products),
            [records],
            num_classes=self._network.classifier.out_channels,
            scales=[1.0],
            flip=False,
            mask_absent=True,
            batch_size=self._cam.batch_size,
            precision=self._cam.precision,
            device=device(),
            workers=threads,
        )

        def counted(found: tuple[str, list[np.ndarray]]) -> None:
            if threads:
                torch.set_num_threads(1)  # of this thread alone, beside which others count and the network runs
            id, raw = found
            count(by_id[id], self._fused(by_id[id], raw))

        for _ in progress(threaded_map(counted, cams, workers=threads), total=len(records), label=label):
            pass

    def _fused(self, record: Record, raw: Sequence[np.ndarray]) -> dict[Map, Tensor]:
        normalised = normalise_scales(raw, (record.height, record.width)).unflatten(0, (len(self._products), -1))
        found = {}
        for each in self.maps:
            kinds = normalised[self._products.index((each.products, each.seeds))]
            if each.name == "sum":
                found[each] = weighted_sum(kinds[self._rows], self._weights) / sum(self._weights)
            else:
                found[each] = kinds[self._kinds.index(each.name)]
        return found


class _AllReadings:
    """A network whose `infer` gives the CAMs of several readings, one after another."""

    def __init__(self, network: CamNetwork, products: Sequence[tuple[int, int]]):
        self.backbone = network.backbone
        self._network, self._products = network, products

    def infer(self, images: Tensor, labels: Tensor, *, flip: bool, mask_absent: bool) -> Tensor:
        """(B, readings x kinds, 1 + C, h, w) float32."""
        network, found = self._network, []
        maps = network.whole(images, flip=flip)
        for network.pcm_iters, network.seed_pcm_iters in self._products:
            found.append(network.read(maps, labels, mask_absent=mask_absent))
        return torch.cat(found, dim=1)
