"""Fixtures of the landmark tests."""

from __future__ import annotations

from landmark_clips import dotted, faces

__all__ = ["dotted", "faces"]
