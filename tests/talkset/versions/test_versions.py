"""Every operation gives a whole, verified data set with the right clips, says what it did, and leaves the old alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builder import build, random_clip, rejected_clip, writer

from schemas.config import ShardConfig
from schemas.errors import TalksetError, UsageError
from schemas.files import refresh_manifest, sha256_file
from schemas.verify import verify_dataset
from talkset.dataset import Dataset, open_dataset
from talkset.versions.add_column import add_column
from talkset.versions.merge import merge_datasets
from talkset.versions.rewrite import filter_dataset
from talkset.versions.split import split_dataset


def _hashes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


def _equal(one: Dataset, other: Dataset, ids: list[str]) -> None:
    for clip_id in ids:
        a, b = one[clip_id], other[clip_id]
        for name in (*one.columns, "face_xy", "landmarks.valid"):
            np.testing.assert_array_equal(a[name], b[name], err_msg=f"{clip_id} {name}")
        assert a.words() == b.words()
        assert a.phones() == b.phones()
        assert a.events() == b.events()
        for name in ("speaker", "start_us", "end_us", "nme_mean", "transcript", "labels"):
            assert a.index[name] == b.index[name]


def _ids(dataset: Dataset) -> list[str]:
    return [str(value) for value in dataset.column("clip_id").to_pylist()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips in row groups of four, with media for some and a file of a reviewer."""
    root = tmp_path_factory.mktemp("versions") / "ds"
    build(root)
    for number in range(10):
        (root / "media").mkdir(exist_ok=True)
        (root / "media" / f"clip_{number:04d}.mp4").write_bytes(bytes([number]) * 100)
    refresh_manifest(root)
    assert verify_dataset(root) == []
    return root


@pytest.fixture
def untouched(made: Path) -> Any:
    before = _hashes(made)
    yield made
    assert _hashes(made) == before


def test_filter_keeps_what_open_dataset_selects(untouched: Path, tmp_path: Path) -> None:
    where = "nme_mean < 0.03 and speaker != 's2'"
    expected = open_dataset(untouched, where=where)
    assert 0 < len(expected) < 10
    out = filter_dataset(untouched, tmp_path / "new", where)
    assert verify_dataset(out) == []
    found = open_dataset(out, where="status != 'nothing'")
    assert _ids(found) == _ids(expected)
    _equal(found, expected, _ids(expected))
    assert sorted(path.stem for path in (out / "media").iterdir()) == _ids(expected)
    entry = found.facts["history"][-1]
    assert (entry["operation"], entry["parameters"]["where"]) == ("filter", where)
    assert entry["from"][0]["version"] == "1.2.0"
    assert found.facts["version"] == "2.0.0"
    assert found.facts["counts"]["accepted"] == len(expected)


def test_filtering_again_fills_the_row_groups(untouched: Path, tmp_path: Path) -> None:
    out = filter_dataset(untouched, tmp_path / "new", "clip_id in ('clip_0001', 'clip_0005', 'clip_0006', 'clip_0009')")
    metadata = pq.read_metadata(out / "params" / "part-00000.parquet")
    assert (metadata.num_row_groups, metadata.num_rows) == (1, 4)
    kept = filter_dataset(out, tmp_path / "again", "status != 'failed'", version="5.0.0")
    assert open_dataset(kept).facts["version"] == "5.0.0"
    assert [entry["operation"] for entry in open_dataset(kept).facts["history"]] == ["filter", "filter"]


def test_statistics_are_those_of_the_kept_clips(untouched: Path, tmp_path: Path) -> None:
    out = filter_dataset(untouched, tmp_path / "new", "speaker == 's1'")
    dataset = open_dataset(out)
    values = np.concatenate([clip["jaw_pose"][clip["valid"]] for clip in dataset])
    stats = dataset.stats["signals"]["open-head"]["jaw_pose"]
    np.testing.assert_allclose(stats["mean"], values.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["std"], values.std(0), atol=1e-6)
    assert stats["count"] == len(values)


def test_filter_that_keeps_nothing(untouched: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no clip"):
        filter_dataset(untouched, tmp_path / "new", "nme_mean > 5")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("other") / "ds"
    with writer(root, ShardConfig(clips_per_row_group=2, max_shard_mb=1, figures=False)) as target:
        for number in range(20, 27):
            target.add(random_clip(number))
        target.add(rejected_clip(9))
        target.finish()
    return root


def test_merge(untouched: Path, other: Path, tmp_path: Path) -> None:
    out = merge_datasets([untouched, other], tmp_path / "new", name="both")
    assert verify_dataset(out) == []
    both, one, two = open_dataset(out), open_dataset(untouched), open_dataset(other)
    assert _ids(both) == [*_ids(one), *_ids(two)]
    _equal(both, one, _ids(one))
    _equal(both, two, _ids(two))
    assert both.facts["name"] == "both"
    assert both.facts["counts"]["rows"] == 12 + 8
    assert [source["name"] for source in both.facts["history"][-1]["from"]] == ["made-up", "made-up"]
    linked = (untouched / "params" / "part-00000.parquet").stat().st_ino
    assert (out / "params" / "part-00000.parquet").stat().st_ino == linked
    values = np.concatenate([clip["expression"][clip["valid"]] for clip in both])
    np.testing.assert_allclose(both.stats["signals"]["open-head"]["expression"]["mean"], values.mean(0), atol=1e-6)


def test_merging_equals_building_at_once(tmp_path: Path) -> None:
    def some(root: Path, numbers: range) -> Path:
        with writer(root) as target:
            for number in numbers:
                target.add(random_clip(number))
            return target.finish()

    whole = some(tmp_path / "whole", range(8))
    parts = [some(tmp_path / "a", range(4)), some(tmp_path / "b", range(4, 8))]
    merged = merge_datasets(parts, tmp_path / "merged")
    one, two = open_dataset(whole), open_dataset(merged)
    assert one.stats["totals"] == two.stats["totals"]
    for name, expected in one.stats["signals"]["open-head"].items():
        for what, values in expected.items():
            np.testing.assert_allclose(two.stats["signals"]["open-head"][name][what], values, rtol=1e-9, atol=1e-12)


def test_merge_refuses_clips_that_occur_twice(untouched: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clip id 'clip_0000' was added more than once"):
        merge_datasets([untouched, untouched], tmp_path / "new")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="at least two"):
        merge_datasets([untouched], tmp_path / "new")


def test_split_by_speaker(untouched: Path, tmp_path: Path) -> None:
    out = split_dataset(untouched, tmp_path / "new", {"train": 0.6, "test": 0.4}, by="source", seed=3)
    assert verify_dataset(out) == []
    index = open_dataset(out).index.to_pandas()
    assert set(index["split"]) == {"train", "test"}
    assert (index.groupby("source_id")["split"].nunique() == 1).all()
    again = split_dataset(untouched, tmp_path / "again", {"train": 0.6, "test": 0.4}, by="source", seed=3)
    assert list(open_dataset(again).index.to_pandas()["split"]) == list(index["split"])
    _equal(open_dataset(out), open_dataset(untouched), _ids(open_dataset(untouched)))
    assert open_dataset(out).stats == open_dataset(untouched).stats


def _split_set(tmp_path: Path, speakers: list[str | None]) -> Path:
    with writer(tmp_path / "made") as target:
        for number, speaker in enumerate(speakers):
            record = random_clip(number, frames=20)
            index = {**record.index, "speaker": speaker, "split": None, "source_sha256": f"{number:064x}"}
            index["source_id"] = f"source{number}"
            target.add(type(record)(index, record.head, record.landmarks, record.transcription, record.events))
        return target.finish()


def test_a_speaker_is_in_one_split_and_the_shares_are_kept(tmp_path: Path) -> None:
    made = _split_set(tmp_path, [f"p{number // 2}" for number in range(40)])
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    out = split_dataset(made, tmp_path / "out", shares)
    index = open_dataset(out).index.to_pandas()
    assert (index.groupby("speaker")["split"].nunique() == 1).all()
    assert index["split"].value_counts().to_dict() == {"train": 32, "val": 4, "test": 4}
    assert open_dataset(out).facts["split_by"] == "speaker"
    other = open_dataset(split_dataset(made, tmp_path / "seed", shares, seed=1)).index.to_pandas()
    assert list(other["split"]) != list(index["split"])


def test_kept_splits_stay_when_a_data_set_grows(tmp_path: Path) -> None:
    made = _split_set(tmp_path, [f"p{number}" for number in range(10)])
    first = split_dataset(made, tmp_path / "first", {"train": 0.5, "test": 0.5})
    grown = split_dataset(first, tmp_path / "grown", {"train": 0.9, "test": 0.1}, seed=9, keep=True)
    assert list(open_dataset(grown).index["split"]) == list(open_dataset(first).index["split"])


def test_pictures_of_unchanged_motion_are_kept(tmp_path: Path) -> None:
    with writer(tmp_path / "made", ShardConfig()) as target:
        target.add(random_clip(0))
        target.add(random_clip(2))
        made = target.finish()
    out = split_dataset(made, tmp_path / "new", {"train": 0.5, "test": 0.5}, by="source")
    assert verify_dataset(out) == []
    old, new = _hashes(made), _hashes(out)
    assert old["figures/motion.png"] == new["figures/motion.png"]
    assert old["figures/speakers.png"] != new["figures/speakers.png"]


def test_split_needs_speakers(tmp_path: Path) -> None:
    made = _split_set(tmp_path, ["a", None, "b"])
    with pytest.raises(UsageError, match=r"1 accepted clips of .* have no speaker"):
        split_dataset(made, tmp_path / "out", {"train": 1.0})
    for wrong in ({"train": 0.5}, {"train": 0.5, "dev": 0.5}, {"train": 1.5, "test": -0.5}, {}):
        with pytest.raises(UsageError, match="not shares"):
            split_dataset(made, tmp_path / "out", wrong)


def test_a_number_for_each_clip_can_be_filtered(untouched: Path, tmp_path: Path) -> None:
    scores = {f"clip_{number:04d}": number / 10 for number in range(9)}
    out = add_column(untouched, tmp_path / "new", "charm", scores, unit="1", meaning="how charming", low=0, high=1)
    assert verify_dataset(out) == []
    dataset = open_dataset(out, where="charm >= 0.5")
    assert _ids(dataset) == [f"clip_{number:04d}" for number in range(5, 9)]
    assert dataset[0].index["charm"] == 0.5
    assert open_dataset(out)["clip_0009"].index["charm"] is None
    assert dataset.facts["version"] == "1.3.0"
    assert "charm" in (out / "README.md").read_text()
    again = filter_dataset(out, tmp_path / "filtered", "charm >= 0.5")
    assert verify_dataset(again) == []
    assert open_dataset(again).column("charm").to_pylist() == [0.5, 0.6, 0.7, 0.8]


def _features(clip_id: str, dataset: Dataset) -> Any:
    if clip_id == "clip_0003":
        return None
    return np.outer(np.arange(dataset[clip_id].num_frames), [1.0, 10.0, int(clip_id[-1])]).astype(np.float32)


def test_an_array_for_each_frame(untouched: Path, other: Path, tmp_path: Path) -> None:
    old = open_dataset(untouched)
    out = add_column(untouched, tmp_path / "new", "hubert", lambda i: _features(i, old), shape=("T", 3), unit="1")
    assert verify_dataset(out) == []
    dataset = open_dataset(out)
    for clip in dataset:
        expected = _features(clip.clip_id, old)
        if expected is None:
            assert clip["hubert"] is None
        else:
            np.testing.assert_array_equal(clip["hubert"], expected)
    window = open_dataset(out, columns=["hubert", "jaw_pose"])["clip_0001"].window(0.2, 0.4)
    np.testing.assert_array_equal(window["hubert"][:, 0], np.arange(5, 10))
    assert "hubert" in dataset.stats["signals"]["open-head"]
    merged = merge_datasets([out, other], tmp_path / "merged")
    assert verify_dataset(merged) == []
    assert open_dataset(merged)["clip_0020"]["hubert"] is None
    np.testing.assert_array_equal(open_dataset(merged)["clip_0002"]["hubert"], _features("clip_0002", old))
    kept = filter_dataset(merged, tmp_path / "kept", "clip_id in ('clip_0002', 'clip_0003', 'clip_0021')")
    assert verify_dataset(kept) == []
    np.testing.assert_array_equal(open_dataset(kept)["clip_0002"]["hubert"], _features("clip_0002", old))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_values_from_a_file(untouched: Path, tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"clip_id": ["clip_0004", "clip_0001"], "mood": ["calm", "glad"]})
    path = tmp_path / f"moods{suffix}"
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_csv(path, index=False)
    out = add_column(untouched, tmp_path / "new", "mood", path, kind="text")
    assert [clip.clip_id for clip in open_dataset(out, where="mood == 'glad'")] == ["clip_0001"]


def test_arrays_from_a_file(untouched: Path, tmp_path: Path) -> None:
    ids = ["clip_0007", "clip_0002"]
    values = [np.full(4, 7, np.float32), np.full(4, 2, np.float32)]
    pq.write_table(pa.table({"clip_id": ids, "style": [list(v) for v in values]}), tmp_path / "s.parquet")
    out = add_column(untouched, tmp_path / "new", "style", tmp_path / "s.parquet", shape=(4,))
    assert verify_dataset(out) == []
    np.testing.assert_array_equal(open_dataset(out)["clip_0007"]["style"], values[0])


@pytest.mark.parametrize(
    ("name", "values", "options", "message"),
    [
        ("jaw_pose", {}, {}, "is taken"),
        ("Bad name", {}, {}, "small letters"),
        ("charm", {"clip_9999": 1.0}, {}, "1 ids that are no clips"),
        ("charm", {"none_0001": [1.0]}, {"shape": (1,)}, "no accepted clips"),
        ("charm", {"clip_0000": "much"}, {}, "expected double"),
        ("charm", {"clip_0000": 3.0}, {"high": 1.0}, "expected ..1"),
        ("charm", {"clip_0000": float("inf")}, {}, "is inf"),
        ("charm", {"clip_0000": np.zeros(3)}, {"shape": ("T", 3)}, r"expected \(20, 3\)"),
        ("charm", {}, {"shape": (3, "T")}, "not a list of sizes"),
        ("charm", {}, {"kind": "complex"}, "unknown kind"),
        ("charm", Path("nowhere.parquet"), {}, "does not exist"),
    ],
)
def test_columns_that_cannot_be_added(
    untouched: Path, tmp_path: Path, name: str, values: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        add_column(untouched, tmp_path / "new", name, values, **options)
    assert not list(tmp_path.iterdir())


def test_a_clip_twice_in_a_file_is_refused(untouched: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"clip_id": ["clip_0001"] * 2, "charm": [1.0, 2.0]}), tmp_path / "twice.parquet")
    with pytest.raises(UsageError, match="'clip_0001' twice"):
        add_column(untouched, tmp_path / "new", "charm", tmp_path / "twice.parquet")


OPERATIONS: list[Callable[[Path, Path], Path]] = [
    lambda root, out: filter_dataset(root, out, "speaker == 's1'"),
    lambda root, out: split_dataset(root, out, {"train": 1.0}),
    lambda root, out: add_column(root, out, "charm", {}),
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_existing_folder_is_never_written(
    untouched: Path, tmp_path: Path, operation: Callable[[Path, Path], Path]
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "precious").write_text("x")
    with pytest.raises(UsageError, match="exists already"):
        operation(untouched, tmp_path / "new")
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "precious"]
    with pytest.raises(UsageError, match="no finished data set"):
        operation(tmp_path / "new", tmp_path / "other")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_failure_leaves_nothing_half_written(
    untouched: Path, tmp_path: Path, operation: Callable[[Path, Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("schemas.dataset_files.render_card", full)
    with pytest.raises((OSError, TalksetError), match="No space"):
        operation(untouched, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_damage_is_found_and_named(made: Path, tmp_path: Path) -> None:
    out = filter_dataset(made, tmp_path / "copy", "status != 'failed'")
    path = out / "params" / "part-00000.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(5)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(TalksetError, match=r"part-00000\.parquet cannot be read.*"):
        filter_dataset(out, tmp_path / "new", "speaker == 's1'")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["copy"]
    linked = split_dataset(out, tmp_path / "split", {"train": 1.0})  # does not read the parts: the damage stays visible
    assert [problem.file for problem in verify_dataset(linked)] == ["params/part-00000.parquet"]


def test_an_older_schema_has_to_be_upgraded_first(made: Path, tmp_path: Path) -> None:
    facts = json.loads((made / "dataset.json").read_text())
    out = filter_dataset(made, tmp_path / "copy", "speaker == 's1'")
    (out / "dataset.json").write_text(json.dumps({**facts, "schema_version": "1.0.0"}))
    with pytest.raises(UsageError, match=r"schema version 1\.0\.0") as caught:
        split_dataset(out, tmp_path / "new", {"train": 1.0})
    assert "talkset upgrade" in str(caught.value.remedy)
