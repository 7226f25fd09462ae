"""Faces of real pictures, at any size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.segmentation.faces import FaceFinder
from reconstruct.video import frames
from schemas.config import SegmentConfig

CONFIG = SegmentConfig()
Pictures = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder(CONFIG) as finder:
        yield finder


@pytest.fixture(scope="module")
def people(eval_data: Path) -> list[Pictures]:
    paths = sorted((eval_data / "grid").glob("*.mpg"))[:3]
    return [[rgb for _, rgb in frames(path)] for path in paths]


@pytest.mark.parametrize("width_px", [40, 60, 100])
@pytest.mark.parametrize("corner", [(90, 130), (620, 300), (1000, 40)])
def test_small_face_in_a_large_picture(
    finder: FaceFinder, people: list[Pictures], width_px: int, corner: tuple[int, int]
) -> None:
    picture = people[0][0]
    (box,) = finder.detect(picture)
    scale = width_px / box.width
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    wide = np.full((720, 1280, 3), 96, np.uint8)
    wide[corner[1] : corner[1] + small.shape[0], corner[0] : corner[0] + small.shape[1]] = small
    (found,) = finder.detect(wide)
    centre = np.array([found.x + found.width / 2, found.y + found.height / 2])
    truth = np.array(corner) + scale * np.array([box.x + box.width / 2, box.y + box.height / 2])
    assert np.linalg.norm(centre - truth) < 0.2 * width_px
    assert 0.75 * width_px < found.width < 1.3 * width_px


def test_sampling_follows_time_not_frames(finder: FaceFinder) -> None:
    blank = np.zeros((64, 64, 3), np.uint8)
    uneven = np.cumsum([0, *([10_000, 150_000, 70_000, 900_000] * 4)]).tolist()
    taken = [sample.pts_us for sample in finder.sample((t, blank) for t in uneven)]
    assert taken[0] == 0
    for t in uneven:  # no frame is further than the period from the sample before it
        assert t - max(s for s in taken if s <= t) < 200_000
    steady = [s.pts_us for s in finder.sample((i * 33_333, blank) for i in range(301))]
    assert abs(len(steady) - 50) <= 1
