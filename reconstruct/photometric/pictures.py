"""The clip's pictures for the photometric stage: face squares, linear light, values and slopes at sub-pixel places."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import TalksetError
from schemas.types import LandmarkTrack

UInt8 = NDArray[np.uint8]
GAMMA = 2.2
"""Of the display transfer function."""
LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Rec. 709."""
FLOOR = 2e-3
"""Linear light that is added before the logarithm, a little less than one step of 8 bits."""


@dataclass(frozen=True)
class Squares:
    """Square crops around the face, one a frame."""

    pixels: UInt8
    """(T, size, size, 3) sRGB."""
    corner: Tensor
    """(T, 2) source pixels of the crop's upper left corner."""
    scale: float
    """Crop pixels per source pixel, the same in all frames."""

    @property
    def size(self) -> int:
        """Side in pixels."""
        return int(self.pixels.shape[1])

    def only(self, frames: NDArray[np.int64]) -> Squares:
        """The squares of some frames."""
        return Squares(self.pixels[frames], self.corner[torch.as_tensor(frames)], self.scale)


def cut_squares(
    pictures: Iterable[UInt8], track: LandmarkTrack, seen: NDArray[np.int64], size_px: int, margin: float = 1.25
) -> Squares:
    """Face squares of the frames `seen`, in order.

    Args: pictures: every frame of the clip, (H, W, 3) sRGB; margin: side in sizes of the landmarks' box. Parts outside
    the picture repeat its border. Raises TalksetError("corrupt_data") when the number of frames differs.
    """
    low, high = track.face_xy[seen].min(axis=1), track.face_xy[seen].max(axis=1)
    side = max(8, round(float(margin * np.percentile((high - low).max(1), 90))))
    corner = np.floor((low + high) / 2 - side / 2).astype(np.int64)
    crops = np.empty((len(corner), size_px, size_px, 3), dtype=np.uint8)
    place = np.full(len(track.valid), -1)
    place[seen] = np.arange(len(seen))
    total = 0
    for total, picture in enumerate(pictures, start=1):
        index = place[total - 1] if total <= len(place) else -1
        if index >= 0:
            crops[index] = _cut(picture, corner[index], side, size_px)
    if total != len(track.valid):
        raise TalksetError(
            "corrupt_data",
            f"the clip has {total} pictures and {len(track.valid)} frames of landmarks",
            "Decode the span that was detected",
        )
    return Squares(crops, torch.as_tensor(corner.astype(np.float32)), size_px / side)


def _cut(picture: UInt8, corner: NDArray[np.int64], side: int, size_px: int) -> UInt8:
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(corner[1], corner[1] + side), 0, height - 1)
    columns = np.clip(np.arange(corner[0], corner[0] + side), 0, width - 1)
    square = np.ascontiguousarray(picture[rows][:, columns])
    method = cv2.INTER_AREA if side > size_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size_px, size_px), interpolation=method), dtype=np.uint8)


def log_light(squares: UInt8, blur_px: float) -> Tensor:
    """(T, 3, size, size) float32: log luminance, and its slopes along x and y per crop pixel."""
    tones = ((np.arange(256) / 255) ** GAMMA).astype(np.float32)
    result = np.empty((len(squares), 3, *squares.shape[1:3]), dtype=np.float32)
    for square, planes in zip(squares, result, strict=True):
        light = tones[square] @ np.array(LUMINANCE, dtype=np.float32)
        if blur_px > 0:
            light = cv2.GaussianBlur(light, (0, 0), blur_px, borderType=cv2.BORDER_REPLICATE)
        planes[0] = np.log(light + FLOOR)
        planes[1] = cv2.Sobel(planes[0], cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
        planes[2] = cv2.Sobel(planes[0], cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
    return torch.as_tensor(result)


def chroma(squares: UInt8, blur_px: float) -> Tensor:
    """(T, 2, size, size) float32: log of red over green and of blue over green: no matter how bright the light is."""
    tones = ((np.arange(256) / 255) ** GAMMA).astype(np.float32)
    result = np.empty((len(squares), 2, *squares.shape[1:3]), dtype=np.float32)
    for square, planes in zip(squares, result, strict=True):
        light = np.log(cv2.GaussianBlur(tones[square], (0, 0), blur_px, borderType=cv2.BORDER_REPLICATE) + FLOOR)
        planes[0], planes[1] = light[..., 0] - light[..., 1], light[..., 2] - light[..., 1]
    return torch.as_tensor(result)


def sample(planes: Tensor, places: Tensor) -> Tensor:
    """(T, n, C) bilinear values of planes (T, C, H, W) at places (T, n, 2) in continuous pixels."""
    height, width = planes.shape[2:]
    grid = 2 * places / torch.tensor([width, height], dtype=places.dtype, device=places.device) - 1
    values = torch.nn.functional.grid_sample(
        planes, grid[:, :, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return values[..., 0].transpose(1, 2)
