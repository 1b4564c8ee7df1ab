"""Freed memory is kept, not given back to the system after every step."""

import ctypes
import ctypes.util
import sys

# glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tell glibc to reuse the blocks that a training step frees; True where it listened.

    By default it maps every activation of some MB anew and unmaps it again, so that the kernel clears each page once a
    step: 6 to 19 % of the processor time of a CPU step of the default network where this was measured. Other systems'
    allocators are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6")
    mallopt = getattr(library, "mallopt", None)
    if mallopt is None:
        return False
    # No block is mapped by itself, and the heap is never trimmed (mallopt(3)).
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
