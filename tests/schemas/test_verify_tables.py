"""One thing wrong in one table at a time: index, signals, words, and what they say of each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from verify_edits import Rows, as_version, build_complete, copy, edit, edit_json, expect

from schemas.files import refresh_manifest
from schemas.tables import PARAMS as TABLE
from schemas.verify import verify_dataset

INDEX = "index.parquet"
PARAMS = "params/part-00000.parquet"
LANDMARKS = "landmarks/part-00000.parquet"
WORDS = "words.parquet"
NAN = float("nan")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good") / "ds"
    build_complete(root)
    return root


@pytest.fixture
def root(good: Path, tmp_path: Path) -> Path:
    return copy(good, tmp_path / "ds")


def _set(place: int, /, **values: Any) -> Callable[[Rows], object]:
    return lambda rows: rows[place].update(values)


def _put(row: int, column: str, place: int, value: Any) -> Callable[[Rows], object]:
    return lambda rows: rows[row][column].__setitem__(place, value)


ONE = [
    (PARAMS, lambda rows: rows[1]["expression"].pop(), "row 1 (clip clip_0001): expression has 1299 values, expected"),
    (PARAMS, lambda rows: rows[0]["shape"].pop(), "row 0 (clip clip_0000): shape has 79 values, expected S = 80"),
    (PARAMS, lambda rows: rows[1]["jaw_pose"].extend([0, 0, 0]), "jaw_pose has 78 values, expected T x 3 = 75"),
    (PARAMS, lambda rows: rows[4]["principal_point"].pop(), "principal_point has 1 values, expected 2 = 2"),
    (PARAMS, lambda rows: rows[1]["pts_us"].reverse(), "row 1 (clip clip_0001): pts_us does not rise"),
    (PARAMS, _put(1, "pts_us", 0, -1), "end of the clip 1000000 us; it holds -1..960000 us"),
    (PARAMS, _put(1, "pts_us", 24, 1_000_000), "it holds 0..1000000 us"),
    (PARAMS, _put(2, "jaw_pose", 4, NAN), "row 2 (clip clip_0002): jaw_pose is not finite where it is valid (frame 1)"),
    (PARAMS, _put(4, "translation", 0, math.inf), "row 4 (clip clip_0004): translation is not finite"),
    (PARAMS, _put(1, "residual_px", 1, 0.5), "(clip clip_0001): residual_px holds numbers where it is not valid"),
    (LANDMARKS, _put(3, "face_xy", 956, 0.5), "face_xy holds numbers where it is not valid, expected NaN (frame 1)"),
    (PARAMS, _put(2, "expression", 5, 51.0), "row 2 (clip clip_0002): expression holds 51, expected -50..50"),
    (PARAMS, _put(2, "shape", 5, -51.0), "shape holds -51, expected -50..50"),
    (PARAMS, _put(2, "shape", 5, NAN), "shape is not finite"),
    (PARAMS, _put(4, "jaw_pose", 0, 3.5), "jaw_pose holds angle 3.5"),
    (PARAMS, _put(2, "residual_px", 0, -1.0), "residual_px holds -1, expected 0.."),
    (PARAMS, _set(3, focal_px=0.5), "row 3 (clip clip_0003): focal_px is 0.5, expected 1.. px"),
    (PARAMS, _set(3, focal_px=NAN), "focal_px is nan, an absent value must be null"),
    (PARAMS, _set(3, focal_px=None), "focal_px is null, a value is required"),
    (PARAMS, _set(2, translation=None), "row 2 (clip clip_0002): translation is null, a value is required"),
    (PARAMS, _set(2, head_model="flame"), "head_model is flame, the index says open-head"),
    (PARAMS, _set(2, clip_id="clip_0007"), "row 2 (clip clip_0007): this is another clip, the index says clip_0002"),
    (LANDMARKS, lambda rows: rows[0]["face_xy"].pop(), "face_xy has 19119 values, expected T x L x 2 = 19120"),
    (LANDMARKS, lambda rows: rows[2]["confidence"].pop(), "confidence has 14339 values, expected T x L = 14340"),
    (LANDMARKS, _put(2, "confidence", 3, 1.5), "row 2 (clip clip_0002): confidence holds 1.5, expected 0..1"),
    (LANDMARKS, _put(1, "blendshapes", 3, NAN), "row 1 (clip clip_0001): blendshapes is not finite where it is valid"),
    (PARAMS, _put(1, "held_out_nme", 1, 0.5), "held_out_nme holds numbers where it is not valid, expected NaN"),
    (PARAMS, _put(2, "uncertainty_mm", 1, -1.0), "uncertainty_mm holds -1, expected 0.. mm"),
    (PARAMS, lambda rows: rows[2]["at_limit"].pop(), "at_limit has 29 values, expected T = 30"),
    (INDEX, _set(0, status="fine"), "status 'fine' is none of accepted, rejected, failed"),
    (INDEX, _set(3, reason="dunno"), "status rejected with the unknown reason 'dunno'"),
    (INDEX, _set(3, reason=None), "status rejected with the unknown reason null"),
    (INDEX, _set(0, reason="no_face"), "is accepted with the reason 'no_face', expected none"),
    (
        INDEX,
        _set(3, shard="part-00000.parquet"),
        "status rejected must not have parameters, got part-00000.parquet",
    ),
    (INDEX, _set(0, num_frames=None), "is accepted without shard, row, num_frames, start_us, end_us"),
    (INDEX, _set(3, start_us=5, end_us=4), "row 3 (clip none_0001): spans 5..4 us, expected start_us < end_us"),
    (INDEX, _set(0, review="maybe"), "review 'maybe' is none of accept, reject"),
    (INDEX, _set(0, valence=-1.5), "row 0 (clip clip_0000): valence is -1.5, expected -1..1"),
    (INDEX, _set(0, sync_confidence=NAN), "sync_confidence is nan, an absent value must be null"),
    (INDEX, _set(3, width=0), "row 3 (clip none_0001): width is 0, expected 1.. px"),
    (INDEX, _set(3, clip_id="../../etc"), "clip_id '../../etc' is not a plain file name"),
    (INDEX, _set(3, clip_id="clip_0000\n"), "is not a plain file name"),
    (INDEX, _set(0, split="test"), "source_id s0 has accepted clips in the splits test, train, expected one split"),
    (WORDS, _set(4, clip_id="clip_0099"), "row 4 (clip clip_0099): is not an accepted clip of the index"),
    (WORDS, _set(4, clip_id="none_0001"), "row 4 (clip none_0001): is not an accepted clip of the index"),
    (WORDS, _set(5, end_us=10**8), "row 5 (clip clip_0001): 200000..100000000 us is outside the clip 0..1000000 us"),
    (WORDS, _set(5, end_us=5), "row 5 (clip clip_0001): 200000..5 us is outside the clip"),
    (WORDS, _set(4, score=1.5), "row 4 (clip clip_0001): score is 1.5, expected 0..1"),
    (
        WORDS,
        lambda rows: rows.insert(0, rows.pop(1)),
        "row 1 (clip clip_0000): has position 0, not after the row above of",
    ),
    (
        WORDS,
        lambda rows: rows.append(rows.pop(0)),
        "row 14 (clip clip_0000): has position 0, not after the row above of",
    ),
    ("phones.parquet", _set(0, start_us=-5), "row 0 (clip clip_0000): -5..40000 us is outside the clip"),
    ("events.parquet", _set(1, score=NAN), "row 1 (clip clip_0001): score is nan"),
]


@pytest.mark.parametrize(("name", "change", "message"), ONE, ids=[f"{name[:5]}-{text[-28:]}" for name, _, text in ONE])
def test_one_change_is_one_problem(root: Path, name: str, change: Callable[[Rows], object], message: str) -> None:
    edit(root, name, change)
    problems = verify_dataset(root)
    mine = [problem for problem in problems if problem.file == name]
    expect(mine[:1], name, message)
    if name != INDEX:  # what the index says wrongly of a clip also shows in the tables that repeat it
        assert len(mine) == 1, mine
        assert {problem.file for problem in problems} <= {name, "dataset.json", "stats.json"}


@pytest.mark.parametrize(
    ("name", "change", "messages"),
    [
        (
            PARAMS,
            lambda rows: rows.reverse(),
            ["(clip clip_0004): this is another clip, the index says clip_0000"],
        ),
        (PARAMS, lambda rows: rows.pop(), ["has 4 rows, the index has 5 in it"]),
        (LANDMARKS, lambda rows: rows.append(rows[0]), ["row 5 (clip clip_0000): is not in the index", "has 6 rows"]),
        (PARAMS, _set(0, num_frames=7), ["has 7 frames, the index says 20", "pts_us has 20 values, expected T = 7"]),
        (PARAMS, _set(0, num_frames=0), ["num_frames is 0, expected 1.. frames", "has 0 frames, the index says 20"]),
        (PARAMS, _set(0, num_frames=2**31 - 1), ["pts_us has 20 values, expected T = 2147483647"]),
        (INDEX, _set(0, row=1), ["clip clip_0001: shares part-00000.parquet row 1 with another clip, clip_0000"]),
        (INDEX, _set(0, row=1), ["part-00000.parquet: no clip has row 0, the next one is row 1"]),
        (INDEX, _set(6, status="accepted", reason=None), ["is accepted without shard"]),
        (INDEX, _set(1, clip_id="clip_0000"), ["clip clip_0000 occurs 2 times, expected once"]),
        (INDEX, _set(0, shard="../part-00000.parquet"), ["shard '../part-00000.parquet' is not a plain file name"]),
        (INDEX, _set(0, shard="part-00009.parquet"), ["part-00000.parquet: no clip has row 0, the next one is row 1"]),
        (INDEX, _set(0, split="val"), ["source_id s0 has", f"source_sha256 {0:064x} has accepted clips in the splits"]),
    ],
)
def test_contradictions_are_named(root: Path, name: str, change: Callable[[Rows], object], messages: list[str]) -> None:
    edit(root, name, change)
    problems = verify_dataset(root)
    for message in messages:
        assert any(problem.file == name and message in problem.message for problem in problems), problems


def test_missing_parts_are_named(root: Path) -> None:
    edit(root, INDEX, lambda rows: rows[5].update(shard="part-00001.parquet", row=0))
    found = {(problem.file, problem.message) for problem in verify_dataset(root)}
    for table in ("params", "landmarks", "columns/feature"):
        assert (f"{table}/part-00001.parquet", "is missing, the index has 1 rows in it") in found
        assert (f"{table}/part-00000.parquet", "has 5 rows, the index has 4 in it") in found


def test_valid_ratio_is_held_against_params(root: Path) -> None:
    edit(root, INDEX, _set(1, valid_ratio=0.68 + 5e-7))
    assert verify_dataset(root) == []
    edit(root, INDEX, _set(1, valid_ratio=0.68 + 5e-6))
    expect(verify_dataset(root), PARAMS, "row 1 (clip clip_0001): 0.68 of the frames are valid, the index has")
    edit(root, INDEX, _set(1, valid_ratio=None))
    assert verify_dataset(root) == []


def test_head_model_of_the_index(root: Path) -> None:
    edit(root, INDEX, _set(1, head_model=None))
    expect(verify_dataset(root), PARAMS, "row 1 (clip clip_0001): head_model is open-head, the index says None")


def test_values_that_are_not_measured_may_be_anything(root: Path) -> None:
    def change(rows: Rows) -> None:
        rows[1]["expression"][52] = 1e9  # frame 1 of an odd clip is not valid
        rows[1]["jaw_pose"][3] = NAN

    edit(root, PARAMS, change)
    assert verify_dataset(root) == []


def test_each_model_has_its_own_sizes(root: Path) -> None:
    def other_model(rows: Rows) -> None:
        for row in rows[:2]:
            row["head_model"] = "flame"
            row["shape"] = [0.0] * 300

    edit(root, PARAMS, other_model)
    edit(root, INDEX, lambda rows: [row.update(head_model="flame") for row in rows[:2]])
    assert verify_dataset(root) == []
    edit(root, PARAMS, lambda rows: rows[1]["shape"].append(0.0))
    assert any("expected S = 3" in problem.message for problem in verify_dataset(root))


def test_each_detector_has_its_own_points(root: Path) -> None:
    def other_detector(rows: Rows) -> None:
        for row in rows[:2]:
            row["detector"] = "face-alignment"
            row["face_xy"] = row["face_xy"][: row["num_frames"] * 68 * 2]
            row["confidence"] = row["confidence"][: row["num_frames"] * 68]

    edit(root, LANDMARKS, other_detector)
    assert [problem for problem in verify_dataset(root) if "values, expected" in problem.message] == []
    edit(root, LANDMARKS, lambda rows: rows[1].update(detector="mediapipe 0.10.21"))
    expected = [f"{name} has {25 * size} values" for name, size in (("face_xy", 136), ("confidence", 68))]
    messages = [problem.message for problem in verify_dataset(root)]
    assert all(any(text in message for message in messages) for text in expected), messages


def test_what_came_later_may_be_missing(root: Path) -> None:
    edit(root, PARAMS, lambda rows: [row.update(held_out_nme=None, at_limit=None) for row in rows[:2]])
    edit(root, LANDMARKS, lambda rows: [row.update(confidence=None, detector=None) for row in rows[:2]])
    assert verify_dataset(root) == []


def test_speakers_are_apart_only_where_promised(root: Path) -> None:
    edit(root, INDEX, lambda rows: [row.update(split="val") for row in rows if row["source_id"] == "s2"])
    assert verify_dataset(root) == []  # clip 1 and clip 4 have the same speaker
    edit_json(root, "dataset.json", lambda facts: facts.update(split_by="speaker"))
    expect(verify_dataset(root), INDEX, "speaker s1 has accepted clips in the splits train, val")


def test_null_elements_of_an_older_version(root: Path) -> None:
    as_version(root, "1.0.0")
    edit(root, PARAMS, _put(2, "jaw_pose", 4, None))
    expect(verify_dataset(root), PARAMS, "row 2 (clip clip_0002): jaw_pose holds null, expected numbers")


def test_a_clip_may_have_no_words(root: Path) -> None:
    def keep_two(rows: Rows) -> None:
        rows[:] = [row for row in rows if row["clip_id"] in ("clip_0000", "clip_0004")]

    edit(root, WORDS, keep_two)
    edit_json(root, "dataset.json", lambda facts: facts["counts"].update(words=6))
    assert verify_dataset(root) == []


def _words_without_times(rows: Rows) -> None:
    for place in (0, 4, 5):
        rows[place].update(start_us=None, end_us=None, score=None)


WITHOUT_TIMES = [
    (_set(3, start_us=None), "row 3 (clip clip_0001): has only one of start_us and end_us"),
    (_set(4, score=0.5), "row 4 (clip clip_0001): has no times, but a score or is interpolated"),
    (_set(4, interpolated=True), "row 4 (clip clip_0001): has no times, but a score or is interpolated"),
    (_set(4, position=0), "row 4 (clip clip_0001): has position 0, not after the row above of this clip (0)"),
    (_set(5, position=-1), "row 5 (clip clip_0001): position is -1, expected 0.."),
    (_set(7, start_us=300_000, end_us=310_000), "row 8 (clip clip_0002): starts at 200000 us, before the row above"),
]


@pytest.mark.parametrize(("change", "text"), WITHOUT_TIMES)
def test_words_may_have_no_times(root: Path, change: Callable[[Rows], object], text: str) -> None:
    edit(root, WORDS, _words_without_times)
    assert verify_dataset(root) == []
    edit(root, WORDS, change)
    expect(verify_dataset(root), WORDS, text)


@pytest.mark.parametrize(
    ("change", "row"), [(lambda rows: rows.insert(0, rows.pop(1)), 1), (lambda rows: rows.append(rows.pop(0)), 14)]
)
def test_before_positions_words_came_by_start(root: Path, change: Callable[[Rows], object], row: int) -> None:
    as_version(root, "1.4.0")
    assert verify_dataset(root) == []
    edit(root, WORDS, change)
    expect(verify_dataset(root), WORDS, f"row {row} (clip clip_0000): starts at 0 us, before the row above")


def test_phones_must_have_times(root: Path) -> None:
    path = root / "phones.parquet"
    table = pq.read_table(path)
    position = table.schema.get_field_index("start_us")
    field = table.schema.field(position).with_nullable(True)
    pq.write_table(table.set_column(position, field, pa.nulls(len(table), pa.int64())), path)
    refresh_manifest(root)
    assert any(problem.file == path.name for problem in verify_dataset(root))


def test_a_wholly_broken_table_is_summed_up(tmp_path: Path, good: Path) -> None:
    root = copy(good, tmp_path / "ds")
    table = pq.read_table(root / WORDS)
    many = pa.concat_tables([table] * 500)
    for name, values in (("end_us", [10**12] * len(many)), ("score", [2.0] * len(many))):
        position = many.schema.get_field_index(name)
        many = many.set_column(position, many.schema.field(name), pa.array(values, many.schema.field(name).type))
    pq.write_table(many, root / WORDS, row_group_size=1000)
    refresh_manifest(root)
    problems = [problem.message for problem in verify_dataset(root) if problem.file == WORDS]
    assert len([text for text in problems if "is outside the clip" in text]) == 10
    assert "... and 7490 more of this kind: outside the clip" in problems
    assert "... and 7490 more of this kind: score is out of range" in problems
    assert len(problems) == 10 + 10 + 10 + 3


def test_page_checksums_are_read(root: Path) -> None:
    path = root / PARAMS
    place = [column.name for column in TABLE.columns].index("expression")
    edit(root, PARAMS, lambda rows: None)
    pq.write_table(pq.read_table(path), path, write_page_checksum=True, row_group_size=2)
    column = pq.ParquetFile(path).metadata.row_group(1).column(place)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 20] ^= 4
    path.write_bytes(data)
    refresh_manifest(root)  # whoever damaged it also renewed the hashes
    expect(verify_dataset(root), PARAMS, "row group", "CRC")
