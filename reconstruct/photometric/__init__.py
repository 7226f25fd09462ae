"""Refines a landmark fit with the pixels of the clip: one shape, one light, one albedo for every surface point."""
