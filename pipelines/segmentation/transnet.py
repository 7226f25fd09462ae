"""Cuts and transitions by TransNetV2, with the user's own weights.

Soucek & Lokoc, "TransNet V2: An effective deep network architecture for fast shot transition detection", 2020. Pictures
go in and predictions come out as in the released inference code: windows of 100 frames of which the middle half counts.
"""

from __future__ import annotations

import itertools
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from annotate.network_file import NetworkFile
from pipelines.segmentation.shots import ShotFinder, Shots
from schemas.errors import TalksetError
from schemas.types import Span

UInt8 = NDArray[np.uint8]
Network = Callable[[UInt8], NDArray[Any]]
"""(1, 100, 27, 48, 3) pictures -> (100,) logits."""

SIZE: Final = (48, 27)
WINDOW: Final = 100
STRIDE: Final = 50
MARGIN: Final = (WINDOW - STRIDE) // 2
CERTAIN: Final = 0.5
"""Probability from which a frame ends a shot or lies in a transition, as in the released code."""
CUT_FRAMES: Final = 2
"""A cut is predicted on the last frame of the old shot, now and then on its neighbour too; longer runs are fades."""


class TransNetFinder:
    """Takes frames in order and gives the uncut spans, as `pipelines.segmentation.shots.ShotFinder` does.

    Keeps a hundred pictures of 48 x 27 and a number for each frame. That a frame may begin another view is told by the
    adaptive detector, for the network knows it fifty frames later.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._changes = ShotFinder(mixes=False)
        self._pts = array("q")
        self._window: deque[UInt8] = deque(maxlen=WINDOW)
        self._asked = 0
        self._certainty = array("f")

    def push(self, pts_us: int, rgb: UInt8) -> bool:
        """Take the next frame, (H, W, 3) uint8; whether it may begin another view."""
        small = np.asarray(cv2.resize(rgb, SIZE, interpolation=cv2.INTER_AREA), np.uint8)
        if not self._pts:
            for _ in range(MARGIN):
                self._take(small)
        self._pts.append(pts_us)
        self._take(small)
        return self._changes.push(pts_us, rgb)

    def finish(self, end_us: int | None = None) -> Shots:
        """The division from the first PTS to `end_us` (by default one frame after the last)."""
        if not self._pts:
            return Shots([], [])
        times = self._pts.tolist()
        if end_us is None:
            end_us = 2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + 1
        while len(self._certainty) < len(times):
            self._take(self._window[-1])
        found = np.array(self._certainty[: len(times)])
        return divided(found, [*times, end_us])

    def _take(self, small: UInt8) -> None:
        self._window.append(small)
        self._asked += 1
        if self._asked < WINDOW or (self._asked - WINDOW) % STRIDE:
            return
        logits = np.asarray(self._network(np.stack(self._window)[np.newaxis]), np.float64).reshape(-1)
        if len(logits) != WINDOW:
            message = f"TransNetV2 gave {len(logits)} predictions for {WINDOW} pictures"
            raise TalksetError("corrupt_data", message, "Export the network as docs/segmentation.md says")
        certainty = 1.0 / (1.0 + np.exp(-np.clip(logits[MARGIN : MARGIN + STRIDE], -60, 60)))
        self._certainty.extend(certainty.tolist())


def divided(certainty: NDArray[Any], times: list[int]) -> Shots:
    """Shots and transitions of (T,) probabilities that a frame ends its shot or mixes two, at T + 1 times."""
    high = np.concatenate([[False], certainty > CERTAIN, [False]]).astype(np.int8)
    starts, ends = (np.flatnonzero(np.diff(high) == sign).tolist() for sign in (1, -1))
    borders, begins = {0, len(times) - 1}, set()
    for first, last in zip(starts, ends, strict=True):
        if last - first <= CUT_FRAMES:
            borders.add(min(len(times) - 1, first + int(np.argmax(certainty[first:last])) + 1))
        else:
            borders |= {first, last}
            begins.add(first)
    shots: list[Span] = []
    transitions: list[Span] = []
    for a, b in itertools.pairwise(sorted(borders)):
        (transitions if a in begins else shots).append(Span(times[a], times[b]))
    return Shots(shots, transitions)


def weights_name(weights: str) -> str:
    """Backend and hash of the weights. Raises TalksetError missing_model where there is no such file."""
    return f"transnetv2-{_file(weights).fingerprint()}"


def load_network(weights: str) -> Network:
    """A TorchScript module (.pt, .pth) or ONNX graph (.onnx): (1, 100, 27, 48, 3) uint8 RGB to logits.

    What is not a single tensor is a sequence whose first member are the logits of single frames, (1, 100, 1). Raises
    TalksetError missing_model or corrupt_data for a file that cannot be read, UsageError for another kind of file.
    """
    return _file(weights).load(("frames",))


def _file(weights: str) -> NetworkFile:
    return NetworkFile(Path(weights), "segment.shot_weights_path", "docs/segmentation.md")
