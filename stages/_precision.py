"""Is bfloat16 worth it on this processor? Without units for it, it takes longer than float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_WORSE = 1.1  # times as long: less than that is no reason to change a param that decides results
_REPEATS = 5
INFERENCE = ("infer_cam", "predict", "analyse")


def slow_bf16(stage: str, values: Mapping[str, Any], device: Callable[[], torch.device]) -> str | None:
    """What to tell of a stage's params, name -> value or section, that ask for bf16 where fp32 would be faster.

    The param is not changed: precision decides results.
    """
    trains = stage.startswith("train_")
    walks = stage == "pseudo_labels" and values["pseudo_labels"].refine == "irn"  # else it has no network
    if not (trains or walks or stage in INFERENCE):
        return None
    asked = [name for name, section in values.items() if getattr(section, "precision", None) == "bf16"]
    return bf16_note(f"{asked[0]}.precision", device(), gradients=trains) if asked else None


def bf16_note(param: str, device: torch.device, *, gradients: bool) -> str | None:
    """What to tell where a param asks for bf16 on a device on which fp32 would be faster."""
    ratio = bf16_ratio(gradients=gradients) if device.type == "cpu" else 0
    if ratio < _WORSE:
        return None
    return (
        f"note: on this processor bf16 takes about {ratio:.1f} times as long as fp32; {param}: fp32 would "
        "be faster, with results that differ in the rounding"
    )


def bf16_ratio(*, gradients: bool) -> float:
    """CPU seconds of bf16 over those of fp32 for a convolution as in a trunk; the best of several.

    With the gradients of its input and weight, if wanted: without AVX-512 these are what bf16 is slowest at. On one
    thread: beside other work more of them wait and spin, bf16's longest, which says nothing of the processor.
    """
    import torch
    import torch.nn.functional as F

    seconds = {False: [], True: []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        image, weight = (
            torch.full(shape, value).contiguous(memory_format=torch.channels_last).requires_grad_(gradients)
            for shape, value in (((2, 128, 32, 32), 0.5), ((128, 128, 3, 3), 0.01))
        )
        for _ in range(_REPEATS):
            for bf16, taken in seconds.items():
                started = time.process_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    features = F.conv2d(image, weight, padding=1)
                if gradients:
                    features.float().sum().backward()
                taken.append(time.process_time() - started)
    finally:
        torch.set_num_threads(threads)
    return min(seconds[True]) / min(seconds[False])
