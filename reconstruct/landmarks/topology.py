"""Which point of a detector is what: index groups of MediaPipe's 478 and of iBUG's 68 points.

Source: MediaPipe face mesh (canonical face model and `face_mesh_connections`). Rings and rows are in order, left and
right are the subject's. The groups at the top are MediaPipe's; `topology_of` gives those of any detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError

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


@dataclass(frozen=True)
class Topology:
    """What each of a detector's L points is: index groups, left and right being the subject's."""

    num_points: int
    """L."""
    face: Index
    """Points that residual and NME are taken over: all but the irises."""
    right_eye_outer: int
    right_eye_inner: int
    left_eye_outer: int
    left_eye_inner: int
    right_eye_upper: Index
    """Rim of the upper lid from the outer to the inner corner, both included; the other rims likewise."""
    right_eye_lower: Index
    left_eye_upper: Index
    left_eye_lower: Index
    right_iris: Index
    """Centre, then points of the rim; empty where the detector has none."""
    left_iris: Index
    lips_outer: Index
    """Ring from the right mouth corner along the lower lip to the left one and back along the upper lip."""
    lips_inner: Index
    """Likewise; a closed mouth lays its upper and lower half on each other."""
    upper_lip_inner_middle: int
    lower_lip_inner_middle: int
    right_brow: Index
    """Upper edge from the outside in, then the lower edge likewise where there is one."""
    left_brow: Index
    nose_tip: int
    contour: Index
    """Silhouette of the face: these points slide over the surface as the head turns and are to be trusted less."""
    mirror: Index
    """(L,) point that each point becomes in the mirrored picture; its own inverse."""

    @property
    def eyeball_points(self) -> tuple[int, ...]:
        """Points that lie on the eyeballs; all others lie on skin."""
        return (*self.left_iris.tolist(), *self.right_iris.tolist())

    @property
    def open_mouth_points(self) -> tuple[int, ...]:
        """Points that only an open mouth tells apart."""
        return tuple(self.lips_inner.tolist())

    @property
    def outer_eye_corners(self) -> Index:
        """Right, left: their distance, the interocular distance, is what NME is divided by."""
        return _index(self.right_eye_outer, self.left_eye_outer)

    def interocular(self, face_xy: Float32) -> Float32:
        """Distance of the outer eye corners in pixels: (..., L, 2) -> (...)."""
        right, left = (face_xy[..., corner, :] for corner in self.outer_eye_corners)
        return np.asarray(np.linalg.norm(right - left, axis=-1), np.float32)


def _mediapipe_mirror() -> Index:
    """Left-right permutation of the 478 points.

    MediaPipe's canonical face is exactly symmetric in x. Apart from the 28 points of its middle, the points of the
    right half are numbered upwards below 248 and those of the left half are numbered from 248 in the same order. Both
    irises go round right, top, left, bottom in the picture, so that mirroring swaps the first and third rim point.
    """
    mirror = np.arange(NUM_POINTS)
    right = np.setdiff1d(np.arange(248), MIDDLE)
    mirror[right], mirror[248:468] = np.arange(248, 468), right
    pairs = dict(zip(RIGHT_IRIS.tolist(), LEFT_IRIS[[0, 3, 2, 1, 4]].tolist(), strict=True))
    for one, other in pairs.items():
        mirror[one], mirror[other] = other, one
    mirror.setflags(write=False)
    return mirror


MIDDLE: Final = _index(
    0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 94, 151, 152, 164, 168, 175, 195, 197, 199, 200
)  # fmt: skip
"""Points of the face mesh on the plane of symmetry (x = 0 in the canonical face of MediaPipe's face geometry)."""

MEDIAPIPE: Final = Topology(
    num_points=NUM_POINTS,
    face=FACE,
    right_eye_outer=RIGHT_EYE_OUTER,
    right_eye_inner=RIGHT_EYE_INNER,
    left_eye_outer=LEFT_EYE_OUTER,
    left_eye_inner=LEFT_EYE_INNER,
    right_eye_upper=RIGHT_EYE_UPPER,
    right_eye_lower=RIGHT_EYE_LOWER,
    left_eye_upper=LEFT_EYE_UPPER,
    left_eye_lower=LEFT_EYE_LOWER,
    right_iris=RIGHT_IRIS,
    left_iris=LEFT_IRIS,
    lips_outer=LIPS_OUTER,
    lips_inner=LIPS_INNER,
    upper_lip_inner_middle=UPPER_LIP_INNER_MIDDLE,
    lower_lip_inner_middle=LOWER_LIP_INNER_MIDDLE,
    right_brow=RIGHT_BROW,
    left_brow=LEFT_BROW,
    nose_tip=NOSE_TIP,
    contour=FACE_OVAL,
    mirror=_mediapipe_mirror(),
)
"""The 478 points of MediaPipe, solutions and Tasks alike."""

IBUG_68: Final = Topology(
    num_points=68,
    face=_index(*range(68)),
    right_eye_outer=36,
    right_eye_inner=39,
    left_eye_outer=45,
    left_eye_inner=42,
    right_eye_upper=_index(36, 37, 38, 39),
    right_eye_lower=_index(36, 41, 40, 39),
    left_eye_upper=_index(45, 44, 43, 42),
    left_eye_lower=_index(45, 46, 47, 42),
    right_iris=_index(),
    left_iris=_index(),
    lips_outer=_index(48, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49),
    lips_inner=_index(60, 67, 66, 65, 64, 63, 62, 61),
    upper_lip_inner_middle=62,
    lower_lip_inner_middle=66,
    right_brow=_index(*range(17, 22)),
    left_brow=_index(*range(26, 21, -1)),
    nose_tip=30,
    contour=_index(*range(17)),
    mirror=_index(
        *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
        45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
        *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
    ),
)  # fmt: skip
"""The 68 points of the 300 Faces in the Wild challenge (iBUG; Sagonas et al. 2013)."""

TOPOLOGIES: Final = {"mediapipe": MEDIAPIPE, "face-alignment": IBUG_68}
"""By what the detector's name begins with."""


def topology_of(detector_name: str) -> Topology:
    """The topology of the points that a detector of that name writes; raises UsageError for an unknown one."""
    for prefix, topology in TOPOLOGIES.items():
        if detector_name.startswith(prefix):
            return topology
    raise UsageError(
        f"nothing is known of the points of the detector {detector_name!r}",
        f"Its name must begin with {' or '.join(TOPOLOGIES)}",
    )
