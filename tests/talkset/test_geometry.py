"""Geometry of a clip against skinning called directly, known projections, invariances, and models that do not fit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_builder import random_clip, writer
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct import embedding as embeddings
from reconstruct.camera import project
from reconstruct.embedding import Embedding
from reconstruct.landmarks.topology import FACE
from reconstruct.models import head_model, registry
from reconstruct.models.arkit import ARKIT_NAMES
from reconstruct.models.head_model import HeadModel
from reconstruct.models.open_head import JAW_OPEN_RAD
from reconstruct.models.skinning import prepare, skin
from schemas.records import ClipRecord
from schemas.types import HeadTrack, LandmarkTrack, Transcription
from synthetic.make import perform
from synthetic.talker import DEMO_TALKERS
from talkset import geometry
from talkset.dataset import Clip, Dataset, DatasetError, open_dataset

FRAMES = 30
HOLE = slice(11, 14)
NOISE_PX = 0.7
WRONG = "ef" * 32
ORDER = ("expression", "global_pose", "neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose", "translation")


def skinned(model: HeadModel, track: HeadTrack, **changed: Any) -> NDArray[np.float64]:
    """(T, V, 3) by skinning in double precision; `changed` replaces arguments."""
    values = {name: changed.get(name, getattr(track, name)) for name in ("shape", *ORDER)}
    arguments = [torch.as_tensor(np.nan_to_num(value)).double() for value in values.values()]
    return np.asarray(skin(prepare(model, dtype=torch.float64), *arguments).numpy())


def seen(model: HeadModel, embedding: Embedding, track: HeadTrack, **changed: Any) -> NDArray[np.float64]:
    """Points (T, L, 3): on the skinned surface, and from there the detector's offset, turned as the landmark is."""
    vertices = skinned(model, track, **changed)
    exact = (embedding.barycentric[:, :, None] * vertices[:, embedding.vertices]).sum(2)
    poses = (np.nan_to_num(changed.get(name, getattr(track, name))) for name in ORDER[1:6])
    root, neck, *others = (Rotation.from_rotvec(pose) for pose in poses)
    head = root * neck
    turns = np.stack([root.as_matrix(), head.as_matrix(), *((head * other).as_matrix() for other in others)])
    weights = (embedding.barycentric[:, :, None] * model.weights[embedding.vertices]).sum(1)
    offset = embedding.offset_m + embedding.response @ track.shape
    return np.asarray(exact + np.einsum("lj,jtab,lb->tla", weights, turns, offset))


def clip_track(record: ClipRecord) -> HeadTrack:
    assert record.head is not None
    return record.head


@pytest.fixture(scope="module")
def talk(open_head: HeadModel, embedding: Embedding) -> ClipRecord:
    """A talker with a turning neck and a hole; its landmarks are the projected truth with known noise."""
    truth, _ = perform(DEMO_TALKERS[0], open_head)
    track, pts_us = truth.track, truth.pts_us[:FRAMES]
    valid = np.ones(FRAMES, dtype=bool)
    valid[HOLE] = False
    arrays = {name: getattr(track, name)[:FRAMES].copy() for name in ORDER}
    for values in arrays.values():
        values[~valid] = np.nan
    track = dataclasses.replace(track, **arrays, valid=valid)
    points = seen(open_head, embedding, track)
    centre = torch.as_tensor(track.principal_point).double()
    pixels = project(torch.as_tensor(points), track.focal_px, centre)[..., :2].numpy()
    noise = np.random.default_rng(0).normal(0, NOISE_PX, pixels.shape)
    pixels[~valid] = np.nan
    residual = np.where(valid, np.linalg.norm(noise, axis=2)[:, FACE].mean(1), np.nan).astype(np.float32)
    track = dataclasses.replace(track, residual_px=residual, nme=residual / 100)
    trust = np.where(valid[:, None], np.ones(pixels.shape[:2]), np.nan).astype(np.float32)
    landmarks = LandmarkTrack(pts_us, (pixels + noise).astype(np.float32), trust, valid, 360, 288, embedding.detector)
    index = {**random_clip(0).index, "num_frames": FRAMES, "end_us": 1_000_000 + 40_000 * FRAMES}
    return ClipRecord({**index, "model_sha256": open_head.sha256}, track, landmarks, Transcription((), ()), ())


def small_model(open_head: HeadModel, name: str, **changed: Any) -> HeadModel:
    """Another model: forty vertices of the open head, a millimetre aside."""
    model = dataclasses.replace(
        open_head,
        name=name,
        v_template=open_head.v_template[:40] + np.float32(0.001),
        shapedirs=open_head.shapedirs[:40],
        posedirs=open_head.posedirs[:40],
        joint_regressor=np.full((5, 40), 1 / 40, np.float32),
        weights=open_head.weights[:40],
        faces=np.array([[0, 1, 2]], np.int32),
        regions={},
    )
    model = dataclasses.replace(model, **changed)
    return dataclasses.replace(model, sha256=head_model.content_sha256(model))


def of_model(record: ClipRecord, name: str, sha256: str) -> ClipRecord:
    head = dataclasses.replace(clip_track(record), head_model=name, model_sha256=sha256)
    return dataclasses.replace(record, head=head, index={**record.index, "model_sha256": sha256})


@pytest.fixture(scope="module")
def written(talk: ClipRecord, open_head: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set without a models folder: the talker as fitted with five head models."""
    nameless = tuple(f"e{i}" for i in range(52))
    records = {
        "talk": talk,
        "nudged": of_model(talk, "nudged", small_model(open_head, "nudged").sha256),
        "wrong": of_model(talk, open_head.name, WRONG),
        "flame": of_model(talk, "flame", small_model(open_head, "flame", expression_names=nameless).sha256),
        "unsafe": of_model(talk, "../flame", WRONG),
    }
    root = tmp_path_factory.mktemp("geometry") / "set"
    with writer(root) as target:
        for name, record in records.items():
            target.add(dataclasses.replace(record, index={**record.index, "clip_id": name}))
        target.finish()
    return root


@pytest.fixture(scope="module")
def clip(written: Path) -> Clip:
    return open_dataset(written)["talk"]


@pytest.fixture
def own(written: Path, tmp_path: Path) -> Dataset:
    """A copy of the data set that the test may change."""
    return open_dataset(shutil.copytree(written, tmp_path / "set"))


@pytest.fixture(scope="module")
def track(talk: ClipRecord) -> HeadTrack:
    return clip_track(talk)


def test_vertices_are_those_of_skinning(clip: Clip, track: HeadTrack, open_head: HeadModel) -> None:
    made = geometry.clip_vertices(clip)
    assert made.shape == (FRAMES, open_head.num_vertices, 3)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(made).any((1, 2)), ~track.valid)
    assert np.isnan(made[HOLE]).all()
    np.testing.assert_allclose(made[track.valid], skinned(open_head, track)[track.valid], atol=2e-6)
    assert 0.3 < np.nanmedian(made[..., 2]) < 3  # in front of the camera
    np.testing.assert_array_equal(geometry.clip_faces(clip), open_head.faces)


def test_the_spaces_leave_out_what_they_say(clip: Clip, track: HeadTrack, open_head: HeadModel) -> None:
    zero = np.zeros((FRAMES, 3))
    assert np.nanmax(np.abs(track.neck_pose)) > 0.02
    model, still = (geometry.clip_vertices(clip, space=space) for space in ("model", "canonical"))
    truth = skinned(open_head, track, global_pose=zero, translation=zero)
    np.testing.assert_allclose(model[track.valid], truth[track.valid], atol=2e-6)
    truth = skinned(open_head, track, global_pose=zero, translation=zero, neck_pose=zero)
    np.testing.assert_allclose(still[track.valid], truth[track.valid], atol=2e-6)
    # the skull stands still, while in model space the neck turns it
    scalp = open_head.regions["scalp"]
    assert np.nanmax(np.ptp(still[track.valid][:, scalp], axis=0)) < 1e-3
    assert np.nanmax(np.ptp(model[track.valid][:, scalp], axis=0)) > 3e-3


def test_camera_space_is_a_rigid_motion_of_model_space(clip: Clip, track: HeadTrack, open_head: HeadModel) -> None:
    camera, model = geometry.clip_vertices(clip), geometry.clip_vertices(clip, space="model")
    root = (open_head.joint_regressor @ (open_head.v_template + open_head.identity @ track.shape))[0]
    for frame in (0, 9, 29):
        turned = Rotation.from_rotvec(track.global_pose[frame]).apply(model[frame] - root)
        np.testing.assert_allclose(camera[frame], turned + root + track.translation[frame], atol=2e-6)


def test_parts_are_parts_of_the_whole(clip: Clip, open_head: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = geometry.clip_vertices(clip)
    ids = np.array([4000, 7, 7, 123])
    np.testing.assert_allclose(geometry.clip_vertices(clip, start=5, stop=-3), whole[5:-3], atol=1e-6)
    np.testing.assert_allclose(geometry.clip_vertices(clip, vertex_ids=ids), whole[:, ids], atol=1e-6)
    assert geometry.clip_vertices(clip, start=FRAMES).shape == (0, open_head.num_vertices, 3)
    sizes: list[int] = []

    def counted(model: Any, shape: torch.Tensor, expression: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        sizes.append(len(expression))
        return skin(model, shape, expression, *rest)

    monkeypatch.setattr(geometry, "BLOCK_BYTES", 4 * geometry.BYTES_PER_VERTEX * open_head.num_vertices)
    monkeypatch.setattr("reconstruct.models.skinning.skin", counted)
    np.testing.assert_allclose(geometry.clip_vertices(clip), whole, atol=1e-6)
    assert sizes == [4] * 6 + [3]  # 27 valid frames


def test_projected_landmarks_are_as_near_as_the_residual_says(clip: Clip, track: HeadTrack) -> None:
    points = geometry.clip_landmarks3d(clip)
    assert points.shape == (FRAMES, 478, 3)
    assert np.isnan(points[HOLE]).all()
    pixels = clip["focal_px"] * points[..., :2] / points[..., 2:] + clip["principal_point"]
    off = np.linalg.norm(pixels - clip.read("face_xy"), axis=2)[:, FACE].mean(1)
    np.testing.assert_allclose(off[track.valid], clip["residual_px"][track.valid], atol=2e-3)
    assert clip["residual_px"][track.valid].min() > 0.5 * NOISE_PX


def test_landmarks_are_where_the_detector_sees_them(
    clip: Clip, track: HeadTrack, open_head: HeadModel, embedding: Embedding
) -> None:
    for space, changed in (
        ("camera", {}),
        ("model", {"global_pose": np.zeros((30, 3)), "translation": np.zeros((30, 3))}),
    ):
        truth = seen(open_head, embedding, track, **changed)
        made = geometry.clip_landmarks3d(clip, space=space, start=3, stop=20)
        np.testing.assert_array_equal(np.isnan(made[:, 0, 0]), ~track.valid[3:20])
        np.testing.assert_allclose(made[track.valid[3:20]], truth[3:20][track.valid[3:20]], atol=2e-6)


def test_columns_that_were_not_asked_for_do_not_matter(clip: Clip) -> None:
    narrow = open_dataset(clip.dataset.store.path, columns=["translation"])[0]
    np.testing.assert_array_equal(geometry.clip_vertices(narrow, stop=2), geometry.clip_vertices(clip, stop=2))


def test_arkit_weights(clip: Clip, track: HeadTrack, open_head: HeadModel) -> None:
    made = geometry.clip_arkit(clip)
    assert made.shape == (FRAMES, 52)
    np.testing.assert_array_equal(np.isnan(made).all(1), ~track.valid)
    np.testing.assert_allclose(made[:, ARKIT_NAMES.index("jawOpen")], track.jaw_pose[:, 0] / JAW_OPEN_RAD, atol=1e-6)
    pucker = track.expression[:, open_head.expression_names.index("mouthPucker")]
    np.testing.assert_allclose(made[:, ARKIT_NAMES.index("mouthPucker")], pucker, atol=1e-7)
    clamped = geometry.clip_arkit(clip, clamp=True)[track.valid]
    np.testing.assert_array_equal(clamped, np.clip(made[track.valid], 0, 1))


@pytest.mark.parametrize(
    ("kind", "shape"), [("matrix", (3, 3)), ("6d", (6,)), ("quaternion", (4,)), ("axis_angle", (3,))]
)
def test_rotations_in_every_form(clip: Clip, track: HeadTrack, kind: str, shape: tuple[int, ...]) -> None:
    made = geometry.clip_rotations(clip, "global_pose", kind)
    assert made.shape == (FRAMES, *shape)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(made).reshape(FRAMES, -1).all(1), ~track.valid)
    truth = Rotation.from_rotvec(track.global_pose[0])
    x, y, z, w = truth.as_quat(canonical=True)
    expected = {
        "matrix": truth.as_matrix(),
        "6d": truth.as_matrix()[:2].ravel(),
        "quaternion": [w, x, y, z],
        "axis_angle": track.global_pose[0],
    }
    np.testing.assert_allclose(made[0], expected[kind], atol=1e-6)


def test_resampled_signals(clip: Clip, track: HeadTrack) -> None:
    made = geometry.clip_resampled(clip, 50)
    count = 2 * FRAMES - 1
    assert set(made) == set(clip)
    np.testing.assert_array_equal(made["pts_us"], np.arange(count) * 20_000)
    np.testing.assert_array_equal(made["valid"], np.isfinite(made["translation"]).all(1))
    np.testing.assert_array_equal(made["valid"][::2], track.valid)
    assert not made["valid"][21:28].any()
    np.testing.assert_array_equal(made["expression"][::2], track.expression)
    np.testing.assert_allclose(made["global_pose"][::2], track.global_pose, atol=1e-6)
    middle = Rotation.from_rotvec(track.global_pose[:2]).mean()
    assert (Rotation.from_rotvec(made["global_pose"][1]).inv() * middle).magnitude() < 1e-5
    assert made["global_pose"].dtype == np.float32
    np.testing.assert_array_equal(made["shape"], track.shape)
    assert made["head_model"] == track.head_model
    back = geometry.clip_resampled(clip, np.array([40_000, 50_000]), columns=["landmarks.face_xy", "landmarks.pts_us"])
    assert set(back) == {"landmarks.face_xy", "landmarks.pts_us", "pts_us", "valid"}
    assert back["landmarks.pts_us"].tolist() == [40_000, 50_000]
    face = clip.read("face_xy")
    np.testing.assert_allclose(back["landmarks.face_xy"][1], 0.75 * face[1] + 0.25 * face[2], atol=1e-3)


def test_the_copy_in_the_data_set_is_used(own: Dataset, track: HeadTrack, open_head: HeadModel) -> None:
    other, clip = small_model(open_head, "nudged"), own["nudged"]
    with pytest.raises(DatasetError, match=rf"needs the head model nudged with content hash {other.sha256}"):
        geometry.head_model_of(clip)
    head_model.save(other, Path(own.store.path, "models", "nudged.npz"))
    assert geometry.head_model_of(clip).sha256 == other.sha256
    assert geometry.head_model_of(clip) is geometry.head_model_of(clip)
    assert geometry.head_model_of(own["talk"]).sha256 == open_head.sha256
    truth = skinned(other, track)
    np.testing.assert_allclose(geometry.clip_vertices(clip, stop=9), truth[:9], atol=2e-6)


def test_another_model_is_refused(own: Dataset, open_head: HeadModel) -> None:
    calls = (geometry.clip_vertices, geometry.clip_landmarks3d, geometry.clip_arkit, geometry.clip_faces)
    for call in calls:
        with pytest.raises(DatasetError) as caught:
            call(own["wrong"])
        for part in (WRONG, open_head.sha256, str(registry.open_head_path()), f"models/{open_head.name}.npz"):
            assert part in str(caught.value)
    # nor does a wrong copy in the data set hide behind the right one that is installed
    other = small_model(open_head, open_head.name)
    bundled = Path(own.store.path, "models", f"{open_head.name}.npz")
    head_model.save(other, bundled)
    with pytest.raises(DatasetError, match=rf"(?s){open_head.sha256}.*{bundled}.*{other.sha256}"):
        geometry.clip_vertices(own["talk"])
    bundled.write_bytes(b"no model")
    with pytest.raises(DatasetError, match=r"not readable"):
        geometry.clip_vertices(own["talk"])


def test_bundled_embeddings(own: Dataset, embedding: Embedding, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = own["talk"]
    whole = geometry.clip_landmarks3d(clip, stop=1)
    monkeypatch.setattr(geometry, "_computed_embedding", None)  # from here on nothing may be computed
    folder = Path(own.store.path, "models")

    def put(detector: str, **changed: Any) -> Path:
        path = folder / f"{clip['head_model']}.{detector}.embedding.npz"
        embeddings.save_embedding(dataclasses.replace(embedding, detector=detector, **changed), path)
        return path

    put("first")
    np.testing.assert_array_equal(geometry.clip_landmarks3d(clip, stop=1), whole)
    places = ("vertices", "barycentric", "offset_m", "response")
    rolled = {name: np.roll(getattr(embedding, name), 1, axis=0) for name in places}
    second = put("second", **rolled)
    with pytest.raises(DatasetError, match=r"several detectors: first, second; choose one with detector="):
        geometry.clip_landmarks3d(clip)
    chosen = geometry.clip_landmarks3d(clip, stop=1, detector="second")
    np.testing.assert_array_equal(chosen, np.roll(whole, 1, axis=1))
    put("second", model_sha256="00" * 32)
    with pytest.raises(DatasetError, match=r"second\.embedding\.npz belongs to a model of content hash 0000"):
        geometry.clip_landmarks3d(clip)
    second.write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"second\.embedding\.npz is no landmark embedding"):
        geometry.clip_landmarks3d(clip)


def test_a_detector_that_is_not_installed_is_named(clip: Clip) -> None:
    with pytest.raises(DatasetError, match=r"no landmark embedding of open-head.*another 1\.0"):
        geometry.clip_landmarks3d(clip, detector="another 1.0")


def test_what_a_clip_cannot_give_is_named(clip: Clip, own: Dataset, open_head: HeadModel) -> None:
    cases: list[tuple[str, Any]] = [
        (r"space 'world' is not known; give one of camera", lambda: geometry.clip_vertices(clip, space="world")),
        (r"integers from 0 to 4737", lambda: geometry.clip_vertices(clip, vertex_ids=[4738])),
        (r"integers from 0 to 4737", lambda: geometry.clip_vertices(clip, vertex_ids=[[0.5]])),
        (r"integers from 0 to 4737", lambda: geometry.clip_vertices(clip, vertex_ids=[])),
        (r"rotation kind 'euler'", lambda: geometry.clip_rotations(clip, "jaw_pose", "euler")),
        (r"'translation' is no rotation; .* jaw_pose", lambda: geometry.clip_rotations(clip, "translation", "6d")),
        (r"clip talk cannot be resampled: -1 frames", lambda: geometry.clip_resampled(clip, -1)),
    ]
    for message, call in cases:
        with pytest.raises(DatasetError, match=message):
            call()
    flame = small_model(open_head, "flame", expression_names=tuple(f"e{i}" for i in range(52)))
    head_model.save(flame, Path(own.store.path, "models", "flame.npz"))
    with pytest.raises(DatasetError, match=r"clip flame: the expressions of 'flame' are not ARKit's"):
        geometry.clip_arkit(own["flame"])
    with pytest.raises(DatasetError, match=r"unsafe head model name '\.\./flame'"):
        geometry.clip_vertices(own["unsafe"])


def test_the_methods_of_a_clip_lead_here(clip: Clip) -> None:
    np.testing.assert_array_equal(
        clip.vertices(space="model", stop=2), geometry.clip_vertices(clip, space="model", stop=2)
    )
    np.testing.assert_array_equal(clip.landmarks3d(stop=2), geometry.clip_landmarks3d(clip, stop=2))
    np.testing.assert_array_equal(clip.arkit(), geometry.clip_arkit(clip))
    np.testing.assert_array_equal(clip.rotations("jaw_pose", "6d"), geometry.clip_rotations(clip, "jaw_pose", "6d"))
    np.testing.assert_array_equal(clip.resampled(30)["jaw_pose"], geometry.clip_resampled(clip, 30)["jaw_pose"])
