"""Talking videos in, data sets of fitted 3D heads out; `open_dataset` reads one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from talkset.dataset import open_dataset

    __version__: str

__all__ = ["__version__", "open_dataset"]


def __getattr__(name: str) -> Any:
    """Load on first use, so that `import talkset` costs nothing."""
    if name == "open_dataset":
        from talkset.dataset import open_dataset

        return open_dataset
    if name == "__version__":
        from importlib.metadata import version

        return version("talkset")
    raise AttributeError(f"module 'talkset' has no attribute {name!r}")
