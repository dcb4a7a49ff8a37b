"""Image bank re-sampling (IBR): the latest image of every class, drawn from uniformly. Negatives have no slot."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sfc.randomness import generator

FIELDS = ("image", "box", "label")


class ImageBank(nn.Module):
    """One slot a class, each with the last image seen that shows the class.

    Slots hold the cropped uint8 image, its box and its label vector, on the training device; no masks, no copies of
    the whole bank. All state is in buffers (and a draw counter), so a checkpoint of the module restores it.

    Args:
        num_classes: slots.
        crop: height and width of the images in pixels.
        draws: images a draw returns, N_IBR.
        replacement: may one slot be drawn twice.
        exclude_batch: never draw an image of the batch that was stored just before (the released code does: 62 % of
            its draws on VOC).
        allow_empty: also draw slots that are still empty, as black images without label (the released code does, in
            its first steps).
        seed: of the draws.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        crop: int,
        draws: int,
        replacement: bool,
        exclude_batch: bool,
        allow_empty: bool,
        seed: int,
    ):
        super().__init__()
        self.draws, self.replacement = draws, replacement
        self.exclude_batch, self.allow_empty = exclude_batch, allow_empty
        self.seed, self._step = seed, 0
        self.register_buffer("image", torch.zeros(num_classes, 3, crop, crop, dtype=torch.uint8))
        self.register_buffer("box", torch.zeros(num_classes, 4, dtype=torch.int64))
        self.register_buffer("label", torch.zeros(num_classes, num_classes))
        self.register_buffer("filled", torch.zeros(num_classes, dtype=torch.bool))
        self.register_buffer("fresh", torch.zeros(num_classes, dtype=torch.bool))

    def update(self, batch: dict[str, Tensor]) -> None:
        """Store each image in the slots of its classes; the last image of the batch that shows a class stays.

        Args:
            batch: "image" (B, 3, crop, crop) uint8, "box" (B, 4), "label" (B, C).
        """
        shown = batch["label"] > 0
        order = torch.arange(1, len(shown) + 1, device=shown.device)[:, None]
        last = (shown * order).amax(dim=0) - 1
        self.fresh = last >= 0
        self.filled = self.filled | self.fresh
        for name in FIELDS:
            slots = getattr(self, name)
            rows = batch[name][last.clamp_min(0)].to(slots.dtype)
            slots.copy_(torch.where(self.fresh.view(-1, *[1] * (slots.dim() - 1)), rows, slots))

    def draw(self) -> dict[str, Tensor]:
        """`draws` images, uniformly over the eligible slots.

        While no slot is filled (first batches of negatives alone), empty ones are drawn: black images without label.

        Without replacement a slot comes again only when there are fewer eligible slots than draws. Where the batch
        is excluded and holds everything the bank has (the first step), any filled slot is eligible. The random
        numbers come from the host and meet the slots' state on the device, so nothing waits.
        """
        eligible = torch.ones_like(self.filled) if self.allow_empty else self.filled
        if self.exclude_batch:
            older = eligible & ~self.fresh
            eligible = torch.where(older.any(), older, eligible)
        numbers = generator(self.seed, "bank", self._step)
        self._step += 1
        count = eligible.sum().clamp_min(1)
        # float32 has enough digits to rank some hundred slots, and is the widest type of every device
        priority = torch.as_tensor(numbers.random(len(eligible), dtype="float32"), device=eligible.device)
        shuffled = torch.where(eligible, priority, 2.0).argsort()
        if self.replacement:
            draws = torch.as_tensor(numbers.random(self.draws, dtype="float32"), device=eligible.device)
            index = shuffled[(draws * count).long().clamp_max(count - 1)]
        else:
            index = shuffled[torch.arange(self.draws, device=eligible.device) % count]
        return {name: getattr(self, name)[index] for name in FIELDS}

    def get_extra_state(self) -> dict:
        return {"step": self._step}

    def set_extra_state(self, state: dict) -> None:
        self._step = state["step"]
