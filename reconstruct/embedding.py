"""Landmark embedding: which surface point of a model is point i of a detector; its values and its files.

The code that computes it is in reconstruct.calibration: who only reads one, or asks for its name, need not load torch.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from reconstruct.cache import cache_folder
from reconstruct.models.head_model import HeadModel, write_npz
from schemas.errors import TalksetError

LOGGER = logging.getLogger(__name__)
VERSION: Final = 4
"""Raise when embeddings of the same model and detector change."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """Surface points of one model for the landmarks of one detector; compared by identity, as arrays are inside."""

    detector: str
    model_sha256: str
    vertices: NDArray[np.int64]
    """(L, 3) vertex ids of each landmark's triangle."""
    barycentric: NDArray[np.float32]
    """(L, 3) weights that sum to one."""
    spread_m: NDArray[np.float32]
    """(L,) RMS distance of the lifted detections from the point: how firmly the landmark sits on the surface; infinite
    for a landmark that is not embedded."""
    samples: NDArray[np.int32]
    """(L,) detections that were lifted, 1 for a point of an official embedding, 0 for a landmark that is not embedded:
    its triangle and weights mean nothing, and whoever reads them leaves it out."""
    offset_m: NDArray[np.float32]
    """(L, 3) from the surface point to where the detector sees it on the mean head, metres in the rest pose."""
    response: NDArray[np.float32]
    """(L, 3, S) how that changes with the shape coefficients; see reconstruct.response."""

    @property
    def embedded(self) -> NDArray[np.bool_]:
        """(L,) whether a landmark has a place on the model."""
        return np.asarray(self.samples > 0)

    def on_surface(self) -> Embedding:
        """The same for a detector that sees every landmark at its surface point."""
        return dataclasses.replace(self, offset_m=np.zeros_like(self.offset_m), response=np.zeros_like(self.response))


def embedding_path(model_sha256: str, detector: str) -> Path:
    """Cache file of an embedding, keyed by the model's content and the detector."""
    safe = "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in detector)
    return cache_folder() / "embeddings" / f"{model_sha256[:16]}-{safe}-v{VERSION}.npz"


def cached_embedding(model: HeadModel, detector: str, compute: Callable[[], Embedding]) -> Embedding:
    """Load an embedding from the cache, or compute and keep it; safe to call from many processes."""
    path = embedding_path(model.sha256, detector)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            LOGGER.info("embedding the landmarks of %s on %s", detector, model.name)
            save_embedding(compute(), path)
        return load_embedding(path)


def load_embedding(path: Path) -> Embedding:
    """Read what `save_embedding` wrote. Raises TalksetError corrupt_data for anything else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            fields = {field.name: stored[field.name] for field in dataclasses.fields(Embedding) if field.name in stored}
            if "offset_m" not in fields:  # written before detectors' offsets were measured
                count = len(fields["samples"])
                fields |= {
                    "offset_m": np.zeros((count, 3), np.float32),
                    "response": np.zeros((count, 3, 0), np.float32),
                }
            embedding = Embedding(**json.loads(str(stored["meta"])), **fields)
            _check_shapes(embedding)
            return embedding
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        message = f"{path} is no landmark embedding ({error})"
        raise TalksetError("corrupt_data", message, "Remove the file; it is made again when it is needed") from error


def _check_shapes(embedding: Embedding) -> None:
    """Raise ValueError unless every landmark has a triangle, weights, a spread and a count that can be used."""
    count = len(embedding.samples)
    shapes = {"vertices": (count, 3), "barycentric": (count, 3), "spread_m": (count,), "samples": (count,)}
    shapes |= {"offset_m": (count, 3), "response": (count, 3, *embedding.response.shape[2:3])}
    for name, shape in shapes.items():
        if getattr(embedding, name).shape != shape:
            raise ValueError(f"{name} has shape {getattr(embedding, name).shape}, expected {shape}")
    if not np.isfinite(embedding.barycentric).all() or not np.isfinite(embedding.spread_m[embedding.embedded]).all():
        raise ValueError("its weights or spreads are not finite")
    if not (np.isfinite(embedding.offset_m).all() and np.isfinite(embedding.response).all()):
        raise ValueError("its offsets are not finite")


def save_embedding(embedding: Embedding, path: Path) -> None:
    """Write an embedding as .npz, completely or not at all. Raises TalksetError disk_full or not_writable."""
    arrays: dict[str, Any] = dataclasses.asdict(embedding)
    meta = {name: arrays.pop(name) for name in ("detector", "model_sha256")}
    write_npz(path, arrays | {"meta": np.array(json.dumps(meta))})
