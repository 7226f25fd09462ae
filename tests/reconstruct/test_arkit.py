"""ARKit weights: vertices against the sculpted actions, round trips, NaN frames, and clear refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct.models.arkit import ARKIT_NAMES, JAW_SIDE_RAD, JOINT_ACTIONS, POSES, from_arkit, to_arkit
from reconstruct.models.head_model import HeadModel
from reconstruct.models.open_head import EYE_LOOK_RAD, FIXED_EXPRESSIONS, JAW_OPEN_RAD
from reconstruct.models.skinning import prepare, skin
from schemas.errors import UsageError


def vertices(model: HeadModel, made: dict[str, Any]) -> NDArray[np.float64]:
    """(T, V, 3) of the mean head."""
    expression = torch.as_tensor(made["expression"]).double()
    zero = torch.zeros(len(expression), 3, dtype=torch.float64)
    poses = [torch.as_tensor(made[name]).double() for name in POSES]
    shape = torch.zeros(model.num_shape, dtype=torch.float64)
    arguments = [shape, expression, zero, zero, *poses, zero]
    skinned = skin(prepare(model, dtype=torch.float64), *arguments)
    return np.asarray(skinned.numpy())


def sculpted(model: HeadModel, name: str) -> NDArray[np.float64]:
    """(V, 3) offsets of an action as the model's file has it."""
    return model.expression[:, :, model.expression_names.index(name)].astype(np.float64)


def weights_of(**named: float) -> NDArray[np.float64]:
    row = np.zeros((1, 52))
    for name, value in named.items():
        row[0, ARKIT_NAMES.index(name)] = value
    return row


def random_weights(frames: int = 30) -> NDArray[np.float64]:
    """Within 0..1; of two opposite actions of a joint at most one is in use, as ARKit reports them."""
    weights = np.random.default_rng(0).uniform(0, 1, (frames, 52))
    opposites = [("jawLeft", "jawRight")]
    for side in ("Left", "Right"):
        opposites += [(f"eyeLookUp{side}", f"eyeLookDown{side}"), (f"eyeLookIn{side}", f"eyeLookOut{side}")]
    for first, second in opposites:
        weights[::2, ARKIT_NAMES.index(first)] = 0
        weights[1::2, ARKIT_NAMES.index(second)] = 0
    return weights


def test_the_open_head_has_all_52(open_head: HeadModel) -> None:
    assert len(ARKIT_NAMES) == len(set(ARKIT_NAMES)) == 52
    assert set(ARKIT_NAMES) == set(open_head.expression_names)
    assert set(JOINT_ACTIONS) == set(FIXED_EXPRESSIONS)
    assert ARKIT_NAMES[0] == "eyeBlinkLeft"
    assert ARKIT_NAMES[14:19] == ("jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose")
    assert ARKIT_NAMES[-1] == "tongueOut"


def test_jaw_open_gives_the_sculpted_vertices(open_head: HeadModel) -> None:
    made = from_arkit(open_head, weights_of(jawOpen=1))
    assert made["jaw_pose"].tolist() == [[np.float32(JAW_OPEN_RAD), 0, 0]]
    truth = open_head.v_template + sculpted(open_head, "jawOpen")
    assert np.abs(vertices(open_head, made)[0] - truth).max() < 1e-5


@pytest.mark.parametrize("name", ["mouthSmileLeft", "browInnerUp", "tongueOut", "eyeBlinkRight"])
def test_an_expression_gives_the_sculpted_vertices(open_head: HeadModel, name: str) -> None:
    truth = open_head.v_template + 0.7 * sculpted(open_head, name)
    assert np.abs(vertices(open_head, from_arkit(open_head, {name: [0.7]}))[0] - truth).max() < 1e-7


@pytest.mark.parametrize("side", ["Left", "Right"])
@pytest.mark.parametrize(("way", "opposite"), [("Down", "Up"), ("Up", "Down"), ("In", "Out"), ("Out", "In")])
def test_lids_follow_the_gaze_as_sculpted(open_head: HeadModel, side: str, way: str, opposite: str) -> None:
    moved = vertices(open_head, from_arkit(open_head, {f"eyeLook{way}{side}": [1.0]}))[0] - open_head.v_template
    lids = open_head.regions["eyelids"]
    lids = np.setdiff1d(lids, [open_head.regions["left_eyeball"], open_head.regions["right_eyeball"]])
    mean = (sculpted(open_head, f"eyeLook{way}{side}") - sculpted(open_head, f"eyeLook{opposite}{side}")) / 2
    assert np.abs(mean[lids]).max() > 1e-3
    assert np.abs(moved[lids] - mean[lids]).max() < 1e-6
    # and the eyeball turns to the side to which the sculpted action turns it
    ball = open_head.regions[f"{side.lower()}_eyeball"]
    action = sculpted(open_head, f"eyeLook{way}{side}")[ball]
    along = (moved[ball] * action).sum() / np.linalg.norm(moved[ball]) / np.linalg.norm(action)
    assert along > 0.5


@pytest.mark.parametrize("name", ["jawLeft", "jawRight"])
def test_the_side_angle_is_the_nearest_to_the_sculpted_action(open_head: HeadModel, name: str) -> None:
    joint = (open_head.joint_regressor @ open_head.v_template)[2]
    per_radian = open_head.weights[:, 2:3] * np.cross([0.0, 1.0, 0.0], open_head.v_template - joint)
    action = sculpted(open_head, name)
    nearest = (per_radian * action).sum() / (per_radian**2).sum()
    assert nearest == pytest.approx(JOINT_ACTIONS[name][2], abs=0.001)
    assert 1 - ((action - nearest * per_radian) ** 2).sum() / (action**2).sum() > 0.5
    assert abs(JOINT_ACTIONS[name][2]) == JAW_SIDE_RAD


def test_weights_round_trip(open_head: HeadModel) -> None:
    weights = random_weights()
    made: dict[str, Any] = from_arkit(open_head, weights)
    assert set(made) == {"expression", *POSES}
    back = to_arkit(open_head, **made)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, weights, atol=1e-6)
    fixed = [open_head.expression_names.index(name) for name in FIXED_EXPRESSIONS]
    assert (made["expression"][:, fixed] == 0).all()


def test_parameters_round_trip_but_for_roll_and_torsion(open_head: HeadModel) -> None:
    rng = np.random.default_rng(1)
    made: dict[str, Any] = from_arkit(open_head, random_weights(8))
    low, high = open_head.pose_bounds[2:].transpose(2, 0, 1)
    for pose, lowest, highest in zip(POSES, low, high, strict=True):
        made[pose] = rng.uniform(lowest, highest, (8, 3)).astype(np.float32)
    assert made["jaw_pose"][:, 0].min() < 0.1
    again = from_arkit(open_head, to_arkit(open_head, **made))
    np.testing.assert_allclose(again["expression"], made["expression"], atol=1e-6)
    for pose in POSES:
        np.testing.assert_allclose(again[pose][:, :2], made[pose][:, :2], atol=1e-6)
        assert (again[pose][:, 2] == 0).all()


def test_weights_are_cut_only_on_request(open_head: HeadModel) -> None:
    made: dict[str, Any] = from_arkit(open_head, {"jawOpen": [1.3, -0.05], "mouthPucker": [2.0, -1.0]})
    plain, cut = to_arkit(open_head, **made), to_arkit(open_head, **made, clip=True)
    columns = [ARKIT_NAMES.index("jawOpen"), ARKIT_NAMES.index("mouthPucker")]
    np.testing.assert_allclose(plain[:, columns], [[1.3, 2], [-0.05, -1]], atol=1e-6)
    np.testing.assert_array_equal(cut[:, columns], [[1, 1], [0, 0]])
    assert from_arkit(open_head, plain, clip=True)["jaw_pose"][:, 0].tolist() == [np.float32(0.4), 0]


def test_frames_that_are_not_known_stay_nan(open_head: HeadModel) -> None:
    weights = random_weights(4)
    weights[1, 7] = np.nan
    made: dict[str, Any] = from_arkit(open_head, weights)
    for values in made.values():
        assert np.isnan(values[1]).all()
        assert np.isfinite(values[[0, 2, 3]]).all()
    made["left_eye_pose"][2, 0] = np.nan
    for clip in (False, True):
        back = to_arkit(open_head, **made, clip=clip)
        np.testing.assert_array_equal(np.isnan(back).all(1), [False, True, True, False])
        assert np.isfinite(back[[0, 3]]).all()


def test_what_cannot_be_converted_is_named(open_head: HeadModel) -> None:
    flame = dataclasses.replace(open_head, name="flame", expression_names=tuple(f"e{i}" for i in range(52)))
    with pytest.raises(UsageError, match=r"'flame' are not ARKit's: 52 of 52 are missing \(eyeBlinkLeft"):
        from_arkit(flame, np.zeros((1, 52)))
    made: dict[str, Any] = from_arkit(open_head, np.zeros((2, 52)))
    with pytest.raises(UsageError, match="jawOpen differ"):
        to_arkit(dataclasses.replace(open_head, fixed_expressions=FIXED_EXPRESSIONS[1:]), **made)
    with pytest.raises(UsageError, match="Did you mean 'jawOpen'"):
        from_arkit(open_head, {"JawOpen": [0.0]})
    with pytest.raises(UsageError, match=r"jawOpen \(2,\), tongueOut \(3,\)"):
        from_arkit(open_head, {"jawOpen": np.zeros(2), "tongueOut": np.zeros(3)})
    with pytest.raises(UsageError, match=r"got none"):
        from_arkit(open_head, {})
    with pytest.raises(UsageError, match=r"shape \(2, 51\), expected \(T, 52\)"):
        from_arkit(open_head, np.zeros((2, 51)))
    with pytest.raises(UsageError, match=r"jaw_pose has shape \(3, 3\), expected \(2, 3\)"):
        to_arkit(open_head, **made | {"jaw_pose": np.zeros((3, 3))})
    with pytest.raises(UsageError, match=r"needs \(T, 52\)"):
        to_arkit(open_head, **made | {"expression": np.zeros((2, 10))})


def test_eye_constants_are_those_of_the_distillation() -> None:
    assert {abs(value) for name, (_, _, value) in JOINT_ACTIONS.items() if name.startswith("eye")} == {EYE_LOOK_RAD}
