"""The loss of IRN's network on all pixel pairs of a batch, one offset at a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sfc.data.images import IGNORE
from sfc.errors import UserError
from sfc.irn.pair_paths import FlatPath, flat_paths, path_maxima
from sfc.training.distributed import global_mean

EPS = 1e-5  # inside the logarithm, public implementation
_CHUNK_PIXELS = 1 << 18  # worked on at once; at radius 10 each takes 1.2 kB


class PairLabels:
    """Which pairs should be alike, from label maps.

    Sources are the pixels whose every partner is inside the map: all but the last `radius` - 1 rows and the first
    and last `radius` - 1 columns. Arrays are flat and cut to the pixels from the first source to the last.

    Args:
        labels: (B, H, W) uint8; 0 is background, 255 is in no pair.

    Raises:
        UserError: the maps are too small for any source.
    """

    def __init__(self, labels: Tensor, radius: int):
        height, width = labels.shape[1:]
        margin = radius - 1
        if height <= margin or width <= 2 * margin:
            raise UserError(
                f"irn.crop: its label map of {height}x{width} (a quarter of the crop) holds no pair at irn.radius "
                f"{radius}; take a crop above {8 * margin} or a smaller radius"
            )
        self.start, self.stop = margin, (height - margin) * width - margin
        self._labels = labels.flatten(1)
        self._labelled = self._labels != IGNORE
        sources = torch.full_like(labels, IGNORE)
        inner = (slice(None), slice(0, height - margin), slice(margin, width - margin))
        sources[inner] = labels[inner]
        self._source = sources.flatten(1)[:, self.start : self.stop]
        self._is_source = self._source != IGNORE
        self.background = self._source == 0  # (B, N) bool
        self.foreground = self._is_source & ~self.background

    def pairs(self, shift: int) -> tuple[Tensor, Tensor]:
        """(B, N) bool twice: pairs with the pixel at `shift` of equal labels, and of different labels."""
        partner = slice(self.start + shift, self.stop + shift)
        same = self._labels[:, partner] == self._source
        different = self._labelled[:, partner] & self._is_source & ~same
        return same & self._is_source, different

    def counts(self, paths: tuple[FlatPath, ...]) -> Tensor:
        """(3,) float32: background pairs, foreground pairs of one class, pairs of different labels."""
        same = torch.zeros_like(self._source, dtype=torch.int32)
        different = torch.zeros_like(same)
        for path in paths:
            alike, unlike = self.pairs(path.shift)
            same += alike
            different += unlike
        return torch.stack([(same * self.background).sum(), (same * self.foreground).sum(), different.sum()]).float()


class PairLoss(NamedTuple):
    """`loss` = (`positive` + `negative`) / 2; the gradient goes through `loss` alone."""

    loss: Tensor
    positive: Tensor
    negative: Tensor


def pair_loss(edge: Tensor, labels: Tensor, radius: int) -> PairLoss:
    """Pull the affinities of equal labels to 1 and of different labels to 0 (IRN, Ahn et al., 2019, Eq. 5 to 8).

    positive is the average of two means of -log(affinity + 1e-5), over background pairs and over pairs of one
    foreground class; negative the mean of -log(1 + 1e-5 - affinity) over pairs of different labels. Each mean is
    over the global batch, 0 where there is no such pair.

    Args:
        edge: (B, H, W) float in 0..1.
        labels: (B, H, W) uint8; 0 is background, 255 is in no pair.
        radius: partners are closer than this.

    Returns:
        Scalars whose average over the processes is the value on the global batch.

    Raises:
        UserError: the maps are too small for the radius.
    """
    return PairLoss(*_PairLoss.apply(edge, labels, radius))


class _PairLoss(torch.autograd.Function):
    """Loss and gradient in one pass: autograd would keep every path maximum of the batch."""

    @staticmethod
    def forward(ctx, edge: Tensor, labels: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        paths = flat_paths(radius, edge.shape[2])
        images = max(1, _CHUNK_PIXELS // edge[0].numel())
        chunks = [PairLabels(part, radius) for part in labels.split(images)]
        counts = sum(chunk.counts(paths) for chunk in chunks)
        background, foreground, different = global_mean(edge.new_tensor([0.5, 0.5, 1.0]), counts)
        gradient = torch.zeros_like(edge)
        sums = edge.new_zeros(2)
        for chunk, maps, out in zip(chunks, edge.split(images), gradient.split(images), strict=True):
            alike = background * chunk.background + foreground * chunk.foreground
            sums += _chunk_loss(maps.flatten(1), chunk, paths, alike, different, out.flatten(1))
        ctx.save_for_backward(gradient)
        positive, negative = sums
        ctx.mark_non_differentiable(positive, negative)
        return sums.mean(), positive, negative

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss: Tensor, *_) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_loss, None, None


def _chunk_loss(
    edge: Tensor, labels: PairLabels, paths: tuple[FlatPath, ...], alike: Tensor, different: Tensor, gradient: Tensor
) -> Tensor:
    """(2,) weighted sums over the pairs of equal and of different labels; d(their mean) / d(edge) into `gradient`.

    Args:
        edge, gradient: (B, N) flat maps.
        alike: weight of a pair of equal labels by its source; `different`: of a pair of different labels.
    """
    maxima = path_maxima(edge, paths)
    gradients = [gradient, *(torch.zeros_like(edge) for _ in paths)]
    logs = edge.new_zeros(2, *alike.shape)
    span = slice(labels.start, labels.stop)
    for path, maximum, grad in zip(paths, maxima[1:], gradients[1:], strict=True):
        same, other = (mask.to(edge.dtype) for mask in labels.pairs(path.shift))
        wanted = (same - maximum[:, span]).abs_().add_(EPS)  # affinity if alike, 1 - affinity if not
        log = wanted.log()
        logs[0].addcmul_(log, same)
        logs[1].addcmul_(log, other)
        torch.div((same * alike).addcmul_(other, different, value=-1), wanted.mul_(2), out=grad[:, span])
    _to_edge(maxima, gradients, paths)
    return torch.stack([-(logs[0] * alike).sum(), -logs[1].sum() * different])


def _to_edge(maxima: list[Tensor], gradients: list[Tensor], paths: tuple[FlatPath, ...]) -> None:
    """Hand the gradient of each path's maximum down to the part that holds it, longest paths first."""
    for index in range(len(paths), 0, -1):
        path = paths[index - 1]
        inside = slice(*path.span(maxima[0].shape[1]))
        left, maximum = gradients[index][:, inside], maxima[index][:, inside]
        *parts, last = zip(path.views(maxima), path.views(gradients), strict=True)
        for values, grad in parts:
            share = left * (values == maximum)
            grad += share
            left = left - share
        last[1].add_(left)
