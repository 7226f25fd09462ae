"""Writes files in the layouts of FLAME's publishers, full size, from the open head: nothing licensed is needed.

The head is the open head's surface without tongue and mouth cavity, its eyeballs exchanged for spheres of 546 vertices,
and edges split until it has FLAME's 5023 vertices and 9976 triangles in FLAME's order: skin, left eyeball, right one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import itertools
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from reconstruct.calibration import closest_points
from reconstruct.models import flame, head_model
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model

Float64 = NDArray[np.float64]
SKIN, SKIN_TRIANGLES, BALL = 3931, 7800, 546


class FakeFlame:
    """A FLAME-sized head and how it came from the open head."""

    def __init__(self, head: HeadModel) -> None:
        keep, faces = _skin(head)
        spread, faces = _split(faces, len(keep))
        balls = [_ball(head, name) for name in ("left_eyeball", "right_eyeball")]
        self.faces = np.concatenate(
            [faces, *(ball_faces() + SKIN + BALL * place for place in range(2))], dtype=np.int64
        )
        linear = sparse.csr_matrix((np.ones(len(keep)), (np.arange(len(keep)), keep)), (len(keep), head.num_vertices))
        self.from_open: sparse.csr_matrix = spread @ linear
        """(3931, V) each vertex of the skin from those of the open head."""
        moving = [i for i, name in enumerate(head.expression_names) if name not in head.fixed_expressions]
        self.expressions = [head.expression_names[i] for i in moving]
        shapedirs = np.zeros((5023, 3, 400))
        shapedirs[:, :, : head.num_shape] = self._carry(head, head.identity)
        shapedirs[:, :, 300 : 300 + len(moving)] = self._carry(head, head.expression[:, :, moving])
        template = self._carry(head, head.v_template[:, :, None])[:, :, 0]
        for place, (centre, sphere) in enumerate(balls):
            template[SKIN + BALL * place : SKIN + BALL * (place + 1)] = centre + sphere
        weights = np.zeros((5023, 5))
        weights[:SKIN] = self.from_open @ head.weights
        weights[SKIN : SKIN + BALL, 3] = weights[SKIN + BALL :, 4] = 1
        regressor = np.zeros((5, 5023))
        regressor[:3, : len(keep)] = head.joint_regressor[:3, keep]
        regressor[3, SKIN : SKIN + BALL] = regressor[4, SKIN + BALL :] = 1
        regressor /= regressor.sum(1, keepdims=True)
        posedirs = np.zeros((5023, 3, 36))
        posedirs[:SKIN] = (self.from_open @ head.posedirs.reshape(head.num_vertices, -1)).reshape(SKIN, 3, 36)
        self.arrays: dict[str, Any] = {
            "v_template": template,
            "shapedirs": shapedirs,
            "posedirs": posedirs,
            "J_regressor": regressor,
            "weights": weights / weights.sum(1, keepdims=True),
            "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.int64),
            "f": self.faces.astype(np.uint32),
        }

    def _carry(self, head: HeadModel, values: NDArray[np.float32]) -> Float64:
        """(5023, 3, n) from (V, 3, n): the skin by its vertices, an eyeball as one piece."""
        result = np.zeros((5023, 3, values.shape[2]))
        result[:SKIN] = (self.from_open @ values.reshape(len(values), -1)).reshape(SKIN, 3, -1)
        for place, name in enumerate(("left_eyeball", "right_eyeball")):
            result[SKIN + BALL * place : SKIN + BALL * (place + 1)] = values[head.regions[name]].mean(0)
        return result

    def masks(self, head: HeadModel) -> dict[str, NDArray[np.int64]]:
        """FLAME_masks.pkl with the open head's own regions."""
        flags = {name: np.zeros(head.num_vertices) for name in head.regions}
        for name, ids in head.regions.items():
            flags[name][ids] = 1
        skin = ("face", "neck", "ears", "lips", "scalp", "eyelids")
        found = {name: np.flatnonzero(self.from_open @ flags[name] > 0.5) for name in skin}
        found["eye_region"] = found.pop("eyelids")
        return {**found, "left_eyeball": np.arange(SKIN, SKIN + BALL), "right_eyeball": np.arange(SKIN + BALL, 5023)}

    def embed(self, points: Float64, on_eye: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Float64]:
        """Nearest triangles (n,) and barycentric weights (n, 3) of points on the mean head."""
        triangle, weights = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
        template = self.arrays["v_template"]
        for chosen, first, last in ((~on_eye, 0, SKIN_TRIANGLES), (on_eye, SKIN_TRIANGLES, len(self.faces))):
            if chosen.any():
                found, barycentric = closest_points(points[chosen], template[self.faces[first:last]])
                triangle[chosen], weights[chosen] = found + first, barycentric
        return triangle, weights


@functools.lru_cache(maxsize=1)
def fake_flame() -> FakeFlame:
    """The head, made once; do not change its arrays."""
    return FakeFlame(load_model())


def wide(arrays: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Arrays as the reader gives them: float64 and int64."""
    whole = ("f", "kintree_table")
    return {key: array.astype(np.int64 if key in whole else np.float64) for key, array in arrays.items()}


@functools.lru_cache(maxsize=1)
def flame_model() -> HeadModel:
    """The head as the reader of FLAME files makes it, named flame2020."""
    file = flame.FlameFile(Path("generic_model.pkl"), "2020", wide(fake_flame().arrays), ())
    made, _ = flame.to_head_model(file, "flame2020")
    return dataclasses.replace(made, sha256=head_model.content_sha256(made))


def _skin(head: HeadModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Vertex ids of the open head's skin without the inside of the mouth, and its triangles renumbered."""
    gone = np.zeros(head.num_vertices, dtype=bool)
    for name in ("left_eyeball", "right_eyeball", "tongue"):
        gone[head.regions[name]] = True
    inside = gone.copy()
    inside[head.regions["mouth"]] = True
    inside[head.regions["lips"]] = False
    deep = inside & (head.v_template[:, 2] < 0.09)
    for name in ("left_eyeball", "right_eyeball"):  # the sockets behind the eyes
        ball = head.v_template[head.regions[name]]
        deep |= (np.linalg.norm(head.v_template - ball.mean(0), axis=1) < 0.025) & (
            head.v_template[:, 2] < ball[:, 2].mean()
        )
    deep |= head.v_template[:, 1] < -0.115  # FLAME's neck is shorter
    faces = head.faces[~deep[head.faces].any(1) & ~gone[head.faces].any(1)].astype(np.int64)
    faces = _capped(faces, head.v_template)
    keep = np.unique(faces)
    renumber = np.full(head.num_vertices, -1)
    renumber[keep] = np.arange(len(keep))
    return keep, renumber[faces]


def _capped(faces: NDArray[np.int64], vertices: NDArray[np.float32]) -> NDArray[np.int64]:
    """Close every hole but the neck's by a fan of triangles: FLAME's numbers allow only a short border."""
    directed = {(a, b) for corners in faces.tolist() for a, b in zip(corners, corners[1:] + corners[:1], strict=True)}
    after: dict[int, list[int]] = {}
    for a, b in sorted(directed):
        if (b, a) not in directed:
            after.setdefault(b, []).append(a)  # the other way round, as the cap has it
    loops = []
    while after:
        loop = [next(iter(after))]
        while True:
            ways = after[loop[-1]]
            follow = ways.pop()
            if not ways:
                del after[loop[-1]]
            if follow == loop[0]:
                break
            loop.append(follow)
        loops.append(loop)
    neck = min(loops, key=lambda loop: float(vertices[loop, 1].mean()))
    fans = [[loop[0], a, b] for loop in loops if loop is not neck for a, b in itertools.pairwise(loop)]
    return np.concatenate([faces, [fan for fan in fans if len(set(fan)) == 3]])


def _split(faces: NDArray[np.int64], count: int) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
    """Split edges until the skin has its numbers of vertices and triangles; (3931, count) rows that average ends."""
    inner = (SKIN_TRIANGLES - len(faces)) - (SKIN - count)
    outer = (SKIN - count) - inner
    assert inner >= 0, (inner, outer, count, len(faces))
    assert outer >= 0, (inner, outer, count, len(faces))
    edges: dict[tuple[int, int], list[int]] = {}
    for number, corners in enumerate(faces.tolist()):
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
            edges.setdefault((min(a, b), max(a, b)), []).append(number)
    wanted, used, chosen = {1: outer, 2: inner}, set[int](), []
    for edge, at in edges.items():
        if wanted.get(len(at), 0) and not used & set(at):
            wanted[len(at)] -= 1
            used |= set(at)
            chosen.append((edge, at))
    assert not any(wanted.values()), wanted
    rows, result = [(i, i, 1.0) for i in range(count)], faces.tolist()
    for place, ((a, b), at) in enumerate(chosen):
        new = count + place
        rows += [(new, a, 0.5), (new, b, 0.5)]
        for number in at:
            corners = result[number]
            result[number] = [new if corner == a else corner for corner in corners]
            result.append([new if corner == b else corner for corner in corners])
    row, column, value = zip(*rows, strict=True)
    return sparse.csr_matrix((value, (row, column)), (SKIN, count)), np.array(result)


def _ball(head: HeadModel, name: str) -> tuple[Float64, Float64]:
    """Centre and the 546 points of a sphere of the eyeball's size about it."""
    points = head.v_template[head.regions[name]].astype(np.float64)
    centre = points.mean(0)
    polar, turn = np.meshgrid(np.pi * np.arange(1, 18) / 18, 2 * np.pi * np.arange(32) / 32, indexing="ij")
    ring = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], axis=-1).reshape(-1, 3)
    sphere = np.concatenate([[[0, 0, 1]], ring, [[0, 0, -1]]])
    return centre, sphere * np.linalg.norm(points - centre, axis=1).mean()


def ball_faces() -> NDArray[np.int64]:
    """(1088, 3) triangles of the sphere, counter-clockwise from outside."""
    faces = []
    for k in range(32):
        after = (k + 1) % 32
        faces.append([0, 1 + k, 1 + after])
        faces.append([545, 513 + after, 513 + k])
        for ring in range(16):
            a, b = 1 + 32 * ring + k, 1 + 32 * ring + after
            faces += [[a, a + 32, b + 32], [a, b + 32, b]]
    return np.array(faces)


@contextlib.contextmanager
def fake_chumpy() -> Iterator[Callable[[Any], Any]]:
    """A module `chumpy.ch` to write a pickle with, and only that: Ch objects with chumpy's own state."""
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, values: Any) -> None:
            self.x = values
            self._dirty_vars = {"x"}
            self._itr = None

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = package.Ch = Ch  # type: ignore[attr-defined]
    sys.modules.update({"chumpy": package, "chumpy.ch": module})
    try:
        yield Ch
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]


def pickled(path: Path, arrays: dict[str, Any], chumpy: bool = False, protocol: int = 2) -> Path:
    """Write a FLAME pickle: a sparse regressor, further keys as in the real files, some arrays chumpy's."""
    content = {**arrays, "bs_style": "lbs", "bs_type": "lrotmin"}
    if isinstance(content.get("J_regressor"), np.ndarray):
        content["J_regressor"] = sparse.csc_matrix(content["J_regressor"])
    with fake_chumpy() as wrap:
        if chumpy:
            content |= {key: wrap(content[key]) for key in ("v_template", "shapedirs", "posedirs", "weights")}
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert "chumpy" not in sys.modules
    return path


def landmark_embedding(path: Path, triangles: NDArray[np.int64], weights: Float64) -> Path:
    """Write landmark_embedding.npy for 68 points; the contour's dynamic rows are torch tensors and slide with yaw."""
    moving = np.tile(weights[:17], (79, 1, 1))
    slide = (np.arange(79) % 40)[:, None] / 80
    moving[:, :, 0], moving[:, :, 1] = weights[:17, 0] * (1 - slide), weights[:17, 1] + weights[:17, 0] * slide
    content = {
        "static_lmk_faces_idx": triangles[17:],
        "static_lmk_bary_coords": weights[17:],
        "dynamic_lmk_faces_idx": torch.as_tensor(np.tile(triangles[:17], (79, 1))),
        "dynamic_lmk_bary_coords": torch.as_tensor(moving),
        "full_lmk_faces_idx": triangles[None],
        "full_lmk_bary_coords": weights[None],
    }
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


def mediapipe_embedding(path: Path, indices: NDArray[np.int64], triangles: NDArray[np.int64], weights: Float64) -> Path:
    """Write mediapipe_landmark_embedding.npz."""
    np.savez(path, lmk_face_idx=triangles, lmk_b_coords=weights, landmark_indices=indices)
    return path


def npy_bytes(values: Any) -> bytes:
    """An .npy file of an array."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()
