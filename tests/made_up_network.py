"""A network of face-alignment's call signature whose heat maps are known: it follows a red dot."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MAPS = 64
SIGMA = 1.5
"""Of the heat maps' Gaussians, in cells."""
PEAK = 0.8


def template() -> NDArray[np.float32]:
    """(68, 2) where the network puts each point, in sides of the crop from the dot: a face of half the crop's size."""
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    radius = np.linspace(0.16, 0.25, 68)
    return np.asarray(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), np.float32)


def dot_of(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """(2,) where the dot was, from the points (68, 2) that the network put around it."""
    shape = template() - template().mean(0)
    side = ((points - points.mean(0)) * shape).sum() / (shape**2).sum()
    return np.asarray(points.mean(0) - side * template().mean(0), np.float64)


class DotNetwork(nn.Module):
    """(1, 3, 256, 256) RGB 0..1 -> list with (1, 68, 64, 64): Gaussians around the red dot, Gaussians in themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.peak, self.sigma = PEAK, SIGMA
        self.register_buffer("template", torch.as_tensor(template()))
        self.register_buffer("cells", (torch.arange(MAPS) + 0.5) / MAPS)

    def forward(self, picture: Tensor) -> list[Tensor]:
        red = (picture[0, 0] - torch.maximum(picture[0, 1], picture[0, 2]) - 0.45).clamp(min=0.0)
        grid = (torch.arange(picture.shape[-1]) + 0.5) / picture.shape[-1]
        total = red.sum().clamp(min=1e-6)
        x = (red.sum(0) * grid).sum() / total + self.template[:, 0]  # type: ignore[index]
        y = (red.sum(1) * grid).sum() / total + self.template[:, 1]  # type: ignore[index]
        across = (self.cells[None, None, :] - x[:, None, None]) ** 2  # type: ignore[index]
        down = (self.cells[None, :, None] - y[:, None, None]) ** 2  # type: ignore[index]
        height = self.peak if float(red.sum()) > 1.0 else 0.0
        heat = height * torch.exp(-(across + down) * (64.0 * 64.0) / (2.0 * self.sigma * self.sigma))
        return [heat[None]]


def write_network(path: Path) -> Path:
    """The network as a TorchScript archive."""
    torch.jit.script(DotNetwork().eval()).save(str(path))  # type: ignore[no-untyped-call]
    return path


def with_dot(rgb: NDArray[np.uint8], at: tuple[float, float], radius: float = 6.0) -> NDArray[np.uint8]:
    """The picture with a red dot around continuous pixel `at`, so smooth that it stays itself in any pixel grid."""
    rows, columns = np.indices(rgb.shape[:2]) + 0.5
    inside = np.exp(-0.5 * ((columns - at[0]) ** 2 + (rows - at[1]) ** 2) / (radius / 2) ** 2)[:, :, None]
    return np.asarray(np.rint((1 - inside) * rgb + inside * np.array([255, 0, 0])), np.uint8)


def grey(width: int, height: int) -> NDArray[np.uint8]:
    """A picture without a face."""
    noise = np.random.default_rng(5).integers(90, 130, (height, width), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(cv2.blur(noise, (5, 5)), cv2.COLOR_GRAY2RGB), np.uint8)
