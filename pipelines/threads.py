"""One thread for each worker: the same floats whatever the machine, and no fight over its cores."""

from __future__ import annotations


def use_one_thread() -> None:
    """Keep torch and OpenCV of this process to one thread."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
