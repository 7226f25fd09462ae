"""SMPL-X files: read as they are published, and posed as a second implementation poses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from smplx_files import V, file_arrays

from reconstruct.models import registry, smplx
from reconstruct.models.body_model import PARENTS, BodyModel
from reconstruct.models.skinning import prepare, skin_joints
from schemas.errors import TalksetError, UsageError


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smplx") / "SMPLX_NEUTRAL.npz"
    np.savez(path, **file_arrays(20))
    return path


def rodrigues(vector: NDArray[Any]) -> NDArray[Any]:
    angle = np.linalg.norm(vector)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def forward(
    arrays: dict[str, Any], betas: NDArray[Any], codes: NDArray[Any], poses: NDArray[Any], place: NDArray[Any]
) -> Any:
    """SMPL-X's forward by 4 x 4 matrices, joint by joint: the second implementation."""
    count = len(betas)
    rest = arrays["v_template"] + arrays["shapedirs"][:, :, :count] @ betas
    joints = arrays["J_regressor"] @ rest
    rest = rest + arrays["shapedirs"][:, :, count:] @ codes
    turns = [rodrigues(pose) for pose in poses]
    feature = np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    rest = rest + arrays["posedirs"] @ feature
    world: list[NDArray[Any]] = []
    for index, turn in enumerate(turns):
        local = np.eye(4)
        local[:3, :3] = turn
        parent = PARENTS[index]
        local[:3, 3] = joints[index] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    for index, matrix in enumerate(world):
        matrix[:3, 3] -= matrix[:3, :3] @ joints[index]
    blended = np.einsum("vj,jab->vab", arrays["weights"], np.stack(world))
    return np.einsum("vab,vb->va", blended[:, :3, :3], rest) + blended[:, :3, 3] + place


@pytest.mark.parametrize("components", [20, 400])
def test_the_forward_is_that_of_a_second_implementation(tmp_path: Path, components: int) -> None:
    arrays = file_arrays(components)
    path = tmp_path / "SMPLX_MALE.npz"
    np.savez(path, **arrays)
    file = smplx.read_smplx(path)
    model = smplx.to_body_model(file, "mine")
    assert model.num_shape == {20: 10, 400: 300}[components]
    assert model.num_expression == {20: 10, 400: 100}[components]
    random = np.random.default_rng(1)
    betas, codes = random.normal(size=model.num_shape), random.normal(size=(2, model.num_expression))
    poses, place = random.normal(0, 0.4, (2, 55, 3)), random.normal(size=(2, 3))
    found = skin_joints(
        prepare(model, dtype=torch.float64), *(torch.as_tensor(part) for part in (betas, codes, poses, place))
    ).numpy()
    for frame in range(2):
        expected = forward(arrays, betas, codes[frame], poses[frame], place[frame])
        assert np.abs(found[frame] - expected).max() < 1e-5


def test_hands_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "SMPLX_FEMALE.npz"
    np.savez(path, **file_arrays(20, hands=False))
    file = smplx.read_smplx(path)
    assert not file.hands_mean.any()
    assert [note.what for note in file.findings if not note.good] == ["hands_meanl", "hands_meanr"]


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("weights", lambda a: a[:, :54], "weights has shape"),
        ("shapedirs", lambda a: a[:, :, :19], "19 components"),
        ("v_template", lambda a: a * 100, "high"),
        ("v_template", lambda a: a * [-1, 1, 1], "left arm"),
        ("kintree_table", lambda a: a[::-1], "parents"),
        ("J_regressor", lambda a: a * 2, "sum to"),
        ("f", lambda a: a + V, "vertices"),
    ],
)
def test_what_is_no_smplx_is_named(monkeypatch: pytest.MonkeyPatch, key: str, change: Any, said: str) -> None:
    arrays = file_arrays(20)
    arrays[key] = change(arrays[key])
    monkeypatch.setattr(smplx, "load_npz", lambda path: arrays)
    with pytest.raises(TalksetError, match=said):
        smplx.read_smplx(Path("x.npz"))


def test_adding_it_makes_it_a_body_of_this_installation(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path))
    entry = registry.add_model(published)
    assert (entry.name, entry.kind, entry.travels) == ("smplx_neutral", "body", False)
    model = registry.load_body("smplx_neutral")
    assert isinstance(model, BodyModel)
    assert model.hands_mean[0] == pytest.approx(file_arrays(20)["hands_meanl"], abs=1e-6)
    assert registry.add_model(published).name == "smplx_neutral"
    with pytest.raises(UsageError, match="unknown head model"):
        registry.load_model("smplx_neutral")
    assert any(finding.what == "licence" for finding in registry.check_model("smplx_neutral"))
    assert any(finding.what == "hands_meanl" for finding in registry.check_model(published))
    other = tmp_path / "SMPLX_MALE.npz"
    np.savez(other, **file_arrays(20, hands=False))
    with pytest.raises(UsageError, match="no masks"):
        registry.add_model(other, masks=published)
    registry.remove_model("smplx_neutral")
    assert "smplx_neutral" not in [entry.name for entry in registry.entries()]
