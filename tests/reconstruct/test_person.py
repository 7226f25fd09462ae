"""A person found from several clips: nearer to the truth than from one, and the same in whatever order they come."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.embedding import Embedding
from reconstruct.fit import fit_clip
from reconstruct.fitting.problem import Known
from reconstruct.models.head_model import HeadModel
from reconstruct.person import Evidence, clip_evidence, fuse, fuse_focal
from reconstruct.reprojection import reprojected
from schemas.config import FitConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import Float32, HeadTrack, LandmarkTrack
from synthetic.evaluate import similarity
from synthetic.known_truth import KnownClip, model_clip

CONFIG = FitConfig()
NOISE_PX = 1.0
FRAMES = 40


@dataclasses.dataclass(frozen=True)
class Person:
    clips: list[KnownClip]
    evidence: list[Evidence]


@pytest.fixture(scope="module")
def person(open_head: HeadModel, embedding: Embedding) -> Person:
    """Three noisy clips of one identity with different motion and cameras."""
    shape = model_clip(open_head, embedding, seed=11, frames=4).truth.shape
    clips = [clip_of(open_head, embedding, shape, seed) for seed in (111, 112, 113)]
    found = [
        clip_evidence(open_head, embedding, clip.landmarks, CONFIG, f"clip {number}")
        for number, clip in enumerate(clips)
    ]
    return Person(clips, found)


def clip_of(model: HeadModel, embedding: Embedding, shape: Float32, seed: int) -> KnownClip:
    """The performance of a random clip by the head with that shape, with noise on its landmarks."""
    clip = model_clip(model, embedding, seed, FRAMES)
    truth = dataclasses.replace(clip.truth, shape=shape)
    pixels = reprojected(model, embedding, truth)
    pixels += NOISE_PX * np.random.default_rng(seed).normal(size=pixels.shape)
    landmarks = dataclasses.replace(clip.landmarks, face_xy=pixels.astype(np.float32))
    return KnownClip(truth, landmarks)


def shape_of(known: Known) -> Float32:
    """The shape that was found."""
    assert known.shape is not None
    return known.shape


def own_lens(evidence: list[Evidence]) -> dict[str, str]:
    return {clip.clip_id: clip.clip_id for clip in evidence}


def one_lens(evidence: list[Evidence]) -> dict[str, str]:
    return dict.fromkeys(own_lens(evidence), "camera")


def error_mm(model: HeadModel, shape: NDArray[Any], truth: HeadTrack) -> float:
    """Mean distance of the neutral face's vertices after similarity alignment."""
    face = model.regions["face"].astype(np.int64)
    found, true = (model.v_template[face] + model.identity[face] @ values for values in (shape, truth.shape))
    scale, rotation, offset = similarity(found[None].astype(np.float64), true[None].astype(np.float64))
    return 1000 * float(np.linalg.norm(scale[0] * found @ rotation[0].T + offset[0] - true, axis=1).mean())


def test_three_clips_know_more_than_each(person: Person, open_head: HeadModel) -> None:
    known = fuse(person.evidence, own_lens(person.evidence), CONFIG)
    truth = person.clips[0].truth
    together = error_mm(open_head, shape_of(known["clip 0"]), truth)
    alone = [error_mm(open_head, clip.shape, truth) for clip in person.evidence]
    assert together < min(alone)
    assert len({shape_of(known[name]).tobytes() for name in known}) == 1
    assert len({known[name].focal_px for name in known}) == 3


def test_the_order_does_not_matter(person: Person) -> None:
    for lens in (own_lens(person.evidence), one_lens(person.evidence)):
        results = [fuse(list(order), lens, CONFIG) for order in itertools.permutations(person.evidence)]
        results_focal = [fuse_focal(list(order), CONFIG) for order in itertools.permutations(person.evidence)]
        for found in (results, results_focal):
            for name in found[0]:
                assert len({shape_of(result[name]).tobytes() for result in found}) == 1
                assert len({result[name].focal_px for result in found}) == 1


def test_one_clip_keeps_its_own_shape(person: Person) -> None:
    alone = person.evidence[1]
    for known in (fuse([alone], {"clip 1": "x"}, CONFIG), fuse_focal([alone], CONFIG)):
        np.testing.assert_array_equal(shape_of(known["clip 1"]), alone.shape.astype(np.float32))
        assert known["clip 1"].focal_px == float(np.exp(alone.log_focal))


def test_key_frames_know_nearly_as_much_as_the_clip(person: Person, open_head: HeadModel, embedding: Embedding) -> None:
    key_frames, whole = 0.0, 0.0
    for clip, evidence in zip(person.clips, person.evidence, strict=True):
        fitted = fit_clip(open_head, embedding, clip.landmarks, CONFIG)
        key_frames += error_mm(open_head, evidence.shape, clip.truth)
        whole += error_mm(open_head, fitted.shape, clip.truth)
    assert key_frames < 1.1 * whole


def brute_force(evidence: list[Evidence], lenses: list[int], shapes: list[int]) -> NDArray[np.float64]:
    """(unknowns,) minimum of the sum of all quadratics with their priors, written down as one dense system."""
    size, count = len(evidence[0].shape), max(shapes) + 1
    total = count * size + max(lenses) + 1
    matrix, right = np.zeros((total, total)), np.zeros(total)
    prior = np.append(np.full(size, CONFIG.shape_weight), CONFIG.focal_weight)
    for clip, lens, shape in zip(evidence, lenses, shapes, strict=True):
        columns = [*range(shape * size, (shape + 1) * size), count * size + lens]
        whole = clip.information + clip.prior_frames * np.diag(prior)
        matrix[np.ix_(columns, columns)] += whole
        right[columns] += whole @ np.append(clip.shape, clip.log_focal)
    return np.linalg.solve(matrix, right)


def test_it_is_the_minimum_of_the_sum(person: Person) -> None:
    evidence, size = person.evidence, len(person.evidence[0].shape)
    for groups, places in ((own_lens(evidence), [0, 1, 2]), (one_lens(evidence), [0, 0, 0])):
        expected = brute_force(evidence, places, [0, 0, 0])
        known = fuse(evidence, groups, CONFIG)
        for clip, place in zip(evidence, places, strict=True):
            np.testing.assert_allclose(shape_of(known[clip.clip_id]), expected[:size], atol=1e-4)
            assert known[clip.clip_id].focal_px == pytest.approx(np.exp(expected[size + place]), rel=1e-5)
    expected = brute_force(evidence, [0, 0, 0], [0, 1, 2])
    known = fuse_focal(evidence, CONFIG)
    for number, clip in enumerate(evidence):
        own = expected[number * size : (number + 1) * size]
        np.testing.assert_allclose(shape_of(known[clip.clip_id]), own, atol=1e-4)
        assert known[clip.clip_id].focal_px == pytest.approx(np.exp(expected[-1]), rel=1e-5)


def test_a_clip_that_knows_nothing_changes_nothing(person: Person) -> None:
    last = person.evidence[2]
    blind = dataclasses.replace(last, information=0 * last.information, prior_frames=1e-9, shape=last.shape + 3)
    with_it = fuse([*person.evidence[:2], blind], own_lens(person.evidence), CONFIG)
    without = fuse(person.evidence[:2], own_lens(person.evidence), CONFIG)
    np.testing.assert_allclose(shape_of(with_it["clip 0"]), shape_of(without["clip 0"]), atol=1e-4)


def test_a_known_focal_length_stays(person: Person, open_head: HeadModel, embedding: Embedding) -> None:
    config = dataclasses.replace(CONFIG, focal_px=900.0)
    evidence = [
        clip_evidence(open_head, embedding, clip.landmarks, config, str(number))
        for number, clip in enumerate(person.clips[:2])
    ]
    assert all(clip.log_focal == pytest.approx(np.log(900), abs=1e-6) for clip in evidence)
    assert np.linalg.norm(evidence[0].information) < 1e9  # the pull to the known value is no part of it
    for known in (fuse(evidence, own_lens(evidence), config), fuse_focal(evidence, config)):
        assert {found.focal_px for found in known.values()} == {900.0}


def test_a_clip_is_fitted_with_the_person_it_is_given(
    person: Person, open_head: HeadModel, embedding: Embedding
) -> None:
    known = fuse(person.evidence, own_lens(person.evidence), CONFIG)
    for clip, (_, found) in zip(person.clips[:2], sorted(known.items()), strict=False):
        head = fit_clip(open_head, embedding, clip.landmarks, CONFIG, Known(found.shape, found.focal_px))
        np.testing.assert_allclose(head.shape, shape_of(found), atol=1e-5)
        assert head.focal_px == pytest.approx(found.focal_px)
        assert head.nme[head.valid].mean() < 0.02


def test_a_frame_of_wrong_landmarks_alone_is_survived(
    person: Person, open_head: HeadModel, embedding: Embedding
) -> None:
    track = person.clips[0].landmarks
    points = track.face_xy.copy()
    points[0] = np.random.default_rng(1).uniform(0, 400, points[0].shape)  # the first frame is a key frame
    found = clip_evidence(open_head, embedding, dataclasses.replace(track, face_xy=points), CONFIG)
    assert np.isfinite(found.information).all()
    assert error_mm(open_head, found.shape, person.clips[0].truth) < 3


def test_what_cannot_be(person: Person, open_head: HeadModel, embedding: Embedding) -> None:
    with pytest.raises(UsageError, match="no clip"):
        fuse([], {}, CONFIG)
    with pytest.raises(UsageError, match="no clip"):
        fuse_focal([], CONFIG)
    track: LandmarkTrack = person.clips[0].landmarks
    with pytest.raises(TalksetError) as caught:
        clip_evidence(open_head, embedding, dataclasses.replace(track, valid=np.zeros(FRAMES, bool)), CONFIG)
    assert caught.value.reason == "face_lost"
    with pytest.raises(TalksetError) as caught:
        clip_evidence(open_head, embedding, dataclasses.replace(track, face_xy=track.face_xy[:, :68]), CONFIG)
    assert caught.value.reason == "corrupt_data"
