"""Normalisation by the statistics of a data set."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from talkset.store import DatasetError
from talkset.training.normalise import Normaliser

RNG = np.random.default_rng(0)
POSE = RNG.normal((1.0, -2.0, 0.1), (0.5, 3.0, 0.0), (500, 3)).astype(np.float32)
MESH = RNG.normal(5.0, 2.0, (500, 4, 2)).astype(np.float32)


def summary(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    flat = values.reshape(len(values), -1).astype(np.float64)
    low, high = np.quantile(flat, (0.01, 0.99), axis=0)
    return {
        "count": len(flat),
        "mean": flat.mean(axis=0).tolist(),
        "std": flat.std(axis=0).tolist(),
        "q01": low.tolist(),
        "q99": high.tolist(),
    }


STATS = {
    "signals": {
        "open-head": {
            "pose": summary(POSE),
            "mesh": summary(MESH),
            "nme": summary(np.abs(POSE[:, 0])),
            "empty": {"count": 0, "mean": [], "std": [], "q01": [], "q99": []},
            "old": {"count": 1, "mean": [0.0], "std": [1.0]},
        },
        "other": {"pose": summary(POSE[:, :2])},
    }
}


@pytest.mark.parametrize("kind", ["mean_std", "quantile"])
def test_round_trip_for_arrays_and_tensors(kind: str) -> None:
    normaliser = Normaliser.from_stats(STATS, ["pose", "mesh", "nme", "valid", "pts_us"], "open-head", kind)
    for name, values in (("pose", POSE), ("mesh", MESH), ("nme", POSE[:, 0]), ("pose", POSE.reshape(5, 100, 3))):
        normal = normaliser.normalise(name, values)
        assert normal.dtype == np.float32
        assert normal.shape == values.shape
        np.testing.assert_allclose(normaliser.denormalise(name, normal), values, atol=1e-5)
        tensor = normaliser.normalise(name, torch.from_numpy(values))
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor.numpy(), normal)
        np.testing.assert_allclose(normaliser.denormalise(name, tensor).numpy(), values, atol=1e-5)
    half = normaliser.normalise("pose", torch.from_numpy(POSE).bfloat16())
    assert half.dtype == torch.bfloat16


def test_what_the_kinds_mean() -> None:
    normal = Normaliser.from_stats(STATS, ["pose", "landmarks.mesh"], "open-head").normalise("pose", POSE)
    np.testing.assert_allclose(normal[:, :2].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(normal[:, :2].std(axis=0), 1, atol=1e-5)
    quantile = Normaliser.from_stats(STATS, ["mesh"], "open-head", "quantile").normalise("mesh", MESH)
    np.testing.assert_allclose(np.quantile(quantile.reshape(500, 8), 0.01, axis=0), -1, atol=1e-4)
    np.testing.assert_allclose(np.quantile(quantile.reshape(500, 8), 0.99, axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("kind", ["mean_std", "quantile"])
def test_a_constant_dimension_keeps_its_scale(kind: str) -> None:
    normaliser = Normaliser.from_stats(STATS, ["pose"], "open-head", kind)
    assert normaliser.scale["pose"][2] == 1.0
    moved = POSE + np.array([0, 0, 0.25], np.float32)
    np.testing.assert_allclose(normaliser.normalise("pose", moved)[:, 2], 0.25, atol=1e-6)


def test_booleans_and_integers_are_left_alone() -> None:
    normaliser = Normaliser.from_stats(STATS, ["pose", "valid"], "open-head")
    for values in (np.array([True, False]), np.arange(3), torch.tensor([True]), torch.arange(3)):
        assert normaliser.normalise("valid", values) is values
        assert normaliser.denormalise("valid", values) is values


def test_json() -> None:
    normaliser = Normaliser.from_stats(STATS, ["pose", "mesh"], "open-head", "quantile")
    again = Normaliser.from_json(normaliser.to_json())
    assert again.kind == "quantile"
    np.testing.assert_array_equal(again.normalise("mesh", MESH), normaliser.normalise("mesh", MESH))
    for text in ("", "{}", "[]", json.dumps({"format": 9, "kind": "quantile", "signals": {}})):
        with pytest.raises(DatasetError, match="normaliser"):
            Normaliser.from_json(text)
    bad = {"format": 1, "kind": "mean_std", "signals": {"pose": {"shift": [0], "scale": [0]}}}
    with pytest.raises(DatasetError, match="scale of pose must be positive"):
        Normaliser.from_json(json.dumps(bad))


def test_errors_say_what_is_known() -> None:
    with pytest.raises(DatasetError, match="did you mean 'pose'"):
        Normaliser.from_stats(STATS, ["posse"], "open-head")
    with pytest.raises(DatasetError, match="no head model 'flame'; it has 'open-head', 'other'"):
        Normaliser.from_stats(STATS, ["pose"], "flame")
    with pytest.raises(DatasetError, match="known: mean_std, quantile"):
        Normaliser.from_stats(STATS, ["pose"], "open-head", "minmax")
    with pytest.raises(DatasetError, match="no mean and std of empty"):
        Normaliser.from_stats(STATS, ["empty"], "open-head")
    with pytest.raises(DatasetError, match="no q01 and q99 of old"):
        Normaliser.from_stats(STATS, ["old"], "open-head", "quantile")
    normaliser = Normaliser.from_stats(STATS, ["pose"], "open-head")
    with pytest.raises(DatasetError, match="did you mean 'pose'"):
        normaliser.normalise("posse", POSE)
    with pytest.raises(DatasetError, match=r"3 dimensions in the statistics, got an array of shape \(500, 2\)"):
        normaliser.normalise("pose", POSE[:, :2])
