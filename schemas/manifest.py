"""Reading a manifest: the table of source videos a user writes, as .csv, .jsonl or .parquet."""

from __future__ import annotations

import csv
import difflib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import TalksetError, UsageError
from schemas.types import Source

COLUMNS: Final = ("uri", "sha256", "start", "end", "speaker", "language", "transcript", "licence", "labels")
MAX_PROBLEMS: Final = 20
MAX_SECONDS: Final = 1e9
"""No recording is longer (about 30 years); a larger time is a wrong unit."""
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")


class _CellError(ValueError):
    """A cell that cannot be used: what is wrong with it."""


def read_manifest(path: Path) -> list[Source]:
    """Read the sources of a manifest; `start` and `end` are seconds in the file, `labels` a mapping (JSON text in csv).

    Empty cells count as absent. Exact duplicates are kept: the run records them.
    Raises UsageError that lists up to 20 problems of the file, each with its 1-based data row and column.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"manifest {path} has the unknown ending {path.suffix!r}", "Use .csv, .jsonl or .parquet")
    sources: list[Source] = []
    problems: list[str] = []
    unknown: set[str] = set()
    rows = 0
    try:
        for number, cells, complaint in reader(path):
            rows += 1
            if complaint:
                problems.append(f"row {number}: {complaint}")
            else:
                source = _source(number, cells, problems, unknown)
                if source is not None:
                    sources.append(source)
            if len(problems) > MAX_PROBLEMS:
                break
    except OSError as error:
        raise UsageError(f"cannot read the manifest {path}: {error.strerror or error}", "Check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"manifest {path} is not UTF-8 ({error})", "Save it as UTF-8") from error
    except (csv.Error, pa.ArrowException) as error:
        message = f"manifest {path} is not valid {path.suffix[1:]} after row {rows}: {error}"
        raise UsageError(message, "Mend or export it again") from error
    if problems:
        shown = problems[:MAX_PROBLEMS]
        more = ["and more after those"] if len(problems) > MAX_PROBLEMS else []
        lines = "\n".join(f"  {line}" for line in (*shown, *more))
        raise UsageError(f"manifest {path} has problems:\n{lines}\n", "Mend the rows it names")
    if not sources:
        raise UsageError(f"manifest {path} has no rows", "Write one row for each video; only `uri` is required")
    return sources


def local_path(uri: str, base: Path) -> Path:
    """The file behind a URI: a plain path (relative ones start at `base`, the manifest's folder) or file://.

    Raises TalksetError (unsupported_uri) for other schemes and for file:// of another machine.
    """
    scheme = _SCHEME.match(uri)
    if scheme is None:
        text = uri
    elif scheme[1].lower() == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise TalksetError(
                "unsupported_uri", f"{uri} is on the machine {parts.netloc!r}", "Mount it and write its local path"
            )
        if parts.query or parts.fragment:
            raise TalksetError("unsupported_uri", f"{uri} has a bare '?' or '#'", "Write them as %3F and %23")
        text = os.fsdecode(unquote_to_bytes(parts.path))
    else:
        message = f"{uri} has the unsupported scheme {scheme[1]!r}"
        raise TalksetError("unsupported_uri", message, "Download or mount it and write a path or file://")
    if not text or "\0" in text:
        raise TalksetError("unsupported_uri", f"{uri!r} names no file", "Write a path or file://")
    return base / text


_Row = tuple[int, Mapping[str, Any], str]
"""1-based data row, its cells, and a complaint about the row as a whole (else empty)."""


def _read_csv(path: Path) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = csv.reader(stream, strict=True)
        header = [name.strip() for name in next(lines, [])]
        doubled = sorted({name for name in header if header.count(name) > 1})
        if doubled:
            raise UsageError(f"manifest {path} names the column {doubled[0]!r} twice", "Keep one of them")
        if header and "uri" not in header:
            close = difflib.get_close_matches("uri", header, n=1, cutoff=0.5)
            hint = f"Rename {close[0]!r}" if close else "Its first line must name the columns"
            raise UsageError(f"manifest {path} has no column 'uri'", hint)
        number = 0
        for line in lines:
            if not line:
                continue
            number += 1
            complaint = ""
            if len(line) != len(header):
                complaint = f"has {len(line)} cells, the header has {len(header)}; quote cells that hold a comma"
            yield number, dict(zip(header, line, strict=False)), complaint


def _read_jsonl(path: Path) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig") as stream:
        number = 0
        for line in stream:
            if not line.strip():
                continue
            number += 1
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, {}, f"is not JSON ({error})"
                continue
            if isinstance(cells, dict):
                yield number, cells, ""
            else:
                yield number, {}, f"must be a JSON object, got {type(cells).__name__}"


def _read_parquet(path: Path) -> Iterator[_Row]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=8192):
            for cells in batch.to_pylist(maps_as_pydicts="lossy"):
                number += 1
                yield number, cells, ""


def _source(number: int, cells: Mapping[str, Any], problems: list[str], unknown: set[str]) -> Source | None:
    """The source of one row, or None after adding what is wrong to `problems`; each unknown column is told once."""
    before = len(problems)
    for name in cells:
        if name in COLUMNS or name in unknown:
            continue
        unknown.add(name)
        close = difflib.get_close_matches(str(name), COLUMNS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(COLUMNS)}; others go into labels"
        problems.append(f"row {number}, column {name!r}: unknown column; {hint}")
    values: dict[str, Any] = {}
    checks = {"sha256": _sha256, "start": _time_us, "end": _time_us, "labels": _labels}
    for name in COLUMNS:
        cell = cells.get(name)
        if cell is None or cell == "":
            values[name] = None
            continue
        try:
            values[name] = checks.get(name, _text)(cell)
        except _CellError as error:
            problems.append(f"row {number}, column {name!r}: {error}")
    if "uri" in values and (values["uri"] is None or not values["uri"].strip()):
        problems.append(f"row {number}, column 'uri': is missing")
    start, end = values.get("start"), values.get("end")
    if end is not None and end <= (start or 0):
        problems.append(f"row {number}, column 'end': {cells['end']} is not after start {cells.get('start') or 0}")
    if len(problems) > before:
        return None
    return Source(
        uri=values["uri"],
        row=number,
        sha256=values["sha256"],
        start_us=start,
        end_us=end,
        speaker=values["speaker"],
        language=values["language"],
        transcript=values["transcript"],
        licence=values["licence"],
        labels=values["labels"] or {},
    )


def _text(cell: Any) -> str:
    if not isinstance(cell, str):
        raise _CellError(f"must be text, got {cell!r}")
    return cell


def _sha256(cell: Any) -> str:
    text = _text(cell).strip()
    if _SHA256.fullmatch(text) is None:
        raise _CellError(f"must be 64 hex digits, got {text!r}")
    return text.lower()


def _time_us(cell: Any) -> int:
    """Microseconds from a cell of seconds."""
    if isinstance(cell, str):
        try:
            seconds = float(cell)
        except ValueError:
            raise _CellError(f"must be seconds as a number, got {cell!r}") from None
    elif isinstance(cell, (int, float)) and not isinstance(cell, bool):
        seconds = float(max(-1, min(cell, 2 * MAX_SECONDS)))  # an int may be too large for a float
    else:
        raise _CellError(f"must be seconds as a number, got {cell!r}")
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise _CellError(f"must be seconds from 0 to {MAX_SECONDS:.0e}, got {cell!r}")
    return round(seconds * 1_000_000)


def _labels(cell: Any) -> dict[str, str]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise _CellError(f"must be a JSON object, got {cell!r} ({error})") from None
    if not isinstance(cell, Mapping):
        raise _CellError(f"must be a mapping, got {cell!r}")
    labels = {}
    for key, value in cell.items():
        if value is None:
            continue
        if not isinstance(value, (str, int, float, bool)):
            raise _CellError(f"label {key!r} must be text or a number, got {value!r}")
        labels[str(key)] = value if isinstance(value, str) else json.dumps(value)
    return labels
