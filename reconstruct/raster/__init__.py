"""Rasterisers behind one protocol, chosen by name."""

from __future__ import annotations

from reconstruct.raster.base import Fragments, Rasterizer, fragments
from schemas.errors import UsageError

__all__ = ["Fragments", "Rasterizer", "fragments", "make_rasterizer"]


def make_rasterizer(name: str = "warp") -> Rasterizer:
    """The rasteriser of that name; raises UsageError for an unknown one, or one that is not installed."""
    if name == "warp":
        from reconstruct.raster.warp import WarpRasterizer

        return WarpRasterizer()
    if name == "pytorch3d":
        from reconstruct.raster.pytorch3d import Pytorch3dRasterizer

        return Pytorch3dRasterizer()
    raise UsageError(f"unknown rasteriser {name!r}", "Known: warp, pytorch3d")
