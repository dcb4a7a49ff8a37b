"""A segmentation model as one file for other runtimes: photographs of any size in, logits and label maps out."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.backbone import fold_batch_norm
from sfc.deployment.exported import INPUT, LABELS, LOGITS, SETTINGS
from sfc.errors import UserError
from sfc.model_file import KEY, ModelFacts
from sfc.segmentation.inference import image_logits
from sfc.segmentation.pyramid import ratio_of, resized
from sfc.segmentation.segmenter import Segmenter

_EXAMPLE = (2, 512, 384, 3)  # no size of it stays in the graph


class WholeImages(nn.Module):
    """What the stage predict does with an image, short of the dense CRF.

    Args:
        network: in evaluation mode.
        scales, merge, flip: see `sfc.segmentation.inference.image_logits`.
    """

    def __init__(self, network: Segmenter, *, scales: Sequence[float], merge: str, flip: bool):
        super().__init__()
        self.network = network
        self._test = {"scales": tuple(scales), "merge": merge, "flip": flip}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, 3) uint8 RGB to logits (B, K, H, W) float32 and labels (B, H, W) uint8 at the images' size."""
        size = images.shape[1:3]
        seen = images.permute(0, 3, 1, 2)
        if self.network.image_scale != 1:
            seen = as_pillow_resizes(seen, self.network.image_scale)
        logits = resized(image_logits(self.network, seen, **self._test), size, align_corners=self.network.align_corners)
        return logits, logits.argmax(1).to(torch.uint8)


def as_pillow_resizes(images: Tensor, scale: float) -> Tensor:
    """(B, 3, H, W) uint8 to float32 of whole numbers, resized as `sfc.data.images.resize_image` by `scale`.

    Pillow's bicubic filter takes rows and columns one after the other and rounds in between; its weights are whole
    numbers, which leaves a few values in 100 apart by 1 or 2.
    """
    height, width = images.shape[2:]
    across = _bicubic(images.float(), (height, rounded_side(width, scale)))
    return _bicubic(across, (rounded_side(height, scale), across.shape[3]))


def _bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False).round().clamp(0, 255)


def rounded_side(side: int, scale: float) -> int:
    """`side`, which may be a symbol, as `sfc.data.images.scaled_size`: times `scale`, halves to even, at least 1."""
    ratio = ratio_of(scale)
    n, d = ratio.numerator, ratio.denominator
    whole = side * n // d
    up = (2 * (side * n - whole * d) + whole % 2 + d - 1) // (2 * d)  # 1 where the rest is over a half, or the odd's
    return torch.sym_max(1, whole + up)


def exported(network: Segmenter, *, scales: Sequence[float], merge: str, flip: bool) -> torch.export.ExportedProgram:
    """The graph of `WholeImages` for any number of images and any size.

    Args:
        network: on the CPU in evaluation mode; it must not be used any more.
    """
    fold_batch_norm(network.backbone)  # else each scale would have convolutions of its own once a runtime folds them
    whole = WholeImages(network, scales=scales, merge=merge, flip=flip).eval()
    sides = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        return torch.export.export(whole, (torch.zeros(_EXAMPLE, dtype=torch.uint8),), dynamic_shapes=(sides,))


def metadata(facts: ModelFacts, *, scales: Sequence[float], merge: str, flip: bool) -> dict[str, str]:
    """What an exported file knows: the model's facts, and how it looks at images."""
    settings = {"scales": list(scales), "merge": merge, "flip": flip}
    return {KEY: facts.to_json(), SETTINGS: json.dumps(settings, sort_keys=True)}


def write_onnx(program: torch.export.ExportedProgram, path: Path, known: dict[str, str]) -> None:
    """Write an ONNX file, weights included, with `known` as its metadata; equal models give equal bytes.

    Raises:
        UserError: onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401 - torch asks for these two by name
        import onnx_ir
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError(
            "ONNX needs the packages onnx and onnxscript, this project's extra export; pip install '.[export]' "
            "installs them"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of its own functions
        written = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=[LOGITS, LABELS], external_data=False, verbose=False
        )
    graph = written.model.graph
    for node in graph.all_nodes():
        node.metadata_props.clear()  # lines and paths of the code that was traced
        node.doc_string = None
    for value in (*graph.inputs, *graph.outputs):  # else the axes of free size have torch's names for symbols
        free = iter(("batch", "height", "width"))
        value.shape = onnx_ir.Shape([size if isinstance(size, int) else next(free) for size in value.shape])
    written.model.metadata_props.update(known)
    written.save(path)


def write_pt2(program: torch.export.ExportedProgram, path: Path, known: dict[str, str]) -> None:
    """Write what `torch.export.load` reads, with `known` as its extra files.

    Tracing notes down what holds for the sides of its example (such as that one is odd after pooling) as conditions on
    the input. The graph does not need them, so they are left out: `torch.export.load(path).module()` takes all sizes
    but the smallest, of which a scale leaves a single cell.

    Raises:
        UserError: torch cannot serialise the graph.
    """
    program._guards_code.clear()  # there is no public way to leave them out
    content = io.BytesIO()  # torch's own writer ends the process where a disk is full
    try:
        with warnings.catch_warnings():  # of weights that lie in one storage, as safetensors reads them
            warnings.filterwarnings("ignore", "No complete tensor found in the group", UserWarning)
            torch.export.save(program, content, extra_files=dict(known))
    except MemoryError:
        raise
    except Exception as error:  # of the serialiser: which operators it knows changes between versions of torch
        reason = str(error).splitlines()[0]
        raise UserError(f"torch {torch.__version__} cannot write this model as pt2 ({reason}); export onnx") from None
    path.write_bytes(content.getbuffer())
