"""Overlays of a finished data set, rendered again from its own tables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.ledger import Ledger
from pipelines.output import BuildNote, locked_output
from pipelines.results import ResultStore
from pipelines.stored_body import stored_body, stored_layer
from schemas.config import Config
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, refresh_manifest
from schemas.tables import LANDMARKS, PARAMS, Table
from schemas.types import BodyLandmarks, BodyTrack, HeadTrack, LandmarkTrack

OLDEST_DETECTOR: Final = "mediapipe"
"""Whose landmarks are in rows that name no detector."""


def render_overlays(root: Path, clip_ids: Sequence[str], config: Config) -> list[Path]:
    """Render the overlays of the given clips, or of all accepted ones, into `overlays/`; returns the files.

    The picture comes from the source video where it is still where it was, else from the clip in `media/`.
    `config` is that of the data set, with other overlay settings where wanted.

    Raises UsageError for clips that are not accepted clips of the data set or whose model is not the installed one,
    TalksetError missing_file without a video, disk_full or not_writable.
    """
    from reconstruct.models.registry import load_model
    from reconstruct.overlay import render_overlay

    rows = _accepted(root, clip_ids)
    model = load_model(config.fit.head_model)
    made: list[Path] = []
    with locked_output(root), Ledger(root) as ledger:
        note, store = BuildNote(root), ResultStore(root)
        digest = note.digest()
        with named_errors(root / "overlays"):
            (root / "overlays").mkdir(exist_ok=True)
        for row in rows:
            head, landmarks, body = stored_clip(root, row)
            if model.sha256 != head.model_sha256:
                message = f"clip {row['clip_id']} was fitted with another {head.head_model} ({head.model_sha256})"
                raise UsageError(message, "Run again to fit it with the installed one")
            video, start_us = _video(root, row, ledger)
            target = root / "overlays" / f"{row['clip_id']}.mp4"
            with store.scratch() as scratch:
                drawn = scratch / "overlay.mp4"
                layer = stored_layer(root, body, head)
                render_overlay(video, start_us, head, landmarks, model, drawn, config.overlay, layer)
                note.clear()
                with named_errors(target):
                    shutil.move(drawn, target)
            made.append(target)
        refresh_manifest(root, [f"overlays/{path.name}" for path in made])
        if digest is not None:
            note.write(digest)
    return made


def _accepted(root: Path, clip_ids: Sequence[str]) -> list[dict[str, Any]]:
    columns = ["clip_id", "status", "shard", "source_sha256", "start_us", "width", "height", "model_sha256"]
    path = root / "index.parquet"
    if not path.is_file():
        raise UsageError(f"{root} holds no data set (no {path.name})", "Give the folder that `talkset run` wrote")
    rows = {row["clip_id"]: row for row in pq.read_table(path, columns=columns).to_pylist()}
    accepted = {clip_id: row for clip_id, row in rows.items() if row["status"] == "accepted"}
    for clip_id in clip_ids:
        if clip_id not in accepted:
            what = f"is {rows[clip_id]['status']}" if clip_id in rows else "is not in the data set"
            raise UsageError(f"clip {clip_id!r} {what}", "Give ids of accepted clips; index.parquet lists them")
    return [accepted[clip_id] for clip_id in (dict.fromkeys(clip_ids) or sorted(accepted))]


def stored_tracks(root: Path, row: dict[str, Any]) -> tuple[HeadTrack, LandmarkTrack]:
    """Head and landmarks of an accepted clip, by its index row; see `stored_clip`."""
    return stored_clip(root, row)[:2]


def stored_clip(
    root: Path, row: dict[str, Any]
) -> tuple[HeadTrack, LandmarkTrack, tuple[BodyTrack, BodyLandmarks] | None]:
    """Head, landmarks and body of an accepted clip, by its index row; no body is None.

    Confidence is all ones where it was not stored. Raises TalksetError corrupt_data where the parts do not hold the
    clip once.
    """
    params, landmarks = dict(_cells(root, PARAMS, row)), dict(_cells(root, LANDMARKS, row))
    points, trust = landmarks["face_xy"], landmarks["confidence"]
    if trust is None:  # a row of an older schema: nothing is known, and all ones says so
        trust = np.where(np.isnan(points[..., 0]), np.nan, 1).astype(np.float32)
    track = LandmarkTrack(
        pts_us=landmarks["pts_us"],
        face_xy=points,
        confidence=trust,
        valid=landmarks["valid"],
        width=row["width"],
        height=row["height"],
        detector=landmarks["detector"] or OLDEST_DETECTOR,
        blendshapes=landmarks["blendshapes"],
    )
    body = stored_body(params, landmarks, row["width"], row["height"])
    for name in ("clip_id", "num_frames", "pts_us"):
        del params[name]
    of_head = {name: value for name, value in params.items() if name in HeadTrack.__annotations__}
    return HeadTrack(model_sha256=row["model_sha256"], **of_head), track, body


def _cells(root: Path, table: Table, row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values of a clip in a sharded table, lists as arrays of their own shape; None for what an older schema lacks."""
    path = root / table.name / row["shard"]
    found = pq.read_table(path, filters=[("clip_id", "=", row["clip_id"])])
    if found.num_rows != 1:
        message = f"{path} holds clip {row['clip_id']} {found.num_rows} times"
        raise TalksetError("corrupt_data", message, "Run `talkset verify`")
    frames = found["num_frames"][0].as_py()
    for column in table.columns:
        cell = found[column.name][0] if column.name in found.column_names else pa.scalar(None)
        if column.shape is None or not cell.is_valid:
            yield column.name, cell.as_py()
            continue
        flat = cell.values.to_numpy(zero_copy_only=False)
        sizes = [frames if axis == "T" else axis if isinstance(axis, int) else -1 for axis in column.shape]
        yield column.name, np.array(flat).reshape(sizes)


def _video(root: Path, row: dict[str, Any], ledger: Ledger) -> tuple[Path, int]:
    """A video that shows the clip, and where in it the clip starts."""
    for path in ledger.paths_of(row["source_sha256"]):
        if path.is_file() and ledger.known_sha256(path, path.stat()) == row["source_sha256"]:
            return path, row["start_us"]
    media = root / "media" / f"{row['clip_id']}.mp4"
    if media.is_file():
        return media, 0
    message = f"neither the source of clip {row['clip_id']} nor {media} is there"
    raise TalksetError("missing_file", message, "Put the source back, or run with media.enabled=true")
