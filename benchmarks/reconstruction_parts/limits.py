"""Prints measured claims beside their limits and remembers which were missed, for the parts of reconstruction.py."""

from __future__ import annotations

from collections.abc import Sequence


class Limits:
    """Checks claims; `missed` names those that were not kept."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        """Small samples: figures of little meaning."""
        self.missed: list[str] = []

    def check(self, claim: str, value: float, limit: float, unit: str, at_least: bool = False) -> None:
        """Print a claim with its limit, and remember it when it is missed; NaN is a miss."""
        kept = value >= limit if at_least else value <= limit
        if not kept:
            self.missed.append(claim)
        sign = ">=" if at_least else "<="
        verdict = "ok" if kept else "MISSED"
        print(f"  {claim:<66} {value:8.2f} {unit:<10} limit {sign} {limit:g} {unit}  {verdict}", flush=True)


def table(title: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[float | str]]], width: int = 26) -> None:
    """A table of figures with a wide first column."""
    print(f"\n{title}")
    print(" " * (width + 2) + "".join(f"{head:>12}" for head in heads))
    for name, cells in rows:
        shown = [cell if isinstance(cell, str) else f"{cell:.2f}" for cell in cells]
        print(f"  {name:<{width}}" + "".join(f"{cell:>12}" for cell in shown), flush=True)
