"""The contrastive loss by hand, and the encoder's blindness to what is not valid."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from generator.config import GeneratorConfig, load_config
from generator.data import Clips
from generator.style import Labels, StyleEncoder, crops, judge_loss, nt_xent, train_style


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


@pytest.mark.parametrize("layers", [0, 2])
def test_frames_that_are_not_valid_do_not_matter(layers: int) -> None:
    config = load_config("tiny", [f"style.layers={layers}"])
    encoder = StyleEncoder(config, 5).eval()
    motion = torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 20, dtype=torch.bool)
    valid[:, 12:] = False
    changed = motion.clone()
    changed[:, 12:] = 99
    with torch.no_grad():
        one, other = encoder(motion, valid)[0], encoder(changed, valid)[0]
    assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(one.norm(dim=1), torch.ones(2))


def talking(styles: torch.Tensor, seed: int) -> Clips:
    """Clips whose first value has the mean, the second the deviation, of a style (N, 2); the third has none of it."""
    noise = torch.randn(len(styles), 60, 3, generator=torch.Generator().manual_seed(seed))
    tracks = styles[:, :1] + noise[..., 0], styles[:, 1:].exp() * noise[..., 1], 0.3 * noise[..., 2].cumsum(1)
    motion = torch.stack(tracks, dim=2)
    return Clips(motion, torch.ones(motion.shape[:2], dtype=torch.bool), torch.arange(len(styles)))


def fresh(config: GeneratorConfig) -> StyleEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleEncoder(config, 3)


def test_styles_of_new_people_are_told_apart() -> None:
    config = load_config("tiny", ["style.steps=100", "style.width=8", "model.style_width=4"])
    known = 1.5 * torch.randn(20, 2, generator=torch.Generator().manual_seed(1)).repeat(2, 1)
    labels = Labels(torch.arange(20).repeat(2), torch.zeros(40, 9), torch.zeros(40, dtype=torch.bool))
    encoder = fresh(config)
    train_style(encoder, (talking(known, seed) for seed in range(100)), labels, config, torch.device("cpu"))
    new = 1.5 * torch.randn(8, 2, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        one, other = (encoder(clips.motion, clips.valid)[0] for clips in (talking(new, 998), talking(new, 999)))
    assert ((one @ other.T).argmax(1) == torch.arange(8)).float().mean() > 0.6  # chance is 1 in 8


def test_traces_of_what_nobody_did_hardly_count() -> None:
    config = load_config("tiny", ["style.steps=100", "style.width=8", "model.style_width=4"])
    known = 1.5 * torch.randn(20, 2, generator=torch.Generator().manual_seed(1)).repeat(2, 1)
    labels = Labels(torch.arange(20).repeat(2), torch.zeros(40, 9), torch.zeros(40, dtype=torch.bool))

    def still(clips: Clips) -> Clips:
        return replace(clips, motion=clips.motion * torch.tensor([1.0, 1.0, 0.0]))

    encoder = fresh(config)
    train_style(encoder, (still(talking(known, seed)) for seed in range(100)), labels, config, torch.device("cpu"))
    clips = still(talking(1.5 * torch.randn(8, 2, generator=torch.Generator().manual_seed(2)), 999))
    traces = 0.02 * torch.randn(clips.motion.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        clean, _ = encoder(clips.motion, clips.valid)
        found, _ = encoder(clips.motion + traces * torch.tensor([0.0, 0.0, 1.0]), clips.valid)
    assert (clean * found).sum(1).mean() > 0.85


def test_of_single_clips_crops_are_told_apart() -> None:
    config = load_config("tiny", ["style.steps=60", "style.width=8", "model.style_width=4"])
    clips = talking(torch.randn(20, 2, generator=torch.Generator().manual_seed(1)), 1)
    labels = Labels(torch.arange(20), torch.zeros(20, 9), torch.zeros(20, dtype=torch.bool))
    losses = train_style(fresh(config), itertools.repeat(clips), labels, config, torch.device("cpu"))
    assert 0 < np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_crops_lie_inside_of_what_is_valid() -> None:
    valid = torch.ones(3, 50, dtype=torch.bool)
    valid[1, 20:] = False
    cut = crops(valid, torch.Generator().manual_seed(0))
    assert cut.shape == (6, 50)
    assert not (cut & ~valid.repeat(2, 1)).any()
    assert (cut[[0, 2, 3, 5]].sum(1) >= 30).all()


def test_the_judge_learns_intensity_as_a_share_of_neutral() -> None:
    emotion = torch.zeros(1, 9)
    emotion[0, 2] = 0.8
    target = torch.tensor([[0.2, 0, 0.8, 0, 0, 0, 0, 0, 0]])
    best = torch.log(target.clamp(min=1e-9))
    entropy = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    assert judge_loss(best, emotion, torch.tensor([True])) == pytest.approx(entropy, abs=1e-4)
    assert judge_loss(best, emotion, torch.tensor([False])) == 0
