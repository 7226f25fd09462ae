"""What a learned style encoder sees of each moment: expressions, head, voice, at 25 moments a second."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.performance import Performance
from annotate.pitch import HOP_S
from annotate.signals import even
from annotate.style.voice import Voice, listen
from schemas.types import Float32

Float64 = NDArray[np.float64]

FRAME_HZ: Final = 25.0
WEIGHTS: Final = (
    *("jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft"),
    *("mouthFrownRight", "mouthStretchLeft", "mouthStretchRight", "mouthDimpleLeft", "mouthDimpleRight"),
    *("mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *("mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft"),
    *("browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekSquintLeft", "cheekSquintRight"),
    *("noseSneerLeft", "noseSneerRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight"),
    *("eyeBlinkLeft", "eyeBlinkRight"),
)
FACE: Final = len(WEIGHTS)
HEAD: Final = 6
"""Three angles against the clip's mean, and their speeds."""
VOICE: Final = 3
"""Voiced or not, pitch in octaves from 150 Hz, level."""
WIDTH: Final = FACE + HEAD + VOICE


def frame_features(clip: Performance, voice: Voice | None = None) -> Float32 | None:
    """(N, WIDTH) features of a clip; zeros where a modality is missing, None where there is neither face nor voice."""
    if voice is None and clip.samples is not None:
        voice = listen(clip.samples)
    count = int(clip.seconds * FRAME_HZ)
    times = (np.arange(count) + 0.5) / FRAME_HZ
    table = np.zeros((count, WIDTH), np.float64)
    known = False
    if clip.has(*WEIGHTS):
        known |= _put(table[:, :FACE], times, clip, np.stack([clip.look(name) for name in WEIGHTS], axis=1))
    if clip.head is not None:
        angles = np.degrees(clip.head.astype(np.float64)) / 10.0
        if np.isfinite(angles).any():
            angles = angles - np.nanmean(angles, axis=0)
            known |= _put(table[:, FACE : FACE + 3], times, clip, angles)
            speeds = np.gradient(table[:, FACE : FACE + 3], 1 / FRAME_HZ, axis=0) if count > 1 else 0.0
            table[:, FACE + 3 : FACE + HEAD] = 0.5 * speeds
    if voice is not None and len(voice.level_db):
        known = True
        at = np.clip((times / HOP_S).astype(np.int64), 0, len(voice.level_db) - 1)
        pitch = voice.pitch_hz[np.clip(at, 0, len(voice.pitch_hz) - 1)].astype(np.float64)
        voiced = np.isfinite(pitch)
        table[:, FACE + HEAD] = voiced
        table[:, FACE + HEAD + 1] = np.where(voiced, np.log2(np.where(voiced, pitch, 150.0) / 150.0), 0.0)
        loud = float(np.percentile(voice.level_db, 95))
        table[:, FACE + HEAD + 2] = np.clip((voice.level_db[at] - loud) / 20.0, -3, 0.5)
    return table.astype(np.float32) if known and count else None


def _put(target: Float64, times: Float64, clip: Performance, values: Float64) -> bool:
    """Read values (T, K) at the times; moments without a face are the nearest ones with one."""
    grid, curves = even(clip.pts_us, values, FRAME_HZ)
    seen = np.isfinite(curves).all(1) if len(grid) else np.zeros(0, np.bool_)
    if not seen.any():
        return False
    for column in range(values.shape[1]):
        target[:, column] = np.interp(times, grid[seen], curves[seen, column])
    return True
