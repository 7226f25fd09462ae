"""Metrics of how motion goes with time and with sound: head beats, variety of samples, speed of generation.

One name, one definition, as in generator.metrics; each says its units and what it does with head rotation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from schemas.errors import UsageError

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]

BEAT_SIGMA_S: Final = 0.12
"""Width of the kernel of `head_beat_align` unless another is asked for: about three frames at 25 fps."""
BEAT_ORDER: Final = 2
"""A beat of the head is the smallest speed among so many frames on either side."""


def angular_speed(rotations: Floats, fps: float) -> Float64:
    """(T - 1,) angular speed in rad/s between frames of (T, 3) axis-angle rotations at a constant rate.

    The angle of the relative rotation, so it does not matter how a rotation is written. Raises UsageError.
    """
    from scipy.spatial.transform import Rotation

    values = _series(rotations, "rotations", 3)
    turns = Rotation.from_rotvec(values)
    return np.asarray((turns[:-1].inv() * turns[1:]).magnitude() * _positive(fps, "fps"))


def head_beats_s(rotations: Floats, fps: float, order: int = BEAT_ORDER) -> Float64:
    """(K,) times in seconds at which the head's speed is least: the ends of its nods and turns.

    Kinematic beats after Li et al., "AI Choreographer" (2021): local minima of the angular speed, each the smallest of
    `order` values on either side; the speed between frames k and k + 1 stands at (k + 1/2) / fps.
    """
    speed = angular_speed(rotations, fps)
    places = local_minima(speed, order)
    return np.asarray((places + 0.5) / fps)


def local_minima(values: Floats, order: int) -> NDArray[np.int64]:
    """Places strictly below all `order` neighbours on either side; the ends, which have fewer, are none."""
    series = np.asarray(values, np.float64)
    if order < 1:
        raise UsageError(f"order is {order}", "Give 1 or more neighbours")
    found = np.ones(len(series), bool)
    found[:order] = found[max(len(series) - order, 0) :] = False
    for step in range(1, order + 1):
        found[:-step] &= series[:-step] < series[step:]
        found[step:] &= series[step:] < series[:-step]
    return np.flatnonzero(found)


def head_beat_align(beats_s: Floats, onsets_s: Floats, sigma_s: float = BEAT_SIGMA_S) -> float:
    """Mean over the head's beats of exp(-d^2 / (2 sigma^2)), d the distance to the nearest onset of the sound; 0..1.

    The direction of Li et al. (2021): every beat of the motion should have one of the sound. State sigma with the
    figure. NaN without beats, 0 without onsets. Head rotation is what is measured.
    """
    return _alignment(beats_s, onsets_s, sigma_s)


def _alignment(events_s: Floats, targets_s: Floats, sigma_s: float) -> float:
    """Mean over `events_s` of the kernel of the distance to the nearest of `targets_s`."""
    sigma = _positive(sigma_s, "sigma_s")
    events, targets = np.asarray(events_s, np.float64), np.asarray(targets_s, np.float64)
    if not len(events):
        return float("nan")
    if not len(targets):
        return 0.0
    distance = np.abs(events[:, None] - targets[None]).min(axis=1)
    return float(np.exp(-(distance**2) / (2 * sigma**2)).mean())


def diversity_samples(samples: Sequence[Floats]) -> float:
    """Mean over all pairs of samples of the same input of the mean vertex distance, in mm; 0 where all are the same.

    Each sample is (T, V, 3) metres in canonical pose. Different seeds of one generator give its variety; what head
    rotation adds is not in it. Raises UsageError for fewer than two samples or unequal shapes.
    """
    arrays = [np.asarray(sample, np.float64) for sample in samples]
    if len(arrays) < 2 or any(array.shape != arrays[0].shape or array.ndim != 3 for array in arrays):
        shapes = [array.shape for array in arrays]
        raise UsageError(f"samples of the shapes {shapes} have no diversity", "Pass two or more (T, V, 3) of one shape")
    pairs = itertools.combinations(arrays, 2)
    return float(1e3 * np.mean([np.linalg.norm(one - other, axis=2).mean() for one, other in pairs]))


def real_time_factor(sound_s: float, wall_s: float) -> float:
    """Seconds of sound served in a second of wall time; above 1 is faster than real time."""
    return _positive(sound_s, "sound_s") / _positive(wall_s, "wall_s")


def retrieval_top1(
    queries: Floats,
    gallery: Floats,
    query_labels: Sequence[str],
    gallery_labels: Sequence[str],
    lengths_count: bool = False,
) -> float:
    """Fraction of query embeddings (Q, D) whose most similar gallery embedding (G, D) has their label.

    The most similar has the highest cosine, or with `lengths_count` the least Euclidean distance. Chance is the mean
    over queries of (gallery entries with the label) / G. Raises UsageError for other shapes.
    """
    asked, known = _series(queries, "queries", None), _series(gallery, "gallery", None)
    if asked.shape[1] != known.shape[1] or len(asked) != len(query_labels) or len(known) != len(gallery_labels):
        raise UsageError(f"queries {asked.shape} and gallery {known.shape} do not fit their labels", "Give one each")
    nearest = cdist(asked, known, "euclidean" if lengths_count else "cosine").argmin(axis=1)
    return float(np.mean([gallery_labels[place] == label for place, label in zip(nearest, query_labels, strict=True)]))


def blinks_per_minute(closure: Floats, fps: float, threshold: float = 0.5) -> float:
    """Rises of (T,) lid closure (0 open, 1 closed) through `threshold`, per minute."""
    closed = _series(np.asarray(closure)[:, None], "closure", 1)[:, 0] > threshold
    rises = int((closed[1:] & ~closed[:-1]).sum()) + int(closed[0])
    return 60.0 * rises * _positive(fps, "fps") / len(closed)


def _series(values: Any, name: str, width: int | None) -> Float64:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or 0 in array.shape or (width is not None and array.shape[1] != width):
        wanted = "(N, D)" if width is None else f"(T, {width})"
        raise UsageError(f"{name} has shape {array.shape}, expected {wanted}", "Pass one row for each frame or item")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds values that are not finite", "Leave out frames that are not valid")
    return array


def _positive(value: float, name: str) -> float:
    if not value > 0:
        raise UsageError(f"{name} is {value}", "Give a number above zero")
    return float(value)
