"""Which clips of a run are copies, of each other or of clips of earlier data sets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from pipelines.keys import digest_of
from pipelines.ledger import DONE
from pipelines.session import Session
from pipelines.stage import ClipItem
from pipelines.stages.fingerprint import fingerprint_of
from pipelines.work import Step
from schemas.errors import UsageError
from schemas.files import HIDDEN_FOLDER, MANIFEST_NAME, sha256_file, write_atomic
from schemas.fingerprint import Fingerprint
from schemas.tables import LANDMARKS

REMEMBERED: Final = "copies.json"
"""File of the run folder with what was found last, and from what."""


@dataclass(frozen=True)
class Earlier:
    """A clip of an earlier data set."""

    clip_id: str
    split: str | None
    group: str | None


@dataclass(frozen=True)
class Copies:
    """What copies there are, by clip id."""

    group: Mapping[str, str] = field(default_factory=dict)
    """Name of its group: the clip of it that comes first."""
    first: Mapping[str, str] = field(default_factory=dict)
    """The clip that it is a copy of, for all but the first of a group."""
    split: Mapping[str, str] = field(default_factory=dict)
    """Split of the earlier clip that it is a copy of."""
    pairs: Sequence[Sequence[str]] = ()
    """Two clips of this run each: every clip of a group with the first of them that is in it."""


def find_copies_of_run(session: Session, clips: Sequence[ClipItem], steps: Mapping[str, Sequence[Step]]) -> Copies:
    """The copies among accepted clips, in the order of the manifest, and those of the data sets `duplicates.against`.

    Raises UsageError where such a folder is no data set with fingerprints, TalksetError corrupt_data for damaged ones.
    """
    config = session.config.duplicates
    if not config.enabled:
        return Copies()
    keys = {
        clip.unit: step.key
        for clip in clips
        if steps[clip.unit][-1].state == DONE
        for step in steps[clip.unit]
        if step.stage == "fingerprint"
    }
    folders = [Path(name.strip()) for name in config.against.split(",") if name.strip()]
    limits = {"min_share": config.min_share, "sound": config.max_sound_error, "motion": config.min_motion_match}
    digest = digest_of([1, list(keys.items()), limits, [_digest(folder) for folder in folders]])
    path = session.root / HIDDEN_FOLDER / REMEMBERED
    remembered = _read(path, digest)
    if remembered is not None:
        return remembered
    earlier: list[Earlier] = []
    prints: list[Fingerprint] = []
    for folder in folders:
        for clip, print_ in _stored(folder):
            earlier.append(clip)
            prints.append(print_)
    prints += [fingerprint_of({"fingerprint": session.store.load("fingerprint", key)}) for key in keys.values()]
    copies = _grouped(earlier, list(keys), prints, session)
    write_atomic(path, (json.dumps({"digest": digest, **vars(copies)}, sort_keys=True) + "\n").encode())
    return copies


def _grouped(
    earlier: Sequence[Earlier], units: Sequence[str], prints: Sequence[Fingerprint], session: Session
) -> Copies:
    from pipelines.duplicates import find_copies, group

    found = find_copies(prints, session.config.duplicates, fresh=len(earlier))
    roots = group(len(prints), found)
    size: dict[int, int] = {}
    for root in roots:
        size[root] = size.get(root, 0) + 1
    names, first, splits = {}, {}, {}
    pairs: list[list[str]] = []
    ours: dict[int, str] = {}
    for place, unit in enumerate(units, start=len(earlier)):
        root = roots[place]
        if size[root] == 1:
            continue
        if root < len(earlier):
            known = earlier[root]
            names[unit], first[unit] = known.group or known.clip_id, known.clip_id
            if known.split is not None:
                splits[unit] = known.split
        else:
            names[unit] = units[root - len(earlier)]
            if place != root:
                first[unit] = names[unit]
        if root in ours:
            pairs.append([ours[root], unit])
        else:
            ours[root] = unit
    return Copies(names, first, splits, pairs)


def _digest(folder: Path) -> str:
    """What stands for the content of a data set."""
    try:
        return sha256_file(folder / MANIFEST_NAME)
    except OSError as error:
        message = f"duplicates.against names {folder}, which is no finished data set ({error.strerror})"
        raise UsageError(message, "Give folders with a MANIFEST.sha256") from error


def _stored(folder: Path) -> list[tuple[Earlier, Fingerprint]]:
    """Clips of an earlier data set with their fingerprints, in the order of its index."""
    index = pq.read_table(folder / "index.parquet")
    wanted = [name for name in ("clip_id", "split", "duplicate_group") if name in index.schema.names]
    rows = {row["clip_id"]: row for row in index.select(wanted).to_pylist()}
    codes: dict[str, str] = {}
    for path in sorted((folder / LANDMARKS.name).glob("part-*.parquet")):
        if "fingerprint" not in pq.read_schema(path).names:
            message = f"the data set {folder} has no fingerprints: it was made before schema version 1.4.0"
            raise UsageError(message, "Run its manifest again, or leave it out of duplicates.against")
        for batch in pq.ParquetFile(path).iter_batches(columns=["clip_id", "fingerprint"]):
            ids, texts = batch.column(0).to_pylist(), batch.column(1).to_pylist()
            codes |= {clip_id: text for clip_id, text in zip(ids, texts, strict=True) if text is not None}
    return [
        (Earlier(clip_id, row.get("split"), row.get("duplicate_group")), Fingerprint.from_text(codes[clip_id]))
        for clip_id, row in rows.items()
        if clip_id in codes
    ]


def _read(path: Path, digest: str) -> Copies | None:
    """What was found last, unless it was found from something else."""
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        if stored.pop("digest") != digest:
            return None
        return Copies(**stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a cache: what cannot be read is made again
        return None
