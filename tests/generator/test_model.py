"""The filter in front of the denoiser: bands that add up to the motion, gains that follow from the conditions."""

from __future__ import annotations

import pytest
import torch

from generator.model import Filter, bands_of


@pytest.fixture
def noisy() -> torch.Tensor:
    return torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))


def test_bands_add_up_and_are_scaled_by_the_conditions(noisy: torch.Tensor) -> None:
    bands, learned = bands_of(noisy, torch.ones(2, 40, dtype=torch.bool)), Filter(2, 3)
    assert torch.allclose(bands.sum(1), noisy, atol=1e-5)
    assert not learned(bands, torch.ones(2, 2)).any()  # nothing passes before anything is learned
    torch.nn.init.ones_(learned.gains.bias)
    with torch.no_grad():
        learned.gains.weight[:, 0] = 1.0
    condition = torch.tensor([[0.0, 0.0], [1.0, 0.0]])  # the second item is twice as lively
    assert torch.allclose(learned(bands, condition), noisy * torch.tensor([1.0, 2.0])[:, None, None], atol=1e-5)


def test_the_slowest_band_follows_what_drifts_and_not_the_noise(noisy: torch.Tensor) -> None:
    steady = bands_of(noisy + 5, torch.ones(2, 40, dtype=torch.bool))[:, -1]
    assert (steady.mean(1) - 5).abs().max() < 0.4
    assert steady.std(1).max() < 0.3 * noisy.std(1).min()


def test_frames_that_do_not_exist_do_not_matter(noisy: torch.Tensor) -> None:
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[:, 30:] = False
    changed = noisy.clone()
    changed[:, 30:] = 99.0
    one, other = (bands_of(values, mask)[:, :, :30] for values in (noisy, changed))
    assert torch.allclose(one, other, atol=1e-5)
