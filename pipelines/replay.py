"""A case in a folder of its own, to be run again anywhere, and what differs from the result that it gave first."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.debug import Case, Item, Outcome
from pipelines.digests import library_versions, model_digests
from pipelines.records import decode, encode
from pipelines.results import Result
from pipelines.stage import SourceItem
from schemas.config import dump_yaml, load_config
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, partial_path, sha256_file

FORMAT: Final = 1
CASE, CONFIG, GOLDEN = "case.json", "config.yaml", "golden"
"""Names in the folder: the item and what it needs, the configuration, and golden.json, golden.npz, golden<suffix>."""
INPUTS, MEDIA = "inputs", "media"
"""Folders of results and of the source's file."""
TOLERANCE: Final = 1e-5


@dataclass(frozen=True)
class Golden:
    """The result that a case gave when it was saved."""

    state: str
    reason: str | None
    message: str | None
    result: Result | None
    """Without files."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Suffix -> sha256."""


@dataclass(frozen=True)
class Replay:
    """A folder that was read."""

    case: Case
    golden: Golden
    notes: tuple[str, ...]
    """What is not as it was when the case was saved: models, libraries."""


@dataclass(frozen=True)
class Difference:
    """A part of a result that is not as it was."""

    part: str
    """`state`, `value.<key>`, `arrays.<name>` or `files<suffix>`."""
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.part}: {self.now}, was {self.was}"


def save_case(case: Case, outcome: Outcome, folder: Path, media: bool = True) -> None:
    """Write a case and its outcome, as the golden result, into a new folder, completely or not at all.

    With `media` the source's file is copied into it, so that the folder needs nothing but the models; without, the
    file stays where it is. Raises UsageError for a folder that is there, TalksetError disk_full, not_writable, and
    missing_file without the source's file.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists", "Give a folder that does not exist yet")
    partial = partial_path(folder)
    with named_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        (partial / INPUTS).mkdir(parents=True)
        item = _with_media(case.item, partial / MEDIA) if media else case.item
        told = {
            "format": FORMAT,
            "stage": case.stage,
            "item": encode(item),
            "values": dict(case.values),
            "needs": sorted(case.results),
            "models": dict(case.models),
            "libraries": library_versions(),
        }
        _write_json(partial / CASE, told)
        (partial / CONFIG).write_text(dump_yaml(case.config), encoding="utf-8")
        for name, result in case.results.items():
            _write_result(partial / INPUTS / name, result)
        _write_golden(partial, outcome)
        os.replace(partial, folder)


def load_case(folder: Path) -> Replay:
    """Read what `save_case` wrote.

    Raises UsageError for a folder that is none, TalksetError missing_file or sha256_mismatch for the source's file, and
    corrupt_data for content that cannot be read.
    """
    if not (folder / CASE).is_file():
        raise UsageError(f"{folder} holds no saved case ({CASE})", "Make one: `talkset debug ... --save FOLDER`")
    told = _read_json(folder / CASE)
    if told.get("format") != FORMAT:
        message = f"{folder} has the format {told.get('format')!r}, known is {FORMAT}"
        raise UsageError(message, "Replay it with the talkset that wrote it")
    config = load_config(folder / CONFIG)
    try:
        item = decode(told["item"])
        results = {name: _read_result(folder / INPUTS / name) for name in told["needs"]}
        case = Case(told["stage"], item, config, told["values"], results, told["models"])
        golden = _read_golden(folder)
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(folder, error) from error
    if not item.path.is_absolute():
        case = dataclasses.replace(case, item=dataclasses.replace(item, path=folder.resolve() / item.path))
    _check_media(case.item)
    return Replay(case, golden, tuple(_changes(case, told["libraries"])))


def differences(golden: Golden, outcome: Outcome, tolerance: float = TOLERANCE) -> list[Difference]:
    """What of an outcome is not as in the golden result.

    Numbers of arrays and values may differ by `tolerance` (absolute, in their own units); NaN is equal to NaN; shapes,
    types, texts and whole numbers must be equal, media to the byte. Messages may differ, reasons may not.
    """
    found = [
        Difference(name, str(was), str(now))
        for name, was, now in (
            ("state", golden.state, outcome.state),
            ("reason", golden.reason, outcome.reason),
        )
        if was != now
    ]
    if golden.result is None or outcome.result is None:
        return found
    found += _value_differences("value", dict(golden.result.value), _plain(outcome.result.value), tolerance)
    found += _array_differences(golden.result.arrays, outcome.result.arrays, tolerance)
    now = {suffix: sha256_file(path) for suffix, path in outcome.result.files.items()}
    for suffix in sorted(golden.files.keys() | now.keys()):
        was, hashed = golden.files.get(suffix, "not there"), now.get(suffix, "not there")
        if was != hashed:
            found.append(Difference(f"files{suffix}", was[:16], hashed[:16]))
    return found


def golden_of(result: Result, state: str = "done") -> Golden:
    """A stored result as one to compare with."""
    return Golden(state, None, None, result, {suffix: sha256_file(path) for suffix, path in result.files.items()})


def _array_differences(
    golden: Mapping[str, NDArray[Any]], arrays: Mapping[str, NDArray[Any]], tolerance: float
) -> Iterator[Difference]:
    for name in sorted(golden.keys() | arrays.keys()):
        part = f"arrays.{name}"
        if name not in golden or name not in arrays:
            yield Difference(part, *("not there" if name not in side else "there" for side in (golden, arrays)))
            continue
        was, now = golden[name], arrays[name]
        if (was.shape, was.dtype) != (now.shape, now.dtype):
            yield Difference(part, f"{was.dtype} {list(was.shape)}", f"{now.dtype} {list(now.shape)}")
        elif was.dtype.kind not in "fc":
            if count := int(np.sum(was != now)):
                yield Difference(part, "equal", f"{count} of {was.size} values differ")
        elif (nans := np.isnan(was) ^ np.isnan(now)).any():
            yield Difference(part, "equal", f"{int(nans.sum())} of {was.size} values are NaN on one side only")
        else:
            with np.errstate(invalid="ignore"):  # infinite on both sides
                apart = np.where((was == now) | np.isnan(was), 0.0, np.abs(was.astype(np.float64) - now))
            if apart.size and not apart.max() <= tolerance:
                count = int(np.sum(~(apart <= tolerance)))
                told = f"{count} of {was.size} values differ, by {apart.max():.3g} at most"
                yield Difference(part, f"within {tolerance:g}", told)


def _value_differences(part: str, was: Any, now: Any, tolerance: float) -> Iterator[Difference]:
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted(was.keys() | now.keys()):
            if name not in was or name not in now:
                yield Difference(f"{part}.{name}", *("there" if name in side else "not there" for side in (was, now)))
            else:
                yield from _value_differences(f"{part}.{name}", was[name], now[name], tolerance)
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for number, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from _value_differences(f"{part}[{number}]", one, other, tolerance)
    elif isinstance(was, float) and isinstance(now, float):
        if not (was == now or abs(was - now) <= tolerance or (math.isnan(was) and math.isnan(now))):
            yield Difference(part, f"{was:.9g}", f"{now:.9g}")
    elif was != now or type(was) is not type(now):
        yield Difference(part, _told(was), _told(now))


def _told(value: Any) -> str:
    text = f"{len(value)} entries" if isinstance(value, list) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _with_media(item: Item, folder: Path) -> Item:
    """The item with a copy of its source's file; a remote one has it in the cache."""
    if not item.path.is_file():
        message = f"the source's file {item.path} is not here"
        raise TalksetError("missing_file", message, "Fetch it by a run, or save without media")
    folder.mkdir()
    name = f"source{item.path.suffix}"
    shutil.copyfile(item.path, folder / name)
    path = Path(MEDIA) / name
    if isinstance(item, SourceItem):
        return dataclasses.replace(item, path=path, source=dataclasses.replace(item.source, uri=path.as_posix()))
    return dataclasses.replace(item, path=path, uri=path.as_posix())


def _check_media(item: Item) -> None:
    from pipelines.download import is_remote

    if is_remote(item.uri):
        return  # it is checked when it is fetched
    if not item.path.is_file():
        message = f"the source's file {item.path} of the saved case is not here"
        raise TalksetError("missing_file", message, "Put it there, or save the case again with media")
    found = sha256_file(item.path)
    if found != item.sha256:
        message = f"{item.path} has the sha256 {found}, the saved case {item.sha256}"
        raise TalksetError("sha256_mismatch", message, "Put the file there that the case was saved with")


def _changes(case: Case, libraries: Mapping[str, str]) -> Iterator[str]:
    roles, here = model_digests(case.config), library_versions()
    for role, was in case.models.items():
        if roles.get(role) != was:
            yield f"{role} is {roles.get(role)}, was {was}"
    for name, was in libraries.items():
        if here.get(name) != was:
            yield f"{name} is {here.get(name)}, was {was}"


def _write_golden(folder: Path, outcome: Outcome) -> None:
    told: dict[str, Any] = {"state": outcome.state, "reason": outcome.reason, "message": outcome.message, "files": {}}
    if outcome.result is not None:
        _write_result(folder / GOLDEN, outcome.result)
        told["value"] = _plain(outcome.result.value)
        for suffix, path in outcome.result.files.items():
            shutil.copyfile(path, folder / f"{GOLDEN}{suffix}")
            told["files"][suffix] = sha256_file(path)
    _write_json(folder / f"{GOLDEN}.json", told)


def _read_golden(folder: Path) -> Golden:
    told = _read_json(folder / f"{GOLDEN}.json")
    result = _read_result(folder / GOLDEN) if "value" in told else None
    return Golden(told["state"], told["reason"], told["message"], result, told["files"])


def _write_result(base: Path, result: Result) -> None:
    _write_json(Path(f"{base}.json"), {"value": _plain(result.value)})
    if result.arrays:
        np.savez(Path(f"{base}.npz"), **{name: np.asarray(result.arrays[name]) for name in sorted(result.arrays)})


def _read_result(base: Path) -> Result:
    arrays: dict[str, NDArray[Any]] = {}
    if Path(f"{base}.npz").is_file():
        with np.load(Path(f"{base}.npz"), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    return Result(_read_json(Path(f"{base}.json"))["value"], arrays)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from a file."""
    return dict(json.loads(json.dumps(dict(value))))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> TalksetError:
    message = f"{path} cannot be read ({type(error).__name__}: {error})"
    return TalksetError("corrupt_data", message, "Save the case again")
