"""Random numbers that depend on what they are for, never on which worker or rank draws them."""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A generator of its own for (seed, purpose, indices), e.g. `generator(10, "crop", epoch, sample)`.

    The same arguments give the same numbers in every process and on every machine.
    """
    words = np.frombuffer(hashlib.sha256(purpose.encode()).digest(), dtype=np.uint32)
    return np.random.default_rng([seed & 0xFFFFFFFFFFFFFFFF, *indices, *words.tolist()])
