"""Settings as frozen dataclasses: built from plain trees, changed by dotted keys, with unknown keys refused."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml

from schemas.errors import UsageError

Built = TypeVar("Built")


def set_values(tree: dict[str, Any], overrides: Sequence[str], see: str) -> None:
    """Put `section.key=value` overrides, whose values are YAML, into a tree of plain values.

    `see` tells where the known keys are. Raises UsageError for an override that is none.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"override {override!r} has no '='", "Write --set section.key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"override {override!r}: the value is not YAML", "Quote the value") from error
        node = tree
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise UsageError(f"override {override!r}: {parent} is not a section", see)
            node = child
        node[leaf] = value


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of both, the values of the second where both have one."""
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        merged[key] = over(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged


def build(kind: type[Built], tree: Mapping[str, Any], prefix: str = "") -> Built:
    """The dataclass `kind` with the values of a tree, and of its sections, over its defaults.

    Raises UsageError that names an unknown key with a suggestion, or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            known = (
                f"Did you mean {prefix}{close[0]}?" if close else f"Known keys: {', '.join(prefix + k for k in hints)}"
            )
            raise UsageError(f"unknown configuration key {name!r}", known)
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise UsageError(f"configuration key {name!r} is a section, got {value!r}", f"Write {name}.field=value")
            values[key] = build(typing.cast("type[Any]", hint), value, f"{name}.")
        else:
            values[key] = _coerce(value, hint, name)
    return kind(**values)


def _coerce(value: Any, hint: Any, name: str) -> Any:
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    if isinstance(value, bool):
        if bool in allowed:
            return value
    elif isinstance(value, int) and float in allowed:
        return float(value)
    elif isinstance(value, str) and float in allowed:
        try:  # YAML 1.1 reads 1e-3 as text
            return float(value)
        except ValueError:
            pass
    elif type(value) in allowed:
        return value
    expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
    raise UsageError(f"configuration key {name!r} must be {expected}, got {value!r}", f"Set {name} to a {expected}")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration (or a section) as plain nested dictionaries, ready for YAML or JSON."""
    return dataclasses.asdict(config)
