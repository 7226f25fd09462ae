"""Chains of stages, divided for the workers that can do them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pipelines.build import CLIP_STAGES, SOURCE_STAGES, stages_named
from pipelines.declarations import Environment, Needs, Resources
from pipelines.passes import passes
from pipelines.results import Result
from pipelines.stage import Job, Stage
from schemas.config import Config, load_config

CONFIG = load_config(None)
OTHER = Environment(("inflect==5.0.2",))


class Plain(Stage[Any]):
    def __init__(self, name: str, environment: Environment | None = None, **declared: Any) -> None:
        self.name, self._environment = name, environment
        self._resources: Resources = declared.pop("resources", Resources())
        vars(self).update(declared)

    def resources(self, config: Config) -> Resources:
        return self._resources

    def environment(self, config: Config) -> Environment | None:
        return self._environment

    def run(self, job: Job[Any]) -> Result:
        return Result()


def test_one_environment_is_one_pass_with_the_most_that_is_asked_for() -> None:
    chain = [
        Plain("a", resources=Resources(cpus=2.0, memory_mb=500), time_limit_s=10.0, batch=8),
        Plain("b", resources=Resources(gpus=0.5), time_limit_s=5.0, batch=4),
    ]
    (only,) = passes(chain, CONFIG)
    assert only.stages == ("a", "b")
    assert only.needs == Needs(Resources(2.0, 0.5, 500), None, 15.0, 4)


def test_the_chain_is_divided_where_the_environment_changes() -> None:
    chain = [Plain("a"), Plain("b", OTHER), Plain("c", OTHER), Plain("d")]
    found = passes(chain, CONFIG)
    assert [part.stages for part in found] == [("a",), ("a", "b", "c"), ("a", "b", "c", "d")]
    assert [part.needs.environment for part in found] == [None, OTHER, None]


def test_one_stage_without_a_limit_lifts_that_of_the_pass() -> None:
    (only,) = passes([Plain("a"), Plain("b", time_limit_s=None)], CONFIG)
    assert only.needs.time_limit_s is None


def test_limits_stretch_on_slow_machines() -> None:
    slow = load_config(None, ["run.time_scale=3"])
    (only,) = passes([Plain("a", time_limit_s=10.0)], slow)
    assert only.needs.time_limit_s == 30.0


def test_by_default_no_stage_needs_a_gpu_or_an_environment() -> None:
    for chain in (SOURCE_STAGES, CLIP_STAGES):
        (only,) = passes(stages_named(chain), CONFIG)
        assert only.needs.environment is None
        assert only.needs.resources == Resources()


def test_whisperx_gets_workers_of_its_own() -> None:
    settings = ["align.backend=whisperx", "align.whisperx.python=ray", "align.whisperx.device=cuda"]
    config = load_config(None, [*settings, "run.gpu_fraction=0.5"])
    found = passes(stages_named(SOURCE_STAGES), config)
    own = next(part for part in found if part.needs.environment is not None)
    assert own.stages[-1] == "words"
    assert own.needs.environment == Environment((config.align.whisperx.package,))
    assert own.needs.resources.gpus == 0.5


@pytest.mark.parametrize("backend", ["mediapipe", "face-alignment"])
def test_only_networks_that_use_a_gpu_ask_for_one(backend: str) -> None:
    landmarks = dataclasses.replace(CONFIG.landmarks, backend=backend)
    run = dataclasses.replace(CONFIG.run, gpu_fraction=0.25)
    config = dataclasses.replace(CONFIG, landmarks=landmarks, run=run)
    (stage,) = stages_named(["landmarks"])
    assert stage.resources(config).gpus == (0.25 if backend == "face-alignment" else 0.0)
