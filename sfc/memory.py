"""A setting of the process that decides how fast a CPU trains."""

from __future__ import annotations

import ctypes


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
