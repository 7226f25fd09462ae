"""Surface points of the face that pixels are compared at: their positions, normals, derivatives and visibility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reconstruct.camera import vertex_normals
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, prepare
from reconstruct.raster import Rasterizer

LEFT_OUT = ("mouth", "tongue", "left_eyeball", "right_eyeball", "eyelids", "ears", "scalp")
"""Regions whose look is not that of lit skin: inner mouth, eyes with their lashes, hair."""
MOVED_BY_EYE_M = 0.001
"""Points that an eye's rotation carries along that far per radian are left out: skin must not tell the gaze."""
HIDDEN_M = 0.004
"""A vertex that far behind the visible surface is hidden."""


@dataclass(frozen=True)
class Surface:
    """The compared vertices of the face region and the ring of neighbours that their normals need."""

    ring: SkinningModel
    """All m vertices; the compared ones come first."""
    faces: Tensor
    """(f, 3) int64 triangles among the m vertices."""
    count: int
    """n compared vertices."""
    lips: Tensor
    """(n,) bool"""
    corners: SkinningModel
    """The n compared vertices alone."""
    mesh: SkinningModel
    """The whole head, which may hide some of them."""
    mesh_faces: Tensor
    """(F, 3) int32 triangles of the whole head."""


def make_surface(model: HeadModel) -> Surface:
    """Surface points of a model: its face region without `LEFT_OUT`, away from the region's rim."""
    left_out = [model.regions[name] for name in LEFT_OUT if name in model.regions]
    kept = np.setdiff1d(model.regions["face"], np.concatenate([np.zeros(0, np.int32), *left_out])).astype(np.int64)
    eyes = model.weights[kept, 3:].sum(1) > 0.01
    lids = np.abs(model.posedirs[kept][:, :, 18:]).max((1, 2)) > MOVED_BY_EYE_M
    kept = kept[~(eyes | lids)]
    touching = np.isin(model.faces, kept).any(1)
    faces = model.faces[touching].astype(np.int64)
    ids = np.concatenate([kept, np.setdiff1d(faces, kept)])
    place = np.full(model.num_vertices, -1, dtype=np.int64)
    place[ids] = np.arange(len(ids))
    lips = np.isin(kept, model.regions.get("lips", np.zeros(0, np.int32)))
    return Surface(
        ring=prepare(model, ids),
        faces=torch.as_tensor(place[faces]),
        count=len(kept),
        lips=torch.as_tensor(lips),
        corners=prepare(model, kept),
        mesh=prepare(model),
        mesh_faces=torch.as_tensor(model.faces.astype(np.int32)),
    )


def normals_of(surface: Surface, vertices: Tensor) -> Tensor:
    """(T, n, 3) unit normals of the compared vertices from the positions (T, m, 3) of all."""
    return vertex_normals(vertices, surface.faces)[:, : surface.count]


def normal_slopes(surface: Surface, vertices: Tensor, directions: Tensor) -> Tensor:
    """(n, 3, K) derivative of the unit normals when the vertices (m, 3) move along directions (m, 3, K)."""
    a, b, c = (surface.faces[:, corner] for corner in range(3))
    first, second = vertices[b] - vertices[a], vertices[c] - vertices[a]
    along_first, along_second = directions[b] - directions[a], directions[c] - directions[a]
    turned = torch.linalg.cross(along_first, second[..., None].expand_as(along_first), dim=1)
    turned = turned + torch.linalg.cross(first[..., None].expand_as(along_second), along_second, dim=1)
    area = torch.linalg.cross(first, second)
    total = torch.zeros_like(vertices)
    slope = torch.zeros_like(directions)
    for corner in (a, b, c):
        total.index_add_(0, corner, area)
        slope.index_add_(0, corner, turned)
    total, slope = total[: surface.count], slope[: surface.count]
    length = total.norm(dim=-1).clamp(min=1e-12)[:, None]
    normal = total / length
    slope = slope / length[..., None]
    return torch.as_tensor(slope - normal[..., None] * (normal[..., None] * slope).sum(1, keepdim=True))


def visible(rasterizer: Rasterizer, pixels: Tensor, faces: Tensor, compared: Tensor, size: int) -> Tensor:
    """(T, n) bool: compared vertices in the square picture that no other part of the mesh hides.

    Args: pixels (T, V, 3) x, y in pixels of the picture and depth in metres; faces (F, 3); compared (n,) vertex ids.
    """
    ids = rasterizer.rasterize(pixels, faces, size, size)
    points = pixels[:, compared]
    column, row = points[..., 0].floor().long(), points[..., 1].floor().long()
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    frame = torch.arange(len(pixels))[:, None].expand_as(column)
    front = ids[frame, row.clamp(0, size - 1), column.clamp(0, size - 1)].long()
    corners = faces.long()[front.clamp(min=0)]
    nearest = pixels[..., 2][frame[..., None], corners].amin(-1)
    return torch.as_tensor(inside & (front >= 0) & (nearest > points[..., 2] - HIDDEN_M))
