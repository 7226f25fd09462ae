"""The camera: pixels of known points, angles of known focal lengths, normals of known meshes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from reconstruct.camera import FACING_CAMERA, default_focal, image_centre, project, vertex_normals


def test_project_by_hand() -> None:
    points = torch.tensor([[0.0, 0.0, 2.0], [0.1, -0.2, 0.5], [0.1, -0.2, 1.0]])
    pixels = project(points, 500.0, torch.tensor([320.0, 240.0]))
    expected = [[320.0, 240.0, 2.0], [420.0, 40.0, 0.5], [370.0, 140.0, 1.0]]
    np.testing.assert_allclose(pixels.numpy(), expected, rtol=1e-6)
    batch = project(points.reshape(3, 1, 3).expand(3, 2, 3), 500.0, torch.tensor([320.0, 240.0]))
    np.testing.assert_allclose(batch[:, 1].numpy(), expected, rtol=1e-6)


def test_project_has_the_right_derivatives() -> None:
    points = torch.tensor([[0.1, -0.2, 0.8], [0.3, 0.1, 1.2]], dtype=torch.float64, requires_grad=True)
    focal = torch.tensor(700.0, dtype=torch.float64, requires_grad=True)
    centre = torch.tensor([320.0, 240.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(project, (points, focal, centre))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1920, 1080)])
def test_the_default_camera_sees_40_degrees_across_the_longer_side(width: int, height: int) -> None:
    focal = default_focal(width, height)
    edge = torch.tensor([[np.tan(np.radians(20.0)), 0.0, 1.0]])
    side = max(width, height)
    assert float(project(edge, focal, torch.tensor([side / 2, 0.0]))[0, 0]) == pytest.approx(side)


def test_the_image_centre_is_between_the_middle_pixels() -> None:
    assert image_centre(640, 481).tolist() == [320.0, 240.5]


def test_a_face_that_looks_at_the_camera_is_upright() -> None:
    turned = Rotation.from_rotvec(FACING_CAMERA.astype(np.float64)).apply(np.eye(3))
    np.testing.assert_allclose(turned, [[1, 0, 0], [0, -1, 0], [0, 0, -1]], atol=1e-6)


def test_normals_of_a_sphere_point_outwards_in_every_frame() -> None:
    points = np.random.default_rng(0).normal(size=(400, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = ConvexHull(points).simplices
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    inward = (np.cross(b - a, c - a) * (a + b + c)).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    frames = torch.as_tensor(np.stack([points, 0.1 * points + 3]))
    normals = vertex_normals(frames, torch.as_tensor(faces)).numpy()
    assert np.abs(np.linalg.norm(normals, axis=2) - 1).max() < 1e-6
    assert (normals * points).sum(2).min() > 0.97


def test_normals_are_weighted_by_area() -> None:
    vertices = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 1]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])  # areas 1.5 towards +z and 0.5 towards +x
    normals = vertex_normals(vertices, faces)[0]
    np.testing.assert_allclose(normals[0].numpy(), np.array([1, 0, 3]) / np.sqrt(10), rtol=1e-6)
    np.testing.assert_allclose(normals[1].numpy(), [0, 0, 1], atol=1e-7)
    np.testing.assert_allclose(normals[3].numpy(), [1, 0, 0], atol=1e-7)
