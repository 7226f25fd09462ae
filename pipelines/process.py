"""What a worker process is set to before it works: one thread, and memory that stays with the process."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt(3)."""
KEEP_BYTES = (1 << 31) - 1
LARGE_BYTES = 1 << 30


def settle_process() -> None:
    """Keep BLAS, torch and OpenCV to one thread, and freed memory in the process.

    One thread gives the same floats whatever the machine and no fight over its cores. By default glibc maps every block
    of 128 KB and more anew, so that each tensor of a fit pays for its pages again: 15 % of a fit.
    """
    import cv2
    import scipy.linalg  # noqa: F401 - loads the BLAS libraries, so that the limit reaches them
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
            mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
