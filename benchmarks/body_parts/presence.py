"""Whether hands that a detector sees are in the data set: MediaPipe's hands on whole pictures beside what is stored.

The detector is plain MediaPipe, two hands at most, its own thresholds, with no idea of the body and no share in the
pipeline. Of two detections nearer than half a hand the surer one counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reconstruct import quiet
from reconstruct.body.fit_problem import hand_size
from reconstruct.video import Reader
from schemas.types import BodyLandmarks, BodyTrack

Float64 = NDArray[np.float64]
SAME: Final = 0.5
"""Mean distance of points below which two detections of a frame are one hand, in hand sizes."""
MATCH: Final = 1.0
"""The same below which a stored hand is the one that the detector sees."""
WRISTS: Final = (20, 21)


def plain_hands(video: Path, start_us: int, end_us: int) -> list[list[Float64]]:
    """For every frame of a span, the hands (21, 2) in pixels that plain MediaPipe sees."""
    hands = quiet.solutions().hands
    with quiet.quiet():
        network = hands.Hands(max_num_hands=2)
    frames: list[list[Float64]] = []
    with Reader(video) as reader:
        for _, rgb in reader.frames(start_us, end_us):
            found = network.process(rgb)
            kept: list[Float64] = []
            pairs = zip(found.multi_hand_landmarks or (), found.multi_handedness or (), strict=True)
            for marks, _ in sorted(pairs, key=lambda pair: -pair[1].classification[0].score):
                xy = np.array([(p.x, p.y) for p in marks.landmark], np.float64) * [rgb.shape[1], rgb.shape[0]]
                if all(apart(xy, other) > SAME for other in kept):
                    kept.append(xy)
            frames.append(kept)
    network.close()
    return frames


def apart(hand: Float64, other: Float64) -> float:
    """Mean distance of the points of two hands, in sizes of the first."""
    return float(np.linalg.norm(hand - other[:, :2], axis=1).mean() / hand_size(hand[None])[0])


def presence(seen: list[list[Float64]], track: BodyTrack, stored: BodyLandmarks) -> tuple[int, int, int]:
    """Frames in which the detector sees both hands; those in which both are stored; those in which both are fitted.

    A hand is fitted where its wrist's rotation counts as observed.
    """
    both = kept = fitted = 0
    for frame, hands in enumerate(seen):
        if len(hands) < 2:
            continue
        both += 1
        own = [hand[frame].astype(np.float64) for hand in (stored.left_hand_xyc, stored.right_hand_xyc)]
        if not all(np.isfinite(hand).all() for hand in own):
            continue
        far = np.array([[apart(hand, other) for other in own] for hand in hands])
        if max(far[0, 0], far[1, 1]) < MATCH or max(far[0, 1], far[1, 0]) < MATCH:
            kept += 1
            fitted += bool(track.body_joint_valid[frame, list(WRISTS)].all())
    return both, kept, fitted
