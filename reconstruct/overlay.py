"""Overlays for review: the original beside the shaded mesh on the video, with residual and validity in the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.camera import project
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, prepare, skin
from reconstruct.raster import Rasterizer, make_rasterizer
from reconstruct.video import Reader, read_audio, write_video
from schemas.config import OverlayConfig
from schemas.errors import TalksetError
from schemas.types import HeadTrack, LandmarkTrack, VideoInfo

if TYPE_CHECKING:
    from reconstruct.body.layer import BodyLayer

UInt8 = NDArray[np.uint8]

CHUNK = 16
"""Frames that are skinned and rasterised together."""
MESH_RGB = (0.45, 0.70, 0.95)
OPACITY = 0.6
LIGHT = torch.nn.functional.normalize(torch.tensor([-0.3, -0.5, -0.8]), dim=0)
"""Direction to the light, camera space."""
DOT_RGB = (90, 255, 90)
GOOD_RGB, BAD_RGB = (235, 235, 235), (255, 90, 90)


def posed_vertices(model: SkinningModel, head: HeadTrack, frames: NDArray[np.int64]) -> Tensor:
    """Camera-space vertices (n, V, 3) in metres of the given frames of a fitted clip; NaN where it is not valid."""

    def pick(values: NDArray[np.float32]) -> Tensor:
        return torch.as_tensor(values[frames])

    return skin(
        model,
        torch.as_tensor(head.shape),
        pick(head.expression),
        pick(head.global_pose),
        pick(head.neck_pose),
        pick(head.jaw_pose),
        pick(head.left_eye_pose),
        pick(head.right_eye_pose),
        pick(head.translation),
    )


class FrameReader(Protocol):
    """What decodes a video, such as `reconstruct.video.Reader`."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def info(self) -> VideoInfo:
        """What the container says."""
        ...

    def frames(
        self, start_us: int | None = None, end_us: int | None = None, size: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, UInt8]]:
        """Yield (pts_us, rgb) of a span, scaled to (width, height) where a size is given."""
        ...


def render_overlay(
    video: Path,
    start_us: int,
    head: HeadTrack,
    landmarks: LandmarkTrack,
    model: HeadModel,
    output: Path,
    config: OverlayConfig,
    body: BodyLayer | None = None,
) -> None:
    """Write an mp4 of a clip: the original at the left, mesh and landmarks over it at the right, with the clip's sound.

    Args: video: the source; start_us: the clip's start on the source clock; head and landmarks of the clip's T frames;
    body: drawn beneath the head where one is given. The picture is `config.height` pixels high. Raises
    TalksetError("corrupt_data") when the source's frames are not those that were fitted, and the errors of `Reader`
    and `write_video`.
    """
    with Reader(video) as reader:
        sound = read_audio(video, start_us, end_of(landmarks, start_us, reader.info))
        draw_overlay(reader, sound, start_us, head, landmarks, model, output, config, body)


def draw_overlay(
    reader: FrameReader,
    sound: tuple[NDArray[np.float32], int] | None,
    start_us: int,
    head: HeadTrack,
    landmarks: LandmarkTrack,
    model: HeadModel,
    output: Path,
    config: OverlayConfig,
    body: BodyLayer | None = None,
) -> None:
    """As `render_overlay`, from what somebody else decodes.

    `sound` is that of `read_audio` to `end_of` the clip.
    """
    end_us = end_of(landmarks, start_us, reader.info)
    pictures = _pictures(reader, start_us, end_us, head, landmarks, model, config, body)
    write_video(output, pictures, reader.info.fps, sound, config.crf, end_us - start_us)


def end_of(landmarks: LandmarkTrack, start_us: int, info: VideoInfo) -> int:
    """End of a clip on the source clock, microseconds: its last frame lasts as long as the one before."""
    pts_us = landmarks.pts_us
    step = int(pts_us[-1] - pts_us[-2]) if len(pts_us) > 1 else round(1e6 / info.fps)
    return start_us + int(pts_us[-1]) + step


def _pictures(
    reader: FrameReader,
    start_us: int,
    end_us: int,
    head: HeadTrack,
    landmarks: LandmarkTrack,
    model: HeadModel,
    config: OverlayConfig,
    body: BodyLayer | None = None,
) -> Iterator[tuple[int, UInt8]]:
    info = reader.info
    scale = config.height / info.height
    size = (2 * round(info.width * scale / 2), config.height)
    painter = _Painter(model, head, landmarks, scale, size, body)
    chunk: list[UInt8] = []
    done = 0
    for pts_us, picture in reader.frames(start_us, end_us, size):
        index = done + len(chunk)
        if index >= len(landmarks.pts_us) or pts_us - start_us != landmarks.pts_us[index]:
            raise TalksetError(
                "corrupt_data",
                f"frame {index} of {reader.path} is at {pts_us - start_us} us, not where it was fitted",
                "The file has changed since; run again",
            )
        chunk.append(picture)
        if len(chunk) == CHUNK:
            yield from painter.draw(chunk, done)
            done += len(chunk)
            chunk = []
    if done + len(chunk) != len(landmarks.pts_us):
        raise TalksetError(
            "corrupt_data",
            f"{reader.path} has {done + len(chunk)} frames of the clip, {len(landmarks.pts_us)} were fitted",
            "The file has changed since; run again",
        )
    yield from painter.draw(chunk, done)


class _Painter:
    """Draws mesh, landmarks and figures into consecutive frames of one clip."""

    def __init__(
        self,
        model: HeadModel,
        head: HeadTrack,
        landmarks: LandmarkTrack,
        scale: float,
        size: tuple[int, int],
        body: BodyLayer | None = None,
    ) -> None:
        self._body = body
        self._skinning = prepare(model)
        self._faces = torch.as_tensor(model.faces)
        self._head, self._landmarks = head, landmarks
        self._scale, (self._width, self._height) = scale, size
        self._rasterizer: Rasterizer = make_rasterizer("warp")

    def draw(self, pictures: list[UInt8], first: int) -> Iterator[tuple[int, UInt8]]:
        """Yield (pts_us, rgb) of the finished pictures, frames first .. first + len(pictures)."""
        ids = np.arange(first, first + len(pictures))
        originals = pictures
        if self._body is not None:
            pictures = [self._body.draw(picture, first + at, self._scale) for at, picture in enumerate(pictures)]
        seen = ids[self._head.valid[ids]]
        meshes = dict(zip(seen.tolist(), self._meshes(seen, pictures, first), strict=True))
        for index, original, picture in zip(ids.tolist(), originals, pictures, strict=True):
            right = meshes.get(index, picture).copy()
            self._dots(right, index)
            both = np.concatenate([original, right], axis=1)
            self._caption(both, index)
            yield int(self._landmarks.pts_us[index]), both

    def _meshes(self, seen: NDArray[np.int64], pictures: list[UInt8], first: int) -> Iterator[UInt8]:
        if len(seen) == 0:
            return
        vertices = posed_vertices(self._skinning, self._head, seen)
        focal = self._head.focal_px * self._scale
        centre = torch.as_tensor(self._head.principal_point) * self._scale
        pixels = project(vertices, focal, centre)
        face_ids = self._rasterizer.rasterize(pixels, self._faces, self._height, self._width)
        corners = vertices[:, self._faces.long()]
        normal = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        facing = torch.nn.functional.normalize(normal, dim=-1) @ LIGHT
        bright = 0.25 + 0.75 * ((facing + 0.25) / 1.25).clamp(0, 1)
        # one colour a triangle: the mesh itself stays visible, and a pixel costs one look-up
        colours = (OPACITY * 255 * bright[..., None] * torch.tensor(MESH_RGB)).numpy()
        for position, index in enumerate(seen.tolist()):
            ids = face_ids[position].numpy()
            picture = pictures[index - first].copy()
            covered = ids >= 0
            picture[covered] = (picture[covered] * (1 - OPACITY) + colours[position][ids[covered]]).astype(np.uint8)
            yield picture

    def _dots(self, picture: UInt8, index: int) -> None:
        if not self._landmarks.valid[index]:
            return
        for x, y in np.floor(self._landmarks.face_xy[index] * self._scale).astype(int).tolist():
            if 0 <= x < self._width and 0 <= y < self._height:
                picture[y, x] = DOT_RGB

    def _caption(self, picture: UInt8, index: int) -> None:
        seconds = self._landmarks.pts_us[index] / 1e6
        valid = bool(self._head.valid[index])
        if valid:
            error, nme = float(self._head.residual_px[index]), 100 * float(self._head.nme[index])
            text = f"{seconds:7.3f} s  frame {index:4d}  residual {error:.2f} px  NME {nme:.2f} %  valid"
        else:
            text = f"{seconds:7.3f} s  frame {index:4d}  no face: not valid"
        size = self._height / 1000
        at = (round(12 * size), self._height - round(18 * size))
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 4, cv2.LINE_AA)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, GOOD_RGB if valid else BAD_RGB, 1, cv2.LINE_AA)
