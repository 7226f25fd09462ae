"""The model, its features and the search, each against what is known or computed a second time by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pocketsphinx
import pytest

from annotate.align.acoustic_model import BEGIN, INSIDE, SILENCE, AcousticModel, read_acoustic_model
from annotate.align.features import CLEAN_DB, features, signal_to_noise_db
from annotate.align.search import Scores, best_path, soft_boundaries, word_graph
from annotate.text import pronunciations
from schemas.errors import TalksetError
from schemas.types import Float32
from synthetic.speech import Utterance, Voice, synthesize

FOLDER = Path(pocketsphinx.get_model_path("en-us/en-us"))


@pytest.fixture(scope="module")
def model() -> AcousticModel:
    return read_acoustic_model(FOLDER)


@pytest.fixture(scope="module")
def utterance() -> Utterance:
    return synthesize("bob saw a map", Voice(), seed=0)


@pytest.fixture(scope="module")
def sound(utterance: Utterance) -> Float32:
    return features(utterance.samples)


def test_the_model_has_the_phones_and_states_of_its_readme(model: AcousticModel) -> None:
    assert len(model.phones) == 42
    assert {"SIL", "+SPN+", "AA", "ZH"} <= set(model.phones)
    assert model.stay.shape == (42, 3)
    assert (model.stay < 0).all()
    # states without context come first in the file, three to a phone
    np.testing.assert_array_equal(model.states("AA"), [6, 7, 8])
    alone = {state for phone in model.phones for state in model.states(phone).tolist()}
    assert alone == set(range(126))


def test_context_changes_the_states(model: AcousticModel) -> None:
    one, two = model.states("AE", "K", "T", INSIDE), model.states("AE", "M", "N", INSIDE)
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, model.states("AE"))
    assert not np.array_equal(model.states("B", SILENCE, "AA", BEGIN), model.states("B", "S", "AA", BEGIN))


def test_likelihoods_are_those_of_the_mixture(model: AcousticModel, sound: Float32) -> None:
    """One state of one frame, with the parameters read again and summed one Gaussian after another."""
    state, frame = int(model.states("AA")[1]), 40
    body = {
        name: np.frombuffer((FOLDER / name).read_bytes()[-42 * 3 * 128 * 13 * 4 - 4 :][:-4], "<f4")
        for name in ("means", "variances")
    }
    means, variances = (body[name].reshape(42, 3, 128, 13).astype(float) for name in ("means", "variances"))
    dump = (FOLDER / "sendump").read_bytes()
    weights = np.frombuffer(dump[-3 * 128 * 5126 :], np.uint8).reshape(3, 128, 5126)[:, :, state].astype(float)
    book = model.phones.index("AA")
    total = 0.0
    for stream in range(3):
        parts = []
        for gaussian in range(128):
            mean, variance = means[book, stream, gaussian], np.maximum(variances[book, stream, gaussian], 1e-4)
            apart = (sound[frame, stream] - mean) ** 2 / variance
            log = -0.5 * float((apart + np.log(2 * np.pi * variance)).sum())
            parts.append(log - weights[stream, gaussian] * 1024 * math.log(1.0001))
        total += float(np.logaddexp.reduce(parts))
    found = model.log_likelihoods(sound, np.array([state]))[frame, 0]
    assert found == pytest.approx(total, abs=0.02)


def test_frames_do_not_depend_on_their_block(model: AcousticModel, sound: Float32) -> None:
    states = model.states("M")
    long_sound = np.concatenate([sound] * 4)
    whole = model.log_likelihoods(long_sound, states)
    np.testing.assert_allclose(whole[-len(sound) :], model.log_likelihoods(sound, states), rtol=1e-5, atol=1e-3)


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    for name in ("mdef", "means", "variances", "sendump", "transition_matrices"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    (tmp_path / "means").write_bytes((FOLDER / "means").read_bytes()[:1000])
    with pytest.raises(TalksetError, match="acoustic model") as caught:
        read_acoustic_model(tmp_path)
    assert caught.value.reason == "corrupt_data"
    with pytest.raises(TalksetError):
        read_acoustic_model(tmp_path / "none")


def test_features_have_one_frame_each_10_ms_and_no_mean(utterance: Utterance, sound: Float32) -> None:
    assert sound.shape == ((len(utterance.samples) - 410) // 160 + 1, 3, 13)
    np.testing.assert_allclose(sound[:, 0].mean(axis=0), 0, atol=1e-3)
    padded = features(utterance.samples, 1600)
    assert len(padded) == (len(utterance.samples) + 3200 - 410) // 160 + 1


def test_deltas_are_differences_of_four_frames(sound: Float32) -> None:
    np.testing.assert_allclose(sound[10:40, 1], sound[12:42, 0] - sound[8:38, 0], atol=1e-3)
    np.testing.assert_allclose(sound[10:40, 2], sound[11:41, 1] - sound[9:39, 1], atol=1e-3)


def test_louder_sound_has_the_same_features(utterance: Utterance) -> None:
    one, two = features(utterance.samples), features(utterance.samples * np.float32(0.5))
    speech = slice(30, 100)
    assert np.abs(one[speech] - two[speech]).mean() < 0.3


def test_noise_is_taken_out_where_there_is_some(utterance: Utterance) -> None:
    rng = np.random.default_rng(0)
    power = np.ones((100, 25))
    power[50:] *= 10 ** (CLEAN_DB / 10)
    assert signal_to_noise_db(power * 1e6) == pytest.approx(CLEAN_DB, abs=0.5)
    noisy = utterance.samples + rng.normal(0, 0.02, len(utterance.samples)).astype(np.float32)
    assert np.isfinite(features(noisy)).all()


def test_the_path_says_the_words_in_order(model: AcousticModel, utterance: Utterance) -> None:
    graph = word_graph([pronunciations(word) for word in ("bob", "saw", "a", "map")])
    scores = Scores(model, graph.nodes, features(utterance.samples, 1600))
    path = best_path(graph, scores)
    assert path is not None
    spoken = [piece.node for piece in path.pieces if piece.node.spoken]
    assert [word for word, _ in itertools.groupby(node.word for node in spoken)] == [0, 1, 2, 3]
    assert [node.phone for node in spoken][:3] == ["B", "AA", "B"]
    assert path.pieces[0].start == 0
    assert path.pieces[-1].stop == len(scores.values)
    assert all(one.stop == two.start for one, two in itertools.pairwise(path.pieces))
    assert all(piece.stop - piece.start >= 3 for piece in path.pieces)  # three states each
    times = soft_boundaries(path, scores)
    assert (np.diff(times) >= 0).all()
    hard = np.array([0, *(piece.stop for piece in path.pieces)])
    assert np.abs(times - hard).mean() < 3
    assert (times[0], times[-1]) == (0, hard[-1])


def test_the_best_path_is_the_best_of_all(model: AcousticModel) -> None:
    """One word of two phones in ten frames: all ways to divide them among six states, one after another."""
    rng = np.random.default_rng(1)
    graph = word_graph([(("AA", "M"),)])
    scores = Scores(model, graph.nodes, rng.normal(0, 3, (10, 3, 13)).astype(np.float32))
    path = best_path(graph, scores)
    chains = [
        [i for i, n in enumerate(graph.nodes) if n.phone == phone and n.right in right]
        for phone, right in (("AA", ("M",)), ("M", (SILENCE,)))
    ]
    silences = [i for i, node in enumerate(graph.nodes) if not node.spoken]
    best = -math.inf
    for lead, tail in itertools.product((True, False), repeat=2):
        nodes = [*([silences[0]] if lead else []), chains[0][0], chains[1][0], *([silences[1]] if tail else [])]
        states = [(node, state) for node in nodes for state in range(3)]
        if len(states) > 10:
            continue
        for cuts in itertools.combinations(range(1, 10), len(states) - 1):
            edges = [0, *cuts, 10]
            total = -graph.toll[silences[1]] if tail else 0.0
            for (node, state), (start, stop) in zip(states, itertools.pairwise(edges), strict=True):
                total += float(scores.values[start:stop, scores.places[node, state]].sum())
                total += float(scores.stay[node, state]) * (stop - start - 1)
                total += float(scores.leave[node, state]) if stop < 10 else 0.0
            best = max(best, total)
    assert path is not None
    reached = 0.0
    for piece in path.pieces:
        sums = np.full(3, -np.inf)
        for cut in itertools.combinations(range(piece.start + 1, piece.stop), 2):
            edges = [piece.start, *cut, piece.stop]
            total = 0.0
            for state, (start, stop) in enumerate(itertools.pairwise(edges)):
                total += float(scores.values[start:stop, scores.places[piece.place, state]].sum())
                total += float(scores.stay[piece.place, state]) * (stop - start - 1)
                total += float(scores.leave[piece.place, state]) if stop < 10 else 0.0
            sums[0] = max(sums[0], total)
        reached += sums[0] - (graph.toll[piece.place] if piece.start else 0.0)
    assert reached == pytest.approx(best, abs=0.05)


def test_too_little_sound_is_no_path(model: AcousticModel) -> None:
    graph = word_graph([pronunciations("machine")])
    short = np.zeros((10, 3, 13), np.float32)
    assert best_path(graph, Scores(model, graph.nodes, short)) is None
