"""What every 2D landmark detector offers."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reconstruct.landmarks.topology import Topology
from schemas.types import FaceTrack, LandmarkTrack

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


class LandmarkDetector(Protocol):
    """Finds the face points of one tracked face; nothing is carried over from one clip to the next.

    Pixels are continuous: (0, 0) is the outer corner of the first pixel, (0.5, 0.5) its centre.
    """

    topology: Topology
    """What each point is."""

    @property
    def name(self) -> str:
        """Name and version of the detector, as written into every row."""

    def detect(self, frames: Iterable[tuple[int, UInt8]], track: FaceTrack, width: int, height: int) -> LandmarkTrack:
        """Points of the tracked face in every frame of one clip.

        frames are (pts_us on the source clock, (H, W, 3) uint8 RGB of `width` x `height`); the track is on the source
        clock and in the same pixels. The result starts at PTS 0; frames without the tracked face are not valid, NaN.
        What the L points are tells `topology.topology_of(name)`. Raises UsageError for an empty track or a frame of
        another size.
        """

    def detect_image(self, rgb: UInt8) -> Float32 | None:
        """Points (L, 2) of the most prominent face of a single picture in its pixels, or None without one."""

    def close(self) -> None:
        """Free the detector's graphs."""

    def __enter__(self) -> LandmarkDetector: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
