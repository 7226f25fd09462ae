"""Face squares, logarithms of linear light and sub-pixel sampling, on pictures whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct.photometric.pictures import FLOOR, GAMMA, chroma, cut_squares, log_light, sample
from schemas.errors import TalksetError
from schemas.types import LandmarkTrack


def track_of(points: NDArray[np.float64]) -> LandmarkTrack:
    frames, count = points.shape[:2]
    valid = np.isfinite(points).all((1, 2))
    clock = np.arange(frames, dtype=np.int64) * 40_000
    return LandmarkTrack(clock, points.astype(np.float32), np.ones((frames, count), np.float32), valid, 100, 80, "x")


def test_squares_map_source_pixels_to_crop_pixels() -> None:
    """A picture whose red is its column and green its row, cut and sampled: every value tells where it came from."""
    row, column = np.mgrid[0:80, 0:100]
    picture = np.stack([column, row, np.zeros_like(row)], -1).astype(np.uint8)
    points = np.stack([np.array([[30, 20], [60, 50]]), np.array([[5, 30], [33, 60]]), np.full((2, 2), np.nan)])
    squares = cut_squares([picture] * 3, track_of(points), np.array([0, 1]), 64)
    assert squares.pixels.shape == (2, 64, 64, 3)
    places = torch.tensor([[[40.5, 30.5], [50.0, 41.0]], [[10.5, 40.5], [20.0, 50.0]]])
    on_square = (places - squares.corner[:, None]) * squares.scale
    colours = sample(torch.as_tensor(squares.pixels[..., :2]).float().permute(0, 3, 1, 2), on_square)
    torch.testing.assert_close(colours, places - 0.5, atol=0.6, rtol=0)


def test_pictures_of_another_clip_are_refused() -> None:
    points = np.random.default_rng(1).uniform(20, 60, (3, 4, 2))
    for count in (2, 4):
        with pytest.raises(TalksetError, match=f"{count} pictures and 3 frames"):
            cut_squares([np.zeros((80, 100, 3), np.uint8)] * count, track_of(points), np.arange(3), 32)


def test_log_light_and_its_slopes() -> None:
    ramp = np.broadcast_to(np.linspace(60, 200, 64)[None, :, None], (64, 64, 3)).round().astype(np.uint8)
    planes = log_light(ramp[None], 0.0)[0]
    expected = np.log((ramp[..., 0] / 255) ** GAMMA + FLOOR)
    np.testing.assert_allclose(planes[0].numpy(), expected, atol=1e-5)
    central = (expected[:, 2:] - expected[:, :-2]) / 2
    np.testing.assert_allclose(planes[1, :, 1:-1].numpy(), central, atol=1e-5)
    np.testing.assert_allclose(planes[2].numpy(), 0, atol=1e-5)


def test_chroma_does_not_depend_on_brightness() -> None:
    linear = np.array([0.5, 0.3, 0.2]) * np.linspace(0.3, 1.2, 32)[:, None, None]
    squares = np.rint(255 * linear ** (1 / GAMMA)).astype(np.uint8).repeat(32, axis=1).reshape(1, 32, 32, 3)
    ratios = chroma(squares, 1.0)[0]
    assert float((ratios[0] - np.log(0.5 / 0.3)).abs().max()) < 0.04
    assert float((ratios[1] - np.log(0.2 / 0.3)).abs().max()) < 0.06
