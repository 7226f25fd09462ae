"""The open body: what the distilled file promises, on the file itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct.models import body_model, registry
from reconstruct.models.body_model import JOINTS, PARENTS, BodyModel, joint
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin, skin_joints
from schemas.errors import TalksetError, UsageError


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return registry.load_body()


@pytest.fixture(scope="module")
def joints(body: BodyModel) -> NDArray[Any]:
    return np.asarray(body.joint_regressor.astype(np.float64) @ body.v_template)


def test_layout_is_smplx(body: BodyModel) -> None:
    body_model.check(body)
    assert (len(JOINTS), len(PARENTS)) == (55, 55)
    assert [JOINTS[index] for index in (0, 15, 20, 22, 25, 40, 54)] == [
        *("pelvis", "head", "left_wrist", "jaw", "left_index1", "right_index1", "right_thumb3"),
    ]
    assert body.posedirs.shape == (body.num_vertices, 3, 486)
    assert body.num_expression == 52
    assert "jawOpen" in body.expression_names


def test_the_rest_is_a_t_with_the_palms_down(joints: NDArray[Any]) -> None:
    for side, sign in (("left", 1), ("right", -1)):
        arm = joints[[joint(f"{side}_{name}") for name in ("shoulder", "elbow", "wrist", "middle1", "middle3")]]
        assert (np.diff(sign * arm[:, 0]) > 0.02).all()
        assert np.ptp(arm[:, 1]) < 0.02
        index, pinky, thumb = (joints[joint(f"{side}_{name}1")] for name in ("index", "pinky", "thumb"))
        assert index[2] > pinky[2] + 0.03  # thumbs forward
        assert thumb[2] > joints[joint(f"{side}_wrist"), 2] + 0.01
    assert joints[joint("head"), 1] > joints[joint("neck"), 1] > joints[joint("spine3"), 1] > 0


def test_left_and_right_are_alike(joints: NDArray[Any]) -> None:
    for index, name in enumerate(JOINTS):
        if name.startswith("left_"):
            other = joints[joint("right_" + name.removeprefix("left_"))]
            assert joints[index] * [-1, 1, 1] == pytest.approx(other, abs=0.008), name


def test_its_face_is_the_open_heads(body: BodyModel, open_head: HeadModel) -> None:
    """The same expressions, jaw and gaze move the head's vertices by as much."""
    ids = body.regions["head_vertices"]
    assert body.shapedirs[ids][:, :, body.num_shape :] == pytest.approx(open_head.expression, abs=1e-6)
    zero = torch.zeros(1, 3)
    codes = torch.zeros(1, 52)
    codes[0, [3, 20]] = 0.7
    jaw, gaze = torch.tensor([[0.3, 0, 0]]), torch.tensor([[0.2, -0.3, 0]])

    def moved(of_head: bool) -> torch.Tensor:
        results = []
        for on in (0.0, 1.0):
            if of_head:
                shape = torch.zeros(open_head.num_shape)
                poses = [zero, zero, on * jaw, on * gaze, on * gaze, zero]
                results.append(skin(prepare(open_head), shape, on * codes, *poses)[0])
            else:
                joined = torch.zeros(1, 55, 3)
                joined[:, 22], joined[:, 23], joined[:, 24] = on * jaw, on * gaze, on * gaze
                whole = skin_joints(prepare(body), torch.zeros(body.num_shape), on * codes, joined, zero)
                results.append(whole[0, torch.as_tensor(ids.astype(np.int64))])
        return results[1] - results[0]

    difference = (moved(True) - moved(False)).norm(dim=1)
    assert float(difference.mean()) < 3e-4
    assert float(difference.max()) < 0.006  # the body's mean head is another one, so the hinge is elsewhere


def test_saved_file_round_trips_and_damage_is_found(body: BodyModel, tmp_path: Path) -> None:
    small = dataclasses.replace(
        body,
        v_template=body.v_template[:60],
        shapedirs=body.shapedirs[:60, :, -57:],
        posedirs=body.posedirs[:60],
        joint_regressor=body.joint_regressor[:, :60],
        weights=body.weights[:60],
        faces=body.faces[:0],
        num_shape=5,
        regions={},
    )
    path = tmp_path / "model.npz"
    digest = body_model.save(small, path)
    assert body_model.load(path).sha256 == digest
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(TalksetError, match="model"):
        body_model.load(path)


def test_wrong_arrays_are_named(body: BodyModel) -> None:
    with pytest.raises(TalksetError, match="weights"):
        body_model.check(dataclasses.replace(body, weights=body.weights * 2))
    with pytest.raises(TalksetError, match="hands_mean"):
        body_model.check(dataclasses.replace(body, hands_mean=np.zeros((2, 44), np.float32)))
    with pytest.raises(TalksetError, match="parents"):
        body_model.check(dataclasses.replace(body, parents=np.roll(body.parents, 1)))


def test_it_is_listed_as_a_body_and_no_head() -> None:
    entry = next(entry for entry in registry.entries() if entry.name == "open-body")
    assert entry.kind == "body"
    assert entry.travels
    with pytest.raises(UsageError, match="unknown head model"):
        registry.load_model("open-body")
    with pytest.raises(UsageError, match="unknown body model"):
        registry.load_body("open-head")
