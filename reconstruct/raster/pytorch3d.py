"""Rasteriser on PyTorch3D: the peer of Warp's, for installations that have it; CPU and CUDA."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from schemas.errors import UsageError

NEAR_M = 0.001
HOW_TO_INSTALL = (
    "Build it beside the installed torch: pip install --no-build-isolation "
    "git+https://github.com/facebookresearch/pytorch3d; or choose the rasteriser warp"
)


class Pytorch3dRasterizer:
    """`Rasterizer` on PyTorch3D; see reconstruct.raster.base for the contract.

    Raises UsageError where pytorch3d is not installed, or was built for another torch.
    """

    name = "pytorch3d"

    def __init__(self) -> None:
        try:
            self._rasterize: Any = importlib.import_module("pytorch3d.renderer.mesh.rasterize_meshes").rasterize_meshes
            self._meshes: Any = importlib.import_module("pytorch3d.structures").Meshes
        except ImportError as error:
            raise UsageError(f"the rasteriser pytorch3d cannot be loaded ({error})", HOW_TO_INSTALL) from error

    def rasterize(self, vertices_px: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
        """Visible triangle ids (T, height, width) int32, -1 where there is none."""
        vertices = vertices_px.detach().float()
        # PyTorch3D: x to the left, y up, the shorter side of the picture spans -1 to 1
        shorter = min(height, width)
        places = torch.empty_like(vertices)
        places[..., 0] = (width - 2 * vertices[..., 0]) / shorter
        places[..., 1] = (height - 2 * vertices[..., 1]) / shorter
        places[..., 2] = vertices[..., 2]
        indices = faces.to(device=vertices.device, dtype=torch.int64)
        result = torch.full((len(vertices), height, width), -1, dtype=torch.int32, device=vertices.device)
        for frame, (mesh, depth) in enumerate(zip(places, vertices[..., 2], strict=True)):
            # it would clip triangles that reach behind the camera; the contract leaves them out
            kept = torch.nonzero((depth[indices] > NEAR_M).all(1)).squeeze(1)
            if not len(kept):
                continue
            found, _, _, _ = self._rasterize(
                self._meshes(verts=[mesh], faces=[indices[kept]]),
                image_size=(height, width),
                blur_radius=0.0,
                faces_per_pixel=1,
                bin_size=None if vertices.is_cuda else 0,
                perspective_correct=True,
                clip_barycentric_coords=False,
                cull_backfaces=False,
            )
            front = found[0, ..., 0]
            result[frame] = torch.where(front >= 0, kept[front.clamp(min=0)], -1).to(torch.int32)
        return result
