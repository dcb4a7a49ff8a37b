"""What torchrun, or another launcher, says of this process in the environment."""

from __future__ import annotations

import os

from sfc.errors import UserError

_WORLDS = {"RANK": "WORLD_SIZE", "LOCAL_RANK": "LOCAL_WORLD_SIZE"}  # a rank counts from 0 to one less than its world


def launched(name: str, default: int) -> int:
    """A number that a launcher sets: RANK, WORLD_SIZE, LOCAL_RANK or LOCAL_WORLD_SIZE.

    Raises:
        UserError: it is no whole number, or this process has a rank and no world, or a rank outside of it.
    """
    value = os.environ.get(name, str(default))
    if not (value.isascii() and value.isdecimal() and len(value) < 8) or (name not in _WORLDS and int(value) < 1):
        raise UserError(f"{name}={value}: expected a whole number, as torchrun sets it; unset it where nothing does")
    of = _WORLDS.get(name)
    told = name == "RANK" or (of and of in os.environ)  # a launcher may leave out how many processes a machine has
    if told and int(value) >= (world := launched(of, 1)):
        raise UserError(f"{name}={value}: no process of {of}={world}; torchrun sets both, else unset it")
    return int(value)
