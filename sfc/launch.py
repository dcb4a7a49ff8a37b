"""What torchrun, or another launcher, says of this process in the environment."""

from __future__ import annotations

import os

from sfc.errors import UserError


def launched(name: str, default: int) -> int:
    """A number that a launcher sets: RANK, WORLD_SIZE or LOCAL_WORLD_SIZE.

    Raises:
        UserError: it is no whole number, or this process has a rank and no world.
    """
    value = os.environ.get(name, str(default))
    if not (value.isascii() and value.isdecimal() and len(value) < 8) or (name != "RANK" and int(value) < 1):
        raise UserError(f"{name}={value}: expected a whole number, as torchrun sets it; unset it where nothing does")
    if name == "RANK" and int(value) >= (world := launched("WORLD_SIZE", 1)):
        raise UserError(f"RANK={value}: no process of WORLD_SIZE={world}; torchrun sets both, else unset it")
    return int(value)
