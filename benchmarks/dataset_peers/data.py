"""Synthetic talking heads for the benchmarks of the data set format, and the same clips in the formats of the peers.

Motion is smooth (random knots, Gaussian kernels 5 frames wide) plus white noise of the size that fits of the GRID
recordings have, so the lower bits are as random as a real fit's. Expressions are never exactly zero here, while half
of a real fit's are: real clips compress better. Clips have 65 to 85 frames, 75 on average, at 25 frames/s.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.config import ShardConfig
from schemas.dataset_files import ROWS_PER_GROUP, DatasetFiles
from schemas.records import ClipRecord
from schemas.shards import DatasetWriter
from schemas.tables import INDEX, LANDMARKS, PARAMS, SCHEMA_VERSION, Table
from schemas.types import HeadTrack, LandmarkTrack

Array = NDArray[Any]

SHORTEST, LONGEST = 65, 85
FRAME_US: Final = 40_000
CLIPS_PER_GROUP: Final = 8
_KNOT_FRAMES: Final = 5
_AT_ONCE: Final = 512
_CLIPS_OF_PART: Final = 14_000
"""Clips of a part of 256 MB."""
TAR_PARTS: Final = 8
MODEL: Final = {"name": "open-head", "sha256": "0" * 64, "licence": "CC0-1.0"}

SIGNALS: Final[dict[str, tuple[int, Any, float, float]]] = {
    "expression": (52, 0.15, 0.1, 2e-3),
    "global_pose": (3, np.array([3.0, 0, 0], np.float32), 0.15, 1.8e-3),
    "neck_pose": (3, 0.0, 0.0, 0.0),
    "jaw_pose": (3, 0.0, 0.04, 1.8e-3),
    "left_eye_pose": (3, 0.0, 0.045, 2e-3),
    "right_eye_pose": (3, 0.0, 0.045, 2e-3),
    "translation": (3, np.array([0, 0, 0.6], np.float32), 0.05, 2.2e-4),
    "residual_px": (1, 0.4, 0.08, 1.1e-2),
    "nme": (1, 0.01, 1e-3, 1.7e-4),
    "held_out_nme": (1, 0.012, 1e-3, 3e-4),
    "uncertainty_mm": (1, 7.0, 0.05, 1e-3),
    "at_limit": (1, 0.0, 0.0, 0.0),
}
"""Values of a frame, mean, scale of the motion, standard deviation of the noise; the last from fits of GRID."""
_TOLD: Final = ("residual_px", "nme", "held_out_nme", "uncertainty_mm", "at_limit")
_POSITIVE: Final = ("expression", *_TOLD)
_PIXEL_NOISE: Final = 0.106
CONFIDENCE_EVERY: Final = 10
"""Frames from one measurement of the landmarks' confidence to the next."""


def _smooth(random: np.random.Generator, clips: int, width: int) -> Array:
    """(clips, LONGEST, width) smooth motion of unit variance."""
    knots = np.arange(-10, LONGEST + 10, _KNOT_FRAMES)
    kernel = np.exp(-0.5 * ((np.arange(LONGEST)[:, None] - knots) / _KNOT_FRAMES) ** 2)
    kernel /= np.linalg.norm(kernel, axis=1, keepdims=True)
    values: Array = kernel.astype(np.float32) @ random.standard_normal((clips, len(knots), width), np.float32)
    return values


def make_clips(random: np.random.Generator, clips: int, landmarks: bool) -> dict[str, Array]:
    """`frames` (clips,), every signal of a frame as (all frames, width), those of a clip as (clips, width)."""
    frames = random.integers(SHORTEST, LONGEST + 1, clips)
    inside = np.arange(LONGEST) < frames[:, None]
    made: dict[str, Array] = {"frames": frames, "pts_us": np.nonzero(inside)[1].astype(np.int64)[:, None] * FRAME_US}
    made["valid"] = random.random((len(made["pts_us"]), 1)) > 0.01
    for name, (width, mean, scale, noise) in SIGNALS.items():
        values = _smooth(random, clips, width)[inside] * np.float32(scale)
        values += random.standard_normal(values.shape, np.float32) * np.float32(noise) + np.float32(mean)
        made[name] = np.abs(values) if name in _POSITIVE else values
    for name in _TOLD:
        made[name][~made["valid"]] = np.nan
    made["shape"] = random.standard_normal((clips, 120), np.float32) * np.float32(0.39)
    made["principal_point"] = np.tile(np.array([180, 144], np.float32), (clips, 1))
    made["focal_px"] = random.uniform(350, 500, (clips, 1)).astype(np.float32)
    if landmarks:
        face = np.repeat(random.uniform(100, 260, (clips, 1, 956)).astype(np.float32), LONGEST, axis=1)
        face += np.tile(_smooth(random, clips, 2) * np.float32(10), (1, 1, 478))  # the head moves
        face += _smooth(random, clips, 20) @ random.standard_normal((20, 956), np.float32) * np.float32(0.2)
        xy = face[inside]
        made["face_xy"] = xy + random.standard_normal(xy.shape, np.float32) * np.float32(_PIXEL_NOISE)
        made["face_xy"][~made["valid"][:, 0]] = np.nan
        measured = random.uniform(0.2, 1, (clips, LONGEST // CONFIDENCE_EVERY + 1, 478)).astype(np.float32)
        made["confidence"] = np.repeat(measured, CONFIDENCE_EVERY, axis=1)[:, :LONGEST][inside]
        made["confidence"][~made["valid"][:, 0]] = np.nan
    return made


def to_table(table: Table, clip_ids: list[str], made: dict[str, Array]) -> pa.Table:
    """Clips as rows of params or landmarks."""
    arrays = []
    for column in table.columns:
        if column.name == "clip_id":
            arrays.append(pa.array(clip_ids, column.type))
        elif column.name == "num_frames":
            arrays.append(pa.array(made["frames"], column.type))
        elif column.name == "head_model":
            arrays.append(pa.array([MODEL["name"]] * len(clip_ids), column.type))
        elif column.name == "detector":
            arrays.append(pa.array(["benchmark"] * len(clip_ids), column.type))
        elif column.name not in made:
            arrays.append(pa.nulls(len(clip_ids), column.type))
        elif column.shape is None:
            arrays.append(pa.array(made[column.name][:, 0], column.type))
        else:
            values = made[column.name]
            counts = made["frames"] if column.per_frame else np.ones(len(clip_ids), np.int64)
            offsets = pa.array(np.concatenate([[0], np.cumsum(counts * values.shape[1])]).astype(np.int32))
            flat = pa.array(values.reshape(-1), column.type.value_type)
            arrays.append(pa.ListArray.from_arrays(offsets, flat, type=column.type))
    return pa.Table.from_arrays(arrays, schema=table.schema)


def to_index(random: np.random.Generator, first: int, count: int, made: dict[str, Array] | None = None) -> pa.Table:
    """Rows of an index: 4 clips a source, 100 speakers; every 20th is rejected where the clips are not given."""
    numbers = np.arange(first, first + count)
    sources = (numbers // 4).tolist()
    if made is None:
        accepted = numbers % 20 > 0
        places = numbers - numbers // 20 - 1  # among the accepted
        lengths = random.integers(SHORTEST, LONGEST + 1, count)
        valid_ratio = random.uniform(0.9, 1, count)
    else:
        accepted, places, lengths = np.ones(count, bool), numbers, made["frames"]
        valid_ratio = np.add.reduceat(made["valid"][:, 0].astype(float), np.cumsum(lengths) - lengths) / lengths
    in_part = _CLIPS_OF_PART if made is None else 1 << 40
    starts = (numbers % 4) * LONGEST * FRAME_US
    words = np.array(["bin", "lay", "place", "set", "blue", "green", "red", "at", "by", "in", "with", "zero", "one"])
    nme = np.exp(random.normal(np.log(0.015), 0.4, count))
    values: dict[str, Any] = {
        "clip_id": [f"clip{number:08d}" for number in numbers.tolist()],
        "source_id": [f"source{source:07d}" for source in sources],
        "source_uri": [f"s3://recordings/2024/session/source{source:07d}.mp4" for source in sources],
        "source_sha256": [hashlib.sha256(b"%d" % source).hexdigest() for source in sources],
        "speaker": [f"s{source % 100}" for source in sources],
        "split": ["val" if source % 100 < 10 else "train" for source in sources],
        "start_us": starts,
        "end_us": starts + lengths * FRAME_US,
        "num_frames": lengths,
        "shard": pa.array([f"part-{part:05d}.parquet" for part in (places // in_part).tolist()], mask=~accepted),
        "row": pa.array(places % in_part, mask=~accepted),
        "status": np.where(accepted, "accepted", "rejected"),
        "reason": pa.array(np.where(accepted, "", "poor_fit"), mask=accepted),
        "nme_mean": nme,
        "nme_p95": nme * 1.6,
        "valid_ratio": valid_ratio,
        "speech_ratio": random.uniform(0.5, 1, count),
        "sync_offset_ms": random.normal(0, 20, count),
        "sync_confidence": random.uniform(0, 10, count),
        "transcript": [" ".join(row) for row in words[random.integers(0, len(words), (count, 8))].tolist()],
        "valence": random.uniform(-1, 1, count),
        "arousal": random.uniform(-1, 1, count),
        "track": np.zeros(count, np.int32),
        "has_audio": np.ones(count, bool),
        "fps_num": np.full(count, 25),
        "fps_den": np.ones(count, np.int64),
        "width": np.full(count, 360),
        "height": np.full(count, 288),
        "language": ["en"] * count,
        "licence": ["CC-BY-4.0"] * count,
        "head_model": pa.array([MODEL["name"]] * count, mask=~accepted),
        "model_sha256": pa.array([MODEL["sha256"]] * count, mask=~accepted),
    }
    arrays = [pa.array(values.get(column.name, [None] * count)).cast(column.type) for column in INDEX.columns]
    return pa.Table.from_arrays(arrays, schema=INDEX.schema)


def dataset_files(root: Path, shards: ShardConfig) -> DatasetFiles:
    """A data set to be written from Arrow tables."""
    facts = {
        "name": "benchmark",
        "version": "1.0.0",
        "schema_version": SCHEMA_VERSION,
        "licence": "CC0-1.0",
        "config_digest": "0" * 64,
        "models": [MODEL],
        "generator": {"talkset": "benchmark"},
        "history": [],
        "sidecars": [],
    }
    return DatasetFiles(root, facts, "name: benchmark\n", shards)


def blocks(seed: int, landmarks: bool) -> Iterator[tuple[int, list[str], dict[str, Array]]]:
    """Number of the first clip, ids and signals of some clips, without end."""
    random = np.random.default_rng(seed)
    first = 0
    while True:
        yield first, [f"clip{first + i:08d}" for i in range(_AT_ONCE)], make_clips(random, _AT_ONCE, landmarks)
        first += _AT_ONCE


def write_params(root: Path, megabytes: float) -> int:
    """A data set with one params part of that size and no landmarks; returns the number of clips."""
    random = np.random.default_rng(7)
    clips = 0
    with dataset_files(root, ShardConfig(max_shard_mb=4096, figures=False)) as files:
        partial = root / "params" / f".{files.part_name}.partial"
        for first, ids, made in blocks(0, landmarks=False):
            rows = to_table(PARAMS, ids, made)
            for start in range(0, len(ids), CLIPS_PER_GROUP):
                files.write_group({"params": rows.slice(start, CLIPS_PER_GROUP)})
            files.write("index", to_index(random, first, len(ids), made))
            clips = first + len(ids)
            written = [path.stat().st_size for path in (root / "params").iterdir()]
            if sum(written) >= megabytes * 2**20 or (partial.exists() and partial.stat().st_size >= megabytes * 2**20):
                break
        files.finish()
    return clips


def write_index(root: Path, rows: int, figures: bool) -> None:
    """A data set that is an index of so many rows."""
    random = np.random.default_rng(11)
    with dataset_files(root, ShardConfig(figures=figures)) as files:
        for first in range(0, rows, ROWS_PER_GROUP):
            files.write("index", to_index(random, first, min(ROWS_PER_GROUP, rows - first)))
        files.finish()


def make_small(clips: int) -> tuple[list[str], dict[str, Array], list[ClipRecord]]:
    """Some clips with landmarks, as arrays and as records."""
    _, ids, made = next(blocks(3, landmarks=True))
    ids = ids[:clips]
    frames = made["frames"] = made["frames"][:clips]
    ends = np.cumsum(frames)
    made = {name: v[: ends[-1]] if len(v) > _AT_ONCE else v[:clips] for name, v in made.items()}
    random = np.random.default_rng(7)
    index = to_index(random, 0, len(ids), made).drop_columns(["shard", "row", "head_model"]).to_pylist()
    records = []
    for number, row in enumerate(index):
        span = slice(int(ends[number] - frames[number]), int(ends[number]))
        valid = made["valid"][span, 0]
        head = HeadTrack(
            MODEL["name"],
            MODEL["sha256"],
            shape=made["shape"][number],
            focal_px=float(made["focal_px"][number, 0]),
            principal_point=made["principal_point"][number],
            valid=valid,
            **{name: made[name][span] if width > 1 else made[name][span, 0] for name, (width, *_) in SIGNALS.items()},
        )
        points = made["face_xy"][span].reshape(-1, 478, 2)
        trust = made["confidence"][span]
        track = LandmarkTrack(made["pts_us"][span, 0], points, trust, valid, 360, 288, "benchmark")
        records.append(ClipRecord(row, head, track))
    return ids, made, records


def write_records(root: Path, records: list[ClipRecord]) -> None:
    """A data set through the clip by clip writer."""
    with DatasetWriter(
        root,
        name="benchmark",
        version="1.0.0",
        licence="CC0-1.0",
        config_yaml="name: benchmark\n",
        config_digest="0" * 64,
        models=[MODEL],
        shards=ShardConfig(figures=False),
        generator={"talkset": "benchmark"},
    ) as writer:
        for record in records:
            writer.add(record)
        writer.finish()


def write_tables(root: Path, ids: list[str], made: dict[str, Array]) -> None:
    """The same data set through row groups of Arrow tables."""
    random = np.random.default_rng(7)
    with dataset_files(root, ShardConfig(figures=False)) as files:
        tables = {table.name: to_table(table, ids, made) for table in (PARAMS, LANDMARKS)}
        for start in range(0, len(ids), CLIPS_PER_GROUP):
            files.write_group({name: rows.slice(start, CLIPS_PER_GROUP) for name, rows in tables.items()})
        files.write("index", to_index(random, 0, len(ids), made))
        files.finish()


def write_peers(params: Path, folder: Path) -> None:
    """The clips of a params part as Parquet with one row per frame, tar files of .npz, and a folder of .npz.

    tar/offsets.npy has part, offset and length of each clip's .npz; frames/ends.npy the row after each clip's last.
    """
    for name in ("frames", "tar", "npz"):
        (folder / name).mkdir(parents=True)
    source = pq.ParquetFile(params)
    count = source.metadata.num_rows
    per_part = -(-count // TAR_PARTS)
    places, ends = [], []
    writer: pq.ParquetWriter | None = None
    tar: tarfile.TarFile | None = None
    number = rows = 0
    groups = 64
    for group in range(0, source.num_row_groups, groups):
        table = source.read_row_groups(range(group, min(group + groups, source.num_row_groups)))
        frames = per_frame(table, number)
        if writer is None:  # compression and dictionary as LeRobot's writer has them
            writer = pq.ParquetWriter(folder / "frames" / "file-000.parquet", frames.schema, compression="snappy")
        writer.write_table(frames)
        for clip in range(table.num_rows):
            part, inside = divmod(number, per_part)
            if inside == 0:
                if tar is not None:
                    tar.close()
                tar = tarfile.open(folder / "tar" / f"{part:06d}.tar", "w")  # noqa: SIM115
            data = _as_npz(table, clip)
            (folder / "npz" / f"{number:08d}.npz").write_bytes(data)
            info = tarfile.TarInfo(f"{number:08d}.npz")
            info.size = len(data)
            assert tar is not None
            places.append((part, tar.offset + tarfile.BLOCKSIZE, len(data)))
            tar.addfile(info, io.BytesIO(data))
            rows += table["num_frames"][clip].as_py()
            ends.append(rows)
            number += 1
    assert writer is not None
    assert tar is not None
    writer.close()
    tar.close()
    np.save(folder / "tar" / "offsets.npy", np.array(places, np.int64))
    np.save(folder / "frames" / "ends.npy", np.array(ends, np.int64))


def _as_npz(table: pa.Table, clip: int) -> bytes:
    """One clip as an uncompressed .npz of arrays in their logical shapes."""
    arrays = {}
    for column in PARAMS.columns:
        if column.shape is not None:
            flat = table[column.name][clip].values.to_numpy(zero_copy_only=False)
            sizes = column.shape[1:] if column.per_frame else ()
            arrays[column.name] = flat.reshape(-1, *(52 if size == "E" else size for size in sizes))
    arrays["focal_px"] = np.float32(table["focal_px"][clip].as_py())
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def per_frame(table: pa.Table, first: int) -> pa.Table:
    """Clips as rows of frames: fixed size lists, and the number of the clip as `episode_index`."""
    counts = table["num_frames"].to_numpy()
    arrays: dict[str, Any] = {"episode_index": pa.array(np.repeat(np.arange(first, first + len(counts)), counts))}
    for column in PARAMS.columns:
        if column.per_frame:
            flat = table[column.name].combine_chunks().flatten()
            width = len(flat) // int(counts.sum())
            arrays[column.name] = flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)
    return pa.table(arrays)
