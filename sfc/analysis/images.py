"""The features of whole images through a trained CAM network, added up for the analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from sfc.analysis.shared_features import FeatureSums, SharedFeatures, region_map
from sfc.calibration.network import CamNetwork
from sfc.data.images import equal_sizes, normalise, read_mask, resize_label
from sfc.data.manifest import Record, label_matrix
from sfc.data.read_ahead import read_ahead


def shared_features(
    network: CamNetwork,
    records: Sequence[Record],
    *,
    use_masks: bool,
    scale: float,
    batch_size: int,
    precision: str,
    bkg_scale: float,
    device: torch.device,
    workers: int,
    progress: Callable[..., Iterable],
) -> SharedFeatures:
    """Cosines of features, weights and prototypes over whole images at one scale.

    Args:
        network: on `device`, in evaluation mode.
        use_masks: a feature pixel belongs to the class of the mask there (nearest), which all records then have;
            else to the class whose seed it is.
        precision: "bf16" runs the trunk under autocast; what follows is float32 and float64.
        workers: see `read_ahead`.

    Raises:
        UserError: an image or mask does not decode, or an image has not the size the manifest says.
    """
    sums = FeatureSums(network.classifier.weight.detach().flatten(1), bkg_scale=bkg_scale)
    batches = equal_sizes(records, batch_size)
    read = read_ahead(batches, [scale], device=device, workers=workers)
    for members, (images,) in progress(read, total=len(batches), label="features"):
        labels = torch.from_numpy(label_matrix(members, network.classifier.out_channels)).to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            trunk = network.backbone
            on_device = images.to(device, non_blocking=True)
            feature = trunk(normalise(on_device, None, mean=trunk.mean, std=trunk.std))[-1].float()
        seeds = sums.seeds(feature, labels)
        sums.add(feature, seeds, _true_regions(members, seeds) if use_masks else seeds)
    return sums.result()


def _true_regions(records: Sequence[Record], like: Tensor) -> Tensor:
    classes, height, width = like.shape[1:]
    masks = [torch.from_numpy(resize_label(read_mask(record.mask), height, width).copy()) for record in records]
    return torch.stack([region_map(mask.to(like.device), classes) for mask in masks])
