"""A disk that takes no more: no file of this process may grow beyond a size."""

import resource
from contextlib import contextmanager


@contextmanager
def largest_file(size):
    """Writing beyond `size` bytes fails with EFBIG, as it fails with ENOSPC on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
