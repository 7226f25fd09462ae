"""Reads pocketsphinx' English acoustic model and tells how well each state of a phone fits each frame of sound.

A phonetically tied mixture: each of 42 phones has 128 Gaussians in each of three feature streams, and each of some
5,000 tied states ("senones") weighs those of its phone. Formats after CMU Sphinx (`bin_mdef.c`, `ptm_mgau.c`, BSD).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import TalksetError

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

SILENCE: Final = "SIL"
BEGIN, END, SINGLE, INSIDE = "b", "e", "s", "i"
"""Where a phone stands in its word."""

_POSITIONS: Final = {INSIDE: 0, BEGIN: 1, END: 2, SINGLE: 3}
_STATES: Final = 3
_VARIANCE_FLOOR: Final = 1e-4
_LEAST: Final = np.float32(-70.0)
"""Below this nothing counts; products of numbers too small for float32 would also take ten times as long."""
_BLOCK: Final = 160
"""Frames evaluated at once, to bound the memory."""
_PROBABILITY: Final = np.exp(-1024 * math.log(1.0001) * np.arange(256)).astype(np.float32)
"""Mixture weights are stored as negative logarithms to the engine's base 1.0001, shifted by 10 bits."""


@dataclass(frozen=True)
class AcousticModel:
    """Senones of phones in context, and their likelihoods."""

    phones: tuple[str, ...]
    """Context-independent phones, silence and noises among them."""
    stay: Float32
    """(phones, 3) natural logarithm of the probability of staying in a state for another 10 ms."""
    _senones: Int64
    """(senone sequences, 3)"""
    _own: Int64
    """(phones,) senone sequence without context."""
    _tree: NDArray[Any]
    _triphone: Int64
    """(all phones,) senone sequence."""
    _codebook: Int64
    """(senones,) phone whose Gaussians it weighs."""
    _gaussians: Float32
    """(3 streams, phones, 27, 128): logarithm of a Gaussian as a linear function of squares, values and 1."""
    _weights: NDArray[np.uint8]
    """(3 streams, 128, senones)"""

    def states(self, phone: str, left: str = SILENCE, right: str = SILENCE, position: str = "") -> Int64:
        """(3,) senones of a phone between two others; without position, or where the context was never seen, of the
        phone alone.
        """
        centre = self.phones.index(phone)
        if not position or phone == SILENCE:
            return np.asarray(self._senones[self._own[centre]])
        found = self._lookup(_POSITIONS[position], centre, self.phones.index(left), self.phones.index(right))
        for other in _POSITIONS.values():  # as the engine does: the same context elsewhere in a word
            if found is None:
                found = self._lookup(other, centre, self.phones.index(left), self.phones.index(right))
        return np.asarray(self._senones[self._own[centre] if found is None else found])

    def _lookup(self, position: int, centre: int, left: int, right: int) -> int | None:
        """Senone sequence at the leaf of the tree of contexts."""
        first, count = 0, len(_POSITIONS)
        for value in (position, centre, left, right):
            level = self._tree[first : first + count]
            match = np.flatnonzero(level["ctx"] == value)
            if not len(match):
                return None
            node = level[match[0]]
            first, count = int(node["down"]), int(node["n_down"])
        return int(self._triphone[first])

    def log_likelihoods(self, features: Float32, senones: Int64) -> Float32:
        """(T, n) natural logarithm of the density of (T, 3, 13) features in each of (n,) senones.

        In each stream a Gaussian that is worse than the best of all phones by more than 70 counts as that.
        """
        order = np.argsort(self._codebook[senones], kind="stable")
        books, first = np.unique(self._codebook[senones[order]], return_index=True)
        spans = list(itertools.pairwise([*first.tolist(), len(senones)]))
        weights = [_PROBABILITY[part[:, senones[order]]] for part in self._weights]
        gaussians = self._gaussians[:, books].transpose(0, 2, 1, 3).reshape(3, -1, 128 * len(books))
        result = np.zeros((len(features), len(senones)), np.float32)
        for start in range(0, len(features), _BLOCK):
            block = features[start : start + _BLOCK]
            rows = np.concatenate([block**2, block, np.ones_like(block[..., :1])], axis=2).transpose(1, 0, 2)
            total = np.empty((len(block), len(senones)), np.float32)
            for stream in range(3):
                density = np.ascontiguousarray(rows[stream]) @ gaussians[stream]
                best = density.max(axis=1, keepdims=True)
                np.maximum(np.subtract(density, best, out=density), _LEAST, out=density)
                np.exp(density, out=density)
                for index, (low, high) in enumerate(spans):
                    part = density[:, 128 * index : 128 * (index + 1)]
                    np.matmul(part, weights[stream][:, low:high], out=total[:, low:high])
                result[start : start + _BLOCK] += np.log(total) + best
        return np.asarray(result[:, np.argsort(order)])


def read_acoustic_model(folder: Path) -> AcousticModel:
    """Read a model folder (mdef, means, variances, sendump, transition_matrices).

    Raises TalksetError(corrupt_data) where it is not such a model.
    """
    try:
        return _read(folder)
    except (OSError, ValueError, IndexError, KeyError) as error:
        message = f"the acoustic model in {folder} cannot be read ({error})"
        raise TalksetError("corrupt_data", message, "Install pocketsphinx again") from error


def _read(folder: Path) -> AcousticModel:
    data = (folder / "mdef").read_bytes()
    if data[:4] != b"BMDF":
        raise ValueError("mdef is not a binary model definition")
    place = 12 + int.from_bytes(data[8:12], "little")
    counts = np.frombuffer(data, "<i4", 10, place)
    phone_count, all_phones, states, _, senone_count, _, sequences, _, tree_size, _ = (int(value) for value in counts)
    if states != _STATES:
        raise ValueError(f"{states} states a phone, expected {_STATES}")
    place += 40
    names = []
    start = place
    for _ in range(phone_count):
        end = data.index(b"\0", place)
        names.append(data[place:end].decode("ascii"))
        place = end + 1
    place = start + (place - start + 3) // 4 * 4
    tree = np.frombuffer(data, [("ctx", "<i2"), ("n_down", "<i2"), ("down", "<i4")], tree_size, place)
    place += tree.nbytes
    entries = np.frombuffer(data, [("ssid", "<i4"), ("tmat", "<i4"), ("kind", "u1", 4)], all_phones, place)
    place += entries.nbytes + 4
    senones = np.frombuffer(data, "<u2", sequences * _STATES, place).reshape(sequences, _STATES).astype(np.int64)
    codebook = np.zeros(senone_count, np.int64)
    triphone = entries["ssid"].astype(np.int64)
    centre = np.concatenate([np.arange(phone_count), entries["kind"][phone_count:, 1]])
    codebook[senones[triphone]] = centre[:, np.newaxis]
    transitions = _transitions(folder / "transition_matrices")[entries["tmat"][:phone_count]]
    return AcousticModel(
        phones=tuple(names),
        stay=np.log(np.diagonal(transitions[:, :, :_STATES], axis1=1, axis2=2)).astype(np.float32),
        _senones=senones,
        _own=triphone[:phone_count],
        _tree=tree,
        _triphone=triphone,
        _codebook=codebook,
        _gaussians=_gaussians(_parameters(folder / "means"), _parameters(folder / "variances")),
        _weights=_mixture_weights(folder / "sendump", senone_count),
    )


def _body(path: Path) -> bytes:
    data = path.read_bytes()
    at = data.find(b"endhdr\n")
    if not data.startswith(b"s3\n") or data[at + 7 : at + 11] != b"\x44\x33\x22\x11":
        raise ValueError(f"{path.name} is not a little-endian parameter file")
    return data[at + 11 :]


def _parameters(path: Path) -> Float32:
    """(phones, streams, 128, 13) means or variances."""
    body = _body(path)
    books, streams, densities = (int(value) for value in np.frombuffer(body, "<i4", 3))
    lengths = np.frombuffer(body, "<i4", streams, 12)
    values = np.frombuffer(body, "<f4", books * densities * int(lengths.sum()), 16 + 4 * streams)
    return np.asarray(values.reshape(books, streams, densities, int(lengths[0])))


def _gaussians(means: Float32, variances: Float32) -> Float32:
    variance = np.maximum(variances, _VARIANCE_FLOOR).astype(np.float64)
    constant = -0.5 * (np.log(2 * np.pi * variance) + means**2 / variance).sum(axis=3, keepdims=True)
    rows = np.concatenate([-0.5 / variance, means / variance, constant], axis=3)
    return np.ascontiguousarray(rows.transpose(1, 0, 3, 2), np.float32)


def _transitions(path: Path) -> Float32:
    """(matrices, 3, 4) probabilities."""
    body = _body(path)
    count, rows, columns, _ = (int(value) for value in np.frombuffer(body, "<i4", 4))
    values = np.frombuffer(body, "<f4", count * rows * columns, 16).reshape(count, rows, columns)
    return np.asarray(values / values.sum(axis=2, keepdims=True))


def _mixture_weights(path: Path, senones: int) -> NDArray[np.uint8]:
    """(3, 128, senones) places in `_PROBABILITY`."""
    data = path.read_bytes()
    place, header = 0, []
    for _ in range(100):
        length = int.from_bytes(data[place : place + 4], "little")
        place += 4
        if not length:
            break
        header.append(data[place : place + length - 1].decode("ascii", "replace"))
        place += length
    facts: Mapping[str, str] = dict(line.split(" ", 1) for line in header if line.count(" ") == 1)
    if facts.get("cluster_count", "0") != "0" or facts.get("cluster_bits", "8") != "8":
        raise ValueError("sendump is clustered")
    rows, columns = (int(value) for value in np.frombuffer(data, "<i4", 2, place))
    if columns < senones:
        raise ValueError(f"sendump holds {columns} senones, expected {senones}")
    return np.frombuffer(data, np.uint8, 3 * rows * columns, place + 8).reshape(3, rows, columns)
