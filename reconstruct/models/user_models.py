"""The user's own models in the cache: one folder each, converted once, complete or absent.

`models/user/<name>/` holds model.npz, record.json (where it came from) and embedding-<points>.npz. A folder is made
under a hidden name and renamed; record.json is what makes it a model.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock

from reconstruct.cache import cache_folder
from reconstruct.embedding import Embedding, load_embedding, save_embedding
from reconstruct.models import body_model, flame, head_model, official, open_body, open_head, smplx
from reconstruct.models.body_model import BodyModel
from reconstruct.models.flame import Finding
from reconstruct.models.head_model import HeadModel
from reconstruct.models.safe_pickle import load_npy, load_npz, load_pickle
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, partial_path, sha256_file, write_atomic

LOGGER = logging.getLogger(__name__)
RECORD: Final = "record.json"
MODEL: Final = "model.npz"
FORMAT: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Record:
    """What record.json says of one model."""

    name: str
    licence: str
    version: str
    origin: str
    """Name of the user's file, without its folder."""
    origin_sha256: str
    model_sha256: str
    masks: dict[str, str] = field(default_factory=dict)
    """File name -> sha256 of the FLAME_masks.pkl that was given, if one was."""
    embeddings: dict[str, str] = field(default_factory=dict)
    """File name -> sha256 of the official embeddings that were given."""
    points: dict[str, str] = field(default_factory=dict)
    """Number of points -> file name of the embedding for them."""
    notes: tuple[str, ...] = ()
    """What was noted when the file was converted."""
    format: int = FORMAT
    kind: str = "head"
    """head or body."""

    @property
    def path(self) -> Path:
        """The converted model."""
        return user_folder() / self.name / MODEL


def user_folder() -> Path:
    """Where the user's own models lie."""
    return cache_folder() / "models" / "user"


def records() -> list[Record]:
    """Every added model, by name. Raises TalksetError("corrupt_data") for a record that cannot be read."""
    return [_record(path) for path in sorted(user_folder().glob(f"[!.]*/{RECORD}"))]


def record_of(name: str) -> Record | None:
    """The record of an added model."""
    path = user_folder() / name / RECORD
    return _record(path) if _NAME.fullmatch(name) and path.is_file() else None


def _record(path: Path) -> Record:
    try:
        values = json.loads(path.read_bytes())
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']}, this version reads {FORMAT}")
        values["notes"] = tuple(values["notes"])
        return Record(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} is no record of a model ({error})"
        raise TalksetError("corrupt_data", message, f"Remove {path.parent} and add the model again") from error


def _write_record(folder: Path, record: Record) -> None:
    write_atomic(folder / RECORD, json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False).encode())


@contextmanager
def _locked() -> Iterator[Path]:
    folder = user_folder()
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder / ".lock")):
        yield folder


def add(path: Path, name: str | None, masks: Path | None, embeddings: Sequence[Path]) -> str:
    """Convert a file into the cache; returns the model's name. See `registry.add_model`."""
    for given in (path, *([masks] if masks else []), *embeddings):
        if not given.is_file():
            raise TalksetError("missing_file", f"{given} does not exist or is no file", "Give the path of a file")
    digest = sha256_file(path)
    masks_given = {masks.name: sha256_file(masks)} if masks else {}
    with _locked() as folder:
        known = next((record for record in records() if record.origin_sha256 == digest), None)
        if known is not None:
            return _add_again(known, path, name, masks_given, embeddings)
        if smplx.is_smplx(path):
            if masks or embeddings:
                raise UsageError(f"{path.name} is a body: it takes no masks and no embeddings", "Leave them out")
            return _add_body(folder, path, name, digest)
        file = flame.read_flame(path)
        chosen = name or _default_name(file)
        _check_free(chosen, path)
        model, notes = flame.to_head_model(file, chosen, flame.read_masks(masks) if masks else None)
        model = dataclasses.replace(model, sha256=head_model.content_sha256(model))
        record = Record(
            name=chosen,
            licence=file.licence,
            version=file.version,
            origin=path.name,
            origin_sha256=digest,
            model_sha256=model.sha256,
            masks=masks_given,
            notes=tuple(f"{note.what}: {note.found}" for note in notes if not note.what.startswith("region")),
        )
        read = _read_embeddings(embeddings, model)
        with _complete_or_absent(folder / chosen) as fresh:
            head_model.save(model, fresh / MODEL)
            _write_record(fresh, _put_embeddings(fresh, record, read))
        LOGGER.info("added %s as %s", path, chosen)
        return chosen


def _add_body(folder: Path, path: Path, name: str | None, digest: str) -> str:
    """Convert an SMPL-X file; returns the model's name."""
    file = smplx.read_smplx(path)
    chosen = name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._").lower() or "smplx"
    _check_free(chosen, path)
    model = smplx.to_body_model(file, chosen)
    sha256 = body_model.content_sha256(model)
    notes = tuple(f"{note.what}: {note.found}" for note in file.findings if not note.good)
    record = Record(chosen, file.licence, "smplx", path.name, digest, sha256, notes=notes, kind="body")
    with _complete_or_absent(folder / chosen) as fresh:
        body_model.save(model, fresh / MODEL)
        _write_record(fresh, record)
    LOGGER.info("added %s as %s", path, chosen)
    return chosen


def _check_free(chosen: str, path: Path) -> None:
    """Raise UsageError for a name that cannot be used or is taken by another file."""
    _check_name(chosen)
    if (taken := record_of(chosen)) is not None:
        raise UsageError(
            f"the name {chosen!r} is taken by {taken.origin} (sha256 {taken.origin_sha256[:12]}...), "
            f"and {path.name} is another file",
            f"Give another --name, or remove the old one: `talkset models remove {chosen}`",
        )


def _add_again(
    known: Record, path: Path, name: str | None, masks: Mapping[str, str], embeddings: Sequence[Path]
) -> str:
    """The file is there already: only new embeddings change anything."""
    if name not in (None, known.name):
        raise UsageError(
            f"{path.name} is there already as {known.name!r}",
            f"Use that name, or remove it first: `talkset models remove {known.name}`",
        )
    if masks and set(masks.values()) != set(known.masks.values()):
        had = ", ".join(known.masks) or "no masks"
        raise UsageError(
            f"{known.name!r} was added with {had}, now with {', '.join(masks)}: another content hash, another model",
            f"Remove it first, `talkset models remove {known.name}`, and fit its clips again",
        )
    fresh = [given for given in embeddings if sha256_file(given) not in known.embeddings.values()]
    if fresh:
        read = _read_embeddings(fresh, head_model.load(known.path))
        _write_record(known.path.parent, _put_embeddings(known.path.parent, known, read))
    return known.name


@contextmanager
def _complete_or_absent(target: Path) -> Iterator[Path]:
    """A hidden folder that becomes `target` when all went well."""
    fresh = partial_path(target)
    with named_errors(target):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
    try:
        yield fresh
        with named_errors(target):
            if target.exists():  # a folder without a record: a removal that was killed
                shutil.rmtree(target)
            fresh.replace(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _read_embeddings(paths: Sequence[Path], model: HeadModel) -> dict[Path, Embedding]:
    """Embeddings by file. Raises UsageError when two are for the same detector."""
    read = {path: official.read_official(path, model) for path in paths}
    points = [embedding.detector for embedding in read.values()]
    if len(set(points)) != len(points):
        names = ", ".join(path.name for path in read)
        raise UsageError(f"two embeddings for the same number of points: {names}", "Give one for each detector")
    return read


def _put_embeddings(folder: Path, record: Record, read: Mapping[Path, Embedding]) -> Record:
    """Write embeddings into a model's folder; the record then names them."""
    files, points = dict(record.embeddings), dict(record.points)
    for path, embedding in read.items():
        digest = sha256_file(path)
        stored = f"embedding-{embedding.detector}-{digest[:12]}.npz"
        save_embedding(embedding, folder / stored)
        files[path.name], points[embedding.detector] = digest, stored
    return dataclasses.replace(record, embeddings=files, points=points)


def official_embedding(model: HeadModel, detector: str) -> Embedding | None:
    """The official embedding that was added for a detector's points on this very model, or None.

    Points that it leaves out have `samples` 0 and an infinite `spread_m`. Raises TalksetError("corrupt_data") for a
    damaged file.
    """
    record, points = record_of(model.name), official.points_of(detector)
    if record is None or record.model_sha256 != model.sha256 or str(points) not in record.points:
        return None
    stored = load_embedding(record.path.parent / record.points[str(points)])
    return official.for_detector(stored, detector)


def official_digest(model_name: str, detector: str) -> str:
    """What tells one official embedding from another, "" without one: part of the key of every fit with it."""
    record = record_of(model_name)
    return record.points.get(str(official.points_of(detector)), "") if record else ""


def remove(name: str) -> None:
    """Delete an added model; its record goes first, so that a killed removal leaves no half model."""
    with _locked() as folder, named_errors(folder / name):
        (folder / name / RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder / name)


def _default_name(file: flame.FlameFile) -> str:
    known = {"2020": "flame2020", "2023": "flame2023", "2023-open": "flame2023-open"}
    return known.get(file.version) or re.sub(r"[^A-Za-z0-9._-]+", "-", file.path.stem).strip("-._") or "flame"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name.startswith((open_head.NAME, open_body.NAME)):
        message = f"{name!r} cannot be the name of a model"
        own = f"{open_head.NAME!r} or {open_body.NAME!r}"
        raise UsageError(message, f"Give letters, digits, '.', '_' or '-', not beginning with {own}")


def examine(path: Path) -> list[Finding]:
    """Everything that is found out about a file: FLAME model, masks or landmark embedding."""
    if not path.is_file():
        raise TalksetError("missing_file", f"{path} does not exist or is no file", "Give the path of a file")
    head = [Finding("file", str(path)), Finding("sha256", sha256_file(path))]
    if path.suffix.lower() == ".npy":
        return [*head, *_contents(load_npy(path))]
    if path.suffix.lower() == ".npz":
        stored: Any = load_npz(path)
        if "v_template" not in stored:
            return [*head, *_contents(stored)]
        if smplx.is_smplx(path):
            body = smplx.read_smplx(path)
            return [*head, Finding("licence", body.licence), *body.findings]
    elif flame.is_masks(load_pickle(path)):
        return [*head, *_masks(path)]
    file = flame.read_flame(path)
    model, notes = flame.to_head_model(file, _default_name(file))
    licence = Finding("licence", model.licence)
    return [*head, licence, *file.findings, *notes]


def _masks(path: Path) -> list[Finding]:
    return [
        Finding(
            f"region {name}", f"{len(ids)} vertices", str(flame.MASK_SIZES[name]), len(ids) == flame.MASK_SIZES[name]
        )
        for name, ids in flame.read_masks(path).items()
    ]


def _contents(stored: Any) -> list[Finding]:
    """Arrays of a landmark embedding, which can only be checked against its model when it is added."""
    if not isinstance(stored, dict) or not {"landmark_indices", "full_lmk_faces_idx"} & set(stored):
        raise UsageError("the file holds neither a FLAME model nor a landmark embedding", "See docs/models.md")
    arrays = {str(key): np.asarray(value) for key, value in stored.items()}
    return [Finding(key, f"{array.shape} {array.dtype}") for key, array in sorted(arrays.items())]


def examine_body(model: BodyModel) -> list[Finding]:
    """What a body model of this installation is; its arrays were checked against its hash by loading it."""
    return _examined(model)


def examine_model(model: HeadModel) -> list[Finding]:
    """What a model of this installation is; its arrays were checked against its hash by loading it."""
    return [
        *_examined(model),
        *(Finding(f"region {key}", f"{len(ids)} vertices") for key, ids in sorted(model.regions.items())),
    ]


def _examined(model: HeadModel | BodyModel) -> list[Finding]:
    findings = [
        Finding("name", model.name),
        Finding("sha256", model.sha256),
        Finding("licence", model.licence),
        Finding("vertices, triangles", f"{model.num_vertices}, {len(model.faces)}"),
        Finding("identity, expression", f"{model.num_shape}, {model.num_expression}"),
    ]
    record = record_of(model.name)
    if record is not None:
        files = {record.origin: record.origin_sha256} | record.masks | record.embeddings
        findings += [Finding(f"from {name}", digest) for name, digest in files.items()]
        findings += [Finding("noted", note) for note in record.notes]
    return findings
