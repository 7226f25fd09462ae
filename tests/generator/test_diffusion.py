"""The diffusion against what is known of it: its schedule, an oracle's samples, and guidance by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from generator.diffusion import few_steps, guided, log_ratio, noised, sample, signal_power
from schemas.errors import UsageError


def test_the_schedule_falls_from_all_signal_to_none() -> None:
    power = signal_power(500)
    assert power[0] == 1
    assert power[-1] < 1e-4
    assert bool((power[1:] <= power[:-1]).all())
    assert power[250] == pytest.approx(0.5, abs=0.02)


def test_noise_keeps_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 50_000, 1, generator=generator) for _ in range(2))
    assert noised(clean, noise, torch.tensor([0.3])).var() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("count", [1, 4, 50])
def test_an_oracle_is_sampled_exactly(count: int) -> None:
    truth = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1))

    def oracle(noisy: Tensor, step: Tensor, given: Sequence[bool]) -> Tensor:
        return truth

    found = sample(
        oracle, torch.randn(2, 7, 3), signal_power(100), few_steps(signal_power(100), count), (1.0, 1.0, 1.0)
    )
    assert torch.allclose(found, truth)


@pytest.mark.parametrize("deviation", [0.5, 1.0, 3.0, 8.0])
def test_eight_steps_sample_a_gaussian_with_its_mean_and_deviation(deviation: float) -> None:
    """Of single values and of what many frames share, whose deviation in an orthonormal basis is several units."""
    mean = 2.0
    power = signal_power(500)

    def best(noisy: Tensor, step: Tensor, given: Sequence[bool]) -> Tensor:
        a = power[step][:, None, None]  # the conditional mean given the noisy value
        gain = a.sqrt() * deviation**2 / (a * deviation**2 + 1 - a)
        return mean + gain * (noisy - a.sqrt() * mean)

    noise = torch.randn(1, 20_000, 1, generator=torch.Generator().manual_seed(2))
    found = sample(best, noise, power, few_steps(power, 8), (1.0,))
    assert found.mean() == pytest.approx(mean, abs=0.1 * deviation + 0.1)
    assert found.std() == pytest.approx(deviation, rel=0.06)


def test_steps_fall_are_even_in_signal_over_noise_and_more_than_there_are_is_an_error() -> None:
    power = signal_power(500)
    steps = few_steps(power, 8)
    assert steps == sorted(set(steps), reverse=True)
    gaps = log_ratio(power[steps]).diff()
    assert gaps.max() < 1.1 * gaps.min()
    assert len(few_steps(power, 1)) == 1
    with pytest.raises(UsageError, match="sampling steps"):
        few_steps(signal_power(5), 6)


def test_guidance_is_the_weighted_sum_of_predictions_and_skips_what_cancels() -> None:
    assert guided((1.0, 1.0, 1.0)) == [((True, True, True), 1.0)]
    weights = dict(guided((1.5, 2.0, 3.0)))
    none, one, two, three = 10.0, 20.0, 23.0, 24.0  # predictions with 0, 1, 2, 3 conditions
    expected = none + 1.5 * (one - none) + 2.0 * (two - one) + 3.0 * (three - two)
    yes, no = True, False
    values: dict[tuple[bool, ...], float] = {
        (no, no, no): none, (yes, no, no): one, (yes, yes, no): two, (yes, yes, yes): three,
    }  # fmt: skip
    assert sum(weight * values[given] for given, weight in weights.items()) == pytest.approx(expected)
    assert len(guided((1.0, 1.0, 2.0))) == 2
