"""Decisions: what is allowed, lines that prove themselves whole, and the content that they name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from dataset_builder import build, random_clip, writer
from hypothesis import given
from hypothesis import strategies as st

from review.decisions import REASONS, VERDICTS, Decision, checked, content_sha256, from_line, to_line
from schemas.config import ShardConfig
from schemas.errors import UsageError
from talkset.dataset import open_dataset
from talkset.versions.rewrite import filter_dataset

GOOD = {"clip_id": "clip_1", "content_sha256": "ab", "reviewer": "Zoë", "verdict": "reject"}
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@given(
    st.sampled_from((*VERDICTS, None)),
    st.lists(st.sampled_from(tuple(REASONS)), unique=True),
    TEXT,
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6)), max_size=4),
    st.floats(-9999, 9999),
)
def test_a_line_gives_back_what_was_said(
    verdict: str | None, reasons: list[str], text: str, spans: list[tuple[int, int]], offset: float
) -> None:
    marks = [{"start_us": start, "end_us": start + length} for start, length in spans]
    fixes = {"transcript": text, "sync_offset_ms": offset}
    said = checked(
        {**GOOD, "verdict": verdict, "reasons": reasons, "comment": text, "marks": marks, "corrections": fixes}
    )
    line = to_line(said)
    assert "\n" not in line
    assert from_line(line) == said


def test_every_changed_letter_of_a_line_is_noticed() -> None:
    line = to_line(checked({**GOOD, "comment": "the left eye", "decision_id": "d1"}))
    for place in range(0, len(line), 3):
        changed = line[:place] + ("0" if line[place] != "0" else "1") + line[place + 1 :]
        with pytest.raises(UsageError):
            from_line(changed)
        with pytest.raises(UsageError):
            from_line(line[:place])


@pytest.mark.parametrize(
    "change",
    [
        {"clip_id": "../../etc/passwd"},
        {"clip_id": "a/b"},
        {"reviewer": ""},
        {"reviewer": "a\nb"},
        {"verdict": "maybe"},
        {"reasons": ["ugly"]},
        {"reasons": "mouth"},
        {"comment": 7},
        {"comment": "x" * 4001},
        {"marks": [{"start_us": 5, "end_us": 5}]},
        {"marks": [{"start_us": -1, "end_us": 5}]},
        {"marks": [{"start_us": 0.5, "end_us": 5}]},
        {"marks": [{"start_us": 0, "end_us": 5, "extra": 1}]},
        {"marks": [7]},
        {"corrections": {"shape": [0]}},
        {"corrections": {"sync_offset_ms": float("nan")}},
        {"corrections": {"sync_offset_ms": True}},
        {"round": 3},
        {"seconds": -1},
        {"time": "yesterday"},
        {"time": "2026-01-01T00:00:00"},
        {"unheard_of": 1},
    ],
)
def test_what_is_wrong_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        checked({**GOOD, **change})


def digests(root: Path) -> dict[str, str]:
    return {clip.clip_id: content_sha256(clip) for clip in open_dataset(root)}


def test_content_stays_the_same_in_other_parts_and_versions(tmp_path: Path) -> None:
    build(tmp_path / "one")
    build(tmp_path / "two", shards=ShardConfig(clips_per_row_group=1, max_shard_mb=1, figures=False))
    filter_dataset(tmp_path / "one", tmp_path / "three", "nme_mean < 0.03")
    first = digests(tmp_path / "one")
    assert len(set(first.values())) == len(first) == 10
    assert digests(tmp_path / "two") == first
    kept = digests(tmp_path / "three")
    assert 0 < len(kept) < 10
    assert kept.items() <= first.items()


def test_content_changes_with_the_fit_and_not_with_what_is_said_of_it(tmp_path: Path) -> None:
    record = random_clip(0)
    assert record.head is not None
    jaw = record.head.jaw_pose.copy()
    jaw[3, 0] += 1e-4
    moved = dataclasses.replace(record, head=dataclasses.replace(record.head, jaw_pose=jaw))
    spoken = dataclasses.replace(record, index={**record.index, "transcript": "other", "emotion": "sad"})
    found: list[str] = []
    for number, made in enumerate((record, moved, spoken)):
        with writer(tmp_path / str(number)) as target:
            target.add(made)
            target.finish()
        found += digests(tmp_path / str(number)).values()
    assert found[0] == found[2] != found[1]


def test_a_line_names_its_fields() -> None:
    values = json.loads(to_line(Decision("c", "ab", "me", None)))
    assert values["verdict"] is None
    assert "comment" not in values
