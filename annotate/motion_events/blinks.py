"""Blinks: both lids shut and open again.

The closing of the lids is compared with what it is around: squints, smiles and downward gaze close them, too, but
slowly. A blink takes 100 to 400 ms (Schiffman 2001); lids that stay shut longer than `LONGEST_S` are no blink.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import find_peaks, peak_widths

from annotate.motion_events.made import made
from annotate.signals import HZ, even
from schemas.types import Event, Float32, Int64

Float64 = NDArray[np.float64]

SOURCE: Final = "lids@1"
AROUND_S: Final = 1.2
"""Lids are compared with their median over this long."""
RISE: Final = 0.15
"""Least height above that median, as a weight of ARKit's eyeBlink. A lid that shuts for one or two frames comes out of
a smooth fit at 0.3 to 0.5; without a blink the weight stays within 0.06 of its median."""
SPREAD: Final = 0.05
OF_LARGEST: Final = 0.45
"""Least height as a part of the clip's largest: who half shuts the eyes in every blink is known by them."""
LONGEST_S: Final = 0.6
ONE_SIDED: Final = 0.4
"""Where one lid rises by less than this part of the other, it is a wink."""


def find_blinks(pts_us: Int64, left: Float32 | Float64, right: Float32 | Float64) -> list[Event]:
    """Blinks of (T,) weights of eyeBlinkLeft and eyeBlinkRight, NaN where not known.

    Score: how far the lids rise above `RISE` (half at it), times the agreement of both sides.
    """
    grid, lids = even(pts_us, np.stack([left, right], axis=1))
    if not len(grid) or not np.isfinite(lids).any():
        return []
    known = np.isfinite(lids).all(1)
    filled = np.stack([np.interp(grid, grid[known], side[known]) for side in lids.T])
    window = min(round(AROUND_S * HZ) | 1, len(grid) | 1)
    rise = np.maximum(filled - median_filter(filled, (1, window), mode="nearest"), 0)
    both = rise.mean(axis=0)
    least = max(RISE, OF_LARGEST * float(both.max()))
    peaks, _ = find_peaks(np.concatenate([[0.0], both, [0.0]]), height=least, distance=max(1, round(0.12 * HZ)))
    peaks = peaks - 1
    widths, _, starts, ends = peak_widths(np.concatenate([[0.0], both, [0.0]]), peaks + 1, rel_height=0.7)
    found = []
    for peak, width, start, end in zip(peaks, widths, starts - 1, ends - 1, strict=True):
        weaker, stronger = sorted(rise[:, peak].tolist())
        if not known[peak] or width / HZ > LONGEST_S or weaker < ONE_SIDED * stronger:
            continue
        sure = 1 / (1 + np.exp(-(both[peak] - RISE) / SPREAD)) * (0.5 + 0.5 * weaker / stronger)
        at = np.interp([start, end], np.arange(len(grid)), grid)
        found.append(made("blink", "blink", at[0], at[1], float(sure), SOURCE))
    return found
