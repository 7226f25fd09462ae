"""How far the open head's linear file is from anny's own non-linear forward, on random people and actions.

The peer is anny itself: the same people through `anny.Anny.forward`, whole body, head cut out. Prints mean, 95th
percentile and maximum vertex distance in mm, the time of both per head, and exits with 1 above 0.5 mm mean.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.models import open_head
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from reconstruct.models.skinning import prepare, skin

Float64 = NDArray[np.float64]

PEOPLE = 200
LIMIT_MM = 0.5


def peer(head: open_head.AnnyHead, people: Float64, local: Float64, actions: Float64) -> Float64:
    """(N, V, 3) by anny's own forward, placed with the skull's pivot at the origin."""
    labels = head.model.phenotype_labels
    with torch.no_grad():
        posed = head.model(
            phenotype_kwargs={name: torch.as_tensor(people[:, i]) for i, name in enumerate(labels)},
            local_changes_kwargs=torch.as_tensor(local),
            facial_actions=torch.as_tensor(actions),
        )
    body = posed["vertices"].numpy()[:, head.vertex_ids]
    pivot = posed["bone_poses"].numpy()[:, head.bones.index("head"), :3, 3]
    return open_head.axes(body - pivot[:, None])


def distilled(model: HeadModel, neutral: Float64, actions: Float64) -> Float64:
    """(N, V, 3) by the linear file: identity by least squares on the neutral head, the actions as given."""
    basis = model.identity.reshape(-1, model.num_shape).astype(np.float64)
    shapes = np.linalg.lstsq(basis, (neutral - model.v_template).reshape(len(neutral), -1).T, rcond=None)[0].T
    zero = torch.zeros(len(neutral), 3, dtype=torch.float64)
    skinning = prepare(model, dtype=torch.float64)
    return skin(skinning, torch.as_tensor(shapes), torch.as_tensor(actions), *[zero] * 6).numpy()


def main() -> int:
    head, model = open_head.load_anny_head(), load_model()
    random = np.random.default_rng(1)
    worst = 0.0
    print(
        f"{model.name}: {model.num_vertices} vertices, {model.num_shape} identity + {model.num_expression} expressions"
    )
    print(f"{'people':<34}{'mean mm':>9}{'p95 mm':>9}{'max mm':>9}")
    for name, scale in (("phenotypes", 0.0), ("phenotypes + local changes", 1.0)):
        people, local = open_head.sample_people(head, PEOPLE, seed=12345)  # not the seed of the distillation
        local *= scale
        actions = random.uniform(0, 1, (PEOPLE, model.num_expression)) * (random.random((PEOPLE, 52)) < 0.2)
        started = time.perf_counter()
        truth = peer(head, people, local, actions)
        anny_seconds = time.perf_counter() - started
        neutral = peer(head, people, local, 0 * actions)
        started = time.perf_counter()
        copy = distilled(model, neutral, actions)
        own_seconds = time.perf_counter() - started
        distance = 1000 * np.linalg.norm(copy - truth, axis=-1)
        worst = max(worst, float(distance.mean()))
        print(f"{name:<34}{distance.mean():9.3f}{np.percentile(distance, 95):9.3f}{distance.max():9.3f}")
    print(
        f"per head: anny {1000 * anny_seconds / PEOPLE:.1f} ms, "
        f"open head {1000 * own_seconds / PEOPLE:.1f} ms (with its fit)"
    )
    print(f"limit {LIMIT_MM} mm mean: {'kept' if worst < LIMIT_MM else 'BROKEN'}")
    return int(worst >= LIMIT_MM)


if __name__ == "__main__":
    sys.exit(main())
