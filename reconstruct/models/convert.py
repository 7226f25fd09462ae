"""Carries the coefficients of one head model to another with the same mesh, such as FLAME 2020 to FLAME 2023."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

OUTSIDE_WEIGHT: Final = 0.01
"""Of squared errors outside the region against those inside: the skull and the joints follow where the face is free."""
RIDGE_M: Final = 1e-7
"""A tenth of a micrometre: keeps directions that hardly move a vertex from growing, and changes no others."""
BLOCK: Final = 256
"""Frames solved at once."""


@dataclass(frozen=True)
class ConvertedHead:
    """Coefficients of the target model. Poses and translation are those of the source."""

    shape: Float32
    """(S,)"""
    expression: Float32
    """(T, E); NaN where the source's is."""
    error_mm: Float32
    """(T,) RMS distance of the vertices of the region, unposed; NaN where the source's expression is."""


def convert_head(
    source: HeadModel,
    target: HeadModel,
    shape: ArrayLike,
    expression: ArrayLike,
    *,
    region: str | None = None,
    ridge_m: float = RIDGE_M,
) -> ConvertedHead:
    """Coefficients of `target` whose unposed mesh is nearest to that of `source`: one shape, expression per frame.

    Minimises, over all frames at once, the mean squared distance of the vertices (template + identity + expression)
    plus `ridge_m`^2 times the squared coefficients; the two models may have different numbers of them. The joint
    rotations and the translation of the source hold for the target as they are: both have the same joints.

    Args: shape (S,), expression (T, E) of the source; frames that are not finite stay NaN. region: named vertices of
    `target` that count, where others count for `OUTSIDE_WEIGHT`; by default "face" if the target has it, else "all".
    ridge_m: metres of error that one unit of a coefficient is worth.
    Raises UsageError for models with different meshes, an unknown region, or arrays of another shape.
    """
    _check_meshes(source, target)
    identity = np.asarray(shape, dtype=np.float64)
    codes = np.asarray(expression, dtype=np.float64)
    if identity.shape != (source.num_shape,) or codes.ndim != 2 or codes.shape[1] != source.num_expression:
        raise UsageError(
            f"got shape {identity.shape} and expression {codes.shape}, "
            f"{source.name} needs ({source.num_shape},) and (T, {source.num_expression})"
        )
    if not np.isfinite(identity).all():
        raise UsageError("the shape coefficients are not finite", "Convert only clips that were fitted")
    inside, weight = _weights(target, region)
    known = np.isfinite(codes).all(1)
    converted = np.full((len(codes), target.num_expression), np.nan)
    error = np.full(len(codes), np.nan)
    solver = _Solver(source, target, identity, weight, ridge_m)
    # sums of squares over frames split into the mean frame, which sees the shape, and departures from it, which do not
    mean = codes[known].mean(0) if known.any() else np.zeros(source.num_expression)
    new_shape, new_mean = solver.mean_frame(mean)
    frames = np.flatnonzero(known)
    for start in range(0, len(frames), BLOCK):
        block = frames[start : start + BLOCK]
        converted[block] = new_mean + solver.departures(codes[block] - mean)
        error[block] = solver.error_m(new_shape, codes[block], converted[block], inside) * 1000
    return ConvertedHead(new_shape.astype(np.float32), converted.astype(np.float32), error.astype(np.float32))


class _Solver:
    """Normal equations of the weighted least squares; rows are the 3 V coordinates."""

    def __init__(
        self, source: HeadModel, target: HeadModel, identity: Float64, weight: Float64, ridge_m: float
    ) -> None:
        self._from = source.expression.reshape(-1, source.num_expression).astype(np.float64)
        self._to = target.expression.reshape(-1, target.num_expression).astype(np.float64)
        self._identity = target.identity.reshape(-1, target.num_shape).astype(np.float64)
        rest = source.v_template + source.identity @ identity - target.v_template
        self._rest = rest.astype(np.float64).reshape(-1)
        self._root = np.sqrt(np.repeat(weight / weight.sum(), 3))
        self._ridge = ridge_m

    def mean_frame(self, codes: Float64) -> tuple[Float64, Float64]:
        """Shape (S,) and expression (E,) for the mean of the source's expressions."""
        count = self._identity.shape[1]
        basis = np.concatenate([self._identity, self._to], axis=1)
        solution = self._solve(basis, (self._rest + self._from @ codes)[:, None])[:, 0]
        return solution[:count], solution[count:]

    def departures(self, codes: Float64) -> Float64:
        """(T, E) of the target for (T, E) departures of the source's expression from its mean."""
        return self._solve(self._to, self._from @ codes.T).T

    def error_m(self, shape: Float64, codes: Float64, converted: Float64, inside: NDArray[np.bool_]) -> Float64:
        """(T,) RMS distance of the vertices inside the region, metres."""
        rows = np.repeat(inside, 3)
        still = self._rest[rows] - self._identity[rows] @ shape
        off: Float64 = still + codes @ self._from[rows].T - converted @ self._to[rows].T
        return np.asarray(np.sqrt((off**2).sum(1) / inside.sum()))

    def _solve(self, basis: Float64, wanted: Float64) -> Float64:
        """(K, N) least squares with the ridge as K further rows (better conditioned than its normal equations)."""
        ridge = self._ridge * np.eye(basis.shape[1])
        rows = np.concatenate([self._root[:, None] * basis, ridge])
        right = np.concatenate([self._root[:, None] * wanted, np.zeros((basis.shape[1], wanted.shape[1]))])
        return np.asarray(np.linalg.lstsq(rows, right, rcond=None)[0])


def _weights(target: HeadModel, region: str | None) -> tuple[NDArray[np.bool_], Float64]:
    """(V,) whether a vertex is in the region, and what it counts."""
    name = region or ("face" if "face" in target.regions else "all")
    if name == "all":
        return np.ones(target.num_vertices, dtype=bool), np.ones(target.num_vertices)
    if name not in target.regions:
        known = ", ".join(["all", *sorted(target.regions)])
        raise UsageError(f"{target.name} has no region {name!r}", f"Known: {known}")
    inside = np.zeros(target.num_vertices, dtype=bool)
    inside[target.regions[name]] = True
    return inside, np.where(inside, 1.0, OUTSIDE_WEIGHT)


def _check_meshes(source: HeadModel, target: HeadModel) -> None:
    """Raise UsageError unless vertex i and triangle j are the same in both."""
    for what, first, second in (
        ("vertices", source.num_vertices, target.num_vertices),
        ("triangles", len(source.faces), len(target.faces)),
    ):
        if first != second:
            raise UsageError(
                f"{source.name} has {first} {what}, {target.name} has {second}",
                "Only models with the same mesh convert, such as FLAME 2020 and 2023",
            )
    if not np.array_equal(source.faces, target.faces):
        place = int((source.faces != target.faces).any(1).argmax())
        raise UsageError(
            f"{source.name} and {target.name} have different meshes: triangle {place} is "
            f"{source.faces[place].tolist()} and {target.faces[place].tolist()}",
            "Only models with the same mesh convert, such as FLAME 2020 and 2023",
        )
