"""Which detector divides a video into shots."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.config import SegmentConfig
from schemas.errors import UsageError

if TYPE_CHECKING:
    from pipelines.segmentation.shots import Shots

BACKENDS = ("adaptive", "transnetv2")


class CutFinder(Protocol):
    """Divides one video."""

    def push(self, pts_us: int, rgb: NDArray[np.uint8]) -> bool:
        """Take the next frame, (H, W, 3) uint8; whether it may begin another view."""

    def finish(self, end_us: int | None = None) -> Shots:
        """The division from the first PTS to `end_us`, by default one frame after the last."""


def cut_finders(config: SegmentConfig) -> Callable[[], CutFinder]:
    """Makes the finder that the configuration names, a new one for each video; its weights are loaded once.

    Raises UsageError for an unknown name or a network without weights, TalksetError for weights that cannot be read.
    """
    _check(config)
    if config.shot_backend == "adaptive":
        from pipelines.segmentation.shots import ShotFinder

        return lambda: ShotFinder(config.shot_threshold, config.transitions)
    from pipelines.segmentation.transnet import TransNetFinder, load_network

    network = load_network(str(config.shot_weights_path))
    return lambda: TransNetFinder(network)


def cut_version(config: SegmentConfig) -> str:
    """Name and version of that finder, without loading it; raises as `cut_finders`."""
    _check(config)
    if config.shot_backend == "adaptive":
        return f"scenedetect-{version('scenedetect')}"
    from pipelines.segmentation.transnet import weights_name

    return weights_name(str(config.shot_weights_path))


def _check(config: SegmentConfig) -> None:
    if config.shot_backend not in BACKENDS:
        raise UsageError(f"unknown segment.shot_backend {config.shot_backend!r}", f"Known: {', '.join(BACKENDS)}")
    if config.shot_backend != "adaptive" and config.shot_weights_path is None:
        message = f"segment.shot_backend={config.shot_backend} needs the weights of its network"
        raise UsageError(message, "Set segment.shot_weights_path to a TorchScript or ONNX file")
