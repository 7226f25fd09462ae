"""Spherical-harmonics light: recovered on a sphere, derivatives against automatic differentiation."""

from __future__ import annotations

import torch

from reconstruct.photometric.light import fit_light, log_shading, sh_basis, sh_slope


def sphere(count: int) -> torch.Tensor:
    directions = torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.normalize(directions, dim=-1)


def test_light_of_a_sphere_is_recovered() -> None:
    light = torch.tensor([1.0, 0.2, -0.4, -0.3, 0.1, 0.05, -0.08, 0.06, 0.04], dtype=torch.float64)
    normals = sphere(500)
    intensity = sh_basis(normals) @ light
    intensity[:20] = 5.0  # glare, given no weight
    weight = torch.ones(500, dtype=torch.float64)
    weight[:20] = 0
    torch.testing.assert_close(fit_light(normals, intensity, weight, ridge=0.0), light)


def test_second_order_explains_a_wrapped_lambert_light() -> None:
    normals = sphere(2000)
    toward = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, -0.8], dtype=torch.float64), dim=0)
    intensity = 0.4 + 0.75 * ((normals @ toward + 0.3) / 1.3).clamp(min=0)
    light = fit_light(normals, intensity, torch.ones(2000, dtype=torch.float64))
    left = (sh_basis(normals) @ light - intensity).var() / intensity.var()
    assert float(left) < 0.02  # Basri and Jacobs 2003: the first nine harmonics hold about 99 % of the energy


def test_derivatives_are_those_of_automatic_differentiation() -> None:
    normals = sphere(6).requires_grad_(True)
    light = torch.tensor([1.0, 0.2, -0.3, -0.3, 0.1, 0.05, -0.1, 0.06, 0.04], dtype=torch.float64, requires_grad=True)
    value, by_normal, by_light = log_shading(normals, light)
    slope, _ = torch.autograd.grad(value.sum(), (normals, light), retain_graph=True)
    torch.testing.assert_close(by_normal, slope)
    for index in range(6):
        torch.testing.assert_close(by_light[index], torch.autograd.grad(value[index], light, retain_graph=True)[0])
    torch.testing.assert_close(
        sh_slope(normals, light), torch.autograd.grad((sh_basis(normals) @ light).sum(), normals)[0]
    )
