"""The filter in front of the denoiser: bands that add up to the motion, gains that follow from the conditions."""

from __future__ import annotations

import pytest
import torch

from generator.model import Bands


@pytest.fixture
def noisy() -> torch.Tensor:
    return torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))


def test_bands_add_up_and_are_scaled_by_the_conditions(noisy: torch.Tensor) -> None:
    bands, mask = Bands(2, 3), torch.ones(2, 40, dtype=torch.bool)
    assert not bands(noisy, torch.ones(2, 2), mask).any()  # nothing passes before anything is learned
    torch.nn.init.ones_(bands.gains.bias)
    assert torch.allclose(bands(noisy, torch.zeros(2, 2), mask), noisy, atol=1e-5)
    with torch.no_grad():
        bands.gains.weight[:, 0] = 1.0
    condition = torch.tensor([[0.0, 0.0], [1.0, 0.0]])  # the second item is twice as lively
    assert torch.allclose(bands(noisy, condition, mask), noisy * torch.tensor([1.0, 2.0])[:, None, None], atol=1e-5)


def test_the_slowest_band_follows_what_drifts_and_not_the_noise(noisy: torch.Tensor) -> None:
    bands, mask = Bands(2, 3), torch.ones(2, 40, dtype=torch.bool)
    with torch.no_grad():
        bands.gains.bias[-3:] = 1.0
    steady = bands(noisy + 5, torch.zeros(2, 2), mask)
    assert (steady.mean(1) - 5).abs().max() < 0.4
    assert steady.std(1).max() < 0.3 * noisy.std(1).min()


def test_frames_that_do_not_exist_do_not_matter(noisy: torch.Tensor) -> None:
    bands, mask = Bands(2, 3), torch.ones(2, 40, dtype=torch.bool)
    torch.nn.init.ones_(bands.gains.bias)
    with torch.no_grad():
        bands.gains.bias[:3] = 0.0
    mask[:, 30:] = False
    changed = noisy.clone()
    changed[:, 30:] = 99.0
    one, other = (bands(values, torch.zeros(2, 2), mask)[:, :30] for values in (noisy, changed))
    assert torch.allclose(one, other, atol=1e-5)
