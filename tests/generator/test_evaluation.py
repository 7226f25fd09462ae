"""Evaluation: truth has no error, the baselines are what they are called, retrieval and emotions by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from generator.api import Motion, Speaker
from generator.baselines import REACH, Heard, NearestInSound, copied, mean_face
from generator.data import selected
from generator.evaluate import (
    GENERATOR,
    RETRIEVAL,
    RETRIEVAL_STATISTICAL,
    TRUTH,
    Evaluation,
    Report,
    StyleJudge,
    evaluate,
    inner_lips,
)
from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError
from talkset.dataset import Dataset
from talkset.demo_train import judge
from talkset.generated import style_statistics, viseme_rules


def clip(name: str, sounds: list[int], motion: list[float]) -> Heard:
    """Sound k is a one at place k of its features."""
    features = np.eye(12, dtype=np.float32)[sounds]
    return Heard(name, features, np.array(motion, np.float32)[:, None], np.ones(len(sounds), bool))


def test_baselines_by_hand() -> None:
    one = clip("one", [*range(11)], [*range(11)])
    other = clip("other", [*range(10, -1, -1)], [*range(70, 81)])
    assert mean_face([one, other])[0] == pytest.approx((55 + 11 * 75) / 22)
    found = NearestInSound([one, other])(one.features)[:, 0]
    assert found[2 * REACH : -2 * REACH] == pytest.approx([4, 5, 6])  # where all pieces that overlap are known
    blind = Heard("blind", one.features, np.full((11, 1), 99, np.float32), np.zeros(11, bool))
    assert NearestInSound([blind, one])(one.features)[5, 0] == pytest.approx(5)  # not valid: not taken
    assert copied(np.array([[1.0], [2.0]], np.float32), 5)[:, 0].tolist() == [1, 2, 2, 1, 1]
    with pytest.raises(UsageError, match="no training clip is long enough"):
        NearestInSound([clip("short", [0, 1], [0, 1])])


def test_inner_lips_are_where_the_lips_meet(open_head: HeadModel) -> None:
    ids = inner_lips(open_head)
    heights = open_head.v_template[ids, 1]
    lips = open_head.v_template[open_head.regions["lips"], 1]
    assert len(ids) >= 4
    assert np.ptp(heights) < 0.5 * np.ptp(lips)


def test_truth_has_no_error_and_every_metric_is_there(speaker: Speaker, dataset: Dataset) -> None:
    def recognise(motion: Motion) -> str:
        return "anger"

    test, train = selected(dataset, "test"), selected(dataset)
    rules = viseme_rules(speaker.model)
    embed = style_statistics(speaker.model)
    report = evaluate(speaker, test, train, seeds=(0, 1), recognise=recognise, embed=embed, rules=rules, second=dataset)
    truth, made = report.figures[TRUTH], report.figures[GENERATOR]
    for name in ("lve_l2", "lve_sq", "mod", "mve", "fdd_std_sq", "fdd_motion"):
        assert truth[name].mean == pytest.approx(0, abs=2e-3)
        assert report.figures["tracker's noise floor"][name].mean == pytest.approx(0, abs=2e-3)  # the same fit
    assert made["lve_l2"].mean > 0.5
    assert made["lve_sq"].mean >= made["lve_l2"].mean ** 2
    assert made["diversity_samples"].mean > 0
    assert np.isfinite(made["lve_l2"].half_width)
    assert {RETRIEVAL, RETRIEVAL_STATISTICAL} <= set(made) & set(truth) & set(report.figures["chance"])
    assert set(report.figures) >= {"mean face", "nearest in sound", "copy of another clip", "viseme rules", "chance"}
    by_label = report.facts["emotion_recognised_by_label"]
    assert made["emotion_recognised"].mean == pytest.approx(by_label.get("anger", 0.0) / max(len(by_label), 1))
    assert {"onset_detector", "beat_sigma_s", "seeds", "test_clips"} <= set(report.facts)
    assert report.to_json()["figures"][TRUTH]["lve_l2"][1] is None


def test_retrieval_leaves_out_the_clips_that_were_used(speaker: Speaker, dataset: Dataset) -> None:
    setting = Evaluation(speaker, dataset, selected(dataset))  # twelve clips of six manners, two of each
    vectors = {name: heard.motion for name, heard in setting.heard.items()}
    assert all(setting.groups[other] == setting.groups[name] != "" for name, other in setting.others.items())
    for by in setting.judges(lambda motion: motion.track.expression.mean(0)).values():
        assert np.isnan(setting.retrieval(vectors, by))  # both clips of a manner are in use, nothing is left to find
    assert np.isnan(setting.chance())


def test_a_style_judge_compares_what_was_made_with_real_clips_of_the_style_asked_for(
    speaker: Speaker, dataset: Dataset
) -> None:
    setting = Evaluation(speaker, dataset, selected(dataset))
    clips = list(setting.clips)
    setting.groups = {name: place % 3 for place, name in enumerate(clips)}  # four clips of each, so two are left
    setting.others = {name: clips[(place + 3) % len(clips)] for place, name in enumerate(clips)}
    vectors = {name: heard.motion for name, heard in setting.heard.items()}
    gallery = {name: np.eye(3, dtype=np.float32)[group] for name, group in setting.groups.items()}
    knows = StyleJudge(gallery, lambda name, vector: gallery[name], lengths_count=True)
    errs = StyleJudge(gallery, lambda name, vector: np.roll(gallery[name], 1), lengths_count=True)
    assert (setting.retrieval(vectors, knows), setting.retrieval(vectors, errs)) == (1, 0)
    assert setting.chance() == pytest.approx(2 / 10)


def test_style_statistics_tell_a_lively_head_from_a_still_one(speaker: Speaker, dataset: Dataset) -> None:
    embed = style_statistics(speaker.model)
    assert embed is not None
    setting = Evaluation(speaker, dataset, selected(dataset))
    name, heard = next(iter(setting.heard.items()))
    head = speaker.generator.layout.places("global_pose")
    made = [heard.motion.copy() for _ in range(3)]
    made[1][:, head] *= 0.9
    made[2][:, head] = made[2][:, head].mean(0)
    one, like, still = (embed(speaker.motion(torch.as_tensor(vector), setting.clips[name])) for vector in made)
    assert np.linalg.norm(one - like) < 0.5 * np.linalg.norm(one - still)


def test_the_demo_judges_against_the_baselines_of_its_run() -> None:
    report = Report()
    good = {"lve_l2": 3.0, "style_retrieval_top1": 0.6, "emotion_recognised": 0.8, "blinks_per_min": 12.0,
            "head_speed_deg_s": 7.0, "real_time_factor": 20.0}  # fmt: skip
    for name, value in good.items():
        report.put(GENERATOR, name, [value])
    report.put("mean face", "lve_l2", [4.1])
    report.put("nearest in sound", "lve_l2", [3.5])
    report.put("chance", "style_retrieval_top1", [0.1])
    assert all(check.good for check in judge(report))
    report.put("mean face", "lve_l2", [3.9])  # 3.0 is only 23 % below
    assert [check.good for check in judge(report)].count(False) == 1
    del report.figures[GENERATOR]["emotion_recognised"]
    assert [check.good for check in judge(report)].count(False) == 2
