"""Finds the named regions of a head that comes without them, from its geometry and skinning alone.

Sizes are in units of the distance between the eyes' centres, heights are measured along y and depths along z, so the
rules hold for any head of the FLAME layout. They are rougher than painted masks: give those where they exist.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from schemas.errors import TalksetError

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
Float64 = NDArray[np.float64]

RIGID = 0.5
"""Skinning weight from which a vertex counts as part of a joint."""
LIP_GAP = 0.06
"""Largest distance across the slit of a closed mouth."""
LIP_HEIGHT = (0.15, 0.17)
"""Upper and lower lip in the middle, from the slit to the border of the red."""
LID_REACH = 0.08
"""How far the eyelids reach over the eyeball."""
VIEWS = (*((pitch, yaw) for pitch in (-0.7, 0.0, 0.7) for yaw in np.arange(8) * np.pi / 4), (1.4, 0.0), (-1.4, 0.0))
"""Pitch and yaw from which the head is looked at, radians."""
VIEW_PX, VIEW_DISTANCE = 640, 40.0


def neighbours(faces: NDArray[np.int32], count: int) -> sparse.csr_matrix:
    """(V, V) whether two vertices share an edge."""
    first, second = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    edges = sparse.coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
    return (edges + edges.T).tocsr()


def pieces(faces: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """(V,) number of the connected piece of the surface that each vertex belongs to."""
    labels = csgraph.connected_components(neighbours(faces, count), directed=False)[1]
    return np.asarray(labels, dtype=np.int64)


def eyeball(weights: NDArray[np.float32], labels: NDArray[np.int64], joint: int) -> Ids:
    """Vertices of the pieces that turn rigidly with an eye's joint; all vertices that do, if they are no own piece."""
    turns = weights[:, joint] > RIGID
    whole = [label for label in np.unique(labels[turns]) if turns[labels == label].mean() > 0.9]
    return np.flatnonzero(np.isin(labels, whole) if whole else turns)


def find_regions(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], weights: NDArray[np.float32]
) -> dict[str, NDArray[np.int32]]:
    """The regions of `HeadModel.regions` for a mesh at rest: vertices (V, 3) metres, faces (F, 3), weights (V, 5).

    Joints 3 and 4 are the subject's left and right eye. The tongue is empty: none of the meshes concerned has one.
    Raises TalksetError("corrupt_data") when the jaw moves no lower lip.
    """
    head = _Head(vertices.astype(np.float64), faces, weights)
    lips = head.lips()
    lids = head.eyelids()
    ears = head.ears()
    neck = head.neck()
    face = head.face() & ~ears & ~neck
    upper = face & (head.y > (head.mouth_height + head.eye_height) / 2)
    scalp = head.outside & ~face & ~ears & ~neck & (head.y > head.eye_height - 0.3 * head.unit)
    found = {
        "face": face,
        "upper_face": upper,
        "lips": lips,
        "eyelids": lids,
        "ears": ears,
        "scalp": scalp,
        "left_eyeball": head.eye(0),
        "right_eyeball": head.eye(1),
        "mouth": head.mouth() & ~face & ~lips,
        "tongue": np.zeros(len(vertices), dtype=bool),
        "neck": neck,
    }
    return {name: np.flatnonzero(flags).astype(np.int32) for name, flags in found.items()}


class _Head:
    """A mesh and the landmarks of its anatomy that the rules share."""

    def __init__(self, vertices: Float64, faces: NDArray[np.int32], weights: NDArray[np.float32]) -> None:
        self.vertices, self.faces, self.weights = vertices, faces, weights
        self.x, self.y, self.z = vertices.T
        labels = pieces(faces, len(vertices))
        self.balls = [eyeball(weights, labels, joint) for joint in (3, 4)]
        self.centres = np.stack([vertices[ball].mean(0) for ball in self.balls])
        self.radius = float(
            np.mean(
                [np.linalg.norm(vertices[b] - c, axis=1).mean() for b, c in zip(self.balls, self.centres, strict=True)]
            )
        )
        self.unit = float(np.linalg.norm(self.centres[0] - self.centres[1]))
        self.middle, self.eye_height, self.eye_depth = self.centres.mean(0)
        self.off = np.abs(self.x - self.middle)
        skin = np.ones(len(vertices), dtype=bool)
        for ball in self.balls:
            skin[ball] = False
        skin &= labels == np.bincount(labels[skin]).argmax()
        seen = visible(vertices, faces, self.unit)
        self.skin, self.outside = skin, skin & seen
        self._edges = neighbours(faces, len(vertices))
        self.slit = self._slit()
        self.mouth_height = float(vertices[self.slit, 1].mean())
        jaw = skin & (weights[:, 2] > RIGID) & (self.off < 0.3 * self.unit)
        self.chin = float(self.y[jaw].min())

    def eye(self, side: int) -> Flags:
        """Vertices of an eyeball, 0 for the left."""
        flags = np.zeros(len(self.x), dtype=bool)
        flags[self.balls[side]] = True
        return flags

    def _slit(self) -> Ids:
        """Vertices on both sides of the closed mouth: near in space, far along the surface, one moved by the jaw."""
        front = self.skin & (self.y < self.eye_height - 0.3 * self.unit) & (self.off < 0.7 * self.unit)
        front &= self.z > self.eye_depth - 0.2 * self.unit
        moves = self.weights[:, 2] > RIGID
        above, below = np.flatnonzero(front & ~moves), np.flatnonzero(front & moves)
        if not len(above) or not len(below):
            raise TalksetError(
                "corrupt_data",
                f"the jaw parts no lips: of the lower face {len(above)} vertices stay and {len(below)} move with it",
                "Give a model whose third joint is the jaw, y up, z out of the face, metres",
            )
        distance, nearest = cKDTree(self.vertices[below]).query(self.vertices[above])
        near = distance < LIP_GAP * self.unit
        pairs = np.stack([above[near], below[nearest[near]]], axis=1)
        if not len(pairs):
            return np.asarray(above[np.argsort(distance)[:10]], dtype=np.int64)
        starts = np.unique(pairs[:, 0])
        hops = csgraph.dijkstra(self._edges, indices=starts, unweighted=True, limit=6)
        far = ~np.isfinite(hops[np.searchsorted(starts, pairs[:, 0]), pairs[:, 1]])
        chosen = pairs[far] if far.any() else pairs
        front_most = self.z[chosen[:, 0]].max() - 0.35 * self.unit  # the cavity behind the lips has two sides as well
        return np.asarray(np.unique(chosen[self.z[chosen].max(1) > front_most]), dtype=np.int64)

    def lips(self) -> Flags:
        """Skin about the slit, thinner towards the corners."""
        line = self.vertices[self.slit]
        half = np.abs(line[:, 0] - self.middle).max() + 0.03 * self.unit
        share = np.sqrt(np.clip(1 - (self.off / half) ** 2, 0, 1))
        height = np.interp(self.off, *_profile(np.abs(line[:, 0] - self.middle), line[:, 1]))
        depth = np.interp(self.off, *_profile(np.abs(line[:, 0] - self.middle), line[:, 2]))
        rise = (self.y - height) / self.unit
        near = (rise < LIP_HEIGHT[0] * share + 0.02) & (rise > -LIP_HEIGHT[1] * share - 0.02)
        return np.asarray(self.skin & near & (self.off < half) & (self.z > depth - 0.12 * self.unit))

    def eyelids(self) -> Flags:
        """Skin that lies on the eyeballs' front."""
        flags = np.zeros(len(self.x), dtype=bool)
        for ball, centre in zip(self.balls, self.centres, strict=True):
            away = np.linalg.norm(self.vertices - centre, axis=1)
            reach = np.linalg.norm(self.vertices[ball] - centre, axis=1).max() + LID_REACH * self.unit
            flags |= (
                (away < reach)
                & (self.z > centre[2] + 0.2 * self.radius)
                & (np.abs(self.y - centre[1]) < 0.65 * self.radius)
            )
        return flags & self.outside

    def mouth(self) -> Flags:
        """What a closed mouth hides: skin that no view sees, behind the lips."""
        line = self.vertices[self.slit]
        half = np.abs(line[:, 0] - self.middle).max()
        hidden = self.skin & ~self.outside & (self.off < half + 0.4 * self.unit)
        hidden &= (self.y < self.eye_height - 0.35 * self.unit) & (self.z < line[:, 2].max())
        return np.asarray(hidden & (self.y > self.chin))

    def ears(self) -> Flags:
        """Skin that sticks out at the sides behind the jaw's hinge: farther out than the head about it."""
        band = (
            self.outside & (self.y < self.eye_height + 0.3 * self.unit) & (self.y > self.mouth_height - 0.1 * self.unit)
        )
        flags = np.zeros(len(self.x), dtype=bool)
        for sign in (1, -1):
            side = band & (sign * (self.x - self.middle) > 0.5 * self.unit)
            if not side.any():
                continue
            tip = np.flatnonzero(side)[self.off[side].argmax()]
            away = (self.vertices - self.vertices[tip]) / self.unit
            inside = ((away[:, 1] + 0.08) / 0.62) ** 2 + ((away[:, 2] - 0.15) / 0.45) ** 2 < 1
            flags |= side & inside & (self.off > self.off[tip] - 0.36 * self.unit)
        return flags

    def neck(self) -> Flags:
        """Skin below a plane that rises from the chin to the back of the head."""
        behind = np.clip(self.eye_depth - self.z - 0.3 * self.unit, 0, self.unit)
        return np.asarray(self.skin & (self.y < self.chin - 0.02 * self.unit + 0.35 * behind))

    def face(self) -> Flags:
        """Skin between chin and hairline, from the front to before the ears."""
        height = (self.y > self.chin - 0.05 * self.unit) & (self.y < self.eye_height + 1.35 * self.unit)
        return np.asarray(self.outside & height & (self.z > self.eye_depth - 0.85 * self.unit))


def _profile(off: Float64, value: Float64) -> tuple[Float64, Float64]:
    """A line over the distance from the middle, as averages in eight steps."""
    steps = np.linspace(0, off.max() + 1e-9, 9)
    place = np.clip(np.digitize(off, steps) - 1, 0, 7)
    kept = [step for step in range(8) if (place == step).any()]
    return (
        np.array([off[place == step].mean() for step in kept]),
        np.array([value[place == step].mean() for step in kept]),
    )


def visible(vertices: Float64, faces: NDArray[np.int32], unit: float) -> Flags:
    """(V,) whether a vertex belongs to a triangle that is seen from outside, from any of `VIEWS`."""
    import torch  # seconds to load, which a look at the installed models must not pay

    from reconstruct.camera import project
    from reconstruct.models.skinning import axis_angle_to_matrix
    from reconstruct.raster import make_rasterizer

    rest = torch.as_tensor(vertices - (vertices.min(0) + vertices.max(0)) / 2, dtype=torch.float32) / unit
    triangles = torch.as_tensor(faces)
    rasterizer = make_rasterizer("warp")
    focal = 0.47 * VIEW_PX * VIEW_DISTANCE / float(rest.norm(dim=1).max())
    seen = np.zeros(len(faces), dtype=bool)
    for pitch, yaw in VIEWS:
        turn = axis_angle_to_matrix(torch.tensor([np.pi + pitch, 0, 0], dtype=torch.float32))
        turn = turn @ axis_angle_to_matrix(torch.tensor([0, yaw, 0], dtype=torch.float32))
        points = rest @ turn.T + torch.tensor([0, 0, VIEW_DISTANCE])
        pixels = project(points[None], focal, torch.full((2,), VIEW_PX / 2))
        ids = rasterizer.rasterize(pixels, triangles, VIEW_PX, VIEW_PX).numpy()
        seen[np.unique(ids[ids >= 0])] = True
    flags = np.zeros(len(vertices), dtype=bool)
    flags[faces[seen]] = True
    return flags
