"""Fades and dissolves are found to the frame; motion and light are neither."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.segmentation.mixes import MixFinder, step_of

Picture = NDArray[np.uint8]


def scene(seed: int, count: int) -> list[Picture]:
    """A made-up view with a little noise in every frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 235, (9, 12, 3)).astype(np.uint8)
    view = cv2.resize(coarse, (256, 192), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return [np.clip(view + rng.normal(0, 2, view.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def mixed(one: list[Picture], other: list[Picture]) -> list[Picture]:
    ramp = (np.arange(len(one)) + 1) / (len(one) + 1)
    return [np.rint(a * (1 - w) + b * w).astype(np.uint8) for a, b, w in zip(one, other, ramp, strict=True)]


def found(pictures: list[Picture]) -> list[tuple[int, int]]:
    finder = MixFinder()
    for picture in pictures:
        finder.push(picture)
    return finder.finish()[0]


@pytest.mark.parametrize("length", [5, 9, 16, 30, 55])
def test_a_dissolve_is_found_to_two_frames(length: int) -> None:
    one, other = scene(1, 40 + length), scene(2, 40 + length)
    ((first, last),) = found(one[:40] + mixed(one[40:], other[:length]) + other[length:])
    assert abs(first - 40) <= 2
    assert abs(last - 40 - length) <= 2


@pytest.mark.parametrize("colour", [0, 255])
def test_out_to_one_colour_and_in_again(colour: int) -> None:
    one, other = scene(3, 45), scene(4, 45)
    flat = [np.full_like(one[0], colour)] * 15
    spans = found(one[:30] + mixed(one[30:], flat) + [flat[0]] + mixed(flat, other[:15]) + other[15:])
    assert spans[0][0] in range(28, 32)
    assert spans[-1][1] in range(59, 64)
    assert sum(b - a for a, b in spans) >= 28


def test_a_cut_is_no_mix() -> None:
    assert found(scene(5, 40) + scene(6, 40)) == []


def test_a_view_that_moves_is_no_mix() -> None:
    wide = np.concatenate([scene(7, 1)[0], scene(8, 1)[0]], axis=1)
    places = [0] * 20 + list(range(0, 120, 6)) + [120] * 20
    assert found([np.ascontiguousarray(wide[:, x : x + 256]) for x in places]) == []


def test_a_lamp_is_no_mix() -> None:
    view = scene(9, 70)
    light = [1.0] * 25 + np.linspace(1.0, 0.45, 20).tolist() + [0.45] * 25
    assert found([np.rint(v * x).astype(np.uint8) for v, x in zip(view, light, strict=True)]) == []


def test_a_clock_in_the_corner_does_not_hide_a_fade() -> None:
    one = scene(10, 50)
    pictures = one[:30] + mixed(one[30:], [np.zeros_like(one[0])] * 20) + [np.zeros_like(one[0])] * 20
    for number, picture in enumerate(pictures):
        picture[:12, :60] = 255 * ((number >> np.arange(60) // 10) & 1)[np.newaxis, :, np.newaxis].astype(np.uint8)
    ((first, last),) = found(pictures)
    assert first in range(28, 33)
    assert last in range(47, 53)


def walking(pictures: list[Picture], speed: float, seed: int) -> list[Picture]:
    """The same view with somebody in a patterned coat who walks through a part of it."""
    rng = np.random.default_rng(seed)
    coat = cv2.resize(rng.integers(0, 255, (10, 6, 3)).astype(np.uint8), (30, 110), interpolation=cv2.INTER_NEAREST)
    walked = [picture.copy() for picture in pictures]
    for number, picture in enumerate(walked):
        left = round(20 + speed * number) % 220
        picture[82:, left : left + 30] = coat
    return walked


@pytest.mark.parametrize("length", [8, 14, 24, 40])
def test_people_who_move_in_both_views(length: int) -> None:
    one, other = walking(scene(12, 50 + length), 1.0, 1), walking(scene(13, 50 + length), 1.5, 2)
    ((first, last),) = found(one[:50] + mixed(one[50:], other[:length]) + other[length:])
    assert abs(first - 50) <= 3
    assert abs(last - 50 - length) <= 3


def test_somebody_who_walks_through_one_view_is_no_mix() -> None:
    for speed in (1.0, 3.0, 7.0):
        assert found(walking(scene(14, 90), speed, 3)) == []


@pytest.mark.parametrize("lost", [1, 2])
def test_a_dissolve_of_which_frames_are_lost(lost: int) -> None:
    one, other = scene(15, 60), scene(16, 60)
    pictures = one[:40] + mixed(one[40:], other[:20]) + other[20:]
    kept = [p for i, p in enumerate(pictures) if i % 5 >= lost]
    ((first, last),) = found(kept)
    assert abs(first - 40 * (5 - lost) / 5) <= 2
    assert abs(last - 60 * (5 - lost) / 5) <= 2


def test_black_that_is_held_belongs_to_the_fades_on_both_sides() -> None:
    one, other = scene(17, 45), scene(18, 45)
    black = [np.zeros_like(one[0])] * 15
    pictures = one[:30] + mixed(one[30:], black) + black * 2 + mixed(black, other[:15]) + other[15:]
    ((first, last),) = found(pictures)
    assert first in range(28, 32)
    assert last in range(88, 93)


@pytest.mark.parametrize("apart", [3, 6, 20])
def test_a_cut_beside_a_fade_stays(apart: int) -> None:
    """Two like views, then black: the second one lies near the line from the first to black."""
    one = scene(19, 60)
    other = [
        np.clip(p.astype(int) + (np.arange(256)[:, np.newaxis] % 64 < 32) * 25, 0, 255).astype(np.uint8) for p in one
    ]
    black = [np.zeros_like(one[0])] * 12
    pictures = one[:40] + other[:apart] + mixed(other[40:52], black) + black + mixed(black, one[:12]) + one[12:]
    finder = MixFinder()
    for picture in pictures:
        finder.push(picture)
    spans, cuts = finder.finish([step_of(40, pictures[39], pictures[40])])
    assert cuts == [40]
    assert all(not first < 40 < last for first, last in spans)
    assert any(first <= 42 + apart and last >= 49 + apart for first, last in spans)


def test_cuts_between_plain_slides_stay() -> None:
    slides = [np.full((192, 256, 3), level, np.uint8) for level in (250, 20, 250)]
    pictures = [slide for slide in slides for _ in range(20)]
    finder = MixFinder()
    for picture in pictures:
        finder.push(picture)
    assert finder.finish([step_of(i, pictures[i - 1], pictures[i]) for i in (20, 40)]) == ([], [20, 40])


def test_a_step_of_a_fade_is_no_cut() -> None:
    one, black = scene(20, 60), [np.zeros_like(scene(20, 1)[0])] * 12
    pictures = one[:40] + mixed(one[40:52], black) + black
    finder = MixFinder()
    for picture in pictures:
        finder.push(picture)
    _, cuts = finder.finish([step_of(i, pictures[i - 1], pictures[i]) for i in (44, 51, 55)])
    assert cuts == []


@pytest.mark.parametrize("count", [0, 1, 4])
def test_hardly_any_frames(count: int) -> None:
    assert found(scene(11, count)) == []


def detailed(seed: int, count: int) -> list[Picture]:
    """A view with edges everywhere, without noise."""
    rng = np.random.default_rng(seed)
    blocks = cv2.resize(rng.integers(20, 235, (36, 48, 3)).astype(np.uint8), (288, 216), interpolation=cv2.INTER_CUBIC)
    return [blocks] * count


def shifted(picture: Picture, by: float) -> Picture:
    """256 x 192 pixels of a picture, from `by` pixels to the right; whole ones, so that nothing is resampled."""
    left = round(by)
    return np.ascontiguousarray(picture[:192, left : left + 256])


def test_a_camera_that_moves_by_a_little_is_no_mix() -> None:
    """So little that its pictures lie on a line."""
    for far in (2, 3, 4):
        places = [0.0] * 25 + np.linspace(0, far, 14).tolist() + [float(far)] * 25
        assert found([shifted(p, x) for p, x in zip(detailed(21, 64), places, strict=True)]) == []


def test_a_dissolve_between_two_takes_of_one_view() -> None:
    """One person sits a little further to the right: a motion of blocks would explain that, but edges are double."""
    takes = [[shifted(p, by) for p in detailed(22, 60)] for by in (0, 5)]
    ((first, last),) = found(takes[0][:40] + mixed(takes[0][40:52], takes[1][:12]) + takes[1][12:])
    assert abs(first - 40) <= 2
    assert abs(last - 52) <= 2
