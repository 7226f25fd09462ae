"""The motion vector: round trips, what it leaves out, and its normalisation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from generator.motion import LEAST_SCALE, MotionLayout, make_layout
from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError


def statistics(model: HeadModel, body: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    widths = {"expression": model.num_expression, **dict.fromkeys(
        ("jaw_pose", "global_pose", "neck_pose", "left_eye_pose", "right_eye_pose"), 3)}  # fmt: skip
    if body:
        widths |= {"body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45, "body_global_pose": 3}
    signals = {
        n: {"mean": rng.normal(size=w).tolist(), "std": rng.uniform(0.1, 1, w).tolist()} for n, w in widths.items()
    }
    signals["expression"]["std"][0] = 1e-9
    return {"signals": {model.name: signals}}


def test_signals_come_back_from_the_vector(open_head: HeadModel) -> None:
    layout = make_layout(open_head, statistics(open_head))
    rng = np.random.default_rng(1)
    signals = {group.signal: rng.normal(size=(2, 5, group.width)).astype(np.float32) for group in layout.groups}
    fixed = [open_head.expression_names.index(name) for name in open_head.fixed_expressions]
    signals["expression"][..., fixed] = 0
    back = layout.signals_of(layout.vector(signals))
    for name, values in signals.items():
        assert np.allclose(back[name], values, atol=1e-5)
    tensors = {name: torch.as_tensor(values) for name, values in signals.items()}
    assert np.allclose(layout.vector(tensors).numpy(), layout.vector(signals), atol=1e-6)
    assert layout.width == open_head.num_expression - len(fixed) + 15 == layout.head_width


def test_normalisation_is_that_of_the_statistics_with_a_least_scale(open_head: HeadModel) -> None:
    stats = statistics(open_head)
    layout = make_layout(open_head, stats)
    jaw = stats["signals"][open_head.name]["jaw_pose"]
    place = layout.places("jaw_pose").start
    assert layout.shift[place] == pytest.approx(jaw["mean"][0])
    assert layout.scale[place] == pytest.approx(jaw["std"][0])
    assert layout.scale[0] == LEAST_SCALE["expression"]


def test_a_body_comes_after_the_head_and_flame_has_all_its_expressions(open_head: HeadModel) -> None:
    layout = make_layout(open_head, statistics(open_head, body=True), body=True)
    assert layout.width - layout.head_width == 63 + 45 + 45 + 3
    assert layout.places("body_pose").start == layout.head_width
    flame = dataclasses.replace(
        open_head, name="flame2023", fixed_expressions=(), sha256="f",
        expression_names=tuple(f"exp{k}" for k in range(open_head.num_expression)),
    )  # fmt: skip
    assert make_layout(flame, statistics(flame)).width == flame.num_expression + 15


def test_layouts_travel_as_text_and_wrong_data_are_errors(open_head: HeadModel) -> None:
    layout = make_layout(open_head, statistics(open_head))
    assert MotionLayout.from_json(layout.to_json()) == layout
    with pytest.raises(UsageError, match="no motion layout"):
        MotionLayout.from_json("{}")
    with pytest.raises(UsageError, match="no bodies"):
        make_layout(open_head, statistics(open_head), body=True)
    with pytest.raises(UsageError, match="no clips of the head model"):
        make_layout(open_head, {"signals": {"flame2020": {}}})
    wrong = {group.signal: np.zeros((1, group.width + 1), np.float32) for group in layout.groups}
    with pytest.raises(UsageError, match="Use clips of the head model"):
        layout.vector(wrong)
