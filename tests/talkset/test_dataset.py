"""What a researcher gets from a finished data set."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from dataset_builder import build, random_clip, writer

from schemas.config import ShardConfig
from schemas.records import ClipRecord
from schemas.tables import SCHEMA_VERSION
from talkset import open_dataset
from talkset.store import SUPPORTED_MAJOR, DatasetError, Store

REPOSITORY = Path(__file__).resolve().parents[2]
Made = tuple[Path, list[ClipRecord]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("reader") / "ds"
    return root, build(root, clips=12, shards=ShardConfig(clips_per_row_group=4))


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "ds")
    return tmp_path / "ds"


def test_import_needs_only_numpy_and_pyarrow(made: Made) -> None:
    code = (
        "import sys, talkset.dataset\n"
        "absent = 'torch pandas scipy cv2 ray schemas reconstruct annotate pipelines synthetic exports review'\n"
        "print([name for name in absent.split() if name in sys.modules])\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in absent.split(): raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "clip = talkset.open_dataset(sys.argv[1], where='nme_mean < 1')[0]\n"
        "print(clip['expression'].shape, len(clip.words()), clip.window(0, 0.4)['valid'].shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made[0])],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["[]", "(20, 52) 3 (10,)"]


def test_signals_come_back_in_shape(made: Made) -> None:
    root, records = made
    dataset = open_dataset(root)
    accepted = [record for record in records if record.head is not None]
    assert len(dataset) == len(accepted) == 12
    for clip, record in zip(dataset, accepted, strict=True):
        assert clip.clip_id == record.index["clip_id"]
        assert clip.speaker == clip.index["speaker"] == record.index["speaker"]
        for source in (record.head, record.landmarks):
            assert source is not None
            for field in dataclasses.fields(source):
                value = getattr(source, field.name)
                if isinstance(value, np.ndarray) and not (source is record.landmarks and field.name == "valid"):
                    found = clip[field.name]
                    assert found.dtype == value.dtype
                    assert found.shape == value.shape
                    np.testing.assert_array_equal(found, value)
                    assert found.flags.writeable
        assert record.head is not None
        assert clip["focal_px"] == pytest.approx(record.head.focal_px)
        assert clip["head_model"] == "open-head"
        assert record.landmarks is not None
        np.testing.assert_array_equal(clip["landmarks.valid"], record.landmarks.valid)
        words = record.transcription.words if record.transcription else ()
        assert [(w["label"], w["start_us"]) for w in clip.words()] == [(w.label, w.start_us) for w in words]
        assert [p["score"] for p in clip.phones()] == [None]
        assert [e["kind"] for e in clip.events()] == ["blink"]


def test_lookup(made: Made) -> None:
    dataset = open_dataset(made[0])
    assert dataset["clip_0007"].clip_id == dataset[7].clip_id == dataset[-5].clip_id
    assert len(dataset.to_pandas()) == 12
    assert dataset.stats["totals"]["clips"] == 12
    assert dataset.facts["name"] == "made-up"
    with pytest.raises(IndexError):
        dataset[12]
    with pytest.raises(KeyError, match="none_0001"):
        dataset["none_0001"]
    with pytest.raises(KeyError, match="did you mean 'expression'"):
        dataset[0]["expresion"]
    with pytest.raises(AttributeError, match="speeker"):
        _ = dataset[0].speeker


def test_columns_limit_and_leave_landmarks_alone(copied: Path) -> None:
    shutil.rmtree(copied / "landmarks")
    dataset = open_dataset(copied, columns=["jaw_pose", "pts_us"])
    assert set(dataset[0]) == {"jaw_pose", "pts_us"}
    assert {name: value.shape for name, value in dataset[0].items()} == {"jaw_pose": (20, 3), "pts_us": (20,)}
    with pytest.raises(KeyError, match="not among the columns"):
        dataset[0]["expression"]
    assert open_dataset(copied)[0]["expression"].shape == (20, 52)
    with pytest.raises(DatasetError, match="landmarks"):
        open_dataset(copied, columns=["face_xy"])


def test_unknown_column_at_opening(made: Made) -> None:
    with pytest.raises(KeyError, match="did you mean 'face_xy'"):
        open_dataset(made[0], columns=["face_xz"])


def test_selection(made: Made) -> None:
    root, records = made
    rows = [record.index for record in records]
    for where, keep in (
        ("speaker == 's1'", lambda row: row["status"] == "accepted" and row["speaker"] == "s1"),
        ("nme_mean < 0.02", lambda row: row.get("nme_mean", 1) < 0.02),
        ("status != 'accepted'", lambda row: row["status"] != "accepted"),
        ("status in ('failed', 'accepted')", lambda row: row["status"] != "rejected"),
        (pc.field("speaker") == "s1", lambda row: row.get("speaker") == "s1"),
        (pc.field("status") == "failed", lambda row: row["status"] == "failed"),
        (pc.field("speaker") == "status", lambda row: False),
    ):
        expected = [row["clip_id"] for row in rows if keep(row)]
        assert [clip.clip_id for clip in open_dataset(root, where=where)] == expected, where
    val = [row["clip_id"] for row in rows if row.get("split") == "val"]
    assert [clip.clip_id for clip in open_dataset(root, split="val")] == val
    for bad in ("speeker == 's1'", pc.field("speeker") == "s1"):
        with pytest.raises(ValueError, match="did you mean 'speaker'"):
            open_dataset(root, where=bad)
    with pytest.raises(ValueError, match="nme_mean"):
        open_dataset(root, where=pc.field("nme_mean") == "text")


def test_rows_without_parameters(made: Made) -> None:
    clip = open_dataset(made[0], where="status == 'failed'")[0]
    assert clip.reason == "truncated"
    assert dict(clip) == {}
    assert clip.num_frames == 0
    with pytest.raises(KeyError, match="has no parameters"):
        clip["expression"]
    with pytest.raises(ValueError, match="has no span"):
        clip.window(0, 1)


def test_windows_are_by_time(tmp_path: Path) -> None:
    frames = np.array([0, 40_000, 80_000, 200_000, 240_000, 280_000])  # a variable frame rate
    record = random_clip(0, frames=6)
    assert record.landmarks is not None
    index = {**record.index, "end_us": record.index["start_us"] + 320_000}
    track = dataclasses.replace(record.landmarks, pts_us=frames)
    with writer(tmp_path) as target:
        target.add(dataclasses.replace(record, index=index, landmarks=track))
        target.finish()
    dataset = open_dataset(tmp_path)
    for start, end, expected in (
        (0.0, 0.32, [0, 1, 2, 3, 4, 5]),
        (0.04, 0.2, [1, 2]),
        (0.041, 0.2001, [2, 3]),
        (0.09, 0.19, []),
        (0.2, 0.32, [3, 4, 5]),
    ):
        window = dataset[0].window(start, end)
        np.testing.assert_array_equal(window["pts_us"], frames[expected])
        np.testing.assert_array_equal(window["expression"], record.head.expression[expected])  # type: ignore[union-attr]
        assert window["shape"].shape == (80,)
        again = dataset.window(0, start, end - start)
        np.testing.assert_array_equal(again["pts_us"], window["pts_us"])
    for start, end in ((-0.01, 0.1), (0.2, 0.33), (0.2, 0.2), (0.3, 0.1)):
        with pytest.raises(ValueError, match="is not inside clip"):
            dataset["clip_0000"].window(start, end)
    with_landmarks = open_dataset(tmp_path, columns=["face_xy"])
    assert with_landmarks[0].window(0.04, 0.2)["face_xy"].shape == (2, 478, 2)


def test_one_clip_reads_one_row_group(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[int, tuple[str, ...]]] = []
    original = Store.read_group

    def spy(self: Store, name: str, group: int, columns: Sequence[str]) -> pa.Table:
        if name.startswith("params/"):
            reads.append((group, tuple(columns)))
        return original(self, name, group, columns)

    monkeypatch.setattr(Store, "read_group", spy)
    dataset = open_dataset(made[0], columns=["expression", "jaw_pose"])
    clip = dataset[9]
    assert clip["expression"].shape == (clip.num_frames, 52)
    assert clip["jaw_pose"].shape == (clip.num_frames, 3)
    assert reads == [(2, ("expression", "jaw_pose"))]
    assert dataset[8]["expression"] is not None  # the same row group
    assert len(reads) == 1


def test_pickles_without_handles(made: Made) -> None:
    dataset = open_dataset(made[0], where="speaker == 's1'")
    expected = dataset[1]["expression"]
    data = pickle.dumps(dataset)
    assert b"ParquetFile" not in data
    copy = pickle.loads(data)
    np.testing.assert_array_equal(copy[1]["expression"], expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset[1]))["expression"], expected)


def test_uri_and_media(copied: Path) -> None:
    dataset = open_dataset(copied.as_uri())
    assert dataset[0]["expression"].shape == (20, 52)
    assert dataset[0].media_path is None
    (copied / "media").mkdir()
    (copied / "media" / "clip_0000.mp4").write_bytes(b"x")
    assert open_dataset(copied)[0].media_path == copied / "media" / "clip_0000.mp4"
    assert open_dataset(copied)[1].media_path is None


def test_versions(copied: Path) -> None:
    assert SCHEMA_VERSION.split(".")[0] == str(SUPPORTED_MAJOR)
    facts = json.loads((copied / "dataset.json").read_text())
    older = f"talkset upgrade {copied}"
    for version, hint in (("2.0.0", "install a newer talkset"), ("0.9.0", older), ("x", older)):
        (copied / "dataset.json").write_text(json.dumps({**facts, "schema_version": version}))
        with pytest.raises(DatasetError, match=hint):
            open_dataset(copied)
    (copied / "dataset.json").write_text(json.dumps({**facts, "schema_version": "1.9.3"}))
    mixed = f"index.parquet has schema version {SCHEMA_VERSION}, dataset.json says 1.9.3"
    with pytest.raises(DatasetError, match=re.escape(mixed)):
        open_dataset(copied)


def test_a_part_of_another_schema_version_is_refused(copied: Path) -> None:
    path = copied / "landmarks" / "part-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"talkset.schema_version": b"1.0.0"}), path)
    dataset = open_dataset(copied)
    assert dataset[0]["expression"].shape == (20, 52)
    with pytest.raises(DatasetError, match=r"landmarks/part-00000.parquet has schema version 1.0.0.*talkset upgrade"):
        dataset[0]["face_xy"]


def test_a_column_of_a_newer_minor_version_opens(copied: Path) -> None:
    path = copied / "params" / "part-00000.parquet"
    table = pq.read_table(path)
    lengths = table["num_frames"].to_pylist()
    field = pa.field("tail_pose", pa.list_(pa.float32()), metadata={b"shape": b'["T", 21, 3]'})
    bodies = pa.array([[0.5] * (frames * 63) for frames in lengths], type=field.type)
    pq.write_table(table.append_column(field, bodies), path)
    assert open_dataset(copied)[0]["tail_pose"].shape == (20, 21, 3)


@pytest.mark.parametrize("column", ["shard", "clip_id"])
@pytest.mark.parametrize("name", ["../../x.parquet", "/etc/passwd", "..", "a\n", "a/b"])
def test_names_that_leave_the_folder_are_refused(copied: Path, column: str, name: str) -> None:
    table = pq.read_table(copied / "index.parquet")
    rows = table.to_pylist()
    rows[0][column] = name
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), copied / "index.parquet")
    dataset = open_dataset(copied)
    with pytest.raises(DatasetError, match=f"unsafe {column}"):
        _ = (dataset[0]["expression"], dataset[0].clip_id)


def test_unfinished_and_damaged(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no finished data set"):
        open_dataset(tmp_path / "nowhere")
    path = copied / "params" / "part-00000.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(5)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"part-00000\.parquet row group 0 cannot be read"):
        open_dataset(copied)[0]["expression"]
    (copied / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        open_dataset(copied)


def test_without_torch_the_error_is_clear(made: Made) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\nimport talkset\n"
        "try:\n    talkset.open_dataset(sys.argv[1]).torch(['expression'])\n"
        "except ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made[0])],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install torch" in done.stdout


def test_torch(made: Made) -> None:
    torch = pytest.importorskip("torch")
    dataset = open_dataset(made[0])
    whole = dataset.torch(["expression", "shape", "valid", "focal_px"])
    assert len(whole) == 12
    assert {name: (tuple(t.shape), t.dtype) for name, t in whole[0].items()} == {
        "expression": ((20, 52), torch.float32),
        "shape": ((80,), torch.float32),
        "valid": ((20,), torch.bool),
        "focal_px": ((), torch.float32),
    }
    windows = dataset.torch(["expression", "jaw_pose"], window_s=0.4)
    counts = [clip.duration_us // 400_000 for clip in dataset]
    assert len(windows) == sum(counts)
    joined = torch.cat([windows[i]["jaw_pose"] for i in range(counts[0])])
    np.testing.assert_array_equal(joined.numpy(), dataset[0]["jaw_pose"][: 10 * counts[0]])
    last = windows[len(windows) - 1]["expression"]
    np.testing.assert_array_equal(last.numpy(), dataset[11]["expression"][10 * (counts[11] - 1) : 10 * counts[11]])
    with pytest.raises(IndexError):
        windows[len(windows)]
    batch = next(iter(torch.utils.data.DataLoader(windows, batch_size=4, num_workers=1)))
    assert batch["expression"].shape == (4, 10, 52)
    padded = whole.collate([whole[0], whole[1]])
    assert padded["expression"].shape == (2, 25, 52)
    assert padded["expression_length"].tolist() == [20, 25]
    assert "shape_length" not in padded
    with pytest.raises(DatasetError, match="head_model"):
        dataset.torch(["head_model"])
    with pytest.raises(DatasetError, match="window_s"):
        dataset.torch(["expression"], window_s=0.0)
