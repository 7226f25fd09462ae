"""Writing a data set: layout, determinism, and what is left when writing fails."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from dataset_builder import MODEL_HASH, build, random_clip, records, rejected_clip, writer

from schemas.config import ShardConfig
from schemas.errors import TalksetError, UsageError
from schemas.files import list_files, sha256_file
from schemas.records import ClipRecord, clip_rows
from schemas.tables import SHARDED, TABLES
from schemas.types import Event, Interval, Transcription, UntimedWord
from schemas.verify import verify_dataset
from talkset.dataset import open_dataset

REPOSITORY = Path(__file__).resolve().parents[2]


def _bytes(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _partials(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".*.partial")]


def test_values_come_back(tmp_path: Path) -> None:
    made = build(tmp_path)
    index = pq.read_table(tmp_path / "index.parquet").to_pylist()
    assert [row["clip_id"] for row in index] == [record.index["clip_id"] for record in made]
    words = pq.read_table(tmp_path / "words.parquet").to_pylist()
    phones = pq.read_table(tmp_path / "phones.parquet").to_pylist()
    events = pq.read_table(tmp_path / "events.parquet").to_pylist()
    for row, record in zip(index, made, strict=True):
        if record.head is None or record.landmarks is None:
            assert row["shard"] is None
            assert row["reason"] == record.index["reason"]
            continue
        for name, value in record.index.items():
            assert row[name] == (json.dumps(value) if name == "labels" else value), name
        for table, source in (("params", record.head), ("landmarks", record.landmarks)):
            stored = pq.read_table(tmp_path / table / row["shard"]).slice(row["row"], 1).to_pylist()[0]
            assert stored["clip_id"] == row["clip_id"]
            for field in dataclasses.fields(source):
                value = getattr(source, field.name)
                if field.name in stored and isinstance(value, np.ndarray):
                    np.testing.assert_array_equal(np.array(stored[field.name], value.dtype), value.reshape(-1))
            assert stored["pts_us"] == record.landmarks.pts_us.tolist()
    assert [word["label"] for word in words] == ["bin", "blue", "größe"] * 10
    assert {phone["score"] for phone in phones} == {None}  # NaN is stored as absent
    assert {event["kind"] for event in events} == {"blink"}


def test_words_without_times_are_rows_in_their_place(tmp_path: Path) -> None:
    record = random_clip(1)
    assert record.transcription is not None
    untimed = tuple(UntimedWord(label, after, "x") for label, after in (("so", 0), ("9", 2), ("10", 2)))
    said = dataclasses.replace(record.transcription, untimed=untimed)
    with writer(tmp_path) as target:
        target.add(dataclasses.replace(record, transcription=said))
        wrong = dataclasses.replace(said, untimed=(UntimedWord("so", 4, "x"),))
        with pytest.raises(ValueError, match="after more words than the 3"):
            target.add(dataclasses.replace(random_clip(2), transcription=wrong))
        target.finish()
    assert verify_dataset(tmp_path) == []
    words = open_dataset(tmp_path)[0].words()
    assert [word["label"] for word in words] == ["so", "bin", "blue", "9", "10", "größe"]
    assert [word["position"] for word in words] == list(range(6))
    assert [word["start_us"] for word in words] == [None, 0, 100_000, None, None, 200_000]
    for word in words:
        if word["end_us"] is None:
            assert (word["score"], word["interpolated"], word["source"]) == (None, False, "x")
    mean = pc.mean(pq.read_table(tmp_path / "words.parquet")["end_us"]).as_py()
    assert mean == pytest.approx((80_000 + 180_000 + 280_000) / 3)  # tools skip what is absent


def test_detectors_with_other_numbers_of_points_share_a_data_set(tmp_path: Path) -> None:
    with writer(tmp_path) as target:
        for number in range(3):
            record = random_clip(number)
            assert record.landmarks is not None
            if number == 1:
                fewer = dataclasses.replace(
                    record.landmarks,
                    face_xy=record.landmarks.face_xy[:, :68],
                    confidence=record.landmarks.confidence[:, :68],
                    detector="face-alignment-2dfan",
                )
                record = dataclasses.replace(record, landmarks=fewer)
            target.add(record)
        target.finish()
    assert verify_dataset(tmp_path) == []
    index = pq.read_table(tmp_path / "index.parquet")
    assert index["detector"].to_pylist() == ["mediapipe 0.10.21", "face-alignment-2dfan", "mediapipe 0.10.21"]
    stored = pq.read_table(tmp_path / "landmarks")
    frames = stored["num_frames"].to_pylist()
    sizes = [len(cell) / (2 * count) for cell, count in zip(stored["face_xy"], frames, strict=True)]
    assert sizes == [478, 68, 478]
    signals = json.loads((tmp_path / "stats.json").read_text())["signals"]["open-head"]
    for name, count, width in (("face_xy", 50, 956), ("face_xy[68]", 17, 136), ("confidence[68]", 17, 68)):
        assert signals[name]["count"] == count
        assert len(signals[name]["mean"]) == width


def test_layout_of_the_files(tmp_path: Path) -> None:
    build(tmp_path, clips=10, shards=ShardConfig(clips_per_row_group=3))
    for table in SHARDED:
        metadata = pq.ParquetFile(tmp_path / table.name / "part-00000.parquet").metadata
        assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3, 3, 3, 1]
        for number in range(metadata.num_columns):
            column = metadata.row_group(0).column(number)
            name = column.path_in_schema
            assert column.compression == "ZSTD"
            assert ("BYTE_STREAM_SPLIT" in column.encodings) == (name in table.split_columns), name
            assert column.has_dictionary_page == (name in table.dictionary_columns), name
            scalar = ".list." not in name
            assert (column.has_column_index, column.has_offset_index, column.is_stats_set) == (scalar, True, scalar)
    for name, table in TABLES.items():
        path = tmp_path / (f"{name}/part-00000.parquet" if table in SHARDED else f"{name}.parquet")
        assert pq.read_schema(path).equals(table.schema, check_metadata=True)


def test_parts_roll_over_together_and_old_ones_go(tmp_path: Path) -> None:
    made = build(tmp_path, clips=30, shards=ShardConfig(clips_per_row_group=2, max_shard_mb=1))
    for folder in ("params", "landmarks"):
        parts = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert parts == [f"part-{number:05d}.parquet" for number in range(len(parts))]
        assert len(parts) > 1
    # 1 MB is passed by at most one row group
    assert all(path.stat().st_size < 1.2 * 2**20 for path in (tmp_path / "landmarks").iterdir())
    assert verify_dataset(tmp_path) == []
    index = pq.read_table(tmp_path / "index.parquet").to_pylist()
    assert {row["shard"] for row in index if row["status"] == "accepted"} == set(parts)
    assert len(index) == len(made)
    build(tmp_path, clips=2)
    assert [path.name for path in (tmp_path / "landmarks").iterdir()] == ["part-00000.parquet"]
    assert verify_dataset(tmp_path) == []


def test_same_input_same_bytes(tmp_path: Path) -> None:
    build(tmp_path / "a")
    build(tmp_path / "b")
    build(tmp_path / "b")  # over an existing one
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")


def test_an_empty_data_set_is_whole(tmp_path: Path) -> None:
    with writer(tmp_path) as target:
        target.finish()
    assert verify_dataset(tmp_path) == []
    with writer(tmp_path) as target:
        target.add(rejected_clip(1))
        target.finish()
    assert verify_dataset(tmp_path) == []
    assert "no_face" in (tmp_path / "README.md").read_text()


def test_stats_equal_numpy(tmp_path: Path) -> None:
    made = [record for record in build(tmp_path) if record.head is not None]
    stats = json.loads((tmp_path / "stats.json").read_text())
    heads = [record.head for record in made if record.head is not None]
    totals = stats["totals"]
    assert totals["clips"] == len(heads)
    assert totals["frames"] == sum(len(head.valid) for head in heads)
    assert totals["valid_frames"] == sum(int(head.valid.sum()) for head in heads)
    assert totals["seconds"] == pytest.approx(totals["frames"] / 25)
    signals = stats["signals"]["open-head"]
    jaw = np.concatenate([head.jaw_pose[head.valid] for head in heads]).astype(np.float64)
    shape = np.stack([head.shape for head in heads]).astype(np.float64)
    for name, values in (("jaw_pose", jaw), ("shape", shape)):
        assert signals[name]["count"] == len(values)
        np.testing.assert_allclose(signals[name]["mean"], values.mean(0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(signals[name]["std"], values.std(0), rtol=1e-9)
        np.testing.assert_array_equal(signals[name]["max"], values.max(0))
    assert len(signals["residual_px"]["mean"]) == 1


def test_card_tells_the_facts_and_survives_odd_text(tmp_path: Path) -> None:
    with writer(tmp_path) as target:
        record = random_clip(1, speaker="a|b\n# c")
        odd = {**record.index, "licence": "x | <b>y</b>\n\n# z"}
        target.add(dataclasses.replace(record, index=odd))
        target.add(random_clip(4))
        target.finish()
    card = (tmp_path / "README.md").read_text()
    assert "| accepted clips | 2 |" in card
    assert "| CC-BY-4.0 | 1 |" in card
    assert "| x \\| &lt;b>y&lt;/b> # z | 1 |" in card
    assert MODEL_HASH in card
    assert "1 of 2 accepted clips have no sound" in card
    facts = json.loads((tmp_path / "dataset.json").read_text())
    assert facts["counts"]["accepted"] == 2
    assert facts["licences"] == sorted(["CC-BY-4.0", "x | <b>y</b>\n\n# z"])


def _bad_records() -> Iterator[tuple[str, ClipRecord]]:
    good = random_clip(1)
    assert good.head is not None
    assert good.landmarks is not None
    index = good.index
    changes: dict[str, dict[str, object]] = {
        "no column 'nmee'": {"nmee": 1.0},
        "num_frames='x'": {"num_frames": "x"},
        "clip_id '../x'": {"clip_id": "../x"},
        "clip_id None": {"clip_id": None},
        "source_uri is missing": {"source_uri": None},
        "needs the index value end_us": {"end_us": None},
        "is none of accepted": {"status": "good"},
        "with reason 'no_face'": {"reason": "no_face"},
        "before the end": {"end_us": index["start_us"] + 1000},
        "valid has shape .25,. of bool, expected .3,.": {"num_frames": 3},
        "no column 'shard'": {"shard": "part-00009.parquet"},
    }
    for message, change in changes.items():
        yield message, dataclasses.replace(good, index={**index, **change})
    yield "needs head and landmarks", dataclasses.replace(good, head=None)
    yield "may hold only index", dataclasses.replace(rejected_clip(1), transcription=good.transcription)
    yield (
        "no other clip may have them",
        dataclasses.replace(good, index={**index, "status": "failed", "reason": "internal"}),
    )
    broken = good.head.jaw_pose.copy()
    broken[0, 0] = np.nan
    yield "jaw_pose is not finite", dataclasses.replace(good, head=dataclasses.replace(good.head, jaw_pose=broken))
    wide = np.zeros((len(broken), 4), np.float32)
    yield "jaw_pose has shape", dataclasses.replace(good, head=dataclasses.replace(good.head, jaw_pose=wide))
    numbers = np.ones(len(broken))
    yield "valid has shape", dataclasses.replace(good, head=dataclasses.replace(good.head, valid=numbers))  # type: ignore[arg-type]
    still = np.zeros_like(good.landmarks.pts_us)
    track = dataclasses.replace(good.landmarks, pts_us=still)
    yield "pts_us must rise", dataclasses.replace(good, landmarks=track)
    fewer = dataclasses.replace(good.landmarks, confidence=good.landmarks.confidence[:, :68])
    yield (
        "landmarks.confidence has shape .25, 68. of float32, expected .25, 478.",
        dataclasses.replace(good, landmarks=fewer),
    )
    unsure = dataclasses.replace(good.landmarks, confidence=good.landmarks.confidence + np.float32(1))
    yield "confidence holds", dataclasses.replace(good, landmarks=unsure)
    word = Interval(0, 10**9, "late", 1.0, False, "truth")
    yield "'late' at 0..1000000000", dataclasses.replace(good, transcription=Transcription((word,), ()))


@pytest.mark.parametrize(
    ("message", "record"), _bad_records(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_bad_record_costs_nothing(tmp_path: Path, message: str, record: ClipRecord) -> None:
    with writer(tmp_path) as target:
        with pytest.raises(ValueError, match=message):
            target.add(record)
        target.add(random_clip(2))
        target.finish()
    assert pq.read_table(tmp_path / "index.parquet")["clip_id"].to_pylist() == ["clip_0002"]
    assert verify_dataset(tmp_path) == []


def test_a_clip_twice_is_refused_and_the_old_version_stays(tmp_path: Path) -> None:
    build(tmp_path)
    before = _bytes(tmp_path)
    target = writer(tmp_path)
    target.add(random_clip(1))
    target.add(random_clip(1))
    with pytest.raises(ValueError, match="'clip_0001' was added more than once"):
        target.finish()
    assert _bytes(tmp_path) == before
    with pytest.raises(ValueError, match="finished or aborted"):
        target.add(random_clip(2))


def test_leaving_by_an_exception_changes_nothing(tmp_path: Path) -> None:
    build(tmp_path)
    before = _bytes(tmp_path)

    def interrupted() -> None:
        with writer(tmp_path) as target:
            for number in range(20, 29):
                target.add(random_clip(number))
            assert _partials(tmp_path)
            raise KeyError("stop")

    with pytest.raises(KeyError):
        interrupted()
    assert _bytes(tmp_path) == before


def test_a_killed_write_leaves_the_old_version_and_the_next_cleans_up(tmp_path: Path) -> None:
    build(tmp_path)
    before = {name: sha256_file(tmp_path / name) for name in list_files(tmp_path)}
    code = (
        "import os, signal, sys; from pathlib import Path; from dataset_builder import random_clip, writer\n"
        "target = writer(Path(sys.argv[1]))\n"
        "for number in range(30, 39): target.add(random_clip(number))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert killed.returncode == -9
    assert _partials(tmp_path)
    assert {name: sha256_file(tmp_path / name) for name in before} == before
    leftovers = {problem.file for problem in verify_dataset(tmp_path)}
    assert leftovers == {name for name in list_files(tmp_path) if name.endswith(".partial")}
    build(tmp_path)
    assert {name: sha256_file(tmp_path / name) for name in list_files(tmp_path)} == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_nothing_half_stays(small_disk: Path) -> None:
    root = small_disk / "ds"
    build(root, clips=2)
    before = _bytes(root)

    def overfill() -> None:
        with writer(root) as target:
            for number in range(100, 150):
                target.add(random_clip(number))
            target.finish()

    with pytest.raises(TalksetError) as caught:
        overfill()
    assert caught.value.reason == "disk_full"
    assert str(root) in caught.value.message
    assert _bytes(root) == before
    assert verify_dataset(root) == []


def test_labels_come_back_and_unknown_kinds_of_events_are_refused(tmp_path: Path) -> None:
    made = build(tmp_path)
    stored = pq.read_table(tmp_path / "params" / "part-00000.parquet").to_pylist()
    accepted = {record.index["clip_id"]: record for record in made if record.head is not None}
    assert len(stored) == len(accepted) == 10
    for row in stored:
        record = accepted[row["clip_id"]]
        if record.emotion is None or record.style is None:
            assert [row[name] for name in ("emotion_probabilities", "affect", "clip_emotion")] == [None] * 3
            assert row["style_embedding"] is row["style_model"] is None
            continue
        np.testing.assert_array_equal(row["emotion_probabilities"], record.emotion.probabilities.reshape(-1))
        np.testing.assert_array_equal(row["affect"], record.emotion.affect.reshape(-1))
        np.testing.assert_array_equal(row["clip_emotion"], record.emotion.clip)
        np.testing.assert_array_equal(row["style_embedding"], record.style.embedding)
        assert row["style_model"] == record.style.model
    odd = dataclasses.replace(random_clip(0), events=(Event(0, 1, "x", 0.5, False, "truth", "mood"),))
    with pytest.raises(ValueError, match=r"unknown kind 'mood'; known: emotion, blink"):
        clip_rows(odd)


def test_a_disk_that_fills_up_at_the_end(small_disk: Path) -> None:
    root = small_disk / "ds"

    def overfill() -> None:
        with writer(root) as target:
            for record in records(8):
                target.add(record)
            disk = os.statvfs(small_disk)
            room = 130_000  # enough for the tables, not for stats.json
            (small_disk / "ballast").write_bytes(b"x" * (disk.f_bavail * disk.f_frsize - room))
            target.finish()

    with pytest.raises(TalksetError) as caught:
        overfill()
    assert "stats.json" in caught.value.message
    assert caught.value.reason == "disk_full"
    assert not _partials(root)
    assert not (root / "dataset.json").exists()


@pytest.mark.parametrize("blocked", ["", "params", ".index.parquet.partial"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, blocked: str) -> None:
    root = tmp_path / "ds"
    if blocked.endswith(".partial"):
        (root / blocked).mkdir(parents=True)
    elif blocked:
        root.mkdir()
        (root / blocked).write_text("a file where a folder must be")
    else:
        root.write_text("a file where a folder must be")
    with pytest.raises(TalksetError) as caught:
        writer(root)
    assert caught.value.reason == "not_writable"
    assert "ds" in caught.value.message


@pytest.mark.parametrize(
    "shards", [ShardConfig(clips_per_row_group=0), ShardConfig(max_shard_mb=0), ShardConfig(zstd_level=30)]
)
def test_impossible_shard_settings(tmp_path: Path, shards: ShardConfig) -> None:
    with pytest.raises(UsageError, match="impossible shard settings"):
        writer(tmp_path, shards)
