"""Surface points: which they are, derivatives of their normals, what hides them."""

from __future__ import annotations

import numpy as np
import torch

from reconstruct.camera import vertex_normals
from reconstruct.models.head_model import HeadModel
from reconstruct.photometric.surface import make_surface, normal_slopes, normals_of, visible
from reconstruct.raster import make_rasterizer


def test_points_lie_on_the_skin_of_the_face(open_head: HeadModel) -> None:
    surface = make_surface(open_head)
    ids = surface.corners.vertex_ids
    assert 1000 < surface.count == len(ids)
    assert np.isin(ids, open_head.regions["face"]).all()
    for name in ("mouth", "left_eyeball", "eyelids"):
        assert not np.isin(ids, open_head.regions[name]).any()
    assert np.array_equal(surface.ring.vertex_ids[: surface.count], ids)


def test_normals_are_those_of_the_whole_mesh(open_head: HeadModel) -> None:
    surface = make_surface(open_head)
    template = torch.as_tensor(open_head.v_template)[None]
    whole = vertex_normals(template, torch.as_tensor(open_head.faces))[:, torch.as_tensor(surface.corners.vertex_ids)]
    found = normals_of(surface, template[:, torch.as_tensor(surface.ring.vertex_ids)])
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)


def test_slopes_of_normals_are_finite_differences(open_head: HeadModel) -> None:
    surface = make_surface(open_head)
    vertices = surface.ring.template.double()
    directions = surface.ring.shapedirs.reshape(len(vertices), 3, -1)[..., [0, 5, 40, -3]].double()
    slopes = normal_slopes(surface, vertices, directions)
    step = 1e-5
    for column in range(directions.shape[2]):
        moved = [vertices + sign * step * directions[..., column] for sign in (1, -1)]
        difference = (normals_of(surface, moved[0][None]) - normals_of(surface, moved[1][None]))[0] / (2 * step)
        torch.testing.assert_close(slopes[..., column], difference, atol=1e-4, rtol=1e-4)


def test_hidden_points_and_points_outside_are_not_visible() -> None:
    """A near square covers the left one of two far points; a third lies outside the picture."""
    near = torch.tensor([[2.0, 2, 0.5], [12, 2, 0.5], [12, 28, 0.5], [2, 28, 0.5]])
    far = torch.tensor([[1.0, 1, 0.6], [29, 1, 0.6], [29, 29, 0.6], [1, 29, 0.6]])
    points = torch.tensor([[7.0, 15, 0.6], [22, 15, 0.6], [40, 15, 0.6]])
    vertices = torch.cat([near, far, points])[None]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], dtype=torch.int32)
    shown = visible(make_rasterizer("warp"), vertices, faces, torch.tensor([8, 9, 10]), 30)
    assert shown.tolist() == [[False, True, False]]
