"""The contact sheet: which clips, in which order, and which frame of each."""

from __future__ import annotations

import dataclasses
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from dataset_builder import random_clip, rejected_clip, writer
from numpy.typing import NDArray

from reconstruct.video import write_video
from review.contact_sheet import GAP, HEADER, LINE_HEIGHT, LINES, PICTURE_HEIGHT, TILE_WIDTH, contact_sheet
from schemas.errors import TalksetError, UsageError
from schemas.records import ClipRecord
from talkset import cli

UInt8 = NDArray[np.uint8]

FRAMES = 20
WORST_FRAME = (0, 7, 13, 19)
NME_P95 = (0.01, 0.04, 0.02, 0.03)


def grey(clip: int, frame: int) -> int:
    """What every pixel of a frame of a clip's overlay shows."""
    return 40 + 8 * frame + clip


def measured(number: int) -> ClipRecord:
    """A clip whose landmarks fit worst at one known frame."""
    record = random_clip(number, FRAMES)
    assert record.head is not None
    residual = np.where(record.head.valid, 1.0, np.nan).astype(np.float32)
    residual[WORST_FRAME[number]] = 5.0
    valid = np.isfinite(residual)
    arrays: dict[str, Any] = {
        name: value.copy() for name, value in vars(record.head).items() if isinstance(value, np.ndarray)
    }
    arrays["nme"] = residual / 200
    for values in arrays.values():
        if values.shape[:1] == (FRAMES,) and values.dtype == np.float32:
            values[~np.isfinite(values)] = 0.0
    head = dataclasses.replace(record.head, **{**arrays, "valid": valid, "residual_px": residual})
    assert record.landmarks is not None
    xy = np.where(valid[:, None, None], 1.0, np.nan) * np.ones((1, 478, 2))
    xy = xy.astype(np.float32)
    landmarks = dataclasses.replace(record.landmarks, valid=valid, face_xy=xy, confidence=xy[..., 0], blendshapes=None)
    index = {**record.index, "nme_p95": NME_P95[number]}
    return dataclasses.replace(record, index=index, head=head, landmarks=landmarks)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips with overlays of two shapes, and a rejected source."""
    root = tmp_path_factory.mktemp("reviewed") / "data"
    with writer(root) as target:
        for number in range(4):
            target.add(measured(number))
        target.add(rejected_clip(9))
        target.finish()
    (root / "overlays").mkdir(exist_ok=True)
    for number in range(4):
        height, width = ((90, 320), (120, 160))[number % 2]
        pictures = ((i * 40_000, np.full((height, width, 3), grey(number, i), np.uint8)) for i in range(FRAMES))
        write_video(root / "overlays" / f"clip_{number:04d}.mp4", pictures, Fraction(25))
    return root


def tile(sheet: UInt8, place: int, columns: int) -> tuple[UInt8, UInt8]:
    """Picture and caption of a tile."""
    row, column = divmod(place, columns)
    x = GAP + column * (TILE_WIDTH + GAP)
    y = HEADER + row * (PICTURE_HEIGHT + LINES * LINE_HEIGHT + GAP)
    part = sheet[y:, x : x + TILE_WIDTH]
    return part[:PICTURE_HEIGHT], part[PICTURE_HEIGHT : PICTURE_HEIGHT + LINES * LINE_HEIGHT]


def read(path: Path) -> UInt8:
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(picture, np.uint8)


def test_worst_clips_come_first_each_at_its_worst_frame(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.png"
    order = ["clip_0001", "clip_0003", "clip_0002", "clip_0000", "none_0009"]
    assert contact_sheet(dataset, path, columns=2) == order
    sheet = read(path)
    assert sheet.shape[1] == 2 * (TILE_WIDTH + GAP) + GAP
    for place, number in enumerate((1, 3, 2, 0)):
        picture, caption = tile(sheet, place, 2)
        middle = picture[100:170, 200:280]
        assert abs(middle.astype(float) - grey(number, WORST_FRAME[number])).max() <= 3
        assert (caption.max(axis=(1, 2)) > 150).sum() > 15
    empty, caption = tile(sheet, 4, 2)
    assert np.ptp(empty) == 0
    assert (caption[:, :, 2].astype(int) - caption[:, :, 0] > 80).any()  # the reason, in red


def test_pictures_keep_their_proportions(dataset: Path, tmp_path: Path) -> None:
    contact_sheet(dataset, tmp_path / "sheet.png", clips=3, columns=3)
    sheet = read(tmp_path / "sheet.png")
    for place, (width, height) in enumerate(((360, 270), (360, 270), (480, 135))):
        shown = tile(sheet, place, 3)[0].max(axis=2) > 35
        assert (shown.any(axis=0).sum(), shown.any(axis=1).sum()) == (width, height)


def test_missing_and_damaged_overlays_are_said_in_the_tile(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    (copy / "overlays" / "clip_0001.mp4").unlink()
    whole = (copy / "overlays" / "clip_0003.mp4").read_bytes()
    (copy / "overlays" / "clip_0003.mp4").write_bytes(whole[: len(whole) // 3])
    short = ((i * 40_000, np.full((90, 320, 3), 200, np.uint8)) for i in range(5))
    write_video(copy / "overlays" / "clip_0002.mp4", short, Fraction(25))
    contact_sheet(copy, tmp_path / "sheet.png")
    sheet = read(tmp_path / "sheet.png")
    for place in range(3):
        picture, caption = tile(sheet, place, 4)
        assert np.ptp(picture) == 0
        assert (caption[:, :, 2].astype(int) - caption[:, :, 0] > 80).any()
    assert np.ptp(tile(sheet, 3, 4)[0]) > 0


def test_the_command_writes_the_sheet(dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["review", str(dataset), "--sheet", str(tmp_path / "a.png"), "--clips", "2", "--json"]) == 0
    assert capfd.readouterr().out.split('"')[1::2] == ["clip_0001", "clip_0003"]
    contact_sheet(dataset, tmp_path / "b.png", clips=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_cannot_be_drawn_is_told(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no data set"):
        contact_sheet(tmp_path, tmp_path / "sheet.png")
    with pytest.raises(UsageError, match=r"not named \*\.png"):
        contact_sheet(dataset, tmp_path / "sheet.jpg")
    with pytest.raises(UsageError, match="0 clips"):
        contact_sheet(dataset, tmp_path / "sheet.png", clips=0)
    (tmp_path / "file").touch()
    with pytest.raises(TalksetError) as caught:
        contact_sheet(dataset, tmp_path / "file" / "sheet.png")
    assert caught.value.reason == "not_writable"
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(TalksetError, match="damaged"):
        contact_sheet(tmp_path, tmp_path / "sheet.png")
