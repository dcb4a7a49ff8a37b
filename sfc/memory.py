"""Memory of the process: a setting that decides how fast a CPU trains, and one line where it does not suffice."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from sfc.errors import UserError

# what torch's messages have when memory runs out; torch.OutOfMemoryError is of GPUs alone
NO_MEMORY = ("DefaultCPUAllocator", "out of memory", "bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED")


def keep_freed_memory() -> None:
    """Let glibc keep the memory that tensors free, instead of returning it to the kernel after every operation.

    Getting it back costs a page fault each 4 kB: on virtual machines an eighth of the training speed remains.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # not Linux with glibc: its allocator has no such setting
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # names of the settings in malloc.h
    for setting, value in ((trim_threshold, -1), (top_pad, 256 << 20), (mmap_max, 0)):
        libc.mallopt(setting, value)


@contextmanager
def memory_line(message: str) -> Iterator[None]:
    """Turn what torch raises when memory runs out into UserError(message)."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(message) from None


def out_of_memory(error: Exception) -> bool:
    """True where an exception of Python or torch says that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # by name: no wait for torch
        return True
    return any(word in str(error) for word in NO_MEMORY)
