"""The rasteriser's contract, which every backend passes, and the differentiable fragments."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct.raster import Rasterizer, fragments, make_rasterizer
from schemas.errors import UsageError

BACKENDS = [
    "warp",
    pytest.param(
        "pytorch3d",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("pytorch3d") is None, reason="pytorch3d is not installed (it is not on PyPI)"
        ),
    ),
]


@pytest.fixture(params=BACKENDS)
def rasterizer(request: pytest.FixtureRequest) -> Rasterizer:
    return make_rasterizer(request.param)


def naive(vertices: NDArray[np.float64], faces: NDArray[np.int32], height: int, width: int) -> NDArray[np.int64]:
    """Triangle by triangle and pixel by pixel in float64."""
    ids, nearest = np.full((height, width), -1), np.full((height, width), np.inf)
    for number, face in enumerate(faces):
        a, b, c = vertices[face]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        for row in range(height):
            for column in range(width):
                x, y = column + 0.5, row + 0.5
                u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
                v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
                if min(u, v, 1 - u - v) >= 0:
                    depth = 1 / (u / a[2] + v / b[2] + (1 - u - v) / c[2])
                    if depth < nearest[row, column]:
                        ids[row, column], nearest[row, column] = number, depth
    return ids


def soup(seed: int, triangles: int = 12, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    vertices = np.concatenate(
        [random.uniform(-4, size + 4, (3 * triangles, 2)), random.uniform(0.5, 2, (3 * triangles, 1))], 1
    )
    return torch.as_tensor(vertices[None], dtype=torch.float32), torch.arange(3 * triangles).reshape(-1, 3).int()


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_naive_twin(rasterizer: Rasterizer, seed: int) -> None:
    vertices, faces = soup(seed)
    ids = rasterizer.rasterize(vertices, faces, 24, 20)[0].numpy()
    expected = naive(vertices[0].double().numpy(), faces.numpy(), 24, 20)
    assert (ids == expected).mean() > 0.99  # a pixel on an edge may fall to either side


def test_both_windings_are_seen_and_nothing_behind_the_camera(rasterizer: Rasterizer) -> None:
    corner = torch.tensor([[[1.0, 1, 1], [9, 1, 1], [1, 9, 1]]])
    for order in ([0, 1, 2], [0, 2, 1]):
        assert int((rasterizer.rasterize(corner, torch.tensor([order]).int(), 10, 10) == 0).sum()) > 20
    behind = corner * torch.tensor([1.0, 1.0, -1.0])
    assert int((rasterizer.rasterize(behind, torch.tensor([[0, 1, 2]]).int(), 10, 10) >= 0).sum()) == 0


def test_frames_are_independent(rasterizer: Rasterizer) -> None:
    first, faces = soup(1)
    second, _ = soup(2)
    both = rasterizer.rasterize(torch.cat([first, second]), faces, 24, 24)
    assert torch.equal(both[0], rasterizer.rasterize(first, faces, 24, 24)[0])
    assert torch.equal(both[1], rasterizer.rasterize(second, faces, 24, 24)[0])


def test_barycentric_is_perspective_correct(rasterizer: Rasterizer) -> None:
    """A plane seen at a slant: interpolated camera points project back onto their own pixels."""
    points = torch.tensor([[-1.0, -1, 2], [3, -1, 6], [-1, 2, 3]])
    pixels = torch.stack(
        [20 * points[:, 0] / points[:, 2] + 12, 20 * points[:, 1] / points[:, 2] + 12, points[:, 2]], 1
    )
    faces = torch.tensor([[0, 1, 2]]).int()
    found = fragments(rasterizer.rasterize(pixels[None], faces, 24, 24), pixels[None], faces)
    place = found.interpolate(points)
    assert len(place) > 50
    torch.testing.assert_close(20 * place[:, 0] / place[:, 2] + 12, found.column + 0.5, atol=1e-3, rtol=0)
    torch.testing.assert_close(20 * place[:, 1] / place[:, 2] + 12, found.row + 0.5, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.barycentric.sum(1), torch.ones(len(place)))


def test_gradients_reach_the_vertices(rasterizer: Rasterizer) -> None:
    pixels = torch.tensor([[[1.0, 1, 1], [9, 2, 1.5], [2, 9, 2]]], dtype=torch.float64, requires_grad=True)
    faces = torch.tensor([[0, 1, 2]]).int()
    ids = rasterizer.rasterize(pixels, faces, 10, 10)
    colour = torch.rand(3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: fragments(ids, v, faces).interpolate(colour), (pixels,))


def test_unknown_backend_is_named() -> None:
    with pytest.raises(UsageError, match="opengl"):
        make_rasterizer("opengl")
