"""Quantiles and histograms of a stream of float32 vectors, in bounded memory and whatever the order of the stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

MANTISSA_BITS: Final = 6
LOWEST_EXPONENT: Final = -20
HIGHEST_EXPONENT: Final = 20
RELATIVE_ERROR: Final = 1 / 128
"""Half the width of a bucket against its lower end."""
SMALLEST: Final = 2.0**LOWEST_EXPONENT
"""Values nearer to zero than this count as zero."""
LARGEST: Final = 2.0**HIGHEST_EXPONENT
"""Magnitudes from here on share one bucket."""

_PER_OCTAVE: Final = 1 << MANTISSA_BITS
_SHIFT: Final = 23 - MANTISSA_BITS
_FIRST: Final = (127 + LOWEST_EXPONENT) << MANTISSA_BITS
"""Leading bits of `SMALLEST` as a float32."""
_OVERFLOW: Final = (HIGHEST_EXPONENT - LOWEST_EXPONENT) * _PER_OCTAVE + 1
_INFINITY_BITS: Final = 0x7F800000


def _lower_bounds() -> Float64:
    """Lower end of the magnitudes of bucket 0 (zero), 1, 2, ... `_OVERFLOW`, and infinity as the end of the last."""
    place = np.arange(_OVERFLOW)
    bounds = np.exp2(LOWEST_EXPONENT + place // _PER_OCTAVE) * (1 + place % _PER_OCTAVE / _PER_OCTAVE)
    return np.concatenate([[0.0], bounds, [np.inf]])


_BOUNDS: Final = _lower_bounds()


class QuantileSketch:
    """Counts of the values of each dimension in logarithmic buckets with linear steps inside an octave.

    A bucket is what float32 numbers share in sign, exponent and the six leading bits of the mantissa, so adding is a
    count of integers: the result depends neither on the order of the values nor on how they came in batches, and two
    sketches merge without loss. Memory is 8 bytes x width x buckets in use, at most 41 kB a dimension.

    Source: HdrHistogram (G. Tene), with the bits of IEEE 754 as bucket number.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.minimum: Float64 = np.full(width, np.inf)
        self.maximum: Float64 = np.full(width, -np.inf)
        self._counts: Int64 = np.zeros((width, 0), np.int64)
        self._first = 0
        """Number of the bucket in the first column of `_counts`; negative values have negative numbers."""

    @property
    def width(self) -> int:
        """Number of dimensions."""
        return len(self.minimum)

    @property
    def nbytes(self) -> int:
        """Memory of the counts in bytes."""
        return self._counts.nbytes

    def add(self, batch: NDArray[Any]) -> None:
        """Add a batch (n, width), taken as float32; an empty one changes nothing.

        Raises ValueError for another width and for values that are not finite.
        """
        if batch.ndim != 2 or batch.shape[1] != self.width:
            raise ValueError(f"a batch of shape {batch.shape} does not fit a sketch of width {self.width}")
        if batch.size == 0:
            return
        values = np.ascontiguousarray(batch, dtype=np.float32)
        keys = _bucket_numbers(values)
        self._cover(int(keys.min()), int(keys.max()))
        starts = np.arange(self.width, dtype=np.int64) * self._counts.shape[1] - self._first
        np.add.at(self._counts.reshape(-1), (keys + starts).reshape(-1), 1)
        self.count += len(values)
        np.minimum(self.minimum, values.min(axis=0), out=self.minimum)
        np.maximum(self.maximum, values.max(axis=0), out=self.maximum)

    def merge(self, other: QuantileSketch) -> None:
        """Add all values of another sketch. Raises ValueError for another width."""
        if other.width != self.width:
            raise ValueError(f"a sketch of width {other.width} does not fit one of width {self.width}")
        if other.count == 0:
            return
        buckets = other._counts.shape[1]
        self._cover(other._first, other._first + buckets - 1)
        place = other._first - self._first
        self._counts[:, place : place + buckets] += other._counts
        self.count += other.count
        np.minimum(self.minimum, other.minimum, out=self.minimum)
        np.maximum(self.maximum, other.maximum, out=self.maximum)

    def quantiles(self, fractions: Sequence[float]) -> Float64:
        """Quantiles (len(fractions), width) by nearest rank: of n sorted values the one numbered ceil(fraction x n).

        `np.quantile(..., method="inverted_cdf")` is the exact value. An estimate differs from it by at most
        `RELATIVE_ERROR` of its magnitude, by at most `SMALLEST` below that magnitude; values of `LARGEST` and more are
        reported as the exact extreme. Estimates never leave the exact minimum and maximum.
        Raises ValueError for a fraction outside 0..1 and for a sketch without values.
        """
        wrong = [fraction for fraction in fractions if not 0 <= fraction <= 1]
        if wrong:
            raise ValueError(f"a quantile needs a fraction of 0..1, got {wrong[0]}")
        if self.count == 0:
            raise ValueError("a sketch without values has no quantiles; check `count` first")
        ranks = [max(1, math.ceil(fraction * self.count)) for fraction in fractions]
        lower, upper = self._bucket_bounds()
        with np.errstate(invalid="ignore"):  # the outermost buckets reach to infinity and are clamped below
            middles = (lower + upper) / 2
        result = np.empty((len(ranks), self.width))
        for place, counts in enumerate(self._counts):  # one dimension at a time keeps the memory small
            result[:, place] = middles[np.searchsorted(np.cumsum(counts), ranks)]
        return np.clip(result, self.minimum, self.maximum)

    def quantile(self, fraction: float) -> Float64:
        """One quantile (width,), see `quantiles`."""
        estimate: Float64 = self.quantiles([fraction])[0]
        return estimate

    def histogram(self, edges: Sequence[float] | Float64) -> Float64:
        """Number of values (width, len(edges) - 1) between rising edges; sum over axis 0 to pool the dimensions.

        The values of a bucket that an edge cuts are shared out in proportion to its length, hence fractions. Values
        outside the edges are not counted; the last edge itself is.
        """
        places = np.asarray(edges, np.float64)
        if places.ndim != 1 or len(places) < 2 or not (np.diff(places) > 0).all():
            raise ValueError(f"histogram edges must be two or more rising numbers, got {places.tolist()}")
        result = np.zeros((self.width, len(places) - 1))
        if self.count == 0:
            return result
        lower, upper = self._bucket_bounds()
        ends = np.append(lower, upper[-1])
        for place, counts in enumerate(self._counts):
            low, high = self.minimum[place], self.maximum[place]
            below = np.interp(places, np.clip(ends, low, high), np.concatenate([[0], np.cumsum(counts)]))
            below[places <= low] = 0
            below[places >= high] = self.count
            result[place] = np.diff(below)
        return result

    def _bucket_bounds(self) -> tuple[Float64, Float64]:
        """Lower and upper end of every bucket in `_counts`."""
        numbers = self._first + np.arange(self._counts.shape[1])
        size = np.abs(numbers)
        inner, outer = _BOUNDS[size], _BOUNDS[size + 1]
        lower = np.where(numbers > 0, inner, -outer)
        upper = np.where(numbers < 0, -inner, outer)
        return lower, upper

    def _cover(self, first: int, last: int) -> None:
        """Make room for the buckets first..last, in whole octaves so that it is seldom needed."""
        buckets = self._counts.shape[1]
        if buckets and self._first <= first and last < self._first + buckets:
            return
        first = max(-_OVERFLOW, first // _PER_OCTAVE * _PER_OCTAVE)
        last = min(_OVERFLOW, last // _PER_OCTAVE * _PER_OCTAVE + _PER_OCTAVE - 1)
        if buckets:
            first, last = min(first, self._first), max(last, self._first + buckets - 1)
        counts = np.zeros((self.width, last - first + 1), np.int64)
        if buckets:
            place = self._first - first
            counts[:, place : place + buckets] = self._counts
        self._counts, self._first = counts, first


def _bucket_numbers(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Signed bucket number of every value: 0 for zero, rising with the magnitude, up to `_OVERFLOW`."""
    bits = values.view(np.int32)
    numbers = bits & 0x7FFFFFFF
    if int(numbers.max()) >= _INFINITY_BITS:
        raise ValueError(f"{int((numbers >= _INFINITY_BITS).sum())} values are not finite; add measured frames only")
    numbers >>= _SHIFT
    numbers -= _FIRST - 1
    np.clip(numbers, 0, _OVERFLOW, out=numbers)
    sign = bits >> 31  # -1 where negative: two's complement negates by (x ^ -1) - (-1)
    numbers ^= sign
    numbers -= sign
    return numbers
