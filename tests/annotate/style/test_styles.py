"""Style: descriptors of signals whose numbers are known, embeddings that tell talkers apart, and training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from annotate.performance import Hands, Performance
from annotate.style import encoder_name, make_encoder
from annotate.style.contrastive import (
    ContrastiveEncoder,
    EncoderConfig,
    load_encoder,
    nt_xent,
    save_encoder,
    train_encoder,
)
from annotate.style.descriptors import BROWS, MOUTH, describe
from annotate.style.frames import WIDTH, frame_features
from annotate.style.hands import gesture_space_m, strokes
from annotate.style.retrieval import retrieval_top1
from annotate.style.statistical import DIMENSION, distance, embed
from pipelines.performance import performance_of
from reconstruct.models.head_model import HeadModel
from schemas.errors import TalksetError, UsageError
from schemas.labels import DESCRIPTORS
from schemas.types import LandmarkTrack
from synthetic.make import perform
from synthetic.motion import Manner
from synthetic.talker import random_talker

NAMES = (*MOUTH, *BROWS, "eyeBlinkLeft", "eyeBlinkRight", "eyeSquintLeft", "eyeSquintRight")


def times(seconds: float, fps: float = 25.0) -> NDArray[np.int64]:
    return np.asarray(np.round(np.arange(round(seconds * fps)) * 1e6 / fps), dtype=np.int64)


def clip(seconds: float = 6.0, fps: float = 25.0, **values: object) -> Performance:
    pts = times(seconds, fps)
    return Performance(pts, round(1e6 * seconds), np.ones(len(pts), np.bool_), **values)  # type: ignore[arg-type]


def test_head_speed_and_rhythm_are_those_of_a_sine_at_any_frame_rate() -> None:
    for fps in (24.0, 30.0, 60.0):
        seconds = times(8.0, fps) / 1e6
        head = np.zeros((len(seconds), 3), np.float32)
        head[:, 0] = np.radians(5.0) * np.sin(2 * np.pi * 1.0 * seconds)
        found = describe(clip(8.0, fps, head=head))
        damping = math.exp(-0.5 * (2 * math.pi * 0.06) ** 2)
        assert found["head_speed_deg_s"] == pytest.approx(damping * 5 * 2 * math.pi / math.sqrt(2), rel=0.05)
        assert found["head_rhythm_hz"] == pytest.approx(1.0, abs=0.1)


def test_face_descriptors_of_known_weights() -> None:
    seconds = times(6.0) / 1e6
    weights = np.zeros((len(seconds), len(NAMES)), np.float32)
    weights[:, NAMES.index("mouthSmileLeft")] = 0.4
    weights[:, NAMES.index("mouthSmileRight")] = 0.2
    swing = 0.3 + 0.2 * np.sin(2 * np.pi * 0.5 * seconds)
    weights[:, [NAMES.index(name) for name in BROWS]] = swing[:, None]
    found = describe(clip(names=NAMES, weights=weights))
    assert found["smile"] == pytest.approx(0.3, rel=1e-3)
    assert found["brow_range"] == pytest.approx(0.2 / math.sqrt(2), rel=0.05)
    assert found["mouth_range"] == pytest.approx(0.0, abs=1e-6)
    apart = 0.2**2 / 10
    mean = (0.3**2 + 2 * float((swing**2).mean())) / 10
    assert found["asymmetry"] == pytest.approx(math.sqrt(apart / mean), rel=0.02)
    assert found["pitch_hz"] is None
    assert found["gestures_per_min"] is None


def test_eyes_move_by_what_their_lids_do_and_blinks_are_no_part_of_it() -> None:
    seconds = times(6.0) / 1e6
    lids = np.tile((0.3 + 0.03 * np.sin(2 * np.pi * 0.5 * seconds))[:, None], (1, 2)).astype(np.float32)
    found = describe(clip(lid_opening=lids))
    assert found["eye_range"] == pytest.approx(0.1 / math.sqrt(2), rel=0.05)
    lids[100:104] = 0.05
    blinking = describe(clip(lid_opening=lids))
    assert blinking["blinks_per_min"] == pytest.approx(10)
    assert blinking["eye_range"] == pytest.approx(found["eye_range"], rel=0.1)
    assert describe(clip())["eye_range"] is None


def test_how_a_fit_shares_a_face_between_rest_and_expression_makes_no_asymmetry() -> None:
    seen = np.full((150, len(NAMES)), 0.2, np.float32)
    seen[:, NAMES.index("mouthSmileLeft")] = 0.4
    shares = (describe(clip(names=NAMES, weights=share * seen, surface=seen))["asymmetry"] for share in (0.1, 0.9))
    apart, mean = 0.2**2 / 10, (9 * 0.2**2 + 0.3**2) / 10
    assert list(shares) == [pytest.approx(math.sqrt(apart / mean), rel=1e-3)] * 2


def test_missing_modalities_are_none_and_never_crash() -> None:
    for bare in (
        clip(),
        clip(samples=np.zeros(96_000, np.float32)),
        clip(0.2),
        clip(head=np.full((150, 3), np.nan, np.float32), hands=Hands(np.full((150, 2, 3), np.nan, np.float32))),
        dataclasses.replace(clip(), pts_us=np.zeros(0, np.int64), valid=np.zeros(0, np.bool_)),
    ):
        found = describe(bare)
        assert set(found) == {each.name for each in DESCRIPTORS}
        assert all(value is None or np.isfinite(value) for value in found.values())
    assert embed(clip()) is None


def test_strokes_and_space_of_hands() -> None:
    seconds = times(6.0) / 1e6
    part = np.clip((seconds - 1) / 0.3, 0, 1) - np.clip((seconds - 3) / 0.3, 0, 1)
    wrists = np.zeros((len(seconds), 2, 3), np.float32)
    wrists[:, 0, 1] = 0.25 * part**2 * (3 - 2 * part)
    hands = Hands(wrists)
    found = strokes(times(6.0), hands)
    assert [round(start, 1) for start, _, _ in found] == [1.0, 3.0]
    assert [way for _, _, way in found] == pytest.approx([0.25, 0.25], abs=0.03)
    assert gesture_space_m(hands) == pytest.approx(float(np.std(wrists[:, 0, 1])) / math.sqrt(2), rel=1e-3)
    assert describe(clip(hands=hands))["gestures_per_min"] == pytest.approx(20.0)


def talking(model: HeadModel, seed: int, speaker: int) -> Performance:
    """A talker's true motion and its sound; one speaker has one voice, face and manner whatever is said."""
    who = random_talker(speaker)
    manner = Manner(head=0.6 + 0.5 * (speaker % 3), brows=0.3 + 0.6 * (speaker % 4), smile=0.02 + 0.1 * (speaker % 5))
    talker = dataclasses.replace(who, text=random_talker(seed).text, motion_seed=seed, manner=manner)
    truth, speech = perform(talker, model)
    count = len(truth.pts_us)
    unseen = LandmarkTrack(
        truth.pts_us,
        np.full((count, 478, 2), np.nan, np.float32),
        np.full((count, 478), np.nan, np.float32),
        np.zeros(count, np.bool_),
        320,
        320,
        "mediapipe 0.10.21",
    )
    found = performance_of(model, truth.track, unseen, int(truth.pts_us[-1]) + 40_000, speech.samples, truth.speech)
    return dataclasses.replace(found, lip_opening=None, lid_opening=None)


@pytest.fixture(scope="module")
def talkers(open_head: HeadModel) -> list[Performance]:
    """Three clips of each of four speakers, one speaker after the other."""
    return [talking(open_head, 10 * speaker + take, speaker) for speaker in range(4) for take in range(3)]


OWNERS = [str(speaker) for speaker in range(4) for _ in range(3)]


def test_clips_of_a_speaker_are_nearer_than_others(talkers: list[Performance]) -> None:
    styles = [embed(each) for each in talkers]
    assert all(style is not None and style.embedding.shape == (DIMENSION,) for style in styles)
    assert {style.model for style in styles if style is not None} == {"statistical-2/weights+head+voice"}
    vectors = np.stack([style.embedding for style in styles if style is not None])
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    same = np.array(OWNERS)[:, None] == np.array(OWNERS)[None]
    own = apart[same & ~np.eye(len(OWNERS), dtype=bool)]
    assert own.mean() < 0.75 * apart[~same].mean()
    top1, chance = retrieval_top1(vectors, OWNERS)
    assert chance == pytest.approx(2 / 11)
    assert top1 > 2 * chance  # these talkers differ in little but voice and liveliness


def test_embeddings_of_other_modalities_cannot_be_compared(talkers: list[Performance]) -> None:
    whole, silent = embed(talkers[0]), embed(dataclasses.replace(talkers[0], samples=None))
    assert whole is not None
    assert silent is not None
    assert silent.model == "statistical-2/weights+head"
    assert distance(whole, silent) == math.inf
    assert distance(whole, whole) == 0


def test_nt_xent_is_that_of_the_formula() -> None:
    first = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.1, 1.0]]), dim=1)
    second = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=1)
    vectors = torch.cat([first, second])
    expected = 0.0
    for row, partner in ((0, 2), (1, 3), (2, 0), (3, 1)):
        others = [column for column in range(4) if column != row]
        weights = torch.exp(vectors[row] @ vectors.T / 0.5)
        expected -= float(torch.log(weights[partner] / weights[others].sum())) / 4
    assert float(nt_xent(first, second, torch.tensor([0, 1]), 0.5)) == pytest.approx(expected, rel=1e-5)
    alone = nt_xent(first, second, torch.tensor([0, 0]), 0.5)
    assert float(alone) == pytest.approx(0.0, abs=1e-6)  # nothing to be told apart from


@pytest.fixture(scope="module")
def tables(talkers: list[Performance]) -> list[NDArray[np.float32]]:
    found = [frame_features(each) for each in talkers]
    return [table for table in found if table is not None]


CONFIG = EncoderConfig(channels=16, layers=2, dimension=16, steps=40)


def test_a_trained_encoder_is_stored_whole_and_the_same_seed_gives_the_same(
    tables: list[NDArray[np.float32]], talkers: list[Performance], tmp_path: Path
) -> None:
    assert tables[0].shape[1] == WIDTH
    network = train_encoder(tables, OWNERS, CONFIG)
    vectors = np.stack([ContrastiveEncoder("", network).of_features(table) for table in tables])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-5)
    top1, chance = retrieval_top1(vectors, OWNERS)
    assert top1 >= 0.75 > chance
    path = tmp_path / "style.safetensors"
    name = save_encoder(path, network, CONFIG, {"clips": 12})
    loaded = load_encoder(path)
    assert loaded.name == name == encoder_name(str(path))
    assert loaded.of_features(tables[3]) == pytest.approx(vectors[3], abs=1e-6)
    style = make_encoder(str(path)).embed(talkers[3])
    assert style is not None
    assert (style.model, style.embedding.shape) == (name, (16,))
    assert (
        save_encoder(tmp_path / "again.safetensors", train_encoder(tables, OWNERS, CONFIG), CONFIG, {"clips": 12})
        == name
    )


def test_what_is_no_encoder_and_too_few_speakers_are_refused(tables: list[NDArray[np.float32]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="speakers"):
        train_encoder(tables, ["one"] * len(tables), CONFIG)
    with pytest.raises(TalksetError, match="no file"):
        encoder_name(str(tmp_path / "nowhere.safetensors"))
    path = tmp_path / "junk.safetensors"
    path.write_bytes(b"junk" * 100)
    with pytest.raises(TalksetError, match="no style encoder"):
        load_encoder(path)


def test_retrieval_on_known_places() -> None:
    places = np.array([[0.0], [0.1], [5.0], [5.1], [9.0]])
    top1, chance = retrieval_top1(places, ["a", "a", "b", "b", "c"])
    assert top1 == pytest.approx(0.8)
    assert chance == pytest.approx(4 / 5 / 4)
    assert retrieval_top1(places, ["a", "a", "b", "b", "c"], [4])[0] == 0.0
    assert math.isnan(retrieval_top1(places[:1], ["a"])[0])
