"""The landmarks of a detector as points that move with a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.embedding import Embedding
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, prepare, skin


def landmark_points(model: HeadModel, embedding: Embedding, dtype: torch.dtype = torch.float32) -> SkinningModel:
    """The landmarks as vertices of their own: every linear part of the model carried to the barycentric point, and on
    to where the detector sees it on a head of that shape.

    Skinning weights are interpolated before instead of after the rotation; the difference to the exact surface point is
    below a hundredth of a millimetre on average and at most 0.3 mm on the lips (tested).
    """
    unique, index = np.unique(embedding.vertices, return_inverse=True)
    corners = prepare(model, unique, dtype=dtype)
    corner = torch.as_tensor(index.reshape(embedding.vertices.shape))
    weights = torch.as_tensor(np.nan_to_num(embedding.barycentric), dtype=dtype)  # NaN where not embedded

    def carry(values: Tensor) -> Tensor:
        return torch.as_tensor((weights.reshape(*weights.shape, *[1] * (values.dim() - 1)) * values[corner]).sum(1))

    count, shapes = len(embedding.vertices), embedding.response.shape[2]
    shapedirs = carry(corners.shapedirs.reshape(len(unique), 3, -1))
    shapedirs[:, :, :shapes] += torch.as_tensor(embedding.response, dtype=dtype)
    return SkinningModel(
        template=carry(corners.template) + torch.as_tensor(embedding.offset_m, dtype=dtype),
        shapedirs=shapedirs.reshape(3 * count, -1),
        posedirs=carry(corners.posedirs.reshape(len(unique), 3, -1)).reshape(3 * count, -1),
        weights=carry(corners.weights),
        joint_template=corners.joint_template,
        joint_dirs=corners.joint_dirs,
        parents=corners.parents,
        num_shape=corners.num_shape,
        vertex_ids=np.arange(count),
    )


@dataclass(frozen=True)
class PosedLandmarks:
    """The landmarks of a posed head: exact points of its skinned surface, and from there to where they are seen."""

    corners: SkinningModel
    """Every vertex that carries a landmark."""
    local: NDArray[np.int64]
    """(L, 3) which of them carry each."""
    barycentric: Tensor
    """(L, 3)"""
    seen: SkinningModel
    on_surface: SkinningModel

    @classmethod
    def of(cls, model: HeadModel, embedding: Embedding, dtype: torch.dtype = torch.float64) -> PosedLandmarks:
        """Of the landmarks of a detector; those without a place are somewhere."""
        unique, index = np.unique(embedding.vertices, return_inverse=True)
        return cls(
            prepare(model, unique, dtype=dtype),
            index.reshape(embedding.vertices.shape),
            torch.as_tensor(np.nan_to_num(embedding.barycentric), dtype=dtype),
            landmark_points(model, embedding, dtype),
            landmark_points(model, embedding.on_surface(), dtype),
        )

    def at(self, shape: Tensor, *motion: Tensor) -> Tensor:
        """(T, L, 3) metres; arguments as for `skin`."""
        vertices = skin(self.corners, shape, *motion)
        exact = (self.barycentric[None, :, :, None] * vertices[:, torch.as_tensor(self.local)]).sum(2)
        return exact + skin(self.seen, shape, *motion) - skin(self.on_surface, shape, *motion)
