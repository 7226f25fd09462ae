"""The data set without pictures: complete, repeatable, with its truth in the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UsageError
from schemas.labels import EMOTIONS
from schemas.verify import verify_dataset
from synthetic.training_set import DETECTOR, TEST_TEXTS, TRAIN_TEXTS, Plan, make_training_set, plan_clips
from talkset.dataset import open_dataset

SMALL = Plan(speakers=2, test_speakers=1, clips=1, test_clips=1, sentences=1)


def test_speakers_have_two_manners_and_share_neither_splits_nor_texts() -> None:
    planned = plan_clips(Plan())
    speakers: dict[str, set[str]] = {"train": set(), "test": set()}
    manners: dict[str, set[str]] = {}
    for split, manner, talker in planned:
        speaker = talker.name.split("-")[0]
        speakers[split].add(speaker)
        manners.setdefault(speaker, set()).add(manner)
        assert talker.affect.emotion in EMOTIONS
        said = talker.text
        assert any(text in said for text in (TRAIN_TEXTS if split == "train" else TEST_TEXTS))
    assert len(speakers["train"] | speakers["test"]) >= 20
    assert not speakers["train"] & speakers["test"]
    assert all(found == {"calm", "lively"} for found in manners.values())
    assert not set(TRAIN_TEXTS) & set(TEST_TEXTS)
    assert {talker.affect.emotion for split, _, talker in planned if split == "test"} == set(EMOTIONS) - {"calm"}
    with pytest.raises(UsageError, match="makes no data set"):
        plan_clips(Plan(speakers=2, test_speakers=2))


def test_a_set_is_whole_repeatable_and_true(tmp_path: Path) -> None:
    made = make_training_set(tmp_path / "one", SMALL, workers=1)
    again = make_training_set(tmp_path / "two", SMALL, workers=2)
    assert (made / "params/part-00000.parquet").read_bytes() == (again / "params/part-00000.parquet").read_bytes()
    problems = verify_dataset(made)
    assert not problems, problems
    dataset = open_dataset(made)
    assert len(dataset) == 4
    clip = dataset[0]
    assert clip.index["detector"] == DETECTOR
    assert "nothing was rendered" in clip.index["warnings"]
    sound, rate = clip.audio(16_000, mono=True)
    assert rate == 16_000
    assert abs(len(sound) / rate - clip.duration_us / 1e6) < 0.05
    words = clip.words()
    assert " ".join(word["label"] for word in words).lower() == clip.index["transcript"].lower().rstrip(".?")
    loud = [np.abs(sound[w["start_us"] * 16 // 1000 : w["end_us"] * 16 // 1000]).max() for w in words]
    assert min(loud) > 0.02  # the words are where they are said
    assert clip["residual_px"].max() == 0
