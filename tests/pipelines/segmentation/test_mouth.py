"""Mouths of real pictures, whatever their size and turn."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.segmentation.mouth import COLUMNS, MouthReader
from reconstruct.video import frames
from schemas.types import FaceBox

BOX = FaceBox(92, 118, 130, 130, 0.9)
"""Of the first recording."""


@pytest.fixture(scope="module")
def reader() -> MouthReader:
    return MouthReader()


@pytest.fixture(scope="module")
def pictures(eval_data: Path) -> list[NDArray[np.uint8]]:
    return [rgb for _, rgb in itertools.islice(frames(sorted((eval_data / "grid").glob("*.mpg"))[0]), 45)]


def read(reader: MouthReader, pictures: list[NDArray[np.uint8]], box: FaceBox = BOX) -> NDArray[np.float32]:
    reader.restart()
    reader.seen(0, box)
    return np.stack([reader.read(picture, 0) for picture in pictures])


def test_a_mouth_that_speaks_moves_and_one_that_waits_does_not(
    reader: MouthReader, pictures: list[NDArray[np.uint8]]
) -> None:
    values = read(reader, pictures)
    assert (values[:, COLUMNS.index("presence")] > 0.9).all()
    opening = values[:, COLUMNS.index("opening")]
    assert np.std(opening[25:]) > 1.5 * np.std(opening[:15])
    assert 0 <= opening.min() < opening.max() < 0.6
    assert 40 < values[:, COLUMNS.index("scale_px")].mean() < 130


def test_size_and_turn_of_the_picture_do_not_count(reader: MouthReader, pictures: list[NDArray[np.uint8]]) -> None:
    plain = read(reader, pictures)
    height, width = pictures[0].shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 12, 1.5)
    middle = matrix @ [BOX.x + BOX.width / 2, BOX.y + BOX.height / 2, 1]
    turned = [cv2.warpAffine(p, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE) for p in pictures]
    box = FaceBox(middle[0] - 97, middle[1] - 97, 195, 195, 0.9)
    other = read(reader, turned, box)
    assert np.corrcoef(plain[5:, 0], other[5:, 0])[0, 1] > 0.95
    assert np.abs(plain[5:, :3] - other[5:, :3]).mean() < 0.02
    assert other[5:, 3].mean() / plain[5:, 3].mean() == pytest.approx(1.5, abs=0.05)


def test_where_no_face_is_nothing_is_known(reader: MouthReader) -> None:
    values = read(reader, [np.full((288, 360, 3), 90, np.uint8)])
    assert np.isnan(values[0, :4]).all()
    assert values[0, 4] < 0.5


def test_a_face_before_another_is_read_once(reader: MouthReader, pictures: list[NDArray[np.uint8]]) -> None:
    reader.restart()
    reader.seen(0, BOX)
    assert np.isfinite(reader.read(pictures[0], 0)).all()
    reader.seen(1, FaceBox(BOX.x + 20, BOX.y, 130, 130, 0.8))  # who stands behind is where the same face is found
    assert np.isnan(reader.read(pictures[1], 1)[:4]).all()
    assert np.isfinite(reader.read(pictures[1], 0)).all()
