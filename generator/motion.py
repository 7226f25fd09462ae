"""What a motion vector is: which signals of a data set make it, in which order, and how they are normalised.

One layout for one head model: the expressions that the model lets move, jaw, head rotation, neck and gaze, and with a
body its rotations and hands. Eyelids are expressions of the open head (eyeBlinkLeft ...); FLAME has none, so neither
has its layout. Rotations are axis-angles as the data set stores them, unwrapped near the pose that faces the camera:
there they are smooth, and far from the angle of 2 pi at which they are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError

Float32 = NDArray[np.float32]

HEAD_SIGNALS: Final = ("jaw_pose", "global_pose", "neck_pose", "left_eye_pose", "right_eye_pose")
BODY_SIGNALS: Final = {"body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45, "body_global_pose": 3}
"""Signals of the body and their widths."""
LEAST_SCALE: Final = {"expression": 0.02}
LEAST_ROTATION_SCALE: Final = 0.005
"""A signal that hardly varies is the noise of its fit; it is not blown up to unit variance."""
_FORMAT: Final = 1


@dataclass(frozen=True)
class Group:
    """A signal's part of the vector."""

    signal: str
    width: int
    """Values of the signal in a frame."""
    columns: tuple[int, ...]
    """Those of them that the vector holds."""


@dataclass(frozen=True)
class MotionLayout:
    """The vector (D,) of a frame."""

    head_model: str
    model_sha256: str
    groups: tuple[Group, ...]
    shift: tuple[float, ...]
    """(D,) in the signals' units; normalised = (value - shift) / scale."""
    scale: tuple[float, ...]

    @property
    def width(self) -> int:
        """D."""
        return sum(len(group.columns) for group in self.groups)

    @property
    def head_width(self) -> int:
        """How many of the D are of the head; the body's come after them."""
        return sum(len(group.columns) for group in self.groups if group.signal not in BODY_SIGNALS)

    @property
    def signals(self) -> tuple[str, ...]:
        """The signals to read from a data set."""
        return tuple(group.signal for group in self.groups)

    def places(self, signal: str) -> slice:
        """Where in the vector a signal is. Raises UsageError."""
        start = 0
        for group in self.groups:
            if group.signal == signal:
                return slice(start, start + len(group.columns))
            start += len(group.columns)
        raise UsageError(f"motion of {self.head_model} has no {signal}", f"It has {', '.join(self.signals)}")

    def vector(self, signals: Mapping[str, Any]) -> Any:
        """(..., D) normalised from signals (..., width), arrays or tensors. Raises UsageError for other widths."""
        parts = []
        for group in self.groups:
            values = signals[group.signal]
            if values.shape[-1] != group.width:
                message = f"{group.signal} has {values.shape[-1]} values a frame, {self.head_model} has {group.width}"
                raise UsageError(message, "Use clips of the head model that the generator was trained with")
            parts.append(values if len(group.columns) == group.width else values[..., list(group.columns)])
        joined = torch.cat(parts, dim=-1) if isinstance(parts[0], Tensor) else np.concatenate(parts, axis=-1)
        return (joined - self._like(self.shift, joined)) / self._like(self.scale, joined)

    def signals_of(self, vector: Any) -> dict[str, Any]:
        """Signals (..., width) from normalised vectors (..., D); values that the vector does not hold are zero."""
        values = vector * self._like(self.scale, vector) + self._like(self.shift, vector)
        found: dict[str, Any] = {}
        for group in self.groups:
            part = values[..., self.places(group.signal)]
            if len(group.columns) < group.width:
                shape = (*part.shape[:-1], group.width)
                whole = part.new_zeros(shape) if isinstance(part, Tensor) else np.zeros(shape, part.dtype)
                whole[..., list(group.columns)] = part
                part = whole
            found[group.signal] = part
        return found

    @staticmethod
    def _like(numbers: Sequence[float], values: Any) -> Any:
        if isinstance(values, Tensor):
            return torch.as_tensor(numbers, dtype=values.dtype, device=values.device)
        return np.asarray(numbers, values.dtype)

    def to_json(self) -> str:
        """Text for a checkpoint."""
        return json.dumps({"format": _FORMAT, **vars(self), "groups": [vars(group) for group in self.groups]})

    @classmethod
    def from_json(cls, text: str) -> MotionLayout:
        """The layout that `to_json` wrote. Raises UsageError."""
        try:
            content = json.loads(text)
            if content.pop("format") != _FORMAT:
                raise KeyError("format")
            groups = tuple(Group(g["signal"], g["width"], tuple(g["columns"])) for g in content.pop("groups"))
            content |= {name: tuple(content[name]) for name in ("shift", "scale")}
            return cls(groups=groups, **content)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"this is no motion layout of this talkset ({error!r})", "Train again") from error


def make_layout(model: HeadModel, stats: Mapping[str, Any], body: bool = False) -> MotionLayout:
    """The layout of a head model, normalised by mean and standard deviation of a data set's stats.json.

    Raises UsageError where the data set has no statistics of the model, or no body that is asked for.
    """
    known = stats.get("signals", {})
    if model.name not in known:
        raise UsageError(
            f"the data set has no clips of the head model {model.name!r}", f"It has {', '.join(known) or 'none'}"
        )
    moving = tuple(i for i, name in enumerate(model.expression_names) if name not in model.fixed_expressions)
    groups = [Group("expression", model.num_expression, moving)]
    groups += [Group(name, 3, (0, 1, 2)) for name in HEAD_SIGNALS]
    if body:
        if not known[model.name].get("body_pose", {}).get("mean"):
            raise UsageError("the data set has no bodies", "Train with --config base, or reconstruct bodies first")
        groups += [Group(name, width, tuple(range(width))) for name, width in BODY_SIGNALS.items()]
    shift: list[float] = []
    scale: list[float] = []
    for group in groups:
        entry = known[model.name].get(group.signal)
        if entry is None or not entry.get("std"):
            raise UsageError(f"stats.json has no statistics of {group.signal}", "Run `talkset verify`")
        least = LEAST_SCALE.get(group.signal, LEAST_ROTATION_SCALE)
        mean, std = np.ravel(entry["mean"]), np.ravel(entry["std"])
        shift += [float(mean[i]) for i in group.columns]
        scale += [max(float(std[i]), least) for i in group.columns]
    return MotionLayout(model.name, model.sha256, tuple(groups), tuple(shift), tuple(scale))
