"""The contrastive loss by hand, and the encoder's blindness to what is not valid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from generator.config import GeneratorConfig
from generator.style import StyleEncoder, judge_loss, nt_xent


def test_nt_xent_by_hand() -> None:
    style = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    clip, group = torch.arange(4), torch.tensor([0, 1, 0, 1])
    each = -np.log(np.exp(2) / (np.exp(2) + 2 * np.exp(0)))  # one positive at cosine 1, two negatives at 0
    assert nt_xent(style, group, clip, 0.5) == pytest.approx(each, abs=1e-5)
    wrong = torch.tensor([0, 0, 1, 1])
    assert nt_xent(style, wrong, clip, 0.5) > each


def test_crops_of_one_clip_are_positives_only_where_nothing_else_is() -> None:
    style = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    group, clip = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 2, 2])
    logits = (style @ style.T / 0.5).numpy()

    def share(row: int, positives: list[int], negatives: list[int]) -> float:
        everything = np.log(np.exp(logits[row, positives + negatives]).sum())
        return float(everything - logits[row, positives].mean())

    # clips 0 and 1 are of one group, so a crop's partner is the other clip; clip 2 has only itself
    rows = [share(row, [2, 3], [4, 5]) for row in (0, 1)] + [share(row, [0, 1], [4, 5]) for row in (2, 3)]
    rows += [share(4, [5], [0, 1, 2, 3]), share(5, [4], [0, 1, 2, 3])]
    assert nt_xent(style, group, clip, 0.5) == pytest.approx(np.mean(rows), abs=1e-5)


def test_rows_without_partners_are_left_out() -> None:
    style = torch.eye(3, requires_grad=True)
    assert nt_xent(style, torch.arange(3), torch.arange(3), 0.5) == 0


def test_frames_that_are_not_valid_do_not_matter(small_config: GeneratorConfig) -> None:
    encoder = StyleEncoder(small_config, 5).eval()
    motion = torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 20, dtype=torch.bool)
    valid[:, 12:] = False
    changed = motion.clone()
    changed[:, 12:] = 99
    with torch.no_grad():
        one, other = encoder(motion, valid)[0], encoder(changed, valid)[0]
    assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(one.norm(dim=1), torch.ones(2))


def test_the_judge_learns_intensity_as_a_share_of_neutral() -> None:
    emotion = torch.zeros(1, 9)
    emotion[0, 2] = 0.8
    target = torch.tensor([[0.2, 0, 0.8, 0, 0, 0, 0, 0, 0]])
    best = torch.log(target.clamp(min=1e-9))
    entropy = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    assert judge_loss(best, emotion, torch.tensor([True])) == pytest.approx(entropy, abs=1e-4)
    assert judge_loss(best, emotion, torch.tensor([False])) == 0
