"""Pinhole camera in OpenCV axes (x right, y down, z forward), square pixels, no distortion."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FACING_CAMERA = np.array([np.pi, 0.0, 0.0], dtype=np.float32)
"""Axis-angle that turns model space (y up, z towards the viewer) into camera space: a face that looks at the camera."""


def project(points: Tensor, focal_px: Tensor | float, principal_point: Tensor) -> Tensor:
    """Pixels and depth (..., 3) of camera-space points (..., 3) in metres; principal_point (2,) pixels."""
    depth = points[..., 2:]
    return torch.cat([focal_px * points[..., :2] / depth + principal_point, depth], dim=-1)


def default_focal(width: int, height: int) -> float:
    """Focal length in pixels of an ordinary camera: 40 degrees across the longer side."""
    return float(max(width, height) / (2 * np.tan(np.radians(20.0))))


def image_centre(width: int, height: int) -> NDArray[np.float32]:
    """(2,) principal point in continuous pixels: (0, 0) is the outer corner of the first pixel."""
    return np.array([width / 2, height / 2], dtype=np.float32)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(T, V, 3) unit normals, area-weighted; pointing out of a counter-clockwise mesh."""
    corners = vertices[:, faces.long()]
    normal = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(1, faces[:, corner].long(), normal)
    return torch.nn.functional.normalize(total, dim=-1)
