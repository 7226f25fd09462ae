"""The models of an installation: adding the user's own file, listing, loading, removing, and what the command says."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flame_files import fake_flame, flame_model, landmark_embedding, mediapipe_embedding, pickled
from scipy import sparse

from pipelines.digests import bundled_models, describe_models, model_digests
from reconstruct.models import head_model, registry, user_models
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import Entry
from schemas.config import Config, load_config
from schemas.errors import TalksetError, UsageError
from schemas.files import partial_path, sha256_file
from talkset import cli

DETECTOR = "mediapipe-face-mesh-0.10.21"


@pytest.fixture(scope="module", autouse=True)
def quick_regions() -> Iterator[None]:
    """The same head over and over: its regions are found once."""
    regions = flame_model().regions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reconstruct.models.flame.find_regions", lambda *_: dict(regions))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, open_head: HeadModel) -> Path:
    """The user's folder: a FLAME file, masks and embeddings."""
    folder, fake = tmp_path_factory.mktemp("own"), fake_flame()
    small = {"shapedirs": np.zeros((5023, 3, 400), np.float32), "posedirs": fake.arrays["posedirs"].astype(np.float32)}
    small["shapedirs"][:, :, :10] = fake.arrays["shapedirs"][:, :, :10]  # few components, quickly compressed
    pickled(folder / "generic_model.pkl", fake.arrays | small, chumpy=True, protocol=4)
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps(fake.masks(open_head), protocol=2))
    face = np.arange(105)
    weights = np.full((105, 3), 1 / 3)
    landmark_embedding(folder / "landmark_embedding.npy", face[:68], weights[:68])
    mediapipe_embedding(folder / "mediapipe_landmark_embedding.npz", face, face, weights)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, open_head: HeadModel) -> Path:
    """A cache of its own with the open head in it."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").mkdir()
    target = folder / "models" / registry.open_head_path().name
    target.symlink_to(registry.open_head_path())
    return folder


@pytest.fixture(scope="module")
def added(cache: Path, files: Path) -> Entry:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALKSET_CACHE", str(cache))
        return registry.add_model(
            files / "generic_model.pkl",
            masks=files / "FLAME_masks.pkl",
            embeddings=[files / "mediapipe_landmark_embedding.npz"],
        )


@pytest.fixture
def own(cache: Path, added: Entry, monkeypatch: pytest.MonkeyPatch) -> Entry:
    monkeypatch.setenv("TALKSET_CACHE", str(cache))
    return added


def test_an_added_model_is_listed_and_loaded(own: Entry, files: Path, open_head: HeadModel) -> None:
    assert own == registry.entries()[2]
    assert (own.name, own.built, own.travels, own.origin) == ("flame2020", True, False, "generic_model.pkl")
    assert own.origin_sha256 == sha256_file(files / "generic_model.pkl")
    assert own.licence == "FLAME 2020: non-commercial, registered at flame.is.tue.mpg.de; never shipped"
    assert own.embeddings == ("mediapipe_landmark_embedding.npz",)
    model = registry.load_model("flame2020")
    assert model is registry.load_model("flame2020")
    assert (model.name, model.num_shape, model.num_expression) == ("flame2020", 300, 100)
    masks = fake_flame().masks(open_head)
    np.testing.assert_array_equal(model.regions["lips"], masks["lips"])
    assert registry.load_model().sha256 == open_head.sha256
    assert registry.load_model(open_head.name).sha256 == open_head.sha256
    record = user_models.record_of("flame2020")
    assert record is not None
    assert record.model_sha256 == model.sha256 == head_model.content_sha256(model)
    assert not list(user_models.user_folder().glob(".*partial*"))


def test_the_official_embedding_is_found_for_its_points_only(own: Entry, open_head: HeadModel) -> None:
    model = registry.load_model(own.name)
    found = registry.official_embedding(model, DETECTOR)
    assert found is not None
    assert (found.detector, found.model_sha256) == (DETECTOR, model.sha256)
    assert int(found.embedded.sum()) == 105
    assert registry.official_embedding(model, "face-alignment-2dfan") is None
    assert registry.official_embedding(model, "another 1.0") is None
    assert registry.official_embedding(open_head, DETECTOR) is None


def test_a_run_names_the_model_and_never_carries_it(own: Entry) -> None:
    config = load_config(None, ["fit.head_model=flame2020"])
    digests = model_digests(config)
    assert digests["head_model"] == registry.load_model("flame2020").sha256
    assert digests["embedding"].endswith(user_models.official_digest("flame2020", DETECTOR))
    assert digests["embedding"] != model_digests(Config())["embedding"]
    assert bundled_models(config, digests) == {}
    described = describe_models(config, digests)[0]
    assert described == {"name": "flame2020", "sha256": digests["head_model"], "licence": own.licence}


def test_again_other_names_and_other_files(own: Entry, files: Path, tmp_path: Path) -> None:
    before = sha256_file(own.path)
    again = registry.add_model(files / "generic_model.pkl", embeddings=[files / "mediapipe_landmark_embedding.npz"])
    assert again == own
    more = registry.add_model(files / "generic_model.pkl", "flame2020", embeddings=[files / "landmark_embedding.npy"])
    assert more.embeddings == ("landmark_embedding.npy", "mediapipe_landmark_embedding.npz")
    found = registry.official_embedding(registry.load_model(own.name), "face-alignment-2dfan-abc")
    assert found is not None
    assert found.vertices.shape == (68, 3)
    with pytest.raises(UsageError, match=r"is there already as 'flame2020'"):
        registry.add_model(files / "generic_model.pkl", "second")
    other_masks = tmp_path / "FLAME_masks.pkl"
    other_masks.write_bytes((files / "FLAME_masks.pkl").read_bytes() + b" ")
    with pytest.raises(UsageError, match=r"'flame2020' was added with FLAME_masks\.pkl, now with FLAME_masks\.pkl"):
        registry.add_model(files / "generic_model.pkl", masks=other_masks)
    other = tmp_path / "flame2020.npz"
    np.savez(other, **(fake_flame().arrays | {"shapedirs": np.zeros((5023, 3, 400), np.int8)}))
    with pytest.raises(UsageError, match=r"the name 'flame2020' is taken by generic_model\.pkl"):
        registry.add_model(other)
    for name in ("open-head", "open-head-2", "../up", "a/b", ".hidden", ""):
        if name:
            with pytest.raises(UsageError, match="cannot be the name of a model"):
                registry.add_model(other, name)
    with pytest.raises(UsageError, match=r"unknown head model 'flame'.*open-head, flame2020; `talkset models add"):
        registry.load_model("flame")
    assert sha256_file(own.path) == before


def test_a_bad_part_leaves_nothing_behind(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_head: HeadModel
) -> None:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path / "cache"))
    bad = tmp_path / "bad.npz"
    np.savez(bad, landmark_indices=np.arange(3))
    two = [files / "landmark_embedding.npy", tmp_path / "copy.npy"]
    two[1].write_bytes(two[0].read_bytes())
    for embeddings, error in (([bad], TalksetError), (two, UsageError)):
        with pytest.raises(error):
            registry.add_model(files / "generic_model.pkl", embeddings=embeddings)
    with pytest.raises(TalksetError, match=r"none\.pkl does not exist") as caught:
        registry.add_model(tmp_path / "none.pkl")
    assert caught.value.reason == "missing_file"
    assert [entry.name for entry in registry.entries()] == ["open-head", "open-body"]
    assert [path.name for path in user_models.user_folder().iterdir()] == [".lock"]
    # a killed attempt and a killed removal do not stand in the way
    partial_path(user_models.user_folder() / "mine").mkdir()
    (user_models.user_folder() / "mine").mkdir()
    assert registry.add_model(files / "generic_model.pkl", "mine").name == "mine"
    registry.remove_model("mine")
    assert [entry.name for entry in registry.entries()] == ["open-head", "open-body"]
    with pytest.raises(UsageError, match=r"'mine' is no model that was added"):
        registry.remove_model("mine")
    with pytest.raises(UsageError, match=r"'open-head' is no model that was added"):
        registry.remove_model(open_head.name.rsplit("-", 2)[0])


def test_a_damaged_record_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path))
    folder = user_models.user_folder() / "mine"
    folder.mkdir(parents=True)
    for text in ("{", '{"format": 2}', '{"format": 1, "notes": [], "unknown": 1}'):
        (folder / "record.json").write_text(text)
        with pytest.raises(TalksetError, match=r"mine/record\.json is no record of a model"):
            registry.entries()


def _add(cache: str, path: str, answers: multiprocessing.Queue[str]) -> None:
    os.environ["TALKSET_CACHE"] = cache
    answers.put(registry.add_model(Path(path)).name)


def test_two_processes_add_one_file_once(files: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[str] = context.Queue()
    arguments = (str(tmp_path), str(files / "generic_model.pkl"), answers)
    workers = [context.Process(target=_add, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [answers.get(timeout=60) for _ in workers] == ["flame2020", "flame2020"]
    for worker in workers:
        worker.join()
    assert sorted(path.name for path in (tmp_path / "models" / "user").iterdir()) == [".lock", "flame2020"]


def test_check_says_what_is_there_without_adding(own: Entry, files: Path, tmp_path: Path) -> None:
    def said(target: Path | str) -> dict[str, str]:
        return {finding.what: finding.found for finding in registry.check_model(target)}

    file = said(files / "generic_model.pkl")
    assert file["sha256"] == own.origin_sha256
    assert file["release"] == "2020"
    assert file["joint 3 turns"] == "the subject's left eye, 546 vertices"
    assert file["region left_eyeball"] == "546 vertices"
    assert said(files / "FLAME_masks.pkl")["region left_eyeball"] == "546 vertices"
    assert said(files / "landmark_embedding.npy")["dynamic_lmk_faces_idx"].startswith("(79, 17)")
    assert said(str(files / "mediapipe_landmark_embedding.npz"))["landmark_indices"].startswith("(105,)")
    named = said("flame2020")
    assert named["from generic_model.pkl"] == own.origin_sha256
    assert named["identity, expression"] == "300, 100"
    assert said("open-head")["identity, expression"] == "120, 52"
    with pytest.raises(UsageError, match=r"unknown head model 'none' \(no such file either\)"):
        registry.check_model("none")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UsageError, match="neither a FLAME model nor a landmark embedding"):
        registry.check_model(tmp_path / "other.npz")
    assert len(registry.entries()) == 3


def test_the_command(
    files: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / registry.open_head_path().name).symlink_to(registry.open_head_path())
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path))
    model, extra = str(files / "generic_model.pkl"), str(files / "landmark_embedding.npy")
    assert cli.main(["models", "check", model]) == 0
    shown = capfd.readouterr().err
    assert "shapedirs" in shown
    assert "(5023, 3, 400)" in shown
    assert cli.main(["models", "add", model, "--name", "mine", "--embedding", extra, "--json"]) == 0
    printed = capfd.readouterr()
    entry = json.loads(printed.out)
    assert (entry["name"], entry["travels"], entry["embeddings"]) == ("mine", False, ["landmark_embedding.npy"])
    assert "--set fit.head_model=mine" in printed.err
    assert cli.main(["models", "list", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capfd.readouterr().out)] == ["open-head", "open-body", "mine"]
    assert cli.main(["models", "check", "mine", "--json"]) == 0
    assert {"what": "name", "found": "mine", "expected": "", "good": True} in json.loads(capfd.readouterr().out)
    assert cli.main(["models", "add", model, "--name", "open-head"]) == 2
    assert cli.main(["models", "remove", "mine"]) == 0
    assert cli.main(["models", "remove", "mine"]) == 2
    hostile = tmp_path / "flame2023.pkl"
    hostile.write_bytes(b"cposix\nsystem\n(S'touch " + str(tmp_path / "was-run").encode() + b"'\ntR.")
    assert cli.main(["models", "add", str(hostile)]) == 1
    assert "posix.system" in capfd.readouterr().err
    assert not (tmp_path / "was-run").exists()


def test_a_sparse_regressor_of_the_real_size_is_small(files: Path) -> None:
    """The fixture is written as the publishers do: a compressed sparse column matrix, not a dense one."""
    assert b"scipy.sparse" in (files / "generic_model.pkl").read_bytes()
    assert sparse.csc_matrix(fake_flame().arrays["J_regressor"]).nnz < 5 * 5023
