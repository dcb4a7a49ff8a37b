"""Fully connected CRF (Krähenbühl and Koltun 2011) by pydensecrf: labels refined, confident labels, probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfc.data.images import IGNORE
from sfc.errors import UserError

MIN_PROBABILITY = 1e-5  # energies are logarithms; the public implementations clip here
LEAST_PEAK = 0.01  # see crf_probabilities


class DenseCrf:
    """Mean-field inference over one image.

    The pairwise terms are built once. They cost as much as several iterations, and inference starts afresh from each
    unary, so one object serves several unaries with the results of as many objects, bit for bit.

    Args:
        image: (H, W, 3) uint8 RGB.
        num_labels: K, at least 2.
        gaussian_sxy, gaussian_compat: width in pixels and weight of the smoothness kernel.
        bilateral_sxy, bilateral_srgb, bilateral_compat: widths in pixels and in colour, and weight, of the
            appearance kernel. Widths are 0.1 or more: of far narrower ones pydensecrf crashes.

    Raises:
        UserError: pydensecrf is not installed.
    """

    def __init__(
        self,
        image: np.ndarray,
        num_labels: int,
        *,
        gaussian_sxy: float,
        gaussian_compat: float,
        bilateral_sxy: float,
        bilateral_srgb: float,
        bilateral_compat: float,
    ):
        height, width = image.shape[:2]
        self._shape = (num_labels, height, width)
        self._crf = _pydensecrf().DenseCRF2D(width, height, num_labels)
        self._crf.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
        writable = np.array(image, order="C")  # pydensecrf refuses read-only arrays, such as decoded images
        self._crf.addPairwiseBilateral(sxy=bilateral_sxy, srgb=bilateral_srgb, rgbim=writable, compat=bilateral_compat)

    def infer(self, energy: np.ndarray, iterations: int) -> np.ndarray:
        """Marginal probabilities (K, H, W) float32 for a unary energy (K, H, W), the negative log-probability."""
        self._crf.setUnaryEnergy(np.array(energy.reshape(len(energy), -1), dtype=np.float32, order="C"))
        return np.array(self._crf.inference(iterations), dtype=np.float32).reshape(self._shape)


def _pydensecrf():
    # Imported here because it must be compiled on most machines and only CRFs need it.
    try:
        from pydensecrf import densecrf
    except ImportError:
        raise UserError(
            "the dense CRF needs pydensecrf, which is not installed: pip install pydensecrf2 (needs a C++ compiler)"
        ) from None
    return densecrf


def label_energy(labels: np.ndarray, num_labels: int, gt_prob: float) -> np.ndarray:
    """Energy of hard labels: (H, W) int in 0..K-1, each right with probability `gt_prob` -> (K, H, W) float32."""
    right, wrong = -np.log(gt_prob), -np.log((1 - gt_prob) / (num_labels - 1))
    chosen = labels == np.arange(num_labels)[:, None, None]
    return np.where(chosen, right, wrong).astype(np.float32)


def probability_energy(probabilities: np.ndarray) -> np.ndarray:
    """Energy of probabilities: (K, H, W) in 0..1 -> (K, H, W) float32."""
    return -np.log(np.clip(probabilities, MIN_PROBABILITY, 1)).astype(np.float32)


def refine_cams(
    image: np.ndarray,
    cams: np.ndarray,
    keys: Sequence[int],
    *,
    mode: str,
    iterations: int,
    gt_prob: float,
    confident_bg_scale: float,
    **pairwise: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of fused CAMs refined by the CRF, and the confident labels that IRN's network learns from.

    Two CRFs run on hard labels: on the argmax, and on the argmax after the background is multiplied by
    `confident_bg_scale`. A pixel is confidently of a class where the first says so, confidently background where both
    say background, else unsure (IRN (Ahn 2019); the halved background is that of the public implementation).

    Args:
        image: (H, W, 3) uint8 RGB.
        cams: (K', H, W) float, >= 0, background first, from `fusion.fuse`. An image without classes
            (K' = 1) is background and needs no CRF.
        keys: label-map value of each channel.
        mode: how the refined labels are made: "label" takes the first CRF above, "prob" one whose unary is the CAMs
            divided by their sum over the channels. The confident labels are the same in both.
        gt_prob: probability that a hard label is right.
        pairwise: the keyword arguments of `DenseCrf`.

    Returns:
        refined and confident labels, both (H, W) uint8 of values in `keys`; the latter also 255, unsure.
    """
    channels = len(cams)
    if channels == 1:
        background = np.full(cams.shape[1:], keys[0], dtype=np.uint8)
        return background, background.copy()
    crf = DenseCrf(image, channels, **pairwise)

    def refine(energy: np.ndarray) -> np.ndarray:
        return crf.infer(energy, iterations).argmax(axis=0)

    foreground = refine(label_energy(cams.argmax(axis=0), channels, gt_prob))
    eager = np.concatenate([cams[:1] * confident_bg_scale, cams[1:]])
    background = refine(label_energy(eager.argmax(axis=0), channels, gt_prob))
    values = np.asarray(keys, dtype=np.uint8)
    confident = np.where((foreground == 0) & (background != 0), np.uint8(IGNORE), values[foreground])
    if mode == "prob":
        foreground = refine(probability_energy(cams / (cams.sum(axis=0) + MIN_PROBABILITY)))
    return values[foreground], confident


def crf_probabilities(
    image: np.ndarray, probabilities: np.ndarray, *, iterations: int, **pairwise: float
) -> np.ndarray:
    """Sharpen a prediction along the edges of its image.

    The cost is linear in the classes, so classes that stay below 1 % in every pixel are left out and come back as 0.
    This is not exact: on simulated 21-class predictions it changed the label of under one pixel in 100,000.

    Args:
        image: (H, W, 3) uint8 RGB.
        probabilities: (K, H, W) float32, a softmax.
        pairwise: the keyword arguments of `DenseCrf`.

    Returns:
        (K, H, W) float32 marginals. Where no second class is left in, `probabilities` themselves.
    """
    kept = probabilities.max(axis=(1, 2)) >= LEAST_PEAK
    kept[np.unique(probabilities.argmax(axis=0))] = True  # with many classes the most probable may lie below 1 %
    if kept.sum() == 1:
        return probabilities
    crf = DenseCrf(image, int(kept.sum()), **pairwise)
    refined = np.zeros_like(probabilities)
    refined[kept] = crf.infer(probability_energy(probabilities[kept]), iterations)
    return refined
