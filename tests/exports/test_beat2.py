"""BEAT2 files: the exact keys and shapes, and that a reader's body stands where ours does."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bodies import clip_with_body
from dataset_builder import random_clip, writer
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from smplx_files import file_arrays

from exports.beat2 import export_beat2, poses_of, read_beat2, resampled, to_beat2, upright, write_beat2
from reconstruct.body.fit import body_poses
from reconstruct.models import registry
from reconstruct.models.skinning import prepare, skin_joints
from schemas.errors import UsageError
from schemas.records import ClipRecord


def body(frames: int = 5) -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(0)
    return random.normal(0, 0.3, (frames, 55, 3)), random.normal(0, 1, (frames, 3))


def test_keys_shapes_and_types_are_those_of_the_format(tmp_path: Path) -> None:
    poses, place = body()
    arrays = to_beat2(poses, place, np.ones(150, np.float32), np.ones((5, 52), np.float32))
    write_beat2(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz", allow_pickle=True) as stored:
        assert set(stored.files) == {
            *("betas", "poses", "expressions", "trans", "model", "gender", "mocap_frame_rate"),
        }
        assert stored["betas"].shape == (300,)
        assert stored["poses"].shape == (5, 165)
        assert stored["expressions"].shape == (5, 100)
        assert stored["trans"].shape == (5, 3)
        assert str(stored["model"]) == "smplx2020"
        assert str(stored["gender"]) == "neutral"
        assert int(stored["mocap_frame_rate"]) == 30
        assert stored["betas"][149:151].tolist() == [1, 0]
    again = read_beat2(tmp_path / "a.npz")
    assert again["poses"] == pytest.approx(poses.reshape(5, 165), abs=1e-6)


def test_the_mean_hand_is_taken_away() -> None:
    poses, place = body()
    mean = np.arange(90, dtype=np.float32).reshape(2, 45)
    flat = to_beat2(poses, place, np.zeros(1, np.float32))["poses"]
    less = to_beat2(poses, place, np.zeros(1, np.float32), hands_mean=mean)["poses"]
    assert flat[:, 75:120] - less[:, 75:120] == pytest.approx(np.tile(mean[0], (5, 1)), abs=1e-5)
    assert flat[:, 120:] - less[:, 120:] == pytest.approx(np.tile(mean[1], (5, 1)), abs=1e-5)
    assert (flat[:, :75] == less[:, :75]).all()


def test_upright_turns_the_whole_body_and_nothing_else() -> None:
    poses, place = body()
    pelvis, vertex = np.array([0.01, -0.3, 0.02]), np.array([0.2, 0.4, 0.1])
    turned, moved = upright(poses, place, pelvis)
    flip = np.diag([1.0, -1.0, -1.0])

    def posed(root: NDArray[Any], translation: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(Rotation.from_rotvec(root).apply(vertex - pelvis) + pelvis + translation)

    assert posed(turned[:, 0], moved) == pytest.approx(posed(poses[:, 0], place) @ flip, abs=1e-9)
    assert (turned[:, 1:] == poses[:, 1:]).all()


def test_resampling_keeps_the_clock_and_the_ends() -> None:
    seconds = np.arange(26) / 25
    turn = np.zeros((26, 55, 3))
    turn[:, 3, 1] = seconds  # one radian a second
    place = np.stack([seconds, 2 * seconds, 0 * seconds], axis=1)
    poses, moved = resampled(turn, place, np.round(1e6 * seconds).astype(np.int64))
    assert len(poses) == 31
    assert poses[:, 3, 1] == pytest.approx(np.arange(31) / 30, abs=1e-6)
    assert moved[:, 1] == pytest.approx(2 * np.arange(31) / 30, abs=1e-6)


def test_columns_of_a_clip_become_joints() -> None:
    random = np.random.default_rng(1)
    columns = {
        "body_global_pose": random.normal(size=(2, 3)),
        "body_pose": random.normal(size=(2, 63)),
        "left_hand_pose": random.normal(size=(2, 45)),
        "right_hand_pose": random.normal(size=90),
        "jaw_pose": random.normal(size=6),
    }
    poses = poses_of(columns)
    assert poses[1, 40] == pytest.approx(columns["right_hand_pose"][45:48])
    assert poses[0, 1] == pytest.approx(columns["body_pose"][0, :3])
    assert poses[1, 22] == pytest.approx(columns["jaw_pose"][3:])
    assert not poses[:, 23:25].any()
    with pytest.raises(UsageError, match=r"reconstruct\.body"):
        poses_of({"jaw_pose": columns["jaw_pose"]})


def test_frames_without_values_are_refused() -> None:
    poses, place = body()
    place[2] = np.nan
    with pytest.raises(UsageError, match="without values"):
        to_beat2(poses, place, np.zeros(1, np.float32))


@pytest.fixture
def smplx_neutral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up SMPL-X file that this installation knows."""
    path = tmp_path / "SMPLX_NEUTRAL.npz"
    random = np.random.default_rng(5)
    hands = {f"hands_components{side}": np.linalg.qr(random.normal(size=(45, 45)))[0] for side in "lr"}
    marks = {"lmk_faces_idx": np.zeros(51, np.int64), "lmk_bary_coords": np.full((51, 3), 1 / 3)}
    contour = {
        "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64),
        "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
    }
    np.savez(path, **file_arrays(400), **hands, **marks, **contour)
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path / "cache"))
    registry.add_model(path)
    return path


def with_bodies(root: Path, *records: ClipRecord) -> Path:
    with writer(root) as target:
        for record in records:
            target.add(record)
        target.finish()
    return root


def test_a_data_set_becomes_files_with_the_exact_keys(smplx_neutral: Path, tmp_path: Path) -> None:
    whole = clip_with_body(2, 50, "smplx_neutral", 300)
    assert whole.head is not None
    assert whole.body is not None
    full_of_holes = clip_with_body(4, 50, "smplx_neutral", 300)
    assert full_of_holes.head is not None
    blind = full_of_holes.head.valid.copy()
    blind[10:20] = False
    holes = dataclasses.replace(full_of_holes, head=dataclasses.replace(full_of_holes.head, valid=blind))
    short = clip_with_body(1, 30, "smplx_neutral", 300)  # every third frame has no face: holes of one frame
    root = with_bodies(tmp_path / "data", short, whole, random_clip(3), holes)
    done = export_beat2(root, tmp_path / "out")
    assert set(done.left_out) == {"clip_0003", "clip_0004"}
    assert "10 of 50 frames have no body" in done.left_out["clip_0004"]
    assert [path.name for path in done.written if path.suffix == ".npz"] == ["clip_0001.npz", "clip_0002.npz"]
    assert all(path.is_file() for path in done.written)
    for name, frames in (("clip_0001", 35), ("clip_0002", 59)):  # 1.16 and 1.96 s at 30 frames/s
        with np.load(tmp_path / "out" / "smplxflame_30" / f"{name}.npz", allow_pickle=False) as stored:
            layout = {key: (stored[key].shape, stored[key].dtype.kind) for key in stored.files}
        assert layout == {
            "betas": ((300,), "f"),
            "poses": ((frames, 165), "f"),
            "expressions": ((frames, 100), "f"),
            "trans": ((frames, 3), "f"),
            "model": ((), "U"),
            "gender": ((), "U"),
            "mocap_frame_rate": ((), "i"),
        }
    arrays = read_beat2(tmp_path / "out" / "smplxflame_30" / "clip_0002.npz")
    model = registry.load_body("smplx_neutral")
    assert arrays["poses"][0, 75:120] + model.hands_mean[0] == pytest.approx(whole.body.left_hand_pose[0], abs=1e-5)
    assert arrays["poses"][30, 3:66] == pytest.approx(whole.body.body_pose[25], abs=1e-5)  # both at 1 s
    assert arrays["expressions"][0, :52] == pytest.approx(whole.head.expression[0], abs=1e-6)
    assert (tmp_path / "out" / "textgrid" / "clip_0002.TextGrid").read_text().count('"bin"') == 1


def test_a_data_set_without_bodies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no clip of .* has a body"):
        export_beat2(with_bodies(tmp_path / "data", random_clip(2)), tmp_path / "out")


@pytest.mark.skipif(importlib.util.find_spec("smplx") is None, reason="pip install smplx (for research alone)")
def test_the_fields_own_reader_puts_the_body_where_it_is(smplx_neutral: Path, tmp_path: Path) -> None:
    """The package `smplx`, fed as EMAGE feeds it; not among our dependencies (its licence is for research alone).

    The face is neutral: `smplx` lets expressions move the joints, which they do in this made-up file.
    """
    smplx = importlib.import_module("smplx")
    record = clip_with_body(2, 20, "smplx_neutral", 300)
    assert record.body is not None
    assert record.head is not None
    neutral = dataclasses.replace(record.head, expression=np.zeros_like(record.head.expression))
    record = dataclasses.replace(record, head=neutral)
    root = with_bodies(tmp_path / "data", record)
    export_beat2(root, tmp_path / "out")
    with np.load(tmp_path / "out" / "smplxflame_30" / "clip_0002.npz", allow_pickle=True) as file:
        values = {name: torch.as_tensor(file[name]) for name in ("betas", "poses", "expressions", "trans")}
    poses, frames = values["poses"], len(values["poses"])
    reader = smplx.create(
        str(smplx_neutral), model_type="smplx", gender="NEUTRAL", use_face_contour=False, num_betas=300,
        num_expression_coeffs=100, ext="npz", use_pca=False,
    )  # fmt: skip
    found = reader(
        betas=values["betas"][None].expand(frames, -1), transl=values["trans"], expression=values["expressions"],
        jaw_pose=poses[:, 66:69], global_orient=poses[:, :3], body_pose=poses[:, 3:66], leye_pose=poses[:, 69:72],
        reye_pose=poses[:, 72:75], left_hand_pose=poses[:, 75:120], right_hand_pose=poses[:, 120:165],
        return_verts=True,
    ).vertices.detach().numpy()  # fmt: skip
    model = registry.load_body("smplx_neutral")
    assert record.body is not None
    own = body_poses(record.body, record.head)
    posed = skin_joints(
        prepare(model), torch.as_tensor(record.body.betas), torch.zeros(20, 100),
        torch.as_tensor(own, dtype=torch.float32), torch.as_tensor(record.body.body_translation),
    ).numpy()  # fmt: skip
    turned = posed * [1, -1, -1]  # camera space with y up
    assert np.abs(found[0] - turned[0]).max() < 1e-4
    assert np.abs(found[18] - turned[15]).max() < 1e-4  # both at 0.6 s
    print("smplx reads it: largest distance", np.abs(found[0] - turned[0]).max())


def test_a_file_without_a_key_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", poses=np.zeros((1, 165)))
    with pytest.raises(UsageError, match="betas"):
        read_beat2(tmp_path / "b.npz")
