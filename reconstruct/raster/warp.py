"""Rasteriser on NVIDIA Warp: one thread a triangle, a depth test by 64-bit atomics; CPU and CUDA, no BVH."""

# No `from __future__ import annotations` here: Warp reads the kernels' annotations as types.

from typing import Any

import torch
import warp as wp
from torch import Tensor

from reconstruct.quiet import quiet

wp.config.log_level = wp.LOG_WARNING
with quiet():
    wp.init()

NEAR_M = 0.001
EMPTY = (1 << 63) - 1


@wp.kernel(enable_backward=False)  # type: ignore[untyped-decorator]
def _cover(  # type: ignore[no-untyped-def]
    vertices: wp.array(dtype=wp.vec3, ndim=2),  # type: ignore[valid-type]
    faces: wp.array(dtype=wp.int32, ndim=2),  # type: ignore[valid-type]
    nearest: wp.array(dtype=wp.int64, ndim=3),  # type: ignore[valid-type]
):
    frame, face = wp.tid()  # type: ignore[misc]
    height = nearest.shape[1]
    width = nearest.shape[2]
    a = vertices[frame, faces[face, 0]]
    b = vertices[frame, faces[face, 1]]
    c = vertices[frame, faces[face, 2]]
    if wp.min(a[2], wp.min(b[2], c[2])) <= wp.static(NEAR_M):
        return
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if area == 0.0:
        return
    left = wp.max(int(wp.ceil(wp.min(a[0], wp.min(b[0], c[0])) - 0.5)), 0)
    right = wp.min(int(wp.floor(wp.max(a[0], wp.max(b[0], c[0])) - 0.5)), width - 1)
    top = wp.max(int(wp.ceil(wp.min(a[1], wp.min(b[1], c[1])) - 0.5)), 0)
    bottom = wp.min(int(wp.floor(wp.max(a[1], wp.max(b[1], c[1])) - 0.5)), height - 1)
    for row in range(top, bottom + 1):
        y = float(row) + 0.5
        for column in range(left, right + 1):
            x = float(column) + 0.5
            u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
            v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
            w = 1.0 - u - v
            if u >= 0.0 and v >= 0.0 and w >= 0.0:
                # interpolate 1/z: depth is not linear on the screen; micrometres order exactly as integers
                depth = 1.0 / (u / a[2] + v / b[2] + w / c[2])
                key = (wp.int64(depth * 1.0e6) << wp.int64(32)) | wp.int64(face)
                wp.atomic_min(nearest, frame, row, column, key)


class WarpRasterizer:
    """`Rasterizer` on Warp; see reconstruct.raster.base for the contract."""

    name = "warp"

    def rasterize(self, vertices_px: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
        """Visible triangle ids (T, height, width) int32, -1 where there is none."""
        device = wp.device_from_torch(vertices_px.device)
        nearest = torch.full((vertices_px.shape[0], height, width), EMPTY, dtype=torch.int64, device=vertices_px.device)
        vertices = vertices_px.detach().to(torch.float32).contiguous()
        indices = faces.to(device=vertices.device, dtype=torch.int32).contiguous()
        arguments: list[Any] = [
            wp.from_torch(vertices, dtype=wp.vec3),
            wp.from_torch(indices),
            wp.from_torch(nearest),
        ]
        wp.launch(_cover, dim=(vertices.shape[0], indices.shape[0]), inputs=arguments, device=device)
        wp.synchronize_device(device)
        return torch.where(nearest == EMPTY, -1, nearest & 0xFFFFFFFF).to(torch.int32)
