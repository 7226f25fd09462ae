"""Signals at other times: frame rates that differ, or the exact times of sound, video or a network's steps.

Everything is read off the presentation times, never off index / fps. Nothing is extrapolated, and a hole stays a hole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Kind = Literal["axis_angle", "linear", "nearest", "bool"]

KINDS: Final = ("axis_angle", "linear", "nearest", "bool")
SAME_TIME_US: Final = 1
"""Times are rounded to whole microseconds, by truth or by truncation: so close, two times are one."""
MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True)
class _Places:
    """Where each target time (N,) lies between the source frames."""

    before: Array
    after: Array
    """Equal to `before` where the target is at a frame's own time."""
    fraction: Array
    """Of the way from `before` to `after`."""
    valid: Array
    """Whether the values there are known."""


def resample(
    signals: Mapping[str, Array],
    kinds: Mapping[str, str],
    pts_us: Array,
    valid: Array,
    target: Fraction | float | Sequence[int] | Array,
    max_gap_us: int | None = None,
) -> dict[str, Array]:
    """The signals (T, ...) at other times: by name as given, with the new `pts_us` (N,) int64 and `valid` (N,).

    Args: kinds: for each signal "axis_angle" (..., 3) along the shortest rotation, unwrapped from the source's first;
    "linear" for other floats; "nearest" for integers that are labels; "bool" where false stands for not known.
    pts_us (T,): rising microseconds. valid (T,): whether a frame's values are known. target: frames per second
    (`Fraction(30000, 1001)` for NTSC's 29.97, which as a float is 2997/100) from the first frame's time on, or rising
    times in microseconds. max_gap_us: frames farther apart than this have nothing between them.

    A target between two frames is known where both are valid; at a frame's own time (within 1 us), where that frame is.
    Floats are NaN and bools false elsewhere. The result ends with the last target that is not past the last frame.

    There is no low-pass filter, even to fewer frames: parameters of a fit are already smooth over time (second-order
    prior), closed lips and lids last a frame or two and would be blurred open, and a filter would smear every hole.
    Filter first where the source is noisy and the new rate is less than half of the old.

    Raises ValueError for times that do not rise or leave the clip, and signals of another length or kind.
    """
    times, known = np.asarray(pts_us), np.asarray(valid)
    _check_times("pts_us", times)
    if len(times) == 0 or known.shape != times.shape or known.dtype != np.bool_:
        raise ValueError(f"valid has shape {known.shape} {known.dtype}, expected {times.shape} bool, not empty")
    if max_gap_us is not None and max_gap_us <= 0:
        raise ValueError(f"max_gap_us is {max_gap_us}, expected microseconds above zero or None")
    wanted = _targets(times, target)
    places = _places(times, known, wanted, max_gap_us)
    result: dict[str, Array] = {}
    for name, values in signals.items():
        kind = kinds.get(name)
        if kind not in KINDS:
            raise ValueError(f"signal {name!r} has the kind {kind!r}; give kinds[{name!r}] one of {', '.join(KINDS)}")
        result[name] = _at(name, np.asarray(values), cast("Kind", kind), known, places)
    return result | {"pts_us": wanted, "valid": places.valid}


def frame_times(first_us: int, last_us: int, fps: Fraction | float) -> NDArray[np.int64]:
    """Times of frames at a constant rate, from the first time to the last, in whole microseconds (N,).

    Frame k is at k / fps exactly, rounded once, so times do not drift. Raises ValueError for a rate not above zero.
    """
    try:
        rate = Fraction(fps).limit_denominator(MICROSECONDS)
    except (ValueError, OverflowError):
        rate = Fraction(0)
    if rate <= 0:
        raise ValueError(f"{fps!r} frames per second is not a rate; give a number above zero such as 25")
    top, bottom = MICROSECONDS * rate.denominator, rate.numerator
    count = (last_us - first_us + SAME_TIME_US) * bottom // top + 2
    offsets = [(2 * k * top + bottom) // (2 * bottom) for k in range(count)]  # Python's integers cannot overflow
    times = first_us + np.array(offsets, dtype=np.int64)
    # a source that cut its times to whole microseconds instead of rounding them still ends with its last frame
    return np.minimum(times[times <= last_us + SAME_TIME_US], last_us)


def _targets(times: Array, target: Fraction | float | Sequence[int] | Array) -> NDArray[np.int64]:
    first, last = int(times[0]), int(times[-1])
    if isinstance(target, (Fraction, int, float)):
        return frame_times(first, last, target)
    wanted = np.asarray(target)
    if wanted.ndim == 0:
        return frame_times(first, last, wanted.item())
    if wanted.size == 0:
        return np.zeros(0, dtype=np.int64)
    _check_times("target", wanted)
    if wanted[0] < first or wanted[-1] > last:
        raise ValueError(
            f"target times {wanted[0]}..{wanted[-1]} us leave the frames {first}..{last} us; nothing is extrapolated"
        )
    return wanted.astype(np.int64)


def _check_times(name: str, times: Array) -> None:
    if times.ndim != 1 or not np.issubdtype(times.dtype, np.integer):
        raise ValueError(f"{name} has shape {times.shape} {times.dtype}, expected one axis of whole microseconds")
    falls = np.flatnonzero(np.diff(times) <= 0)
    if len(falls):
        place = int(falls[0])
        raise ValueError(f"{name} does not rise: {times[place]} us is followed by {times[place + 1]} us at {place + 1}")


def _places(times: Array, known: Array, wanted: Array, max_gap_us: int | None) -> _Places:
    before = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(times) - 1)
    after = np.minimum(before + 1, len(times) - 1)
    after = np.where(wanted - times[before] <= SAME_TIME_US, before, after)
    before = np.where(times[after] - wanted <= SAME_TIME_US, after, before)
    same = before == after
    gap = np.where(same, 1, times[after] - times[before])
    valid = known[before] & known[after]
    if max_gap_us is not None:
        valid &= same | (gap <= max_gap_us)
    return _Places(before, after, np.where(same, 0.0, (wanted - times[before]) / gap), valid)


def _at(name: str, values: Array, kind: Kind, known: Array, places: _Places) -> Array:
    """One signal at the target times."""
    fits = {
        "axis_angle": np.issubdtype(values.dtype, np.floating) and values.ndim > 1 and values.shape[-1] == 3,
        "linear": np.issubdtype(values.dtype, np.floating),
        "nearest": True,
        "bool": values.dtype == np.bool_,
    }
    if values.ndim == 0 or len(values) != len(known) or not fits[kind]:
        raise ValueError(
            f"signal {name!r} has shape {values.shape} {values.dtype}, which is not {len(known)} frames of {kind}"
        )
    if kind == "bool":
        unknown = ~places.valid.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(values[places.before] & values[places.after] & ~unknown)
    if kind == "axis_angle":
        result = _rotated(values, known, places)
    elif kind == "linear":
        part = places.fraction.reshape(-1, *[1] * (values.ndim - 1))
        first, second = values[places.before].astype(np.float64), values[places.after].astype(np.float64)
        result = (first + part * (second - first)).astype(values.dtype)
    else:
        result = values[np.where(places.fraction < 0.5, places.before, places.after)]
    if np.issubdtype(values.dtype, np.floating):
        result[~places.valid] = np.nan
    return result


def _rotated(values: Array, known: Array, places: _Places) -> Array:
    """(N, ..., 3) axis-angle between the frames, each track unwrapped and starting beside the source's own form."""
    from reconstruct.models.rotations import interpolate, unwrap_axis_angle

    tracks = values.astype(np.float64).reshape(len(values), -1, 3)
    tracks = np.where(known[:, None, None], tracks, np.nan)
    result = np.empty((len(places.before), tracks.shape[1], 3))
    for track in range(tracks.shape[1]):
        source = tracks[:, track]
        found = interpolate(source[places.before], source[places.after], places.fraction)
        found[~places.valid] = np.nan
        seen = np.flatnonzero(np.isfinite(found).all(1))
        near = source[places.before[seen[0]]] if len(seen) else None
        result[:, track] = unwrap_axis_angle(found, near)
    return result.reshape(len(result), *values.shape[1:]).astype(values.dtype)
