"""The version that follows a review: what is gone, what changed, and what was aligned again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from review.decisions import Decision, content_sha256
from review.journal import TABLE, read_table, to_table
from schemas.errors import TalksetError, UsageError
from schemas.types import Interval, Transcription
from schemas.verify import verify_dataset
from talkset.dataset import Clip, open_dataset
from talkset.versions.reviewed import apply_review


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reviewed") / "data"
    build(path)
    return path


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "data"))


def decisions(root: Path) -> Any:
    clip = open_dataset(root)["clip_0004"]
    said = Decision(
        "clip_0004", content_sha256(clip), "anna", "accept", decision_id="d", time="2026-01-01T00:00:00+00:00"
    )
    return to_table([said])


def align(clip: Clip, transcript: str) -> Transcription:
    words = [
        Interval(40_000 * n, 40_000 * n + 20_000, word, 0.9, False, "test") for n, word in enumerate(transcript.split())
    ]
    return Transcription(tuple(words), (Interval(0, 20_000, "AH", float("nan"), True, "test"),))


def everything(root: Path) -> dict[str, dict[str, Any]]:
    rows = open_dataset(root, where="status in ('accepted', 'rejected', 'failed')").index.to_pylist()
    return {row["clip_id"]: row for row in rows}


def test_dropped_clips_are_gone_and_all_else_stays(root: Path, tmp_path: Path) -> None:
    before = everything(root)
    done = apply_review(root, tmp_path / "v2", decisions(root), {"clip_0004": "accept"}, {}, ["clip_0002", "clip_0007"])
    assert verify_dataset(tmp_path / "v2") == []
    after = everything(tmp_path / "v2")
    assert set(before) - set(after) == {"clip_0002", "clip_0007"}
    assert (done["rows"], done["dropped"], done["version"]) == (len(before) - 2, 2, "2.0.0")
    placed = ("shard", "row", "review")
    for clip_id, row in after.items():
        old = {key: value for key, value in before[clip_id].items() if key not in placed}
        assert {key: value for key, value in row.items() if key not in placed} == old
        assert row["review"] == ("accept" if clip_id == "clip_0004" else None)
    stored, new = open_dataset(root), open_dataset(tmp_path / "v2")
    for clip in new:
        assert content_sha256(clip) == content_sha256(stored[clip.clip_id])
        assert clip.words() == stored[clip.clip_id].words()
        assert clip.events() == stored[clip.clip_id].events()


def test_decisions_travel_with_the_version_and_further(root: Path, tmp_path: Path) -> None:
    table = decisions(root)
    apply_review(root, tmp_path / "v2", table, {}, {}, [])
    assert pq.read_table(tmp_path / "v2" / TABLE).equals(table)
    assert TABLE in (tmp_path / "v2" / "MANIFEST.sha256").read_text()
    apply_review(tmp_path / "v2", tmp_path / "v3", table, {}, {}, ["clip_0001"])
    assert read_table(tmp_path / "v3" / TABLE)[0].clip_id == "clip_0004"


def test_corrections_change_their_cells_and_only_their_words_are_made_again(root: Path, tmp_path: Path) -> None:
    fixes: dict[str, dict[str, Any]] = {
        "clip_0001": {"transcript": "one two", "emotion": "happy"},
        "clip_0003": {"transcript": "three", "sync_offset_ms": 40.0},
        "clip_0005": {"transcript": "gone"},
    }
    asked: list[str] = []

    def watched(clip: Clip, transcript: str) -> Transcription:
        asked.append(clip.clip_id)
        return align(clip, transcript)

    out = tmp_path / "v2"
    done = apply_review(root, out, decisions(root), {}, fixes, ["clip_0005"], align=watched)
    assert verify_dataset(out) == []
    assert asked == ["clip_0001", "clip_0003"]
    assert done["corrected"] == {"emotion": 1, "transcript": 2, "sync_offset_ms": 1}
    assert done["realigned"] == 2
    old, new = open_dataset(root), open_dataset(out)
    assert [word["label"] for word in new["clip_0001"].words()] == ["one", "two"]
    assert [phone["label"] for phone in new["clip_0003"].phones()] == ["AH"]
    assert new["clip_0001"].index["emotion"] == "happy"
    assert new["clip_0001"].index["emotion_confidence"] == 1.0
    assert new["clip_0003"].index["sync_offset_ms"] == 40.0
    assert new["clip_0003"].index["transcript"] == "three"
    for clip_id in ("clip_0000", "clip_0002", "clip_0009"):
        assert new[clip_id].words() == old[clip_id].words()
        assert new[clip_id].phones() == old[clip_id].phones()


def test_a_transcript_that_cannot_be_aligned_leaves_no_old_words(root: Path, tmp_path: Path) -> None:
    def refuse(clip: Clip, transcript: str) -> Transcription:
        raise TalksetError("bad_transcript", f"{transcript!r} is not in the sound")

    fixes = {"clip_0001": {"transcript": "xyz"}}
    done = apply_review(root, tmp_path / "v2", decisions(root), {}, fixes, [], align=refuse)
    assert done["realigned"] == 0
    clip = open_dataset(tmp_path / "v2")["clip_0001"]
    assert clip.words() == []
    assert clip.index["warnings"] == "bad_transcript: 'xyz' is not in the sound"
    assert verify_dataset(tmp_path / "v2") == []


def test_only_what_was_accepted(root: Path, tmp_path: Path) -> None:
    apply_review(root, tmp_path / "v2", decisions(root), {"clip_0004": "accept"}, {}, [], only_accepted=True)
    rows = everything(tmp_path / "v2")
    assert [clip_id for clip_id, row in rows.items() if row["status"] == "accepted"] == ["clip_0004"]
    assert len(rows) == 3


def test_nothing_left_or_a_folder_in_the_way_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no clip"):
        apply_review(root, tmp_path / "v2", decisions(root), {}, {}, list(everything(root)))
    assert not (tmp_path / "v2").exists()
    with pytest.raises(UsageError, match="exists already"):
        apply_review(root, root, decisions(root), {}, {}, [])
    with pytest.raises(UsageError, match="no aligner"):
        apply_review(root, tmp_path / "v2", decisions(root), {}, {"clip_0001": {"transcript": "a"}}, [])
