"""Blinks: both lids shut and open again.

The opening of each eye is compared with its median around: squints, smiles and downward gaze close lids, too, but
slowly. A blink takes 100 to 400 ms (Schiffman 2001); lids that stay shut longer than `LONGEST_S` are no blink.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import find_peaks, peak_widths

from annotate.motion_events.made import made
from annotate.performance import Performance
from annotate.signals import HZ, even
from schemas.types import Event, Int64

Float64 = NDArray[np.float64]

SOURCE: Final = "lids@1"
AROUND_S: Final = 1.2
"""Lids are compared with their median over this long."""
CLOSING: Final = 0.18
"""Least part of its usual opening that an eye loses. Detectors see the slit of a shut eye, so a lid that shuts for two
frames loses 0.3 to 0.6; without a blink an eye stays within 0.1 of its median."""
SPREAD: Final = 0.05
OF_LARGEST: Final = 0.4
"""Least part as a share of the clip's largest."""
LONGEST_S: Final = 0.6
APART_S: Final = 0.16
"""Least time from one blink to the next."""


def find_blinks(clip: Performance) -> list[Event]:
    """Blinks of a clip, from the opening of its eyes, or from weights of eyeBlink where that was not measured.

    Score: how much the eyes lose above `CLOSING` (half at it), times the agreement of both sides. Of one eye alone it
    is taken for a blink whose other side is badly seen, as in the shade, with half the score: winks are rare.
    """
    if clip.lid_opening is not None and np.isfinite(clip.lid_opening).any():
        return _blinks(clip.pts_us, clip.lid_opening.astype(np.float64))
    if clip.has("eyeBlinkLeft", "eyeBlinkRight"):
        return _blinks(clip.pts_us, 1.0 - np.stack([clip.weight("eyeBlinkLeft"), clip.weight("eyeBlinkRight")], axis=1))
    return []


def can_see_blinks(clip: Performance) -> bool:
    """Whether `find_blinks` has something to look at."""
    return clip.lid_opening is not None or clip.has("eyeBlinkLeft", "eyeBlinkRight")


def _blinks(pts_us: Int64, opening: Float64) -> list[Event]:
    grid, lids = even(pts_us, opening)
    if not len(grid) or not np.isfinite(lids).any():
        return []
    known = np.isfinite(lids).all(1)
    filled = np.stack([np.interp(grid, grid[known], side[known]) for side in lids.T])
    window = min(round(AROUND_S * HZ) | 1, len(grid) | 1)
    usual = np.maximum(median_filter(filled, (1, window), mode="nearest"), 1e-3)
    lost = np.clip(1 - filled / usual, 0, 1)
    both = np.concatenate([[0.0], lost.mean(axis=0), [0.0]])
    least = max(CLOSING, OF_LARGEST * float(both.max()))
    peaks, _ = find_peaks(both, height=least, distance=max(1, round(APART_S * HZ)), prominence=0.5 * least)
    widths, _, starts, ends = peak_widths(both, peaks, rel_height=0.7)
    found = []
    for peak, width, start, end in zip(peaks - 1, widths, starts - 1, ends - 1, strict=True):
        weaker, stronger = sorted(lost[:, peak].tolist())
        if not known[peak] or width / HZ > LONGEST_S:
            continue
        sure = 1 / (1 + np.exp(-(both[peak + 1] - CLOSING) / SPREAD)) * (0.5 + 0.5 * weaker / stronger)
        at = np.interp([start, end], np.arange(len(grid)), grid)
        found.append(made("blink", "blink", at[0], at[1], float(sure), SOURCE))
    return found
