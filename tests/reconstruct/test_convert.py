"""Conversion between models with one mesh: exact where it can be, else as good as a naive least squares."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.models.convert import OUTSIDE_WEIGHT, convert_head
from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError

VERTICES, SHAPES, EXPRESSIONS, FRAMES = 60, 6, 4, 9


def model(name: str, shapedirs: NDArray[np.float64], template: NDArray[Any], shapes: int = SHAPES) -> HeadModel:
    count = shapedirs.shape[2] - shapes
    return HeadModel(
        name=name,
        licence="CC0-1.0",
        v_template=template.astype(np.float32),
        shapedirs=shapedirs.astype(np.float32),
        posedirs=np.zeros((VERTICES, 3, 36), np.float32),
        joint_regressor=np.full((5, VERTICES), 1 / VERTICES, np.float32),
        weights=np.full((VERTICES, 5), 0.2, np.float32),
        parents=np.array([-1, 0, 1, 1, 1]),
        faces=np.arange(VERTICES, dtype=np.int32).reshape(-1, 3),
        num_shape=shapes,
        expression_names=tuple(f"e{i}" for i in range(count)),
        expression_bounds=np.tile(np.array([-3, 3], dtype=np.float32), (count, 1)),
        pose_bounds=np.zeros((5, 3, 2), np.float32),
    )


@pytest.fixture
def source() -> HeadModel:
    rng = np.random.default_rng(0)
    return model("first", rng.normal(0, 0.002, (VERTICES, 3, SHAPES + EXPRESSIONS)), rng.normal(0, 0.1, (VERTICES, 3)))


@pytest.fixture
def talk() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    return rng.normal(size=SHAPES), rng.normal(size=(FRAMES, EXPRESSIONS))


def mixed(source: HeadModel) -> tuple[HeadModel, NDArray[np.float64], NDArray[np.float64]]:
    """The same space of heads in other coordinates, and the matrices that carry coefficients there."""
    rng = np.random.default_rng(2)
    by_shape = rng.normal(size=(SHAPES, SHAPES)) + 2 * np.eye(SHAPES)
    by_expression = rng.normal(size=(EXPRESSIONS, EXPRESSIONS)) + 2 * np.eye(EXPRESSIONS)
    bases = [source.identity @ np.linalg.inv(by_shape), source.expression @ np.linalg.inv(by_expression)]
    return model("second", np.concatenate(bases, axis=2), source.v_template), by_shape, by_expression


def unposed(head: HeadModel, shape: NDArray[np.float64], expression: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, V, 3) metres."""
    return np.asarray(
        head.v_template + head.identity @ shape + np.einsum("vce,te->tvc", head.expression, expression), np.float64
    )


def test_an_invertible_mix_is_recovered(
    source: HeadModel, talk: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    target, by_shape, by_expression = mixed(source)
    made = convert_head(source, target, *talk)
    np.testing.assert_allclose(made.shape, by_shape @ talk[0], atol=1e-3)
    np.testing.assert_allclose(made.expression, talk[1] @ by_expression.T, atol=1e-3)
    assert made.error_mm.max() < 1e-4
    assert made.shape.dtype == made.expression.dtype == made.error_mm.dtype == np.float32
    back = convert_head(target, source, made.shape, made.expression)
    np.testing.assert_allclose(back.expression, talk[1], atol=2e-3)


def test_a_model_converts_to_itself(source: HeadModel, talk: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    made = convert_head(source, source, *talk)
    np.testing.assert_allclose(made.shape, talk[0], atol=1e-4)
    np.testing.assert_allclose(made.expression, talk[1], atol=1e-4)


@pytest.mark.parametrize("region", ["all", "lips"])
@pytest.mark.parametrize("ridge_m", [0.0, 1e-3])
def test_fewer_components_agree_with_one_naive_least_squares(
    source: HeadModel, talk: tuple[NDArray[np.float64], NDArray[np.float64]], region: str, ridge_m: float
) -> None:
    rng = np.random.default_rng(3)
    reduced = model("reduced", rng.normal(0, 0.002, (VERTICES, 3, 5)), source.v_template + 0.001, shapes=3)
    reduced = dataclasses.replace(reduced, regions={"lips": np.arange(10, 40, dtype=np.int32)})
    made = convert_head(source, reduced, *talk, region=region, ridge_m=ridge_m)

    # all frames as one system: unknowns are the shape and the expressions of every frame
    inside = np.isin(np.arange(VERTICES), reduced.regions["lips"]) | (region == "all")
    weight = np.where(inside, 1.0, OUTSIDE_WEIGHT)
    root = np.sqrt(np.repeat(weight / weight.sum(), 3))
    wanted = unposed(source, *talk) - reduced.v_template
    rows, right = [], []
    for t in range(FRAMES):
        row = np.zeros((3 * VERTICES, 3 + 2 * FRAMES))
        row[:, :3] = reduced.identity.reshape(-1, 3)
        row[:, 3 + 2 * t : 5 + 2 * t] = reduced.expression.reshape(-1, 2)
        rows.append(root[:, None] * row)
        right.append(root * wanted[t].ravel())
    penalty = ridge_m * np.eye(3 + 2 * FRAMES)
    penalty[:3] *= np.sqrt(FRAMES)  # the shape counts in every frame
    solution = np.linalg.lstsq(
        np.concatenate([*rows, penalty]), np.concatenate([*right, np.zeros(len(penalty))]), rcond=None
    )[0]
    np.testing.assert_allclose(made.shape, solution[:3], atol=1e-5)
    np.testing.assert_allclose(made.expression, solution[3:].reshape(FRAMES, 2), atol=1e-5)
    off = unposed(source, *talk) - unposed(reduced, solution[:3], solution[3:].reshape(FRAMES, 2))
    error = 1000 * np.sqrt((off[:, inside] ** 2).sum(2).mean(1))
    np.testing.assert_allclose(made.error_mm, error, rtol=1e-3)
    assert error.min() > 1


def test_the_region_is_fitted_better_and_the_face_is_the_default(
    source: HeadModel, talk: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    rng = np.random.default_rng(3)
    target = model("reduced", rng.normal(0, 0.002, (VERTICES, 3, 8)), source.v_template)
    target = dataclasses.replace(target, regions={"face": np.arange(20, dtype=np.int32)})
    default, face, whole = (convert_head(source, target, *talk, region=region) for region in (None, "face", "all"))
    np.testing.assert_array_equal(default.expression, face.expression)

    def face_error(shape: NDArray[np.float32], expression: NDArray[np.float32]) -> float:
        off = unposed(source, *talk) - unposed(target, shape.astype(np.float64), expression.astype(np.float64))
        return float(np.sqrt((off[:, :20] ** 2).mean()))

    assert face_error(face.shape, face.expression) < 0.99 * face_error(whole.shape, whole.expression)


def test_frames_that_are_not_known_stay_nan_and_do_not_count(
    source: HeadModel, talk: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    target, _, _ = mixed(source)
    holes = talk[1].copy()
    holes[2] = np.nan
    holes[5, 0] = np.nan
    made, whole = convert_head(source, target, talk[0], holes), convert_head(source, target, *talk)
    for values, same in ((made.expression, whole.expression), (made.error_mm[:, None], whole.error_mm[:, None])):
        assert np.isnan(values[[2, 5]]).all()
        np.testing.assert_allclose(values[[0, 1, 3, 4]], same[[0, 1, 3, 4]], atol=1e-4)
    empty = convert_head(source, target, talk[0], holes[[2]])
    assert np.isfinite(empty.shape).all()
    assert np.isnan(empty.expression).all()


def test_what_cannot_be_converted_is_named(
    source: HeadModel, talk: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    target, _, _ = mixed(source)
    swapped = dataclasses.replace(target, faces=target.faces[:, ::-1])
    with pytest.raises(UsageError, match=r"triangle 0 is \[0, 1, 2\] and \[2, 1, 0\]"):
        convert_head(source, swapped, *talk)
    with pytest.raises(UsageError, match="has 20 triangles, second has 19"):
        convert_head(source, dataclasses.replace(target, faces=target.faces[1:]), *talk)
    smaller = dataclasses.replace(target, v_template=target.v_template[1:])
    with pytest.raises(UsageError, match="first has 60 vertices, second has 59"):
        convert_head(source, smaller, *talk)
    with pytest.raises(UsageError, match=r"no region 'nose'. Known: all"):
        convert_head(source, target, *talk, region="nose")
    with pytest.raises(UsageError, match=r"needs \(6,\) and \(T, 4\)"):
        convert_head(source, target, talk[0][1:], talk[1])
    with pytest.raises(UsageError, match="not finite"):
        convert_head(source, target, np.nan * talk[0], talk[1])
