"""Proof that a data set on disk is complete, unchanged, consistent with itself, and what the schema promises.

Nothing of it is believed before it is checked: sizes come before reading, and memory grows with the rows of the index
(about 200 bytes each), not with the signals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from schemas.errors import TalksetError
from schemas.files import MANIFEST_NAME, list_files, read_checksums, sha256_file
from schemas.tables import INDEX, LANDMARKS, LONG, PARAMS, SCHEMA_VERSION, Table, version_key
from schemas.verify_columns import check_columns
from schemas.verify_index import check_index
from schemas.verify_parquet import stored_version
from schemas.verify_report import Problem, Report
from schemas.verify_tables import Context, check_long, check_parts

__all__ = ["Problem", "verify_dataset"]

MAX_JSON_BYTES: Final = 64 << 20
"""A JSON file larger than this is reported, not read."""
_MAX_CONFIG_BYTES: Final = 1 << 20
_HASH_BLOCK: Final = 1 << 20
_FILES_AT_ONCE: Final = 512
_SECONDS_TOLERANCE: Final = 1e-6
_FACTS: Final = "dataset.json"
_STATISTICS: Final = "stats.json"
_TOTALS: Final = ("clips", "frames", "valid_frames", "seconds")
_CONFIG: Final = "config.yaml"
_MEDIA: Final = ("media", "overlays")


def verify_dataset(root: Path) -> list[Problem]:
    """Every problem of a data set: hashes, files, schemas, page checksums, values, and contradictions.

    A file whose hash is wrong is reported and not looked into, because its content means nothing. A data set of an
    older MINOR schema version is held against that version; of a newer one only the known columns are checked; of
    another MAJOR version nothing but hashes. Of many problems of one kind the first are listed, the others counted.
    Media: every file in `media/` and `overlays/` must belong to a clip of the index; where config.yaml says
    `media.enabled: true` and `media/` has any file, every accepted clip must have its video. Overlays may be missing,
    because a clip is not lost when its overlay fails.
    Raises TalksetError (missing_file) when `root` is not a folder.
    """
    if not root.is_dir():
        raise TalksetError("missing_file", f"{root} is not a folder", "Give the folder of a data set")
    report = Report()
    context = Context(root, report, set())
    files = _check_hashes(context)
    facts, statistics = _read_json(context, _FACTS), _read_json(context, _STATISTICS)
    version = _version(context, facts)
    if version is None:
        return report.problems()
    if "index.parquet" not in context.damaged:
        split_by = None if facts is None else facts.get("split_by")
        index = context.source("index.parquet", INDEX.at(version))
        context.clips = check_index(index, context.models, split_by)
    found = _check_tables(context, files, version)
    if facts is not None:
        check_columns(context, facts, files, version)
        _check_counts(report, _FACTS, "counts", facts.get("counts"), found)
    if statistics is not None:
        totals = {name: value for name, value in found.items() if name in _TOTALS}
        _check_counts(report, _STATISTICS, "totals", statistics.get("totals"), totals)
    _check_media(context, files)
    return report.problems()


def _check_hashes(context: Context) -> list[str]:
    """Compare the files with MANIFEST.sha256, noting the damaged; returns the files that are there."""
    root, report = context.root, context.report
    try:
        listed = read_checksums(root)
    except (TalksetError, OSError) as error:
        report.add(MANIFEST_NAME, "the list of hashes", str(error))
        listed = None
    try:
        present = list_files(root)
    except TalksetError as error:
        report.add(MANIFEST_NAME, "the list of files", str(error))
        present = []
    if listed is None:
        return present
    for name in present:
        if name not in listed:
            report.add(name, "not listed", f"is not listed in {MANIFEST_NAME}")
    names = sorted(listed)
    with ThreadPoolExecutor(max_workers=min(4, cpu_count() or 1)) as pool:  # hashing releases the interpreter
        for start in range(0, len(names), _FILES_AT_ONCE):
            some = names[start : start + _FILES_AT_ONCE]
            for name, (digest, wrong) in zip(some, pool.map(lambda name: _hash(root / name), some), strict=True):
                if wrong is None and digest != listed[name]:
                    wrong = f"sha256 is {digest}, {MANIFEST_NAME} says {listed[name]}"
                if wrong is not None:
                    report.add(name, "missing or changed", wrong)
                    context.damaged.add(name)
    return present


def _hash(path: Path) -> tuple[str, str | None]:
    """Hash of a file, or why there is none."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            return "", "is not a regular file"
        return sha256_file(path, _HASH_BLOCK), None
    except OSError as error:
        return "", f"cannot be read: {error.strerror or error}"


def _read_json(context: Context, name: str) -> dict[str, Any] | None:
    """A JSON file that holds an object, or None after a report."""
    text = _read_text(context, name, MAX_JSON_BYTES)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        context.report.unreadable(name, f"is not JSON: {error}")
        return None
    if isinstance(value, dict):
        return value
    context.report.unreadable(name, f"must hold an object, got {type(value).__name__}")
    return None


def _read_text(context: Context, name: str, limit: int) -> str | None:
    """The text of a file that is undamaged and not too large, or None after a report."""
    if name in context.damaged:
        return None
    path = context.root / name
    try:
        size = path.stat().st_size
        if size <= limit and path.is_file():
            return path.read_text(encoding="utf-8")
        wrong = f"has {size} bytes, the limit is {limit}; it was not read"
    except (OSError, ValueError) as error:
        wrong = f"cannot be read: {error}"
    context.report.unreadable(name, wrong)
    return None


def _version(context: Context, facts: Mapping[str, Any] | None) -> str | None:
    """The schema version to verify against; None where this talkset cannot."""
    known = version_key(SCHEMA_VERSION)
    if facts is None:  # dataset.json has been reported; the tables can still be held against what they say
        said: Any = stored_version(context.root / "index.parquet") or SCHEMA_VERSION
    else:
        said = facts.get("schema_version")
    try:
        major = version_key(said)[0]
    except (ValueError, TypeError):
        message = f"schema_version is {said!r}, expected MAJOR.MINOR.PATCH; the tables were not checked"
        context.report.add(_FACTS, "schema version", message)
        return None
    if major == known[0]:
        return str(said)
    remedy = "run `talkset upgrade` on the data set" if major < known[0] else "install a newer talkset"
    message = f"has schema version {said}, this talkset knows {SCHEMA_VERSION}; {remedy}"
    context.report.add(_FACTS, "schema version", message)
    return None


def _check_tables(context: Context, files: list[str], version: str) -> dict[str, float]:
    """Check sharded and long tables; returns the counts of all that could be read to its end."""
    found: dict[str, float] = {}
    clips = context.clips
    if clips is not None:
        found |= {"rows": len(clips.every_id), **clips.status_counts}
        found["seconds"] = int(clips.duration_us.sum()) / 1e6
    params = check_parts(context, PARAMS.at(version), _parts(files, PARAMS))
    check_parts(context, LANDMARKS.at(version), _parts(files, LANDMARKS))
    if params.complete:
        found |= {"clips": params.clips, "frames": params.frames, "valid_frames": params.valid_frames}
    for table in LONG:
        rows = check_long(context, table.at(version))
        if rows is not None:
            found[table.name] = rows
    return found


def _parts(files: list[str], table: Table) -> set[str]:
    prefix = f"{table.name}/"
    names = (name.removeprefix(prefix) for name in files if name.startswith(prefix))
    return {name for name in names if name.startswith("part-") and name.endswith(".parquet") and "/" not in name}


def _check_counts(report: Report, file: str, key: str, said: Any, found: Mapping[str, float]) -> None:
    """Numbers that a JSON file states against those that were counted."""
    if not isinstance(said, dict):
        report.add(file, key, f"{key} is {type(said).__name__}, expected an object with {', '.join(found)}")
        return
    for name, value in found.items():
        number = said.get(name)
        tolerance = _SECONDS_TOLERANCE if name == "seconds" else 0
        is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
        if number is None or not is_number or not abs(number - value) <= tolerance:
            report.add(
                file, f"{key}.{name} differs", f"{key}.{name} is {json.dumps(number)[:80]}, the tables have {value}"
            )


def _check_media(context: Context, files: list[str]) -> None:
    """Media files must belong to clips; a data set that keeps media has those of every accepted clip."""
    clips = context.clips
    if clips is None:
        return
    for folder in _MEDIA:
        prefix = f"{folder}/"
        names = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
        stems = pa.array([name.rpartition(".")[0] for name in names], pa.large_string())
        known = pc.is_in(stems, value_set=clips.every_id).to_numpy(zero_copy_only=False)
        strange = [name for name, good in zip(names, known, strict=True) if not good]
        for name in strange:
            context.report.add(prefix + name, "media of no clip", "belongs to no clip of the index")
    videos = [name[len("media/") : -len(".mp4")] for name in files if name.startswith("media/") and name[-4:] == ".mp4"]
    if not videos or not _media_enabled(context):
        return
    absent = pc.invert(pc.is_in(clips.ids, value_set=pa.array(videos, pa.large_string())))
    for clip_id in clips.ids.filter(absent).to_pylist():
        name = f"media/{clip_id}.mp4"
        if name not in context.damaged:
            context.report.add(name, "media of a clip are missing", f"is missing, {_CONFIG} says media.enabled: true")


def _media_enabled(context: Context) -> bool:
    """Whether config.yaml says media.enabled: true; aliases and merge keys, which may explode, are not followed."""
    if not (context.root / _CONFIG).is_file():
        return False
    text = _read_text(context, _CONFIG, _MAX_CONFIG_BYTES)
    if text is None:
        return False
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        context.report.unreadable(_CONFIG, f"is not YAML: {error}")
        return False
    for key in ("media", "enabled"):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    return isinstance(node, yaml.ScalarNode) and node.value == "true"
