"""A contact sheet of a data set for a first look: the worst clips first, each at its worst frame.

The pictures come from overlays/<clip_id>.mp4, which shows the clip's frames at the clip's own times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, write_atomic
from talkset.dataset import Clip, Dataset, DatasetError, open_dataset

UInt8 = NDArray[np.uint8]

SAME_TIME_US: Final = 1000
"""A frame of the overlay is the one looked for when its PTS is that close."""
TILE_WIDTH: Final = 480
PICTURE_HEIGHT: Final = 270
LINE_HEIGHT: Final = 20
LINES: Final = 3
GAP: Final = 8
HEADER: Final = 36
BACKGROUND: Final = (24, 24, 24)
EMPTY: Final = (48, 48, 48)
BRIGHT, DIM, BAD = (235, 235, 235), (165, 165, 165), (255, 120, 120)
ANY_STATUS: Final = "status in ('accepted', 'rejected', 'failed')"


@dataclass(frozen=True)
class _Tile:
    """One clip of the sheet."""

    picture: UInt8 | None
    lines: tuple[tuple[str, tuple[int, int, int]], ...]
    """Text and colour."""


def contact_sheet(dataset_path: Path, output_png: Path, clips: int = 12, columns: int = 4) -> list[str]:
    """Write a PNG with the worst clips of a data set, the highest nme_p95 first; returns their ids in that order.

    Each tile shows the clip's overlay at the frame with the largest residual, clip id, NME and reason. Rows without a
    fit (rejected, failed) follow after all others, with their reason and no picture; a missing or damaged overlay is
    said in its tile. Raises UsageError for a folder that holds no data set or no row, a wrong count or file name,
    TalksetError corrupt_data for tables that cannot be read, disk_full or not_writable.
    """
    if clips < 1 or columns < 1:
        raise UsageError(f"a sheet of {clips} clips in {columns} columns is empty", "Ask for at least one of each")
    if output_png.suffix.lower() != ".png":
        raise UsageError(f"the sheet {output_png} is not named *.png", "Name it so")
    if not (dataset_path / "dataset.json").is_file():
        raise UsageError(f"{dataset_path} holds no data set (no dataset.json)", "Give the folder `talkset run` wrote")
    try:
        dataset = open_dataset(dataset_path, where=ANY_STATUS)
        chosen = [dataset[row] for row in _worst(dataset)[:clips]]
        tiles = [_tile(dataset_path, clip) for clip in chosen]
    except DatasetError as error:
        raise TalksetError("corrupt_data", str(error)) from error
    if not tiles:
        raise UsageError(f"{dataset_path} has no clips", "Run again with videos in the manifest")
    facts = dataset.facts
    title = f"{facts.get('name')} {facts.get('version')}: the {len(tiles)} worst of {len(dataset)} clips by NME p95"
    sheet = _compose(title, tiles, min(columns, len(tiles)))
    _, png = cv2.imencode(".png", np.ascontiguousarray(sheet[:, :, ::-1]))
    with named_errors(output_png):
        output_png.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(output_png, png.tobytes())
    return [clip.clip_id for clip in chosen]


def _worst(dataset: Dataset) -> list[int]:
    """Row numbers, the highest nme_p95 first, rows without one last, equal ones by id."""
    scores = dataset.index["nme_p95"].to_pylist()
    ids = dataset.index["clip_id"].to_pylist()
    return sorted(range(len(ids)), key=lambda row: (scores[row] is None, -(scores[row] or 0.0), ids[row]))


def _tile(root: Path, clip: Clip) -> _Tile:
    index = clip.index
    name = (clip.clip_id, BRIGHT)
    if index["status"] != "accepted":
        return _Tile(None, (name, (f"{index['status']}: {index['reason']}", BAD), (index["warnings"] or "", DIM)))
    figures = (f"NME {_percent(index['nme_mean'])}, p95 {_percent(index['nme_p95'])}", BRIGHT)
    residual = clip["params.residual_px"]
    if not np.isfinite(residual).any():
        return _Tile(None, (name, figures, ("no frame is valid", BAD)))
    frame = int(np.nanargmax(residual))
    time_us = int(clip["params.pts_us"][frame])
    worst = f"frame {frame} at {time_us / 1e6:.3f} s: residual {residual[frame]:.2f} px"
    picture, problem = _frame_at(root / "overlays" / f"{clip.clip_id}.mp4", time_us)
    if problem:
        return _Tile(None, (name, figures, (problem, BAD)))
    return _Tile(picture, (name, figures, (worst + (f"; {index['warnings']}" if index["warnings"] else ""), DIM)))


def _percent(fraction: float | None) -> str:
    return "unknown" if fraction is None else f"{100 * fraction:.2f} %"


def _frame_at(video: Path, time_us: int) -> tuple[UInt8 | None, str]:
    """The RGB frame that a video shows from that time on, or what is wrong with it."""
    if not video.is_file():
        return None, "no overlay; `talkset overlay` makes it"
    try:
        with av.open(f"file:{video}") as container:
            stream = container.streams.video[0]
            container.seek(max(0, time_us - SAME_TIME_US))  # to the keyframe before, in microseconds
            for frame in container.decode(stream):
                if abs(frame.pts * stream.time_base * 1_000_000 - time_us) <= SAME_TIME_US:
                    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), ""
    except (av.error.FFmpegError, IndexError, OSError) as error:
        return None, f"damaged overlay ({type(error).__name__}); run `talkset overlay`"
    return None, f"the overlay has no frame at {time_us / 1e6:.3f} s; run `talkset overlay`"


def _compose(title: str, tiles: list[_Tile], columns: int) -> UInt8:
    rows = math.ceil(len(tiles) / columns)
    tile_height = PICTURE_HEIGHT + LINES * LINE_HEIGHT
    height, width = HEADER + rows * (tile_height + GAP) + GAP, columns * (TILE_WIDTH + GAP) + GAP
    sheet: UInt8 = np.full((height, width, 3), BACKGROUND, np.uint8)
    _write(sheet, title, (GAP, HEADER - 12), 0.6, BRIGHT, width - 2 * GAP)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        x, y = GAP + column * (TILE_WIDTH + GAP), HEADER + row * (tile_height + GAP)
        _place(sheet[y : y + PICTURE_HEIGHT, x : x + TILE_WIDTH], tile.picture)
        for line, (text, colour) in enumerate(tile.lines):
            at = x, y + PICTURE_HEIGHT + (line + 1) * LINE_HEIGHT - 5
            _write(sheet, text, at, 0.45, colour, TILE_WIDTH)
    return sheet


def _place(window: UInt8, picture: UInt8 | None) -> None:
    """Draw a picture as large as fits into the middle of a part of the sheet; grey without one."""
    if picture is None:
        window[:] = EMPTY
        return
    height, width = picture.shape[:2]
    scale = min(window.shape[0] / height, window.shape[1] / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small: Any = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (window.shape[0] - size[1]) // 2, (window.shape[1] - size[0]) // 2
    window[top : top + size[1], left : left + size[0]] = small


def _write(sheet: UInt8, text: str, at: tuple[int, int], size: float, colour: tuple[int, int, int], width: int) -> None:
    """Draw one line, cut to a width in pixels; OpenCV's font knows ASCII alone."""
    shown = text.encode("ascii", "replace").decode()
    font = cv2.FONT_HERSHEY_SIMPLEX
    while shown and cv2.getTextSize(shown, font, size, 1)[0][0] > width:
        shown = shown[:-4] + ("..." if len(shown) > 4 else "")
    cv2.putText(sheet, shown, at, font, size, colour, 1, cv2.LINE_AA)
