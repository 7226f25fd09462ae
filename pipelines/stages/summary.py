"""Numbers of a result as JSON has them: None where there is nothing to say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_or_none(values: NDArray[np.float32] | None) -> float | None:
    """Mean of the values that are there; None without one."""
    present = values[np.isfinite(values)] if values is not None else np.zeros(0)
    return float(np.mean(present, dtype=np.float64)) if len(present) else None


def known_or_none(value: float) -> float | None:
    """The value unless it is NaN or infinite."""
    return value if np.isfinite(value) else None
