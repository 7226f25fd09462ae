"""glTF: read back by a reader of its own, and the animated mesh against the skinned one."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from exports.gltf import FLIP, write_gltf
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin
from schemas.errors import UsageError
from schemas.types import HeadTrack
from synthetic.make import perform
from synthetic.talker import random_talker

KINDS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


def read(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:  # type: ignore[type-arg]
    """The document and the arrays of its accessors, read by the specification."""
    data = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack("<I4s", data[12:20])
    assert kind == b"JSON"
    document = json.loads(data[20 : 20 + size])
    binary_size, kind = struct.unpack("<I4s", data[20 + size : 28 + size])
    assert kind == b"BIN\0"
    binary = data[28 + size : 28 + size + binary_size]
    arrays = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        dtype = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        assert view["byteOffset"] % 4 == 0
        flat = np.frombuffer(binary[view["byteOffset"] :][: view["byteLength"]], dtype)
        arrays.append(flat.reshape(accessor["count"], KINDS[accessor["type"]]))
        if "min" in accessor:
            assert np.allclose(arrays[-1].min(0), accessor["min"])
            assert np.allclose(arrays[-1].max(0), accessor["max"])
    return document, arrays


@pytest.fixture(scope="module")
def talk(open_head: HeadModel) -> tuple[HeadTrack, Any]:
    truth, _ = perform(random_talker(3), open_head)
    return truth.track, truth.pts_us


def test_the_animated_mesh_is_the_skinned_one(
    talk: tuple[HeadTrack, Any], open_head: HeadModel, tmp_path: Path
) -> None:
    track, pts = talk
    report = write_gltf(tmp_path / "head.glb", track, pts, open_head)
    document, arrays = read(tmp_path / "head.glb")
    mesh = document["meshes"][0]
    primitive = mesh["primitives"][0]
    targets = np.stack([arrays[target["POSITION"]] for target in primitive["targets"]])
    animation = document["animations"][0]
    channels = {c["target"]["path"]: animation["samplers"][c["sampler"]] for c in animation["channels"]}
    weights = arrays[channels["weights"]["output"]].reshape(len(pts), len(targets))
    assert np.allclose(arrays[channels["weights"]["input"]][:, 0], pts / 1e6, atol=1e-6)
    turns = Rotation.from_quat(arrays[channels["rotation"]["output"]])
    places = arrays[channels["translation"]["output"]]
    frames = [0, len(pts) // 2, len(pts) - 1]
    fields = ("expression", "global_pose", "neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose", "translation")
    moving = [torch.as_tensor(getattr(track, name)[frames]) for name in fields]
    wanted = skin(prepare(open_head), torch.as_tensor(track.shape), *moving).numpy() - track.translation[0]
    root = open_head.joint_regressor[0] @ (open_head.v_template + open_head.identity @ track.shape)
    wanted = FLIP * wanted + root - FLIP * root  # the head begins where it rests, not where the camera saw it
    for row, frame in enumerate(frames):
        shaped = arrays[primitive["attributes"]["POSITION"]] + np.tensordot(weights[frame], targets, 1)
        posed = turns[frame].apply(shaped) + places[frame]
        assert 1e3 * np.sqrt(((posed - wanted[row]) ** 2).sum(1).mean()) < 0.3  # mm
    assert report.residual_mm < 0.15
    assert mesh["extras"]["targetNames"] == list(report.targets)
    assert len(mesh["weights"]) == len(targets)


def test_another_reader_opens_it(talk: tuple[HeadTrack, Any], open_head: HeadModel, tmp_path: Path) -> None:
    track, pts = talk
    write_gltf(tmp_path / "head.glb", track, pts, open_head)
    scene = trimesh.load(tmp_path / "head.glb")
    (geometry,) = scene.geometry.values()
    rest = open_head.v_template + open_head.identity @ track.shape
    assert np.allclose(np.sort(geometry.bounds, axis=0), [rest.min(0), rest.max(0)], atol=1e-5)
    assert len(geometry.faces) == len(open_head.faces)


def test_holes_hold_the_last_frame_and_bad_tracks_are_refused(
    talk: tuple[HeadTrack, Any], open_head: HeadModel, tmp_path: Path
) -> None:
    track, pts = talk
    valid = track.valid.copy()
    valid[5:8] = False
    holed = dataclasses.replace(track, valid=valid, expression=np.where(valid[:, None], track.expression, np.nan))
    write_gltf(tmp_path / "head.glb", holed, pts, open_head)
    document, arrays = read(tmp_path / "head.glb")
    assert all(np.isfinite(array).all() for array in arrays)
    samplers = document["animations"][0]["samplers"]
    weights = arrays[samplers[0]["output"]].reshape(len(pts), -1)
    assert np.array_equal(weights[5], weights[4])
    assert np.array_equal(weights[7], weights[4])
    with pytest.raises(UsageError, match="rising times"):
        write_gltf(tmp_path / "no.glb", dataclasses.replace(track, valid=np.zeros_like(valid)), pts, open_head)
    with pytest.raises(UsageError, match="Pass its own model"):
        write_gltf(tmp_path / "no.glb", dataclasses.replace(track, model_sha256="other"), pts, open_head)
    assert not (tmp_path / "no.glb").exists()
