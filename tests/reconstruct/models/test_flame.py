"""FLAME files of every layout, full size, made from the open head: what is read, what is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flame_files import BALL, SKIN, fake_flame, flame_model, pickled, wide
from numpy.typing import NDArray
from scipy import sparse

from reconstruct.models import flame, head_model
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin
from schemas.errors import TalksetError

RELEASES = {
    "generic_model.pkl": ("2020", "flame.is.tue.mpg.de"),
    "flame2023.pkl": ("2023", "non-commercial"),
    "flame2023_Open.pkl": ("2023-open", "CC-BY-4.0"),
    "my_head.npz": ("unknown", "never shipped"),
}


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return flame_model()


@pytest.mark.parametrize("name", RELEASES)
def test_every_layout_is_read(tmp_path: Path, name: str) -> None:
    arrays, path = fake_flame().arrays, tmp_path / name
    if name.endswith(".npz"):
        np.savez(path, **arrays)
    else:
        pickled(path, arrays, chumpy=name == "generic_model.pkl", protocol=2 if name == "generic_model.pkl" else 5)
    file = flame.read_flame(path)
    release, licence = RELEASES[name]
    assert file.version == release
    assert licence in file.licence
    for key, array in arrays.items():
        np.testing.assert_array_equal(file.arrays[key], array)
    assert all(finding.good for finding in file.findings)
    found = {finding.what: finding.found for finding in file.findings}
    assert found["joint 3 turns"] == "the subject's left eye, 546 vertices"
    assert found["root's parent"] == "4294967295 read as -1"


def test_the_head_is_the_files(model: HeadModel, open_head: HeadModel) -> None:
    head_model.check(model)
    assert (model.num_vertices, model.num_shape, model.num_expression) == (5023, 300, 100)
    assert (model.expression_names[0], model.expression_names[-1]) == ("exp_000", "exp_099")
    assert model.fixed_expressions == ()
    assert model.parents.tolist() == [-1, 0, 1, 1, 1]
    assert (model.expression_bounds == [-4, 4]).all()
    # the same movement as the open head's, whose surface it was made of
    fake, random = fake_flame(), np.random.default_rng(0)
    shape, codes = np.zeros(300), np.zeros((3, 100))
    shape[:120] = random.normal(0, 0.5, 120)
    codes[:, : len(fake.expressions)] = random.uniform(0, 0.5, (3, len(fake.expressions)))
    old_codes = np.zeros((3, 52))
    old_codes[:, [open_head.expression_names.index(name) for name in fake.expressions]] = codes[
        :, : len(fake.expressions)
    ]
    poses = random.normal(0, 0.2, (5, 3, 3))
    poses[:2] = 0  # the shorter neck has its joints elsewhere

    def posed(head: HeadModel, identity: Any, expression: Any) -> NDArray[np.float64]:
        rest = [torch.as_tensor(values) for values in (identity, expression, *poses, np.zeros((3, 3)))]
        return np.asarray(skin(prepare(head, dtype=torch.float64), *rest).numpy())

    new, old = posed(model, shape, codes), posed(open_head, shape[:120], old_codes)
    expected = np.stack([fake.from_open @ frame for frame in old])
    assert np.abs(new[:, :SKIN] - expected).max() < 0.001  # midpoints of curved skinning
    assert np.median(np.abs(new[:, :SKIN] - expected)) < 1e-6


def test_pose_signs(model: HeadModel) -> None:
    """+x opens the jaw and looks down, +y turns to the subject's left, for both eyes."""
    moves = {}
    for place, turn in (("jaw", [0.2, 0, 0]), ("left_eye", [0.2, 0.3, 0]), ("right_eye", [0.2, 0.3, 0])):
        poses = torch.zeros(5, 1, 3)
        poses[{"jaw": 2, "left_eye": 3, "right_eye": 4}[place], 0] = torch.tensor(turn)
        arguments = [torch.zeros(300), torch.zeros(1, 100), *poses.unbind(), torch.zeros(1, 3)]
        vertices = skin(prepare(model), *arguments)
        moves[place] = vertices[0].numpy() - model.v_template
    lips = model.regions["lips"]
    lower = lips[model.weights[lips, 2] > 0.9]
    assert moves["jaw"][lower, 1].mean() < -0.005
    for side in ("left", "right"):
        ball = model.regions[f"{side}_eyeball"]
        pupil = ball[model.v_template[ball, 2].argmax()]
        assert moves[f"{side}_eye"][pupil, 1] < -0.001
        assert moves[f"{side}_eye"][pupil, 0] > 0.001
        assert (np.sign(model.v_template[ball, 0]) == (1 if side == "left" else -1)).all()
    low, high = model.pose_bounds[..., 0], model.pose_bounds[..., 1]
    assert (low < high).all()
    assert low[2, 0] < 0 < 0.5 < high[2, 0]


def test_eyes_are_the_subjects_whatever_the_file_says(model: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, swap = fake_flame().arrays, [0, 1, 2, 4, 3]
    correctives = arrays["posedirs"].reshape(5023, 3, 4, 9)[:, :, [0, 1, 3, 2]].reshape(5023, 3, 36)
    changed = {
        "weights": arrays["weights"][:, swap],
        "J_regressor": arrays["J_regressor"][swap],
        "posedirs": correctives,
    }
    monkeypatch.setattr(flame, "load_pickle", lambda path: arrays | changed)
    other, notes = flame.to_head_model(flame.read_flame(Path("generic_model.pkl")), "flame2020")
    assert any("joint 3 is the subject's right eye" in note.found for note in notes)
    for name in ("weights", "joint_regressor", "posedirs", "v_template"):
        np.testing.assert_allclose(getattr(other, name), getattr(model, name), atol=1e-7)
    assert other.regions.keys() == model.regions.keys()
    for name, ids in model.regions.items():
        np.testing.assert_array_equal(other.regions[name], ids)


def bad(key: str, change: Any) -> Any:
    array = np.array(fake_flame().arrays[key], dtype=np.float64)
    change(array)
    return array


def put(place: Any, value: float) -> Any:
    def change(array: NDArray[np.float64]) -> None:
        array[place] = value

    return change


WRONG: dict[str, tuple[Any, str]] = {
    "no key": (lambda: {"posedirs": None}, r"the key 'posedirs' is missing; it has J_regressor, f, kintree_table"),
    "components": (
        lambda: {"shapedirs": np.zeros((5023, 3, 150), np.float16)},
        r"shapedirs has shape \(5023, 3, 150\), expected \(5023, 3, 400\)",
    ),
    "vertices": (
        lambda: {"v_template": np.zeros((6890, 3))},
        r"v_template has shape \(6890, 3\), expected \(5023, 3\)",
    ),
    "joints": (
        lambda: {"J_regressor": np.zeros((55, 5023))},
        r"J_regressor has shape \(55, 5023\), expected \(5, 5023\)",
    ),
    "not finite": (
        lambda: {"posedirs": bad("posedirs", put((0, 0, slice(0, 3)), np.nan))},
        r"posedirs holds 3 values that are not finite",
    ),
    "text": (lambda: {"weights": np.full((5023, 5), "x")}, r"weights holds <U1, expected numbers"),
    "triangles": (
        lambda: {"f": bad("f", put((0, 0), 5023))},
        r"f refers to the vertices 0\.\.5023, expected 0\.\.5022",
    ),
    "fractions": (lambda: {"f": bad("f", put((0, 0), 0.5))}, r"f holds fractions"),
    "tree": (
        lambda: {"kintree_table": bad("kintree_table", put((0, 4), 3))},
        r"kintree_table has the parents \[-1, 0, 1, 1, 3\], expected \[-1, 0, 1, 1, 1\]",
    ),
    "weights": (
        lambda: {"weights": fake_flame().arrays["weights"] * 0.9},
        r"rows of weights sum to 0\.9000\.\.0\.9000",
    ),
    "regressor": (
        lambda: {"J_regressor": fake_flame().arrays["J_regressor"] * 1.1},
        r"rows of J_regressor sum to \[1\.1",
    ),
    "millimetres": (lambda: {"v_template": fake_flame().arrays["v_template"] * 1000}, r"expected a head in metres"),
    "axes": (
        lambda: {"v_template": fake_flame().arrays["v_template"] * [-1, 1, -1]},
        r"expected y up and z out of the face",
    ),
    "eyes": (
        lambda: {"J_regressor": fake_flame().arrays["J_regressor"][[0, 1, 2, 4, 3]]},
        r"joint 3 is not inside the eyeball that turns with it",
    ),
    "no jaw": (
        lambda: {"weights": fake_flame().arrays["weights"][:, [0, 1, 3, 4]] + 0.0},
        r"FLAME without jaw joint \(weights has shape \(5023, 4\).*add flame2023\.pkl",
    ),
    "idle jaw": (
        lambda: {"weights": np.where([[0, 0, 1, 0, 0]], 0.0, fake_flame().arrays["weights"])},
        r"FLAME without jaw joint \(the jaw joint carries no vertex",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_files_are_named(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    changed, message = WRONG[what]
    arrays = {key: value for key, value in (fake_flame().arrays | changed()).items() if value is not None}
    monkeypatch.setattr(flame, "load_npz", lambda path: arrays)
    path = Path("a_head.npz")
    with pytest.raises(TalksetError, match=message) as caught:
        flame.read_flame(path)
    assert caught.value.reason == "corrupt_data"
    assert str(path) in caught.value.message


def test_no_jaw_by_name_and_files_that_are_something_else(tmp_path: Path) -> None:
    small = {"v_template": np.zeros((2, 3))}
    with pytest.raises(TalksetError, match=r"without jaw joint \(its name is flame2023_no_jaw\.pkl\)"):
        flame.read_flame(pickled(tmp_path / "flame2023_no_jaw.pkl", small))
    with pytest.raises(TalksetError, match=r"it holds a list, expected a dictionary with the keys v_template"):
        flame.read_flame(_pickle(tmp_path / "list.pkl", [1, 2]))


def _pickle(path: Path, value: Any) -> Path:
    import pickle

    path.write_bytes(pickle.dumps(value, protocol=2))
    return path


def test_a_regressor_that_is_another_matrix(tmp_path: Path) -> None:
    arrays = dict(fake_flame().arrays)
    arrays["shapedirs"] = arrays["shapedirs"].astype(np.float16)
    arrays["J_regressor"] = sparse.coo_matrix(arrays["J_regressor"])
    file = flame.read_flame(pickled(tmp_path / "x.pkl", arrays, protocol=4))
    np.testing.assert_allclose(file.arrays["J_regressor"], fake_flame().arrays["J_regressor"])


def test_masks_replace_geometry(model: HeadModel, open_head: HeadModel, tmp_path: Path) -> None:
    masks = fake_flame().masks(open_head)
    swapped = {**masks, "left_eyeball": masks["right_eyeball"], "right_eyeball": masks["left_eyeball"]}
    file = flame.FlameFile(Path("generic_model.pkl"), "2020", wide(fake_flame().arrays), ())
    made, notes = flame.to_head_model(file, "x", flame.read_masks(_pickle(tmp_path / "FLAME_masks.pkl", swapped)))
    assert any("the two were swapped" in note.found for note in notes)
    for name in ("lips", "ears", "neck", "scalp", "left_eyeball", "right_eyeball", "eye_region"):
        np.testing.assert_array_equal(made.regions[name], masks[name])
    assert set(made.regions["upper_face"]) < set(made.regions["face"])
    assert not set(made.regions["mouth"]) & set(made.regions["lips"])
    np.testing.assert_array_equal(made.regions["eyelids"], model.regions["eyelids"])
    for change, message in (
        ({"lips": None}, r"the regions lips are missing"),
        ({"lips": np.array([1, 5023])}, r"region 'lips' has ids 1\.\.5023, expected 0\.\.5022"),
        ({"lips": np.zeros((2, 2))}, r"region 'lips' has shape \(2, 2\) and type float64"),
    ):
        broken = {name: ids for name, ids in {**masks, **change}.items() if ids is not None}
        with pytest.raises(TalksetError, match=message):
            flame.read_masks(_pickle(tmp_path / "broken.pkl", broken))
    elsewhere = {name: np.asarray(ids, np.int32) for name, ids in masks.items()}
    elsewhere |= {"left_eyeball": np.arange(10, dtype=np.int32), "right_eyeball": np.arange(10, 20, dtype=np.int32)}
    with pytest.raises(TalksetError, match=r"shares no vertex with the eyeball"):
        flame.to_head_model(file, "x", elsewhere)


def test_the_fixture_has_flames_numbers() -> None:
    fake = fake_flame()
    assert {key: array.shape for key, array in fake.arrays.items()} == dict(flame.SHAPES)
    assert SKIN + 2 * BALL == flame.VERTICES
    edges = np.sort(np.concatenate([fake.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)
    counts = np.unique(edges, axis=0, return_counts=True)[1]
    assert counts.max() == 2  # a surface
