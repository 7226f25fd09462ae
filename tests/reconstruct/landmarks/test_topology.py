"""Topologies: groups that hang together, and mirror images that are exact."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.landmarks.topology import IBUG_68, MEDIAPIPE, MIDDLE, Topology, topology_of
from schemas.errors import UsageError

BOTH = pytest.mark.parametrize("topology", [MEDIAPIPE, IBUG_68], ids=["mediapipe", "ibug"])
SIDED = ("eye_outer", "eye_inner", "eye_upper", "eye_lower", "brow", "iris")


@BOTH
def test_mirroring_twice_changes_nothing(topology: Topology) -> None:
    mirror = topology.mirror
    assert np.array_equal(np.sort(mirror), np.arange(topology.num_points))
    assert np.array_equal(mirror[mirror], np.arange(topology.num_points))


@BOTH
def test_mirroring_swaps_the_sides(topology: Topology) -> None:
    for part in SIDED:
        right, left = (np.atleast_1d(getattr(topology, f"{side}_{part}")) for side in ("right", "left"))
        if part == "iris" and len(right):
            assert topology.mirror[right].tolist() == left[[0, 3, 2, 1, 4]].tolist()
        else:
            assert topology.mirror[right].tolist() == left.tolist()
    for middle in (topology.nose_tip, topology.upper_lip_inner_middle, topology.lower_lip_inner_middle):
        assert topology.mirror[middle] == middle
    for ring in (topology.lips_outer, topology.lips_inner, topology.contour):
        assert set(topology.mirror[ring].tolist()) == set(ring.tolist())
        assert len(set(ring.tolist())) == len(ring)


@BOTH
def test_groups_hang_together(topology: Topology) -> None:
    for side in ("right", "left"):
        for rim in ("upper", "lower"):
            row = getattr(topology, f"{side}_eye_{rim}")
            assert row[0] == getattr(topology, f"{side}_eye_outer")
            assert row[-1] == getattr(topology, f"{side}_eye_inner")
    assert topology.upper_lip_inner_middle in topology.lips_inner
    assert topology.lower_lip_inner_middle in topology.lips_inner
    assert not set(topology.eyeball_points) & set(topology.face.tolist())
    assert set(topology.open_mouth_points) == set(topology.lips_inner.tolist())
    assert len(topology.face) + len(topology.eyeball_points) == topology.num_points


@BOTH
def test_interocular_is_between_the_outer_corners(topology: Topology) -> None:
    points = np.full((3, topology.num_points, 2), 7.0, np.float32)
    points[:, topology.right_eye_outer] = [10, 20]
    points[:, topology.left_eye_outer] = [40, 60]
    assert topology.interocular(points).tolist() == [50, 50, 50]


def canonical_face(task: Path) -> NDArray[np.float32]:
    """(468, 3) vertices of MediaPipe's canonical face out of a `.task` file, a zip whose metadata is a protocol buffer.

    `GeometryPipelineMetadata.canonical_mesh.vertex_buffer`: 32-bit floats, each behind the tag byte 0x1d, five for a
    vertex (x, y, z, u, v).
    """
    with zipfile.ZipFile(task) as archive:
        data = archive.read("geometry_pipeline_metadata_landmarks.binarypb")
    start = data.index(b"\x1d")
    values = np.frombuffer(data[start : start + 468 * 5 * 5], np.uint8).reshape(-1, 5)
    assert (values[:, 0] == 0x1D).all()
    return np.ascontiguousarray(values[:, 1:]).view("<f4").reshape(468, 5)[:, :3].astype(np.float32)


def test_the_canonical_face_is_its_own_mirror_image(eval_data: Path) -> None:
    task = Path(os.fspath(eval_data)) / "models" / "face_landmarker_v2_with_blendshapes.task"
    if not task.is_file():
        pytest.skip(f"no FaceLandmarker model at {task}")
    points = canonical_face(task)
    assert np.array_equal(points[MEDIAPIPE.mirror[:468]], points * np.array([-1, 1, 1], np.float32))
    assert np.array_equal(np.flatnonzero(points[:, 0] == 0), np.sort(MIDDLE))
    assert points[MEDIAPIPE.left_eye_outer, 0] > 0  # x towards the subject's left


def test_the_name_tells_the_topology() -> None:
    assert topology_of("mediapipe-face-mesh-0.10.21+2") is MEDIAPIPE
    assert topology_of("mediapipe-tasks-0.10.21-0123456789ab+1") is MEDIAPIPE
    assert topology_of("face-alignment-2dfan-0123456789ab+1") is IBUG_68
    with pytest.raises(UsageError, match=r"detector 'dlib 1'.*mediapipe or face-alignment"):
        topology_of("dlib 1")
