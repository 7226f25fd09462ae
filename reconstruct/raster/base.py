"""The rasteriser's contract: triangle ids from a backend, everything differentiable in torch from the vertices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Rasterizer(Protocol):
    """Finds the front triangle at each pixel centre."""

    name: str

    def rasterize(self, vertices_px: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
        """Visible triangle ids (T, height, width) int32, -1 where there is none.

        Args: vertices_px (T, V, 3): x right and y down in continuous pixels (the first pixel's centre is at 0.5),
        depth in metres along the view; faces (F, 3) int32. Triangles with a vertex at depth <= 0.001 m are left out.
        The device is that of `vertices_px`.
        """
        ...


@dataclass(frozen=True)
class Fragments:
    """The pixels that show the mesh, as a flat list of n."""

    frame: Tensor
    """(n,) int64"""
    row: Tensor
    """(n,) int64"""
    column: Tensor
    """(n,) int64"""
    vertices: Tensor
    """(n, 3) int64 ids of the triangle's vertices."""
    face: Tensor
    """(n,) int64 triangle id."""
    barycentric: Tensor
    """(n, 3) perspective-correct, differentiable with respect to the vertices; sums to one."""

    def interpolate(self, attribute: Tensor) -> Tensor:
        """Values (n, C) of a per-vertex attribute, (V, C) shared by all frames or (T, V, C)."""
        if attribute.dim() == 3:  # frames laid end to end, so that one flat index reaches every corner
            flat, ids = (
                attribute.reshape(-1, attribute.shape[-1]),
                self.frame[:, None] * attribute.shape[1] + self.vertices,
            )
        else:
            flat, ids = attribute, self.vertices
        corners = (self.barycentric[:, [k]] * flat.index_select(0, ids[:, k]) for k in range(3))
        return next(corners) + next(corners) + next(corners)


def fragments(face_ids: Tensor, vertices_px: Tensor, faces: Tensor) -> Fragments:
    """Covered pixels with perspective-correct barycentric weights.

    Args: face_ids (T, H, W) from a `Rasterizer`; vertices_px (T, V, 3); faces (F, 3). Gradients reach `vertices_px`
    through the weights; visibility itself is constant.
    """
    frame, row, column = torch.nonzero(face_ids >= 0, as_tuple=True)
    face = face_ids[frame, row, column].long()
    ids = faces.long()[face]
    flat, first = vertices_px.reshape(-1, 3), frame * vertices_px.shape[1]
    a, b, c = (flat.index_select(0, first + ids[:, corner]) for corner in range(3))
    centre = torch.stack([column, row], dim=1).to(flat.dtype) + 0.5
    to_a, to_b, to_c = a[:, :2] - centre, b[:, :2] - centre, c[:, :2] - centre

    def over_depth(one: Tensor, other: Tensor, opposite: Tensor) -> Tensor:
        """Twice the area on the screen opposite to a corner, over the corner's depth."""
        return (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]) / opposite[:, 2]

    weighted = torch.stack([over_depth(to_b, to_c, a), over_depth(to_c, to_a, b), over_depth(to_a, to_b, c)], dim=1)
    return Fragments(frame, row, column, ids, face, weighted / weighted.sum(1, keepdim=True))
