"""Regions from geometry against those that the open head's makers painted."""

from __future__ import annotations

import numpy as np
import pytest

from reconstruct.models.head_model import HeadModel
from reconstruct.models.regions import find_regions, pieces
from schemas.errors import TalksetError

LEAST = {"face": 0.85, "upper_face": 0.85, "lips": 0.7, "eyelids": 0.5, "ears": 0.65, "scalp": 0.5, "neck": 0.6}
"""Overlap (intersection over union) that the found region has at least with the painted one."""


@pytest.fixture(scope="module")
def found(open_head: HeadModel) -> dict[str, set[int]]:
    regions = find_regions(open_head.v_template, open_head.faces, open_head.weights)
    return {name: set(ids.tolist()) for name, ids in regions.items()}


@pytest.mark.parametrize("name", LEAST)
def test_regions_overlap_the_painted_ones(found: dict[str, set[int]], open_head: HeadModel, name: str) -> None:
    painted = set(open_head.regions[name].tolist())
    assert len(found[name] & painted) / len(found[name] | painted) > LEAST[name]


def test_eyeballs_and_mouth(found: dict[str, set[int]], open_head: HeadModel) -> None:
    for name in ("left_eyeball", "right_eyeball"):
        assert found[name] == set(open_head.regions[name].tolist())
    assert open_head.v_template[list(found["left_eyeball"]), 0].min() > 0
    painted = set(open_head.regions["mouth"].tolist())
    assert len(found["mouth"]) > 100
    assert len(found["mouth"] & painted) / len(found["mouth"]) > 0.9
    assert not found["tongue"]


def test_regions_do_not_depend_on_size_or_place(found: dict[str, set[int]], open_head: HeadModel) -> None:
    moved = (open_head.v_template * 0.8 + [0.1, 1.5, -0.2]).astype(np.float32)
    regions = find_regions(moved, open_head.faces, open_head.weights)
    for name, ids in found.items():
        other = set(regions[name].tolist())
        assert len(ids & other) >= 0.97 * len(ids | other), name


def test_pieces_are_connected(open_head: HeadModel) -> None:
    labels = pieces(open_head.faces, open_head.num_vertices)
    assert (labels[open_head.faces] == labels[open_head.faces[:, :1]]).all()
    assert len(np.unique(labels)) == 4  # skin, tongue, two eyeballs


def test_a_jaw_that_moves_nothing_is_named(open_head: HeadModel) -> None:
    still = np.where([[False, False, True, False, False]], np.float32(0), open_head.weights)
    with pytest.raises(TalksetError, match="parts no lips"):
        find_regions(open_head.v_template, open_head.faces, still)
