"""Left and right over a whole clip: which found hand is whose, and poses whose sides the network mixed up.

Both are shortest paths through the clip: what a frame says by itself (how near a wrist is, how a hand looks) plus how
far things would have to jump between frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.body.points import LEFT_SHOULDER, POSE_MIRROR, RIGHT_SHOULDER

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FAR_HAND: Final = 0.75
"""A hand whose wrist is farther than this from the pose's, in shoulder widths, belongs to nobody here."""
SAME_HAND: Final = 0.15
"""Two detections nearer than this (mean over points, in shoulder widths) are one hand."""
NO_HAND: Final = 4.0
"""Cost of finding no hand where one was found: more than a hand costs that looks like the other one and has jumped, so
that what the network sees near a wrist is kept."""
WRIST_COST: Final = 3.0
"""Of a wrist that is a shoulder width away from the pose's."""
LOOK_COST: Final = 1.0
"""Of a hand that surely looks like the other one."""
JUMP_COST: Final = 1.5
"""Of a jump by a shoulder width from a frame to the next, at most one such."""
SWAP_GAIN: Final = 0.5
"""The pose's sides are swapped where that makes the jump from frame to frame at least this much shorter, in widths."""


@dataclass(frozen=True)
class Hand:
    """A hand as the network found it."""

    xy: Float64
    """(21, 2) source pixels."""
    world: Float64
    """(21, 3) metres."""
    left: float
    """Probability that it is the subject's left hand, by its looks."""
    score: float
    """Of the detector, 0..1."""


def chosen_hands(pose: Float32, found: list[list[list[Hand]]]) -> list[tuple[Float32, Float32]]:
    """For left and right: points (T, 21, 3) with confidence and world places (T, 21, 3), NaN without a hand.

    Args: pose (T, 33, 3); found: for each frame, the hands in each square that was looked at. The same hand may be in
    several squares. A frame's states are all pairs of different hands, or none; the path through them
    is Viterbi's.
    """
    count = len(found)
    result = [
        (np.full((count, 21, 3), np.nan, np.float32), np.full((count, 21, 3), np.nan, np.float32)) for _ in range(2)
    ]
    width = _shoulder_px(pose)
    states: list[list[tuple[Hand | None, Hand | None]]] = []
    costs: list[Float64] = []
    back: list[NDArray[np.int64]] = []
    for index in range(count):
        hands = distinct_hands([hand for side in found[index] for hand in side], width)
        choices: list[Hand | None] = [None, *hands]
        own = [(a, b) for a in choices for b in choices if a is None or a is not b]
        cost = np.array([sum(_own_cost(pose[index], hand, side, width) for side, hand in enumerate(p)) for p in own])
        if index:
            jumps = np.array([[_jump(before, pair, width) for before in states[-1]] for pair in own])
            total = jumps + costs[-1]
            back.append(total.argmin(1))
            cost = cost + total.min(1)
        states.append(own)
        costs.append(cost)
    state = int(costs[-1].argmin()) if count else 0
    for index in range(count - 1, -1, -1):
        for side, hand in enumerate(states[index][state]):
            if hand is not None:
                result[side][0][index, :, :2], result[side][0][index, :, 2] = hand.xy, hand.score
                result[side][1][index] = hand.world
        if index:
            state = int(back[index - 1][state])
    return result


def repaired_pose(points: Float32, world: Float32) -> tuple[Float32, Float32]:
    """Poses (T, 33, 3) and places (T, 33, 4) with the sides of frames swapped that jump less from side to side so.

    Which of the two ways round the clip is follows from most of its frames.
    """
    known = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
    if len(known) < 2:
        return points, world
    width, mirror = _shoulder_px(points), list(POSE_MIRROR)
    swapped = np.zeros(len(points), dtype=bool)
    last = points[known[0], 11:17, :2]
    for index in known[1:]:
        here = points[index, 11:17, :2]
        there = points[index][mirror][11:17, :2]
        straight, crossed = (float(np.linalg.norm(p - last, axis=1).mean()) / width for p in (here, there))
        swapped[index] = crossed < straight - SWAP_GAIN
        last = there if swapped[index] else here
    if swapped[known].mean() > 0.5:
        swapped[known] = ~swapped[known]
    points, world = points.copy(), world.copy()
    points[swapped], world[swapped] = points[swapped][:, mirror], world[swapped][:, mirror]
    return points, world


def _shoulder_px(pose: Float32) -> float:
    apart = np.linalg.norm(pose[:, LEFT_SHOULDER, :2] - pose[:, RIGHT_SHOULDER, :2], axis=1)
    return max(float(np.nanpercentile(apart, 80)), 1.0) if np.isfinite(apart).any() else 1.0


def distinct_hands(hands: list[Hand], width: float) -> list[Hand]:
    """Without the repetitions of a hand; the surer one stays."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda hand: -hand.score):
        if all(np.linalg.norm(hand.xy - other.xy, axis=1).mean() > SAME_HAND * width for other in kept):
            kept.append(hand)
    return kept


def _own_cost(pose: Float32, hand: Hand | None, side: int, width: float) -> float:
    if hand is None:
        return NO_HAND
    away = float(np.linalg.norm(hand.xy[0] - pose[15 + side, :2])) / width
    if away > FAR_HAND:
        return 1e3
    wrong = 1 - hand.left if side == 0 else hand.left
    return WRIST_COST * away + LOOK_COST * wrong


def _jump(before: tuple[Hand | None, Hand | None], after: tuple[Hand | None, Hand | None], width: float) -> float:
    total = 0.0
    for old, new in zip(before, after, strict=True):
        if old is not None and new is not None:
            total += JUMP_COST * min(float(np.linalg.norm(old.xy - new.xy, axis=1).mean()) / width, 1.0)
    return total
