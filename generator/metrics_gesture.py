"""Metrics of gestures over joints (BEAT and after): one name, one definition.

Joints are (T, J, 3) positions; lengths come in metres unless said otherwise. Head rotation: joints move with whatever
rotates them, nothing is removed. `fgd` is reported only with a named feature extractor; there is none by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from generator.metrics_time import _alignment, local_minima
from schemas.errors import UsageError

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]

BEAT_ORDER: Final = 7
BEAT_THRESHOLD: Final = 0.1
BEAT_SIGMA_S: Final = 0.3


def motion_beats_s(joints: Floats, fps: float, order: int = BEAT_ORDER, threshold: float = BEAT_THRESHOLD) -> Float64:
    """(K,) times in seconds of the motion beats of (T, J, 3) joints.

    The speed of each joint over its own mean; beats are its local minima (smaller than `order` frames on either side)
    at which the relative speed is above `threshold`, so that a joint at rest has none; the beats of all joints
    together, sorted. The speed between frames k and k + 1 stands at (k + 1/2) / fps.
    """
    points = _joints(joints, "joints")
    speed = np.linalg.norm(np.diff(points, axis=0), axis=2)
    relative = speed / np.maximum(speed.mean(axis=0), 1e-12)
    found = []
    for column in relative.T:
        places = local_minima(column, order)
        found.append(places[column[places] > threshold])
    return np.sort(np.concatenate(found) + 0.5) / fps


def beat_consistency(beats_s: Floats, onsets_s: Floats, sigma_s: float = BEAT_SIGMA_S) -> float:
    """Mean over the sound's onsets of exp(-d^2 / (2 sigma^2)), d the distance to the nearest motion beat; 0..1.

    BEAT's direction (Liu et al. 2022): over onsets, where `head_beat_align` goes over beats. Its onsets are librosa's
    at 16 kHz with hop 512; say which detector made them (generator.onsets has both). NaN without onsets.
    """
    return _alignment(onsets_s, beats_s, sigma_s)


def l1_div(motion: Floats) -> float:
    """Mean over frames of the L1 norm of the distance from the temporal mean, in the unit of the (T, D) values.

    L1 diversity of EMAGE (Liu et al. 2024): how much a motion moves about its own mean pose.
    """
    values = _rows(motion, "motion")
    return float(np.abs(values - values.mean(axis=0)).sum(axis=1).mean())


def lvd(truth: Floats, prediction: Floats, fps: float) -> float:
    """Landmark velocity difference in m/s: mean_{t,j} of the L2 norm of the difference of velocities of (T, J, 3).

    After TalkSHOW (Yi et al. 2023), which sums over joints of normalised data; this is the mean, in metres a second.
    """
    true, predicted = _same(_joints(truth, "truth"), _joints(prediction, "prediction"))
    return float(fps * np.linalg.norm(np.diff(true - predicted, axis=0), axis=2).mean())


def mse_face(truth: Floats, prediction: Floats) -> float:
    """Mean squared vertex distance in mm^2 over frames and vertices of (T, V, 3) metres: mean_{t,v} |p - g|^2.

    EMAGE reports it over FLAME's vertices in canonical pose and scales by 1e-8; here the unit stays.
    """
    true, predicted = _same(_joints(truth, "truth"), _joints(prediction, "prediction"))
    return float(1e6 * ((predicted - true) ** 2).sum(axis=2).mean())


def fgd(
    truth: Floats, prediction: Floats, extractor: Callable[[Floats], Floats], extractor_name: str
) -> tuple[str, float]:
    """Frechet distance between feature sets of real and generated motion, and its full name "fgd(<extractor>)".

    `extractor` maps motion to (N, F) features; figures of different extractors cannot be compared, so the name is part
    of the result. |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), covariances with N - 1. Raises UsageError for an empty
    name or fewer than two rows.
    """
    from scipy.linalg import sqrtm

    if not extractor_name:
        raise UsageError("fgd without the name of its feature extractor means nothing", "Name the extractor")
    one, other = (_rows(extractor(values), "features") for values in (truth, prediction))
    if min(len(one), len(other)) < 2 or one.shape[1] != other.shape[1]:
        raise UsageError(
            f"features {one.shape} and {other.shape} have no distance", "Give two or more rows of one width"
        )
    first, second = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (one, other))
    root = np.real(sqrtm(first @ second))
    distance = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    return f"fgd({extractor_name})", float(max(distance, 0.0))


def _joints(values: Floats, name: str) -> Float64:
    array = np.asarray(values, np.float64)
    if array.ndim != 3 or array.shape[-1] != 3 or len(array) < 2 or not np.isfinite(array).all():
        raise UsageError(
            f"{name} has shape {array.shape}, expected finite (T, J, 3), T > 1", "Leave out invalid frames"
        )
    return array


def _rows(values: Floats, name: str) -> Float64:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise UsageError(f"{name} has shape {array.shape}, expected finite (T, D)", "Leave out invalid frames")
    return array


def _same(one: Float64, other: Float64) -> tuple[Float64, Float64]:
    if one.shape != other.shape:
        raise UsageError(f"truth has shape {one.shape}, prediction {other.shape}", "Compare the same joints and times")
    return one, other
