"""Frozen records as JSON values and back, to the last bit, so that an item of work can lie in a file."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from schemas.errors import TalksetError

ROOMS: Final = frozenset({"annotate", "pipelines", "reconstruct", "schemas"})
"""Packages whose records may be named in a file."""


def encode(value: Any) -> Any:
    """JSON values of a record: dataclasses, arrays, fractions and paths carry what they are. Raises TypeError else."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return encode(np.asarray(value))
    if isinstance(value, np.ndarray):
        return {"$array": value.dtype.str, "shape": list(value.shape), "data": value.ravel().tolist()}
    if isinstance(value, Fraction):
        return {"$fraction": [value.numerator, value.denominator]}
    if isinstance(value, Path):
        return {"$path": str(value)}
    if isinstance(value, tuple):
        return {"$tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {"$map": [[encode(key), encode(item)] for key, item in value.items()]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
        return {"$record": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}
    raise TypeError(f"a {type(value).__name__} cannot lie in a file")


def decode(value: Any) -> Any:
    """What `encode` was given. Raises TalksetError corrupt_data for what it cannot have written."""
    try:
        return _decoded(value)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, ImportError) as error:
        message = f"the stored record cannot be read ({type(error).__name__}: {error})"
        raise TalksetError("corrupt_data", message, "It was altered, or written by another version") from error


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        kind = np.dtype(value["$array"])
        if kind.kind not in "biufSU":
            raise ValueError(f"arrays of {kind} are not data")
        return np.array(value["data"], kind).reshape(value["shape"])
    if "$fraction" in value:
        return Fraction(*value["$fraction"])
    if "$path" in value:
        return Path(value["$path"])
    if "$tuple" in value:
        return tuple(_decoded(item) for item in value["$tuple"])
    if "$map" in value:
        return {_decoded(key): _decoded(item) for key, item in value["$map"]}
    return _kind(value["$record"])(**{name: _decoded(item) for name, item in value["fields"].items()})


def _kind(name: str) -> Any:
    """The dataclass of that name, from our own packages alone: a file must not choose what is called."""
    module, _, path = name.partition(":")
    if module.partition(".")[0] not in ROOMS or not path.isidentifier():
        raise ValueError(f"{name!r} is no record")
    kind = getattr(importlib.import_module(module), path)
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        raise ValueError(f"{name!r} is no record")
    return kind
