"""Whether values lie in the range that their column promises: the one check that writer and verifier share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.tables import Column


def out_of_range(column: Column, values: NDArray[Any]) -> str | None:
    """The first value outside `column.low`..`column.high` as text, or None.

    `values` are measured ones (callers leave out frames that are not valid), flat or in the column's shape; NaN is
    never in range. Of an axis-angle column the angle counts: the length of each group of three values.
    """
    if column.low is None and column.high is None:
        return None
    checked = np.asarray(values)
    if column.rotation == "axis_angle":
        checked = np.linalg.norm(checked.reshape(-1, 3).astype(np.float64), axis=1)
    low = -np.inf if column.low is None else column.low
    high = np.inf if column.high is None else column.high
    # a float32 rounding of the bound itself is no fault
    wrong = ~((checked >= low - 1e-6 * abs(low or 1)) & (checked <= high + 1e-6 * abs(high or 1)))
    if not wrong.any():
        return None
    what = "angle " if column.rotation == "axis_angle" else ""
    unit = "" if column.unit in (None, "1") else f" {column.unit}"
    return f"{what}{checked[wrong].flat[0]:.6g}, expected {_bound(column.low)}..{_bound(column.high)}{unit}"


def scalar_out_of_range(column: Column, value: Any) -> str | None:
    """The same for one number, without the cost of an array."""
    low, high = column.low, column.high
    if (low is None or value >= low - 1e-6 * abs(low or 1)) and (high is None or value <= high + 1e-6 * abs(high or 1)):
        return None
    return out_of_range(column, np.array([value]))


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
