"""A data set that an earlier release wrote opens as it is, verifies, and can be brought up to date without loss.

tests/data/schema-<version> were written by the code of those schema versions from three of
dataset_builder's clips.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_builder import random_clip, writer

from schemas.errors import UsageError
from schemas.tables import SCHEMA_VERSION
from schemas.verify import verify_dataset
from talkset.dataset import DatasetError, open_dataset
from talkset.versions.merge import merge_datasets
from talkset.versions.rewrite import upgrade_dataset

DATA = Path(__file__).resolve().parents[2] / "data"
OLD = DATA / "schema-1.0.0"
NEXT = DATA / "schema-1.1.0"
BEFORE_WORDS = DATA / "schema-1.2.0"
BEFORE_SPEAKERS = DATA / "schema-1.3.0"
LAST = DATA / "schema-1.4.0"


def test_the_old_one_opens_and_verifies() -> None:
    assert verify_dataset(OLD) == []
    dataset = open_dataset(OLD)
    assert len(dataset) == 3
    assert dataset[1]["expression"].shape == (6, 52)
    assert dataset[1]["face_xy"].shape == (6, 478, 2)
    assert [word["label"] for word in dataset[0].words()] == ["bin", "blue"]


def test_a_filter_on_a_newer_column_names_the_way() -> None:
    with pytest.raises(ValueError, match=r"unknown column 'head_model'.*schema version 1\.0\.0.*talkset upgrade"):
        open_dataset(OLD, where="head_model == 'open-head'")


def test_upgraded_it_has_the_new_columns_and_the_same_values(tmp_path: Path) -> None:
    out = upgrade_dataset(OLD, tmp_path / "new")
    assert verify_dataset(out) == []
    old, new = open_dataset(OLD), open_dataset(out, where="head_model == 'open-head'")
    assert new.facts["schema_version"] == SCHEMA_VERSION
    assert new.facts["version"] == "1.3.0"
    assert new.facts["history"][-1]["parameters"] == {"from": "1.0.0", "to": SCHEMA_VERSION}
    assert len(new) == len(old)
    for before, after in zip(old, new, strict=True):
        for name in (*old.columns, "face_xy"):
            np.testing.assert_array_equal(before[name], after[name])
        assert [{**word, "position": place} for place, word in enumerate(before.words())] == after.words()
        assert before.events() == after.events()
    assert open_dataset(out, where="status == 'rejected'")[0].index["head_model"] is None
    quantiles = new.stats["signals"]["open-head"]["jaw_pose"]
    values = np.concatenate([clip["jaw_pose"][clip["valid"]] for clip in new])
    assert np.all(np.abs(quantiles["q50"] - np.quantile(values, 0.5, axis=0, method="inverted_cdf")) < 0.01)


def test_what_cannot_be_upgraded(tmp_path: Path) -> None:
    new = upgrade_dataset(OLD, tmp_path / "new")
    with pytest.raises(UsageError, match="has schema version") as caught:
        upgrade_dataset(new, tmp_path / "again")
    assert "nothing to do" in str(caught.value.remedy)
    for version, message in (("0.3.0", "no way to"), ("9.0.0", "has schema version 9.0.0")):
        copy = tmp_path / version
        shutil.copytree(OLD, copy)
        facts = json.loads((copy / "dataset.json").read_text())
        (copy / "dataset.json").write_text(json.dumps({**facts, "schema_version": version}))
        with pytest.raises(UsageError, match=message):
            upgrade_dataset(copy, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_one_before_the_diagnostics_opens_upgrades_and_merges_with_a_new_one(tmp_path: Path) -> None:
    assert verify_dataset(NEXT) == []
    old, new = open_dataset(NEXT), open_dataset(upgrade_dataset(NEXT, tmp_path / "new"))
    assert verify_dataset(tmp_path / "new") == []
    for before, after in zip(old, new, strict=True):
        for name in (*old.columns, "face_xy"):
            np.testing.assert_array_equal(before[name], after[name])
        assert [after[name] for name in ("held_out_nme", "uncertainty_mm", "confidence", "detector")] == [None] * 4
        assert after.index["detector"] is None
    with writer(tmp_path / "other") as target:
        target.add(random_clip(14))
        target.finish()
    both = open_dataset(merge_datasets([tmp_path / "new", tmp_path / "other"], tmp_path / "both"))
    assert verify_dataset(tmp_path / "both") == []
    assert both["clip_0001"]["held_out_nme"] is None
    assert both["clip_0014"]["held_out_nme"].shape == (both["clip_0014"].num_frames,)
    assert both["clip_0014"]["confidence"].shape == (both["clip_0014"].num_frames, 478)
    signals = both.stats["signals"]["open-head"]
    assert signals["held_out_nme"]["count"] == both["clip_0014"]["valid"].sum() < signals["nme"]["count"]
    columns = ["jaw_pose", "uncertainty_mm"]
    with pytest.raises(
        DatasetError, match="clip clip_0000 has no uncertainty_mm; leave uncertainty_mm or this clip out"
    ):
        list(both.loader(columns, batch_size=4, shuffle=False))
    fitted = open_dataset(tmp_path / "both", where="detector == 'mediapipe 0.10.21'")
    [batch] = fitted.loader(columns, batch_size=4, shuffle=False)
    assert batch["uncertainty_mm"].shape == batch["jaw_pose"].shape[:2]


def test_one_before_the_checks_of_words_opens_and_upgrades(tmp_path: Path) -> None:
    assert verify_dataset(BEFORE_WORDS) == []
    old, new = open_dataset(BEFORE_WORDS), open_dataset(upgrade_dataset(BEFORE_WORDS, tmp_path / "new"))
    assert verify_dataset(tmp_path / "new") == []
    assert len(old) == len(new) == 3
    for before, after in zip(old, new, strict=True):
        for name in (*old.columns, "face_xy", "confidence"):
            np.testing.assert_array_equal(before[name], after[name])
        assert "word_flags" not in before.index
        assert [after.index[name] for name in ("transcript_mismatch", "words_per_minute", "word_flags")] == [None] * 3


def test_one_before_speakers_quality_and_bodies_opens_and_upgrades(tmp_path: Path) -> None:
    assert verify_dataset(BEFORE_SPEAKERS) == []
    old, new = open_dataset(BEFORE_SPEAKERS), open_dataset(upgrade_dataset(BEFORE_SPEAKERS, tmp_path / "new"))
    assert verify_dataset(tmp_path / "new") == []
    assert len(old) == len(new) == 3
    for before, after in zip(old, new, strict=True):
        for name in (*old.columns, "face_xy", "confidence"):
            np.testing.assert_array_equal(before[name], after[name])
        assert "speaker_score" not in before.index
        added = ("speaker_score", "sync_applied_ms", "sharpness", "sharpness_worst", "duplicate_group", "body_residual")
        assert [after.index[name] for name in added] == [None] * len(added)
        assert [after[name] for name in ("body_model", "body_pose", "fingerprint", "pose_xyc")] == [None] * 4


def test_one_before_emotion_and_style_opens_and_upgrades(tmp_path: Path) -> None:
    assert verify_dataset(LAST) == []
    old, new = open_dataset(LAST), open_dataset(upgrade_dataset(LAST, tmp_path / "new"))
    assert verify_dataset(tmp_path / "new") == []
    assert len(old) == len(new) == 3
    for before, after in zip(old, new, strict=True):
        for name in (*old.columns, "face_xy", "confidence"):
            np.testing.assert_array_equal(before[name], after[name])
        assert "style_pitch_hz" not in before.index
        assert [after.index[name] for name in ("emotion_intensity", "emotion_given", "style_pitch_hz")] == [None] * 3
        added = ("emotion_probabilities", "affect", "clip_emotion", "style_embedding", "style_model")
        assert [after[name] for name in added] == [None] * 5
