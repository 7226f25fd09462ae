"""How far the open body is from anny: unseen people in the T pose, and in random natural poses.

    python -m benchmarks.open_body [--people 60]

Prints mean and 95th percentile in millimetres beside the limits (1 mm on random shapes, 8 mm on random poses), the
error of the regressed joints, and how far the gathered bones of `reconstruct.models.open_body` are from anny's own
`forward`.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.body.articulation import articulation_of
from reconstruct.models import open_body, open_head
from reconstruct.models.body_model import PARENTS, BodyModel, joint
from reconstruct.models.open_body import AnnyBody
from reconstruct.models.registry import load_body
from reconstruct.models.skinning import prepare, skin_joints

Float64 = NDArray[np.float64]
SEED = 77
SHAPE_LIMIT_MM, POSE_LIMIT_MM = 1.0, 8.0


def natural_rotations(model: BodyModel, count: int, seed: int) -> tuple[Float64, Float64]:
    """Poses (N, 55, 3) and rotations (N, 55, 3, 3) about rest inside the limits, everything at once."""
    parts, rng = articulation_of(model), np.random.default_rng(seed)
    spread = np.minimum(parts.array("spread"), 1.0)
    motion = parts.at_rest(count) + rng.normal(size=(count, len(parts))) * spread
    motion = np.clip(motion, parts.array("low"), parts.array("high"))
    motion[:, parts.translation] = 0
    return parts.poses(motion), parts.rotations(motion)


def anny_forward(body: AnnyBody, coefficients: Float64, rotations: Float64) -> Float64:
    """(N, V, 3) by anny's own `forward`, given where each of its bones must be, with the pelvis at the origin."""
    from anny.models.rigged_model import RiggedModelWithLinearBlendShapes

    anny, head = body.head.model, body.head
    axes = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # from anny's axes to ours
    joints = body.rest(coefficients)[1]
    world = np.empty_like(rotations)
    world[:, 0] = rotations[:, 0]
    for index in range(1, rotations.shape[1]):
        world[:, index] = world[:, int(PARENTS[index])] @ rotations[:, index]
    world = world @ open_body.t_pose(joints, body.tips(coefficients))
    owner = np.full(len(head.bones), joint("head"))
    for name, bones in open_body.BONES.items():
        owner[[head.bones.index(bone) for bone in bones]] = joint(name)
    weights = torch.from_numpy(coefficients)
    with torch.no_grad():
        rest = anny.get_rest_model(weights)["rest_bone_poses"].numpy()
        turns = axes.T @ world[:, owner] @ axes
        poses = np.tile(np.eye(4), (*turns.shape[:2], 1, 1))
        poses[..., :3, :3] = turns @ rest[..., :3, :3]
        pelvis = head.bones.index("spine05")
        for bone, parent in enumerate(head.bone_parents):
            if parent >= 0:
                step = rest[:, bone, :3, 3] - rest[:, parent, :3, 3]
                poses[:, bone, :3, 3] = poses[:, parent, :3, 3] + np.einsum("nab,nb->na", turns[:, parent], step)
        poses[..., :3, 3] -= poses[:, pelvis, :3, 3][:, None]
        # the phenotypes' own forward takes no blend-shape coefficients; this is the one that it calls
        posed = RiggedModelWithLinearBlendShapes.forward(
            anny, torch.from_numpy(poses), weights, pose_parameterization="world"
        )
        found = posed["vertices"].numpy()
    return np.asarray(open_head.axes(found))


def main() -> int:
    """Measure, print, and return 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=60)
    count = parser.parse_args().people
    torch.set_num_threads(1)
    model, body = load_body(), open_body.load_anny_body()
    people = open_body.sample_people(body.head, count, seed=SEED)
    vertices, joints = open_body.people_in_t_pose(body, people)
    directions = model.identity.reshape(-1, model.num_shape).astype(np.float64)
    flat = (vertices - model.v_template).reshape(count, -1).astype(np.float64)
    betas = np.linalg.lstsq(directions, flat.T, rcond=None)[0].T
    rebuilt = model.v_template + (betas @ directions.T).reshape(vertices.shape)
    shape_mm = 1000 * np.linalg.norm(rebuilt - vertices, axis=2)
    placed = np.einsum("jv,nvc->njc", model.joint_regressor.astype(np.float64), rebuilt)
    own = [index for index in range(55) if index not in (22, 23, 24)]  # jaw and eyes are the open head's
    joint_mm = 1000 * np.linalg.norm(placed - joints, axis=2)[:, own]
    poses, rotations = natural_rotations(model, count, SEED)
    truth = open_body.forward(body, people, rotations)[0]
    found = skin_joints(
        prepare(model),
        torch.as_tensor(betas, dtype=torch.float32),
        torch.zeros(count, model.num_expression),
        torch.as_tensor(poses, dtype=torch.float32),
        torch.zeros(count, 3),
    ).numpy()
    pose_mm = 1000 * np.linalg.norm(found - placed[:, [0]] - truth, axis=2)
    few = slice(0, 4)
    by_anny = 1000 * np.abs(anny_forward(body, people[few], rotations[few]) - truth[few]).max()
    for what, values, limit in (
        ("random shapes, vertices", shape_mm, SHAPE_LIMIT_MM),
        ("random shapes, joints", joint_mm, None),
        ("random poses, vertices", pose_mm, POSE_LIMIT_MM),
    ):
        beside = "" if limit is None else f"  limit {limit:g}"
        print(f"{what:28s} mean {values.mean():6.2f} mm  95 % {np.percentile(values, 95):6.2f} mm{beside}")
    print(f"{'gathered bones against anny':28s} largest {by_anny:.4f} mm")
    return 0 if shape_mm.mean() <= SHAPE_LIMIT_MM and pose_mm.mean() <= POSE_LIMIT_MM else 1


if __name__ == "__main__":
    sys.exit(main())
