"""Every kind of damage is found and the file named: hashes, JSON, versions, counts, media, and no false alarm."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from dataset_builder import build
from verify_edits import as_version, build_complete, copy, edit, edit_json, expect

from schemas.errors import TalksetError
from schemas.files import MANIFEST_NAME, list_files, refresh_manifest
from schemas.tables import SCHEMA_VERSION
from schemas.verify import verify_dataset


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good") / "ds"
    build_complete(root)
    return root


@pytest.fixture
def root(good: Path, tmp_path: Path) -> Path:
    return copy(good, tmp_path / "ds")


def _files(root: Path) -> set[str]:
    return {problem.file for problem in verify_dataset(root)}


def test_a_good_data_set_has_no_problem(good: Path) -> None:
    assert verify_dataset(good) == []


def test_a_flipped_bit_anywhere_is_named(root: Path) -> None:
    rng = random.Random(1)
    for name in [*list_files(root), MANIFEST_NAME]:
        path = root / name
        sound = path.read_bytes()
        place = rng.choice([0, len(sound) - 1, rng.randrange(len(sound))])
        bad = bytearray(sound)
        bad[place] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        assert _files(root) == {name}, (name, place)
        path.write_bytes(sound)
    assert verify_dataset(root) == []


def test_missing_and_extra_files_are_named(root: Path) -> None:
    (root / "media" / "clip_0001.mp4").unlink()
    (root / "params" / "part-00000.parquet").rename(root / "params" / "part-00007.parquet")
    assert _files(root) == {"media/clip_0001.mp4", "params/part-00000.parquet", "params/part-00007.parquet"}
    refresh_manifest(root)
    assert _files(root) == {"params/part-00000.parquet", "params/part-00007.parquet"}


def test_without_hashes_the_rest_is_still_checked(root: Path) -> None:
    (root / MANIFEST_NAME).unlink()
    assert _files(root) == {MANIFEST_NAME}
    (root / "index.parquet").write_bytes(b"PAR1")
    assert _files(root) == {MANIFEST_NAME, "index.parquet"}


def test_a_list_of_hashes_may_not_leave_the_data_set(root: Path) -> None:
    (root / MANIFEST_NAME).write_text(f"{'0' * 64}  ../outside\n# sha256 of the lines above: {'0' * 64}\n")
    expect(verify_dataset(root), MANIFEST_NAME, "leaves the data set: '../outside'")


def test_a_linked_folder_and_a_pipe_are_named(root: Path) -> None:
    path = root / "media" / "clip_0001.wav"
    path.unlink()
    os.mkfifo(path)
    expect(verify_dataset(root), "media/clip_0001.wav", "is not a regular file")
    path.unlink()
    (root / "media" / "more").symlink_to("/tmp")
    assert _files(root) >= {MANIFEST_NAME, "media/clip_0001.wav"}


def test_many_missing_files_are_counted_not_listed(root: Path) -> None:
    for number in range(200):
        (root / "media" / f"clip_0001.{number:03d}").write_bytes(b"x")
    refresh_manifest(root)
    for number in range(200):
        (root / "media" / f"clip_0001.{number:03d}").unlink()
    problems = verify_dataset(root)
    assert len(problems) == 51
    assert problems[-1].file == "media"
    assert "150 more of this kind" in problems[-1].message


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TalksetError, match="nowhere"):
        verify_dataset(tmp_path / "nowhere")


def test_json_that_is_none(root: Path) -> None:
    for content, message in (
        ("[1]", "must hold an object, got list"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"a": "\udcff"}', "cannot be read"),
    ):
        (root / "stats.json").write_bytes(content.encode("utf-8", "surrogateescape"))
        refresh_manifest(root)
        expect(verify_dataset(root), "stats.json", message)
    (root / "stats.json").unlink()
    refresh_manifest(root)
    expect(verify_dataset(root), "stats.json", "cannot be read", "No such file")


def test_a_huge_json_file_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.verify.MAX_JSON_BYTES", 100_000)
    os.truncate(root / "stats.json", 100_001)
    refresh_manifest(root)
    expect(verify_dataset(root), "stats.json", "has 100001 bytes, the limit is 100000; it was not read")


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("0.9.0", f"0.9.0, this talkset knows {SCHEMA_VERSION}; run `talkset upgrade`"),
        ("2.0.0", f"2.0.0, this talkset knows {SCHEMA_VERSION}; install a newer talkset"),
        ("1.1", "'1.1', expected MAJOR.MINOR.PATCH"),
        (None, "None, expected MAJOR.MINOR.PATCH"),
        (11, "11, expected MAJOR.MINOR.PATCH"),
    ],
)
def test_another_version_is_one_problem(root: Path, version: object, text: str) -> None:
    edit_json(root, "dataset.json", lambda facts: facts.update(schema_version=version))
    expect(verify_dataset(root), "dataset.json", text)


def test_an_older_version_is_held_against_itself(root: Path) -> None:
    as_version(root, "1.0.0")
    edit(root, "index.parquet", lambda rows: rows[3].update(num_frames=0))  # as 1.0.0 wrote for a rejected clip
    assert verify_dataset(root) == []
    edit(root, "index.parquet", lambda rows: rows[0].update(valid_ratio=1.5))
    assert any("valid_ratio is 1.5" in problem.message for problem in verify_dataset(root))


def test_no_version_in_dataset_json_falls_back_to_the_tables(root: Path) -> None:
    as_version(root, "1.0.0")
    (root / "dataset.json").write_text("{")
    refresh_manifest(root)
    expect(verify_dataset(root), "dataset.json", "is not JSON")


WRONG: dict[str, tuple[Any, str]] = {
    "rows": (8, "8, the tables have 7"),
    "accepted": (6, "6, the tables have 5"),
    "rejected": (0, "0, the tables have 1"),
    "failed": (True, "true, the tables have 1"),
    "words": (14, "14, the tables have 15"),
    "phones": (None, "null, the tables have 5"),
    "events": ("5", '"5", the tables have 5'),
    "clips": (6, "6, the tables have 5"),
    "frames": (1, "1, the tables have 130"),
    "valid_frames": ("many", '"many", the tables have 110'),
    "seconds": (5.20001, "5.20001, the tables have 5.2"),
}
"""What is written of each count, and what is said of it."""


def test_every_wrong_count_is_named(root: Path) -> None:
    edit_json(
        root, "dataset.json", lambda facts: facts["counts"].update({key: value for key, (value, _) in WRONG.items()})
    )
    found = verify_dataset(root)
    assert {problem.file for problem in found} == {"dataset.json"}
    assert {problem.message for problem in found} == {f"counts.{key} is {text}" for key, (_, text) in WRONG.items()}


def test_every_wrong_total_is_named(root: Path) -> None:
    totals = {key: WRONG[key] for key in ("clips", "frames", "valid_frames", "seconds")}
    edit_json(
        root, "stats.json", lambda facts: facts["totals"].update({key: value for key, (value, _) in totals.items()})
    )
    edit_json(root, "dataset.json", lambda facts: facts.update(counts=[]))
    first, *found = verify_dataset(root)
    assert (first.file, first.message[:41]) == ("dataset.json", "counts is list, expected an object with r")
    assert {problem.file for problem in found} == {"stats.json"}
    assert {problem.message for problem in found} == {f"totals.{key} is {text}" for key, (_, text) in totals.items()}


def test_one_wrong_count_is_one_problem(root: Path) -> None:
    edit_json(root, "dataset.json", lambda facts: facts["counts"].update(words=99))
    expect(verify_dataset(root), "dataset.json", "counts.words is 99, the tables have 15")


def test_media_must_belong_to_clips(root: Path) -> None:
    for name in ("media/clip_0099.mp4", "overlays/clip_0001.x.mp4", "media/clip_0001"):
        (root / name).write_bytes(b"x")
        refresh_manifest(root)
        expect(verify_dataset(root), name, "belongs to no clip of the index")
        (root / name).unlink()


def test_media_are_complete_where_the_configuration_says_so(root: Path) -> None:
    config = root / "config.yaml"
    config.write_text("media: {enabled: false}\n")
    refresh_manifest(root)
    assert verify_dataset(root) == []
    config.write_text("name: x\nmedia:\n  crf: 18\n  enabled: true\n")
    refresh_manifest(root)
    wanted = [f"media/clip_{number:04d}.mp4" for number in (0, 2, 3, 4)]
    problems = verify_dataset(root)
    assert [problem.file for problem in problems] == wanted
    assert "config.yaml says media.enabled: true" in problems[0].message
    for name in wanted:
        (root / name).write_bytes(b"x")
    refresh_manifest(root)
    assert verify_dataset(root) == []
    config.write_text("a: [")
    refresh_manifest(root)
    expect(verify_dataset(root), "config.yaml", "is not YAML")
    for path in (root / "media").iterdir():
        path.unlink()
    config.write_text("media: {enabled: true}\n")
    refresh_manifest(root)
    assert verify_dataset(root) == []  # a version that is given away without media


def test_a_configuration_that_explodes_is_not_followed(root: Path) -> None:
    lines = ["a0: &a0 {x: y}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))]
    (root / "config.yaml").write_text("\n".join([*lines, "media: {enabled: false}"]))
    refresh_manifest(root)
    started = time.perf_counter()
    assert verify_dataset(root) == []
    assert time.perf_counter() - started < 2


def test_an_empty_and_a_large_group(tmp_path: Path) -> None:
    build(tmp_path, 1)
    assert verify_dataset(tmp_path) == []
    edit(tmp_path, "params/part-00000.parquet", lambda rows: rows.clear())
    assert ("params/part-00000.parquet", "has 0 rows, the index has 1 in it") in [
        (problem.file, problem.message) for problem in verify_dataset(tmp_path)
    ]
