"""Signals to zero mean and unit variance, or to -1..1, by the statistics of a data set; and back again.

Needs only numpy; torch tensors are recognised by what they can do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from talkset.store import DatasetError
from talkset.where import unknown_column

KINDS: Final = {"mean_std": ("mean", "std"), "quantile": ("q01", "q99")}
"""What each kind of normalisation needs of stats.json."""
LEFT_ALONE: Final = ("pts_us", "valid")
"""Signals that are no floats, so have no statistics and no normalisation."""
_FORMAT: Final = 1
_CONSTANT: Final = 1e-6
"""A spread below this part of the magnitude is rounding of float32, not a signal."""


class Normaliser:
    """Affine normalisation, one shift and scale for every dimension of a signal.

    "mean_std": (x - mean) / std. "quantile": the 1 % quantile becomes -1, the 99 % quantile 1; values beyond them
    pass -1 and 1. A dimension that does not vary (std or q99 - q01 of about zero, such as a neck that was not fitted)
    keeps its scale: only its mean, or the middle of its quantiles, is subtracted.
    """

    def __init__(self, kind: str, shift: Mapping[str, Any], scale: Mapping[str, Any]) -> None:
        """`shift` and `scale` are flat, one number for each dimension of a signal. Raises DatasetError."""
        if kind not in KINDS:
            raise DatasetError(f"unknown kind of normalisation {kind!r}; known: {', '.join(KINDS)}")
        if set(shift) != set(scale):
            raise DatasetError("a normaliser needs a shift and a scale for the same signals")
        self.kind = kind
        self.shift = {name: np.asarray(values, np.float64).reshape(-1) for name, values in shift.items()}
        """By signal, in its unit."""
        self.scale = {name: np.asarray(values, np.float64).reshape(-1) for name, values in scale.items()}
        """By signal, in its unit; positive."""
        for name, values in self.scale.items():
            if values.shape != self.shift[name].shape or not (values > 0).all() or not np.isfinite(values).all():
                raise DatasetError(f"the scale of {name} must be positive numbers, one for each dimension")
            if not np.isfinite(self.shift[name]).all():
                raise DatasetError(f"the shift of {name} must be finite")

    def __repr__(self) -> str:
        return f"<{self.kind} normaliser of {', '.join(self.shift) or 'nothing'}>"

    @classmethod
    def from_stats(
        cls, stats: Mapping[str, Any], columns: Sequence[str], head_model: str, kind: str = "mean_std"
    ) -> Normaliser:
        """The normaliser of a data set's stats.json for clips of one head model, whose codes no other model shares.

        `columns` are names of signals; `pts_us` and `valid` are no floats and left alone.
        Raises DatasetError for an unknown head model, signal (with a suggestion) or kind, or a signal without values.
        """
        if kind not in KINDS:
            raise DatasetError(f"unknown kind of normalisation {kind!r}; known: {', '.join(KINDS)}")
        models = stats.get("signals", {})
        if head_model not in models:
            known = ", ".join(map(repr, models)) or "none"
            raise DatasetError(f"stats.json has no head model {head_model!r}; it has {known}")
        signals = models[head_model]
        low_name, high_name = KINDS[kind]
        shift: dict[str, Any] = {}
        scale: dict[str, Any] = {}
        for name in columns:
            column = name.rpartition(".")[2]
            if column in LEFT_ALONE:
                continue
            if column not in signals:
                raise DatasetError(
                    f"stats.json has no statistics to normalise by: {unknown_column(name, list(signals))}"
                )
            entry = signals[column]
            if not (entry.get(low_name) and entry.get(high_name)):
                raise DatasetError(
                    f"stats.json has no {low_name} and {high_name} of {name} for {head_model}; it was not measured, or "
                    "the data set is older; leave the column out or bring it up to date with `talkset upgrade`"
                )
            low, high = (np.asarray(entry[key], np.float64) for key in (low_name, high_name))
            if kind == "quantile":
                middle, spread = (low + high) / 2, (high - low) / 2
            else:
                middle, spread = low, high
            shift[name] = middle
            scale[name] = np.where(spread > _CONSTANT * np.maximum(np.abs(middle), _CONSTANT), spread, 1.0)
        return cls(kind, shift, scale)

    def normalise(self, name: str, values: Any) -> Any:
        """A numpy array or torch tensor (..., the signal's own axes) in normalised units, same type and float type.

        Booleans and integers come back as they are. Raises DatasetError for a signal that the normaliser does not
        know or that does not fit it.
        """
        constants = self._constants(name, values)
        return values if constants is None else (values - constants[0]) / constants[1]

    def denormalise(self, name: str, values: Any) -> Any:
        """The inverse of `normalise`."""
        constants = self._constants(name, values)
        return values if constants is None else values * constants[1] + constants[0]

    def _constants(self, name: str, values: Any) -> tuple[Any, Any] | None:
        """Shift and scale in the type and on the device of the values; None where nothing is to be done."""
        tensor = hasattr(values, "new_tensor")
        if not (values.is_floating_point() if tensor else np.issubdtype(values.dtype, np.floating)):
            return None
        if name not in self.shift:
            raise DatasetError(f"cannot normalise: {unknown_column(name, list(self.shift))}")
        shift, scale = self.shift[name], self.scale[name]
        axes = _own_axes(tuple(values.shape), len(shift))
        if axes is None:
            shape = tuple(values.shape)
            raise DatasetError(f"{name} has {len(shift)} dimensions in the statistics, got an array of shape {shape}")
        if tensor:
            return values.new_tensor(shift.reshape(axes)), values.new_tensor(scale.reshape(axes))
        return shift.reshape(axes).astype(values.dtype), scale.reshape(axes).astype(values.dtype)

    def to_json(self) -> str:
        """Text for a checkpoint; `from_json` gives an equal normaliser."""
        signals = {
            name: {"shift": self.shift[name].tolist(), "scale": self.scale[name].tolist()} for name in self.shift
        }
        return json.dumps({"format": _FORMAT, "kind": self.kind, "signals": signals})

    @classmethod
    def from_json(cls, text: str) -> Normaliser:
        """The normaliser that `to_json` wrote. Raises DatasetError for other text."""
        try:
            content = json.loads(text)
            known = content["format"] == _FORMAT
            signals = content["signals"].items()
            shift, scale = ({name: entry[key] for name, entry in signals} for key in ("shift", "scale"))
            kind = content["kind"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"this is no normaliser written by to_json ({error!r})") from error
        if not known:
            raise DatasetError(f"a normaliser of format {content['format']!r}; this talkset reads {_FORMAT}")
        return cls(kind, shift, scale)


def _own_axes(shape: tuple[int, ...], dimensions: int) -> tuple[int, ...] | None:
    """The last axes that together have as many entries as the signal has dimensions; None where there are none."""
    if dimensions == 1:
        return ()
    product = 1
    for place in range(len(shape) - 1, -1, -1):
        product *= shape[place]
        if product == dimensions:
            return shape[place:]
        if product > dimensions:
            return None
    return None
