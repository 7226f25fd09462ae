"""Named index groups of MediaPipe's 478 face points; left and right are the subject's.

Source: MediaPipe face mesh (canonical face model and `face_mesh_connections`). Rings and rows are in order.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]
Float32 = NDArray[np.float32]


def _index(*ids: int) -> Index:
    array = np.array(ids, np.int64)
    array.setflags(write=False)
    return array


NUM_POINTS: Final = 478
FACE: Final = _index(*range(468))
"""The face mesh without the irises."""

RIGHT_IRIS: Final = _index(468, 469, 470, 471, 472)
"""Centre, then four points of the rim."""
LEFT_IRIS: Final = _index(473, 474, 475, 476, 477)

RIGHT_EYE_OUTER: Final = 33
RIGHT_EYE_INNER: Final = 133
LEFT_EYE_OUTER: Final = 263
LEFT_EYE_INNER: Final = 362
OUTER_EYE_CORNERS: Final = _index(RIGHT_EYE_OUTER, LEFT_EYE_OUTER)

RIGHT_EYE_UPPER: Final = _index(33, 246, 161, 160, 159, 158, 157, 173, 133)
"""Rim of the upper lid from the outer to the inner corner."""
RIGHT_EYE_LOWER: Final = _index(33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_EYE_UPPER: Final = _index(263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_EYE_LOWER: Final = _index(263, 249, 390, 373, 374, 380, 381, 382, 362)

RIGHT_BROW: Final = _index(70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
"""Upper edge from the outside in, then lower edge likewise."""
LEFT_BROW: Final = _index(300, 293, 334, 296, 336, 276, 283, 282, 295, 285)

LIPS_OUTER: Final = _index(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
"""Ring from the right mouth corner along the lower lip to the left one and back along the upper lip."""
LIPS_INNER: Final = _index(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
UPPER_LIP_INNER_MIDDLE: Final = 13
LOWER_LIP_INNER_MIDDLE: Final = 14

FACE_OVAL: Final = _index(
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Ring from the top of the forehead down the left side, over the chin (152) and up the right side."""

NOSE: Final = _index(
    168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327,
    294, 278, 344, 440, 275, 45, 220, 115, 48, 64,
)  # fmt: skip
"""Bridge from the top to the tip and the base, then the wings."""
NOSE_TIP: Final = 1


def interocular(face_xy: Float32) -> Float32:
    """Distance of the outer eye corners in pixels: (..., 478, 2) -> (...)."""
    corners = face_xy[..., RIGHT_EYE_OUTER, :] - face_xy[..., LEFT_EYE_OUTER, :]
    return np.asarray(np.linalg.norm(corners, axis=-1), np.float32)
