"""The publishers' landmark embeddings: points on the model, points that they leave out, and files that are not them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flame_files import fake_flame, flame_model, landmark_embedding, mediapipe_embedding, npy_bytes
from numpy.typing import NDArray

from reconstruct.embedding import Embedding, load_embedding, save_embedding
from reconstruct.models import official
from reconstruct.models.head_model import HeadModel
from schemas.errors import TalksetError

INDICES = np.random.default_rng(4).permutation(468)[:105]


def triangles_and_weights(count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Points near vertices of the face, and the triangles that hold them."""
    faces = fake_flame().faces
    places = np.random.default_rng(3).choice(flame_model().regions["face"], 105, replace=False)[:count]
    triangles = np.array([int((faces == vertex).any(1).argmax()) for vertex in places])
    return triangles, 0.9 * (faces[triangles] == places[:, None]) + 0.1 / 3


def expected(count: int) -> NDArray[np.float64]:
    triangles, weights = triangles_and_weights(count)
    corners = flame_model().v_template[fake_flame().faces[triangles]].astype(np.float64)
    return np.asarray((weights[:, :, None] * corners).sum(1))


def placed(model: HeadModel, embedding: Embedding) -> NDArray[np.float64]:
    return np.asarray((embedding.barycentric[:, :, None] * model.v_template[embedding.vertices].astype(float)).sum(1))


def test_mediapipe_points_and_the_others(tmp_path: Path) -> None:
    model = flame_model()
    path = mediapipe_embedding(tmp_path / "mediapipe_landmark_embedding.npz", INDICES, *triangles_and_weights(105))
    embedding = official.read_official(path, model)
    assert embedding.vertices.shape == (478, 3)
    np.testing.assert_array_equal(np.flatnonzero(embedding.embedded), np.sort(INDICES))
    np.testing.assert_allclose(placed(model, embedding)[INDICES], expected(105), atol=1e-6)
    assert np.isinf(embedding.spread_m[~embedding.embedded]).all()
    assert (1 / (embedding.spread_m**2 + 0.002**2) > 0).sum() == 105  # what a fit makes of it
    np.testing.assert_allclose(embedding.barycentric.sum(1), 1, atol=1e-6)
    assert embedding.model_sha256 == model.sha256
    assert official.for_detector(embedding, "mediapipe-face-mesh-0.10.21").detector == "mediapipe-face-mesh-0.10.21"


def test_ibug_points_and_their_sliding_contour(tmp_path: Path) -> None:
    model, (triangles, weights) = flame_model(), triangles_and_weights(68)
    embedding = official.read_official(
        landmark_embedding(tmp_path / "landmark_embedding.npy", triangles, weights), model
    )
    assert embedding.embedded.all()
    np.testing.assert_allclose(placed(model, embedding), expected(68), atol=1e-6)
    assert (embedding.spread_m[17:] == 0).all()
    # the fixture slides each contour point by up to half of its first weight along the triangle's first edge
    corners = model.v_template[model.faces[triangles[:17]]].astype(np.float64)
    edge = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1) * weights[:17, 0]
    slide = np.sqrt(np.mean((np.arange(79) % 40 / 80) ** 2))
    np.testing.assert_allclose(embedding.spread_m[:17], edge * slide, rtol=1e-4)


def test_an_embedding_with_gaps_is_stored_and_completed(tmp_path: Path) -> None:
    model = flame_model()
    path = mediapipe_embedding(tmp_path / "m.npz", INDICES, *triangles_and_weights(105))
    given = official.for_detector(official.read_official(path, model), "mediapipe-x")
    save_embedding(given, tmp_path / "stored.npz")
    again = load_embedding(tmp_path / "stored.npz")
    for field in dataclasses.fields(Embedding):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(given, field.name))
    computed = dataclasses.replace(
        given,
        vertices=np.full((478, 3), 7),
        spread_m=np.full(478, 0.003, np.float32),
        samples=np.full(478, 20, np.int32),
    )
    whole = official.complete(again, computed)
    assert whole.embedded.all()
    assert np.isfinite(whole.spread_m).all()
    np.testing.assert_array_equal(whole.vertices[INDICES], given.vertices[INDICES])
    assert (whole.vertices[~given.embedded] == 7).all()
    assert set(whole.samples[~given.embedded]) == {20}
    with pytest.raises(TalksetError, match="different models or detectors"):
        official.complete(given, dataclasses.replace(computed, model_sha256="0"))
    save_embedding(dataclasses.replace(given, samples=given.samples[:5]), tmp_path / "stored.npz")
    with pytest.raises(TalksetError, match=r"vertices has shape \(478, 3\), expected \(5, 3\)"):
        load_embedding(tmp_path / "stored.npz")


WRONG: dict[str, tuple[str, Any, str]] = {
    "face": ("lmk_face_idx", np.full(105, 9976), r"lmk_face_idx has the triangles 9976\.\.9976.*0\.\.9975"),
    "weights": ("lmk_b_coords", np.full((105, 3), 0.5), r"lmk_b_coords has weights .* do not sum to one"),
    "negative": ("lmk_b_coords", np.tile([1.5, -0.5, 0], (105, 1)), r"weights that are negative"),
    "not finite": ("lmk_b_coords", np.full((105, 3), np.nan), r"lmk_b_coords holds values that are not finite"),
    "shape": ("lmk_b_coords", np.zeros((105, 2)), r"lmk_b_coords has shape \(105, 2\).*expected \(105, 3\)"),
    "floats": ("landmark_indices", np.zeros(105), r"landmark_indices has shape \(105,\) and type float64"),
    "twice": ("landmark_indices", np.zeros(105, int), r"not distinct points of 0\.\.477"),
    "beyond": ("landmark_indices", np.arange(400, 505), r"not distinct points of 0\.\.477"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_embeddings_are_named(tmp_path: Path, what: str) -> None:
    key, value, message = WRONG[what]
    triangles, weights = triangles_and_weights(105)
    path = tmp_path / "mine.npz"
    arrays = {"lmk_face_idx": triangles, "lmk_b_coords": weights, "landmark_indices": INDICES}
    np.savez(path, **(arrays | {key: value}))
    with pytest.raises(TalksetError, match=message) as caught:
        official.read_official(path, flame_model())
    assert caught.value.reason == "corrupt_data"
    assert str(path) in caught.value.message


def test_missing_keys_and_hostile_objects(tmp_path: Path) -> None:
    triangles, weights = triangles_and_weights(68)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(TalksetError, match="its keys are a, expected landmark_indices or full_lmk_faces_idx"):
        official.read_official(tmp_path / "other.npz", flame_model())
    path = tmp_path / "landmark_embedding.npy"
    path.write_bytes(npy_bytes(np.array({"full_lmk_faces_idx": triangles[None]}, dtype=object)))
    with pytest.raises(TalksetError, match="the key 'full_lmk_bary_coords' is missing"):
        official.read_official(path, flame_model())
    path.write_bytes(npy_bytes(np.array([weights, None], dtype=object)))
    with pytest.raises(TalksetError, match="it holds a ndarray, expected a dictionary"):
        official.read_official(path, flame_model())

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'was-run'}",)

    path.write_bytes(npy_bytes(np.array({"full_lmk_faces_idx": Hostile()}, dtype=object)))
    with pytest.raises(TalksetError, match=r"posix\.system") as caught:
        official.read_official(path, flame_model())
    assert caught.value.reason == "unsafe_file"
    assert not (tmp_path / "was-run").exists()
