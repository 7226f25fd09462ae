"""Loss terms by hand, and batches in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_motion import statistics

from generator.config import LossConfig
from generator.losses import (
    Counts,
    Lips,
    canonical,
    counts,
    exchange,
    loss_terms,
    masks,
    spread_out,
    squared,
    style_term,
    total,
)
from generator.motion import make_layout
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin


def test_differences_over_time_by_hand() -> None:
    truth = torch.zeros(1, 4, 1)
    prediction = torch.tensor([[[1.0], [3.0], [2.0], [10.0]]])
    valid, known = torch.tensor([[True, True, True, False]]), torch.zeros(1, 4, dtype=torch.bool)
    by_order = masks(valid, known)
    assert squared(truth, prediction, by_order[0], 0) == 1 + 9 + 4
    assert squared(truth, prediction, by_order[1], 1) == 4 + 1
    assert squared(truth, prediction, by_order[2], 2) == 9  # (2 - 3) - (3 - 1)
    assert counts(valid, known).frames == (3, 2, 1)
    assert counts(valid, torch.tensor([[True, True, False, False]])).frames == (1, 1, 1)


def test_the_style_shown_is_compared_with_the_one_asked_for() -> None:
    asked = torch.tensor([[1.0, 0], [1, 0], [1, 0]])
    shown = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    valid, known = torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, 4, dtype=torch.bool)
    valid[1, 3], known[1, 0] = False, True
    found = style_term(shown, asked, torch.tensor([1.0, 0.5, 0.25]), valid, known)
    assert found == 0 * 4 + 0.5 * 1 * 2 + 0.25 * 2 * 4


def test_points_are_spread_out() -> None:
    line = np.stack([np.linspace(0, 1, 101), np.zeros(101), np.zeros(101)], axis=1)
    assert spread_out(line, 3).tolist() == [0, 50, 100]
    assert len(spread_out(line[:2], 5)) == 2


def test_lips_are_those_of_the_whole_model_and_carry_gradients(open_head: HeadModel) -> None:
    layout = make_layout(open_head, statistics(open_head))
    lips = Lips(open_head, layout, 12)
    motion = (0.3 * torch.randn(1, 2, layout.width, generator=torch.Generator().manual_seed(0))).requires_grad_()
    shape = torch.zeros(1, open_head.num_shape)
    found = lips(motion, shape)
    signals = layout.signals_of(motion.detach()[0])
    zero = torch.zeros(2, 3)
    jaw, left, right = (signals[name] for name in ("jaw_pose", "left_eye_pose", "right_eye_pose"))
    whole = skin(prepare(open_head), shape[0], signals["expression"], zero, zero, jaw, left, right, zero)
    assert torch.allclose(found[0], 1e3 * whole[:, lips.ids], atol=1e-3)
    found.sum().backward()
    assert motion.grad is not None
    turned = motion.grad[0, :, layout.places("global_pose")]
    assert bool((turned == 0).all())
    assert bool((motion.grad[0, :, layout.places("jaw_pose")] != 0).any())
    assert canonical(prepare(open_head), layout, motion, shape).shape == (1, 2, open_head.num_vertices, 3)


def test_parts_of_a_batch_have_the_gradient_of_the_whole(open_head: HeadModel) -> None:
    layout = make_layout(open_head, statistics(open_head))
    lips, config = Lips(open_head, layout, 6), LossConfig()
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(4, 6, layout.width, generator=generator)
    guess = torch.randn(4, 6, layout.width, generator=generator)
    valid = torch.rand(4, 6, generator=generator) < 0.7
    valid[0] = True
    valid[3, 1:] = False  # parts of very different weight
    known = torch.zeros(4, 6, dtype=torch.bool)
    known[1, :2] = True
    shape = torch.zeros(4, open_head.num_shape)

    def gradient(parts: list[slice]) -> torch.Tensor:
        here = guess.clone().requires_grad_()
        count = sum((counts(valid[p], known[p]) for p in parts), Counts((0, 0, 0)))
        for p in parts:
            terms = loss_terms(clean[p], here[p], valid[p], known[p], shape[p], lips, config)
            total(terms, count, config).backward()  # type: ignore[no-untyped-call]
        assert here.grad is not None
        return here.grad

    whole = gradient([slice(0, 4)])
    assert torch.allclose(gradient([slice(0, 1), slice(1, 3), slice(3, 4)]), whole, rtol=1e-4, atol=1e-6)
    assert bool((whole[~valid] == 0).all())
    assert bool((whole[1, :2] == 0).all())  # known frames are not judged


def test_exchange_asks_for_the_same_lips_and_another_emotion(open_head: HeadModel) -> None:
    layout = make_layout(open_head, statistics(open_head))
    lips, config = Lips(open_head, layout, 6), LossConfig(exchange=1.0)
    motion = torch.randn(2, 5, layout.width, generator=torch.Generator().manual_seed(0))
    emotion = torch.zeros(2, 9)
    emotion[:, 1] = 1
    sure = torch.full((2, 9), -20.0)
    sure[:, 1] = 20
    rest = (torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, open_head.num_shape), lips, config)
    assert exchange(motion, motion, emotion, sure, *rest) == pytest.approx(0, abs=1e-4)
    assert exchange(motion, motion, emotion, -sure, *rest) > 10
    moved = motion.clone()
    moved[:, ::2, layout.places("jaw_pose")] += 1
    assert exchange(motion, moved, emotion, sure, *rest) > 0.01
