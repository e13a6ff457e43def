"""Freed memory kept for the next step, instead of handed back to the system and faulted in again."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""parameters of mallopt(3)"""
PAD = 64 * 2**20


def keep_freed() -> None:
    """Let this process keep the memory that tensors free, for the tensors of the next batch.

    A training step frees and asks for the same hundreds of megabytes again and again; glibc returns large blocks to the
    system at once, whose pages must then be zeroed and mapped anew. Keeping them made steps of a small ResNet on two
    cores 10 to 20 % faster. Nothing happens on systems without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)
        mallopt(TOP_PAD, PAD)
