"""Segmentation by an exported model (ONNX). onnxruntime is an optional dependency, imported only where one is run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfc.data.manifest import Record
from sfc.data.read_ahead import Broken, read_ahead
from sfc.errors import UserError
from sfc.model_file import KEY, SEGMENTATION, ModelFacts

INPUT, LOGITS, LABELS = "images", "logits", "labels"  # names in the graph
SETTINGS = "sfc.settings"  # metadata: scales, merge, flip


class ExportedModel:
    """An ONNX file by `sfc.deployment.export.write_onnx`, ready to run.

    Attributes:
        facts: of the model that was exported.
        scales, merge, flip: at which the graph looks at images.

    Args:
        device: a GPU is used where this onnxruntime can.

    Raises:
        UserError: onnxruntime is not installed, there is no such file, or it is another's.
    """

    def __init__(self, path: Path | str, device: torch.device):
        self.path = path
        self._session = _session(path, device)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if KEY not in metadata or SETTINGS not in metadata:
            raise UserError(f"{path}: not what python -m stages.export writes; export the model again")
        self.facts = ModelFacts.from_metadata(metadata, path, task=SEGMENTATION)
        try:
            settings = json.loads(metadata[SETTINGS])
            self.scales: tuple[float, ...] = tuple(map(float, settings["scales"]))
            self.merge, self.flip = str(settings["merge"]), bool(settings["flip"])
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise UserError(f"{path}: {SETTINGS} in it is damaged; export the model again") from None

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB to (B, K, H, W) float32."""
        (logits,) = self._session.run([LOGITS], {INPUT: images})
        return logits

    def rows(self, records: Sequence[Record], *, workers: int, broken: Broken) -> Iterator[tuple[Record, Tensor]]:
        """Each image's record and logits (K, H, W) float32, for `sfc.segmentation.inference.labels_of`.

        Args:
            workers: see `read_ahead`.
            broken: called for each image that cannot be read or run, and is left out.
        """
        alone = [[record] for record in records]  # a graph gives logits of full size: a batch would need much memory
        for (record,), (images,) in read_ahead(
            alone, [1.0], device=torch.device("cpu"), workers=workers, broken=broken
        ):
            try:
                logits = self.logits(images.permute(0, 2, 3, 1).numpy())
            except Exception as error:  # onnxruntime's own classes, of which memory is one
                reason = str(error).splitlines()[0]
                size = f"{record.height} x {record.width} pixels"
                broken(record, UserError(f"{record.image}: {self.path} cannot be run on {size} ({reason})"))
                continue
            yield record, torch.from_numpy(logits[0])


def _session(path: Path | str, device: torch.device):
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"{path} needs the package onnxruntime, in this project's extra export; pip install '.[export]' installs it"
        ) from None
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; write it by python -m stages.export")
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    known = [name for name in wanted if name in onnxruntime.get_available_providers()]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: warnings are about nodes it has put on the CPU itself
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[*known, "CPUExecutionProvider"])
    except Exception as error:  # its own classes, by what is wrong with the file
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: onnxruntime cannot load it ({reason}); export the model again") from None
