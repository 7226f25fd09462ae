"""Made-up SMPL-X files of the published layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from reconstruct.models.body_model import PARENTS
from reconstruct.models.smplx import TRIANGLES, VERTICES

V, F = VERTICES, TRIANGLES


def file_arrays(components: int = 400, hands: bool = True) -> dict[str, Any]:
    """Arrays of a made-up file of the published layout: a T-shaped cloud of points about 55 joints."""
    random = np.random.default_rng(0)
    joints = np.zeros((55, 3))
    for index in range(1, 55):
        joints[index] = joints[PARENTS[index]] + random.normal(0, 0.03, 3)
    for side, sign in ((0, 1.0), (1, -1.0)):
        for name, far in ((16, 0.2), (18, 0.45), (20, 0.7)):
            joints[name + side] = [sign * far, 0.45, 0.0]
    owner = np.arange(V) % 55
    template = joints[owner] + random.normal(0, 0.02, (V, 3))
    template[0], template[1] = [0, 0.8, 0], [0, -0.9, 0]
    weights = random.uniform(0, 0.2, (V, 55)) * (random.uniform(size=(V, 55)) < 0.05)
    weights[np.arange(V), owner] += 1
    weights /= weights.sum(1, keepdims=True)
    regressor = np.zeros((55, V))
    for index in range(55):
        regressor[index, np.flatnonzero(owner == index)[:40]] = 1 / 40
    shapedirs, posedirs = np.zeros((V, 3, components)), np.zeros((V, 3, 486), np.float32)
    shapedirs[:, :, ::7] = random.normal(0, 0.003, shapedirs[:, :, ::7].shape)
    posedirs[:, :, ::50] = random.normal(0, 0.0005, posedirs[:, :, ::50].shape)  # few: random files are slow to pack
    table = np.stack([np.array([2**32 - 1, *PARENTS[1:]], dtype=np.int64), np.arange(55)])
    arrays: dict[str, Any] = {
        "v_template": template,
        "shapedirs": shapedirs,
        "posedirs": posedirs,
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": table,
        "f": random.integers(0, V, (F, 3)),
    }
    if hands:
        arrays |= {"hands_meanl": random.normal(0, 0.2, 45), "hands_meanr": random.normal(0, 0.2, 45)}
    return arrays
