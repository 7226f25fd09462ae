"""The version that follows a review: rejected clips are gone, verdicts and corrections stand in the index.

Only what a correction touches is made again: the words and phones of clips with another transcript.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors
from schemas.records import to_arrow, word_values
from schemas.tables import INDEX, PHONES, WORDS, Table
from schemas.types import Transcription
from talkset.dataset import Clip, open_dataset
from talkset.index import Index
from talkset.store import Store
from talkset.versions.rewrite import rewrite_version
from talkset.versions.version import Version, make_facts, new_folder, next_version

DECISIONS: Final = "review/decisions.parquet"
Align = Callable[[Clip, str], Transcription]
"""Words and phones of a clip for another transcript; raises TalksetError where they cannot be aligned."""
_ALIGNING: Final = ("bad_transcript", "no_audio")
"""Beginnings of warnings that another transcript may make untrue."""


def apply_review(
    root: Path,
    out: Path,
    decisions: pa.Table,
    verdicts: Mapping[str, str],
    corrections: Mapping[str, Mapping[str, Any]],
    dropped: Sequence[str],
    *,
    only_accepted: bool = False,
    align: Align | None = None,
    version: str | None = None,
) -> dict[str, Any]:
    """Write the version that decisions lead to; returns what was done. A MAJOR change of the data.

    Args: decisions: the table for review/decisions.parquet; verdicts: clip id -> accept or reject, for the column
    `review`; corrections: clip id -> emotion, transcript, sync_offset_ms; dropped: clips to leave out; only_accepted:
    leave out accepted rows without the verdict accept as well; align: needed for corrected transcripts.
    Rows of other status stay. Raises UsageError when nothing is left or `out` exists, TalksetError for damage or a
    full disk; `root` is never touched.
    """
    source = Version.read(root)
    rows = _kept(root, verdicts, set(dropped), only_accepted)
    if not len(rows):
        raise UsageError(f"no clip of {root} is left after the review", "Look at the decisions")
    kept_ids = set(Index(Store(root), rows).column("clip_id").to_pylist())
    wanted = {clip_id: values for clip_id, values in corrections.items() if clip_id in kept_ids}
    replaced, problems = _aligned(root, wanted, align)
    done = {
        "rows": len(rows),
        "rows_before": source.facts["counts"]["rows"],
        "accepted": sum(said == "accept" for clip_id, said in verdicts.items() if clip_id in kept_ids),
        "dropped": source.facts["counts"]["rows"] - len(rows),
        "corrected": {name: sum(name in values for values in wanted.values()) for name in _COLUMNS},
        "realigned": len(replaced[WORDS.name]) - len(problems),
    }
    new = version or next_version(str(source.facts["version"]), "MAJOR")
    with new_folder(out) as staging:
        facts = make_facts([source], "review", done, name=None, version=new)
        path = staging / DECISIONS
        with named_errors(path):
            path.parent.mkdir()
            pq.write_table(decisions, path, compression="zstd")

        def change(group: pa.Table) -> pa.Table:
            return _changed(group, verdicts, wanted, problems)

        rewrite_version(source, staging, facts, rows, change, replaced)
    return {**done, "path": str(out), "version": new, "not_aligned": problems}


_COLUMNS: Final = ("emotion", "transcript", "sync_offset_ms")


def _kept(root: Path, verdicts: Mapping[str, str], dropped: set[str], only_accepted: bool) -> Any:
    """Numbers of the rows that stay."""
    index = Index(Store(root))
    ids, status = index.column("clip_id"), index.column("status")
    keep = pc.invert(pc.is_in(ids, value_set=pa.array(sorted(dropped), pa.string())))
    if only_accepted:
        good = pa.array(sorted(clip_id for clip_id, said in verdicts.items() if said == "accept"), pa.string())
        keep = pc.and_(keep, pc.or_(pc.is_in(ids, value_set=good), pc.not_equal(status, "accepted")))
    return np.flatnonzero(keep.to_numpy(zero_copy_only=False)).astype(np.int64)


def _aligned(
    root: Path, corrections: Mapping[str, Mapping[str, Any]], align: Align | None
) -> tuple[dict[str, dict[str, pa.Table]], dict[str, str]]:
    """New rows of words and phones by table and clip, and why a clip has none."""
    replaced: dict[str, dict[str, pa.Table]] = {WORDS.name: {}, PHONES.name: {}}
    problems: dict[str, str] = {}
    changed = [clip_id for clip_id, values in corrections.items() if "transcript" in values]
    if not changed:
        return replaced, problems
    if align is None:
        raise UsageError(f"{len(changed)} transcripts were corrected, and there is no aligner", "Give one")
    dataset = open_dataset(root)
    for clip_id in changed:
        spoken = Transcription((), ())
        try:
            spoken = align(dataset[clip_id], str(corrections[clip_id]["transcript"]))
        except (TalksetError, ValueError) as error:  # ValueError: the reader's, for sound that cannot be had
            reason = error.reason if isinstance(error, TalksetError) else "no_audio"
            message = error.message if isinstance(error, TalksetError) else str(error)
            problems[clip_id] = f"{reason}: {message}"
        replaced[WORDS.name][clip_id] = _rows(WORDS, clip_id, word_values(spoken))
        replaced[PHONES.name][clip_id] = _rows(PHONES, clip_id, [vars(phone) for phone in spoken.phones])
    return replaced, problems


def _rows(table: Table, clip_id: str, values: Sequence[Mapping[str, Any]]) -> pa.Table:
    rows = [{"clip_id": clip_id, **value} for value in values]
    for row in rows:
        row["score"] = None if row["score"] is None or np.isnan(row["score"]) else row["score"]
    return to_arrow(table, rows)


def _changed(
    group: pa.Table,
    verdicts: Mapping[str, str],
    corrections: Mapping[str, Mapping[str, Any]],
    problems: Mapping[str, str],
) -> pa.Table:
    """A row group of the index with verdicts and corrections.

    A corrected emotion is certain (confidence 1); a corrected offset of the sound has no confidence of an estimator.
    """
    ids = group["clip_id"].to_pylist()
    names = ("review", *_COLUMNS, "emotion_confidence", "sync_confidence", "warnings")
    columns = {name: group[name].to_pylist() for name in names}
    for row, clip_id in enumerate(ids):
        columns["review"][row] = verdicts.get(clip_id, columns["review"][row])
        fixed = corrections.get(clip_id, {})
        for name in _COLUMNS:
            if name in fixed:
                columns[name][row] = fixed[name]
        if "emotion" in fixed:
            columns["emotion_confidence"][row] = 1.0
        if "sync_offset_ms" in fixed:
            columns["sync_confidence"][row] = None
        if "transcript" in fixed:
            columns["warnings"][row] = _warnings(columns["warnings"][row], problems.get(clip_id))
    for name in names:
        position = group.schema.get_field_index(name)
        field = INDEX.schema.field(name)
        group = group.set_column(position, field, pa.array(columns[name], field.type))
    return group


def _warnings(known: str | None, problem: str | None) -> str | None:
    """The warnings of a clip after another transcript was tried."""
    parts = [part for part in (known or "").split("; ") if part and not part.startswith(_ALIGNING)]
    return "; ".join([*parts, *([problem] if problem else [])]) or None
