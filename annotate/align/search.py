"""The best path of known words through sound: a graph of phones in context, Viterbi search, and soft boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotate.align.acoustic_model import BEGIN, END, INSIDE, SILENCE, SINGLE, AcousticModel

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

GARBAGE: Final = "+SPN+"
"""Speech that is in no transcript: any phone, at a price."""

SILENCE_COST: Final = 3.0
"""Nats that a silence between two words costs, so that a closure is not taken for one."""
GARBAGE_COST: Final = 4.0
"""Nats that a frame of garbage costs over its best phone; right words cost about 1, wrong ones 5."""
SKIP_COST: Final = 150.0
"""Nats that leaving out a word of the transcript costs, where that is allowed."""
SHARPNESS: Final = 0.15
"""Exponent of likelihoods where boundaries are averaged: frames overlap, so each tells less than it seems to."""

_REACH: Final = 50
"""Frames by which an averaged boundary may leave the best path's."""
_GROUP: Final = 32
"""Phones whose boundaries are averaged at once; as many neighbours as `_CONTEXT` on either side take part."""
_CONTEXT: Final = 6

Variants = tuple[tuple[str, ...], ...]
"""Pronunciations of a word."""


@dataclass(frozen=True)
class Node:
    """A phone in context, a silence, or garbage, as a place in the graph."""

    phone: str
    word: int
    """Number of its word; a silence has that of the word before it, -1 before the first."""
    left: str = SILENCE
    right: str = SILENCE
    position: str = ""

    @property
    def spoken(self) -> bool:
        """Whether it is a phone of a word."""
        return bool(self.position)


@dataclass(frozen=True)
class Graph:
    """Places that a path may pass; `before[i]` are those from which it comes to place i."""

    nodes: tuple[Node, ...]
    before: tuple[tuple[int, ...], ...]
    toll: tuple[float, ...]
    """Nats to pay on entry."""
    first: tuple[int, ...]
    last: tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A node of the best path and its frames [start, stop)."""

    node: Node
    place: int
    """Number of the node in its graph."""
    start: int
    stop: int


@dataclass(frozen=True)
class Path:
    """The best path through T frames."""

    pieces: tuple[Piece, ...]
    fit: Float32
    """(T,) log likelihood of the path's state minus that of the best state of any phone: 0 is perfect."""


class _Builder:
    """Lays the words of a graph one after another."""

    def __init__(self, lenient: bool) -> None:
        self.nodes: list[Node] = []
        self.before: list[list[int]] = []
        self.toll: list[float] = []
        self.lenient = lenient
        self.ends: list[int] = []
        """Last phones of the word before."""
        self.gaps: list[int] = []
        """Silence, and garbage, after it."""
        self.close(-1)
        self.first = list(self.gaps)

    def add(self, node: Node, origins: Sequence[int], toll: float = 0.0) -> int:
        self.nodes.append(node)
        self.before.append(list(origins))
        self.toll.append(toll)
        return len(self.nodes) - 1

    def close(self, number: int) -> None:
        """Silence and garbage after a word; with `lenient` also a way past the word."""
        origins = [end for end in self.ends if self.nodes[end].right == SILENCE]
        silence = self.add(Node(SILENCE, number), origins, SILENCE_COST if number >= 0 else 0.0)
        past, self.gaps = self.gaps, [silence]
        if self.lenient:
            garbage = self.add(Node(GARBAGE, number), [*origins, silence], SILENCE_COST)
            self.before[silence].append(garbage)
            self.gaps.append(garbage)
            if past:  # three frames of silence, and the word was not said
                skipped = self.add(Node(SILENCE, number), past, SKIP_COST)
                self.before[silence].append(skipped)
                self.gaps.append(skipped)

    def word(self, number: int, variants: Variants, rights: Sequence[str]) -> None:
        """All pronunciations of a word; `rights` are the phones that may follow it."""
        ends: list[int] = []
        for phones in variants:
            origins = {SILENCE: list(self.gaps)}
            for end in self.ends:
                if self.nodes[end].right == phones[0]:
                    origins.setdefault(self.nodes[end].phone, []).append(end)
            for index, phone in enumerate(phones):
                final = index == len(phones) - 1
                made = [
                    self.add(Node(phone, number, left, right, _position(index, len(phones))), sources)
                    for left, sources in origins.items()
                    for right in (rights if final else (phones[index + 1],))
                ]
                if number == 0 and index == 0:
                    self.first += made
                origins = {phone: made}
                if final:
                    ends += made
        self.ends = ends
        self.close(number)


def word_graph(words: Sequence[Variants], lenient: bool = False, open_end: bool = False) -> Graph:
    """The words one after another, each in any of its pronunciations, with silences allowed around them.

    Phones at the edge of a word know the phone, or the silence, beyond it. With `lenient` there may be speech between
    the words that is in no transcript, and words may be left out. With `open_end` a path may end after any word, else
    after the last.
    """
    builder = _Builder(lenient)
    last: list[int] = []
    for number, variants in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else ()
        builder.word(number, variants, sorted({SILENCE} | {phones[0] for phones in following}))
        if open_end or number == len(words) - 1:
            last += builder.gaps
            last += [end for end in builder.ends if builder.nodes[end].right == SILENCE]
    before = tuple(tuple(origins) for origins in builder.before)
    if open_end:
        last += builder.first[:2]
    return Graph(tuple(builder.nodes), before, tuple(builder.toll), tuple(builder.first), tuple(last))


def _position(index: int, count: int) -> str:
    if count == 1:
        return SINGLE
    return BEGIN if index == 0 else END if index == count - 1 else INSIDE


class Scores:
    """Log likelihoods of every state that a graph, or a loop over all phones, asks for."""

    def __init__(self, model: AcousticModel, nodes: Sequence[Node], features: Float32) -> None:
        alone = np.stack([model.states(phone) for phone in model.phones])
        contexts = {(n.phone, n.left, n.right, n.position): alone[0] for n in nodes}
        contexts = {key: model.states(*key) for key in contexts}
        own = np.stack([contexts[n.phone, n.left, n.right, n.position] for n in nodes])
        senones, places = np.unique(np.concatenate([alone, own]), return_inverse=True)
        places = places.reshape(-1, 3)
        self.places: Int64 = np.asarray(places[len(alone) :])
        """(nodes, 3) columns of `values`."""
        likelihoods = model.log_likelihoods(features, senones)
        self.best: Float32 = likelihoods[:, np.unique(places[: len(alone)])].max(axis=1)
        """(T,) the best state of any phone without context."""
        self.places[[node.phone == GARBAGE for node in nodes]] = len(senones)
        garbage = self.best[:, np.newaxis] - np.float32(GARBAGE_COST)
        self.values: Float32 = np.concatenate([likelihoods, garbage], axis=1)
        """(T, states); the last is garbage."""
        numbers = [model.phones.index(node.phone) for node in nodes]
        stay = model.stay[numbers].astype(np.float64)
        self.stay: Float32 = stay.astype(np.float32)
        """(nodes, 3) logarithm of the probability to stay in a state."""
        self.leave: Float32 = np.log(-np.expm1(stay)).astype(np.float32)


def best_path(graph: Graph, scores: Scores) -> Path | None:
    """The path of the highest likelihood; None where none reaches the end in the time there is."""
    count, frames = len(graph.nodes), len(scores.values)
    width = max(len(origins) for origins in graph.before)
    origins = np.full((count, width), count)
    for index, nodes in enumerate(graph.before):
        origins[index, : len(nodes)] = nodes
    toll = np.array(graph.toll, np.float32)
    places = np.ascontiguousarray(scores.places.T)
    stay, leave = np.ascontiguousarray(scores.stay.T), np.ascontiguousarray(scores.leave.T)
    score = np.full((3, count), -np.inf, np.float32)
    score[0, list(graph.first)] = scores.values[0, places[0, list(graph.first)]]
    moves = np.zeros((frames, 3, count), np.bool_)
    entered: NDArray[Any] = np.zeros((frames, count), np.uint8 if width < 256 else np.int32)
    rows = np.arange(count)
    leaving = np.full(count + 1, -np.inf, np.float32)
    moved = np.empty_like(score)
    for t in range(1, frames):
        np.add(score[2], leave[2], out=leaving[:count])
        arriving = leaving[origins]
        choice = arriving.argmax(axis=1)
        entered[t] = choice
        moved[0] = arriving[rows, choice] - toll
        np.add(score[:2], leave[:2], out=moved[1:])
        score += stay
        np.greater(moved, score, out=moves[t])
        np.maximum(moved, score, out=score)
        score += scores.values[t][places]
    final = max(graph.last, key=lambda node: score[2, node])
    if not np.isfinite(score[2, final]):
        return None
    return _trace(graph, scores, origins, moves, entered, final)


def _trace(
    graph: Graph, scores: Scores, origins: Int64, moves: NDArray[np.bool_], entered: NDArray[Any], final: int
) -> Path:
    pieces: list[Piece] = []
    frames = len(moves)
    fit = np.empty(frames, np.float32)
    node, state, stop = final, 2, frames
    for t in range(frames - 1, -1, -1):
        fit[t] = scores.values[t, scores.places[node, state]] - scores.best[t]
        if t == 0:
            pieces.append(Piece(graph.nodes[node], node, 0, stop))
        elif moves[t, state, node]:
            if state:
                state -= 1
            else:
                pieces.append(Piece(graph.nodes[node], node, t, stop))
                node, state, stop = int(origins[node, entered[t, node]]), 2, t
    return Path(tuple(pieces[::-1]), fit)


def soft_boundaries(path: Path, scores: Scores) -> Float64:
    """(n + 1,) times in frames of the boundaries of a path's pieces: means of where they may lie.

    Forward and backward passes weigh all ways to divide the sound among the phones of the path, each by its likelihood
    to the power of `SHARPNESS`.
    """
    pieces = path.pieces
    times = np.array([0.0, *(float(piece.stop) for piece in pieces)])
    for begin in range(0, len(pieces), _GROUP):
        low, high = max(0, begin - _CONTEXT), min(len(pieces), begin + _GROUP + _CONTEXT)
        inner = _averaged(pieces[low:high], scores)
        upto = min(begin + _GROUP, len(pieces) - 1)
        times[begin + 1 : upto + 1] = inner[begin - low : upto - low]
    # neighbouring groups agree to a fraction of a frame; the order must hold exactly
    return np.maximum.accumulate(times)


def _averaged(pieces: Sequence[Piece], scores: Scores) -> Float64:
    """(n - 1,) means of the inner boundaries of consecutive pieces, in frames of the whole."""
    offset, end = pieces[0].start, pieces[-1].stop
    if len(pieces) < 2:
        return np.zeros(0)
    nodes = [piece.place for piece in pieces]
    logs = scores.values[offset:end, scores.places[nodes].reshape(-1)].astype(np.float64) * SHARPNESS
    times = np.arange(end - offset)[:, np.newaxis]
    near = np.repeat([piece.start - offset - _REACH for piece in pieces], 3)
    far = np.repeat([piece.stop - offset + _REACH for piece in pieces], 3)
    logs = np.where((times >= near) & (times < far), logs, -np.inf)
    emission = np.exp(logs - logs.max(axis=1, keepdims=True))
    keep, go = (np.exp(part[nodes].reshape(-1).astype(np.float64) * SHARPNESS) for part in (scores.stay, scores.leave))
    frames, count = emission.shape
    forward = np.zeros((frames, count))
    forward[0, 0] = 1.0
    for t in range(1, frames):
        now = forward[t - 1] * keep
        now[1:] += forward[t - 1, :-1] * go[:-1]
        now *= emission[t]
        forward[t] = now / now.sum()
    crossing = np.zeros((frames, len(pieces) - 1))
    backward = np.zeros(count)
    backward[-1] = 1.0
    for t in range(frames - 1, 0, -1):
        ahead = backward * emission[t]
        crossing[t] = (forward[t - 1, :-1] * go[:-1] * ahead[1:])[2::3]
        backward = ahead * keep
        backward[:-1] += ahead[1:] * go[:-1]
        backward /= backward.sum()
    return np.asarray(offset + (crossing * times).sum(axis=0) / crossing.sum(axis=0))
