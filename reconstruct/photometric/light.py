"""Spherical-harmonics light: nine coefficients of the irradiance that a distant light gives to each normal.

Second order holds 99 % of the energy of Lambertian shading (Ramamoorthi and Hanrahan 2001; Basri and Jacobs 2003). The
basis is left without its constant factors, which the coefficients take up.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_COEFFICIENTS = 9
DARKEST = 0.02
"""Least shading, as a fraction of the clip's mean: a logarithm needs a positive one."""


def sh_basis(normals: Tensor) -> Tensor:
    """(..., 9) second-order polynomials of unit normals (..., 3), any frame."""
    x, y, z = normals.unbind(-1)
    one = torch.ones_like(x)
    return torch.stack([one, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], dim=-1)


def sh_slope(normals: Tensor, light: Tensor) -> Tensor:
    """(..., 3) derivative of `sh_basis(normals) @ light` by the normal."""
    x, y, z = normals.unbind(-1)
    _, bx, by, bz, bxy, bxz, byz, bd, bzz = light.unbind(-1)
    return torch.stack(
        [
            bx + bxy * y + bxz * z + 2 * bd * x,
            by + bxy * x + byz * z - 2 * bd * y,
            bz + bxz * x + byz * y + 6 * bzz * z,
        ],
        dim=-1,
    )


def log_shading(normals: Tensor, light: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithm of the shading (...), its derivative by the normal (..., 3) and by the light (..., 9)."""
    basis = sh_basis(normals)
    shade = basis @ light
    lit = (shade > DARKEST)[..., None]
    shade = shade.clamp(min=DARKEST)
    inverse = lit / shade[..., None]
    return shade.log(), sh_slope(normals, light) * inverse, basis * inverse


def fit_light(normals: Tensor, intensity: Tensor, weight: Tensor, ridge: float = 1e-3) -> Tensor:
    """(9,) coefficients by weighted least squares on intensities.

    Args: normals (n, 3), intensity (n,) linear, weight (n,); ridge holds the coefficients that change with the
    direction, as a fraction of the total weight.
    """
    basis = sh_basis(normals)
    normal = (basis * weight[:, None]).T @ basis
    hold = torch.full((NUM_COEFFICIENTS,), ridge, dtype=basis.dtype, device=basis.device)
    hold[0] = 0.0
    normal = normal + torch.diag(hold * weight.sum().clamp(min=1e-9))
    return torch.as_tensor(torch.linalg.solve(normal, basis.T @ (weight * intensity)))
