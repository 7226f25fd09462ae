"""What poses are usual: a Gaussian about rest whose hands move in a few ways together, made of anatomy, not of data.

Fingers do not move alone: a hand mostly closes, spreads, and closes its outer fingers more than its inner ones; the
last joint of a finger follows the one before it at about two thirds (Santello et al. 1998; Rijpkema and Girard 1991).
The covariance is that of those few ways plus a little freedom of each joint.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.body.articulation import FINGERS, SIDES, Articulation

Float64 = NDArray[np.float64]
OWN: Final = 0.3
"""Part of a finger joint's variance that is its own."""
LAST_SHARE: Final = 0.67


def pose_prior(articulation: Articulation) -> Float64:
    """(P, P) precision of the motion of one frame about `rest`; zero for the root's translation."""
    spread = articulation.array("spread")
    free = np.array([freedom.name.startswith("translation") for freedom in articulation.freedoms])
    covariance = np.diag(spread**2)
    for side in SIDES:
        ids, ways = _ways_of_hand(articulation, side)
        own = OWN * spread[ids] ** 2
        covariance[np.ix_(ids, ids)] = ways @ ways.T + np.diag(own)
    precision = np.zeros_like(covariance)
    kept = np.flatnonzero(~free)
    precision[np.ix_(kept, kept)] = np.linalg.inv(covariance[np.ix_(kept, kept)])
    return precision


def _ways_of_hand(articulation: Articulation, side: str) -> tuple[list[int], Float64]:
    """Freedoms of the four fingers, and the ways (n, k) in which they move together, one standard deviation each."""
    names = [
        f"{side}_{finger}{bone}_{what}"
        for finger in FINGERS
        for bone, what in ((1, "abduction"), (1, "flexion"), (2, "flexion"), (3, "flexion"))
    ]
    ids = [articulation.index(name) for name in names]
    spread = articulation.array("spread")[ids].reshape(len(FINGERS), 4)
    gradient = np.linspace(-1, 1, len(FINGERS))
    ways = []
    for share, along in ((0.55, np.ones(len(FINGERS))), (0.25, gradient), (0.15, gradient**2 - 0.55)):
        knuckle, rest = np.zeros_like(spread), np.zeros_like(spread)
        knuckle[:, 1] = spread[:, 1] * along
        rest[:, 2] = spread[:, 2] * along
        rest[:, 3] = LAST_SHARE * spread[:, 2] * along
        ways += [np.sqrt(share) * way.ravel() for way in (0.7 * knuckle + 0.7 * rest, 0.7 * knuckle - 0.7 * rest)]
    for index in range(len(FINGERS)):  # the last two joints of each finger together
        way = np.zeros_like(spread)
        way[index, 2], way[index, 3] = spread[index, 2], LAST_SHARE * spread[index, 2]
        ways.append(0.4 * way.ravel())
    fan = np.zeros_like(spread)
    fan[:, 0] = -spread[:, 0] * gradient
    ways.append(0.8 * fan.ravel())
    return ids, np.stack(ways, axis=1)
