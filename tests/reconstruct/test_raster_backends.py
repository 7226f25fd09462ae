"""Both rasterisers against each other on heads, and gradients of the fragments through each of them."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from torch import Tensor

from reconstruct.camera import FACING_CAMERA, project
from reconstruct.models.head_model import HeadModel
from reconstruct.models.rotations import matrix_to_axis_angle
from reconstruct.models.skinning import axis_angle_to_matrix, prepare, skin
from reconstruct.raster import fragments, make_rasterizer
from schemas.errors import UsageError

INSTALLED = importlib.util.find_spec("pytorch3d") is not None
needs_pytorch3d = pytest.mark.skipif(not INSTALLED, reason="pytorch3d is not installed (it is not on PyPI)")


def heads(model: HeadModel, count: int, seed: int, width: int, height: int, distance_m: float = 0.8) -> Tensor:
    """(count, V, 3) pixels and depth of random heads that turn and stand somewhere in the picture, or half outside."""
    random = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    facing = axis_angle_to_matrix(torch.as_tensor(FACING_CAMERA))
    pose = torch.as_tensor(matrix_to_axis_angle((axis_angle_to_matrix(0.4 * noise(count, 3)) @ facing).numpy())).float()
    zero = torch.zeros(count, 3)
    expression = (0.3 * noise(count, model.num_expression)).clamp(0, 1)
    translation = torch.tensor([0.0, 0.2, distance_m]) + 0.08 * noise(count, 3)
    vertices = skin(prepare(model), 0.7 * noise(model.num_shape), expression, pose, zero, zero, zero, zero, translation)
    return project(vertices, 1.3 * min(width, height), torch.tensor([width / 2, height / 2]))


def edge_of(ids: Tensor) -> Tensor:
    """Pixels with a neighbour of another triangle: rounding may put an edge on either side."""
    edge = torch.zeros_like(ids, dtype=torch.bool)
    for axis in (1, 2):
        differs = ids.diff(dim=axis) != 0
        first, second = [slice(None)] * 3, [slice(None)] * 3
        first[axis], second[axis] = slice(0, -1), slice(1, None)
        edge[tuple(first)] |= differs
        edge[tuple(second)] |= differs
    return edge


@needs_pytorch3d
@pytest.mark.parametrize(
    ("width", "height", "distance_m"), [(96, 96, 0.8), (128, 72, 0.6), (60, 110, 1.0), (96, 64, 0.1)]
)
def test_backends_agree_on_interior_pixels(open_head: HeadModel, width: int, height: int, distance_m: float) -> None:
    """The last case stands around the camera: triangles behind it and across its plane are left out by both."""
    pixels = heads(open_head, 2, width + height, width, height, distance_m)
    if distance_m < 0.2:
        assert bool((pixels[..., 2] <= 0).any())
    faces = torch.as_tensor(open_head.faces)
    warp, peer = (make_rasterizer(name).rasterize(pixels, faces, height, width) for name in ("warp", "pytorch3d"))
    assert peer.dtype == torch.int32
    assert peer.shape == (2, height, width)
    covered = (warp >= 0) | (peer >= 0)
    assert int(covered.sum()) > 500
    same = warp == peer
    # triangles are about as large as pixels here, so most pixels have an edge near; those that do not must agree
    interior = covered & ~(edge_of(warp) & edge_of(peer))
    assert float(same[covered].float().mean()) >= 0.995
    if int(interior.sum()):
        assert float(same[interior].float().mean()) >= 0.999


@needs_pytorch3d
def test_backends_agree_on_large_triangles() -> None:
    """Triangles of many pixels on pictures of both orientations: nearly all pixels are interior."""
    random = torch.Generator().manual_seed(4)
    for height, width in ((90, 150), (150, 90), (120, 120)):
        corners = torch.rand(1, 60, 3, generator=random) * torch.tensor([1.2 * width, 1.2 * height, 1.0])
        corners = corners - torch.tensor([0.1 * width, 0.1 * height, -0.5])
        corners[0, 3, 2] = -0.2
        faces = torch.arange(60, dtype=torch.int32).reshape(-1, 3)
        warp, peer = (make_rasterizer(name).rasterize(corners, faces, height, width) for name in ("warp", "pytorch3d"))
        interior = ~(edge_of(warp) | edge_of(peer))
        assert int(interior.sum()) > 5000
        assert float((warp == peer)[interior].float().mean()) >= 0.999
        assert not bool((peer == 1).any())


@pytest.mark.parametrize("name", ["warp", pytest.param("pytorch3d", marks=needs_pytorch3d)])
def test_gradient_from_pixels_to_vertices_is_the_finite_difference(open_head: HeadModel, name: str) -> None:
    """Vertices -> barycentric -> attribute, in float64, visibility constant."""
    pixels = heads(open_head, 1, 3, 48, 40).double()
    faces = torch.as_tensor(open_head.faces)
    ids = make_rasterizer(name).rasterize(pixels, faces, 40, 48)
    colour = torch.rand(open_head.num_vertices, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def brightness(vertices: Tensor) -> Tensor:
        shown = fragments(ids, vertices, faces)
        return (shown.interpolate(colour) * torch.sin(shown.row + 2.0 * shown.column)[:, None]).sum()

    start = pixels.clone().requires_grad_(True)
    slope = torch.autograd.grad(brightness(start), start)[0]
    assert float(slope.abs().max()) > 0
    random = torch.Generator().manual_seed(2)
    for _ in range(5):
        direction = torch.randn(pixels.shape, dtype=torch.float64, generator=random) * torch.tensor([1.0, 1.0, 1e-3])
        step = 1e-7
        difference = (brightness(pixels + step * direction) - brightness(pixels - step * direction)) / (2 * step)
        assert math.isclose(float(difference), float((slope * direction).sum()), rel_tol=1e-4, abs_tol=1e-3)


@pytest.mark.skipif(INSTALLED, reason="pytorch3d is installed")
def test_missing_pytorch3d_says_how_to_install_it() -> None:
    with pytest.raises(UsageError, match="pytorch3d") as caught:
        make_rasterizer("pytorch3d")
    assert "pip install" in caught.value.remedy
