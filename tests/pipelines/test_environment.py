"""A Ray runtime environment for real: a package that conflicts with talkset's, for one task alone.

Ray copies the whole virtual environment (about 4 GB) before it installs anything, so this is asked for by
`make test-environment`.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass

import pytest
from ray import cloudpickle

from pipelines.declarations import Environment, Needs
from pipelines.engines.ray import RayEngine
from schemas.errors import TalksetError

OLD = "5.0.2"
"""A version of inflect that talkset refuses."""
pytestmark = [
    pytest.mark.skipif("TALKSET_TEST_ENVIRONMENT" not in os.environ, reason="make test-environment (4 GB, minutes)"),
    pytest.mark.timeout(1800),
]


@dataclass(frozen=True)
class Version:
    """The version of inflect that a worker sees, and whether talkset's own code is there."""

    def __call__(self, item: int) -> tuple[int, str, str]:
        import inflect

        import pipelines.stage

        return item, inflect.engine().plural("ox") and importlib.metadata.version("inflect"), pipelines.stage.__name__


def test_a_stage_gets_packages_that_conflict_with_the_others() -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    here = importlib.metadata.version("inflect")
    assert here != OLD
    with RayEngine(2, None) as engine:
        before = dict(engine.map(Version(), range(3)))
        there = dict(engine.map(Version(), range(3), Needs(environment=Environment((f"inflect=={OLD}",)))))
        after = dict(engine.map(Version(), range(3)))
    assert there == {n: (n, OLD, "pipelines.stage") for n in range(3)}
    assert before == after == {n: (n, here, "pipelines.stage") for n in range(3)}


def test_an_environment_that_cannot_be_made_ends_the_run_with_its_name() -> None:
    needs = Needs(environment=Environment(("no-such-package-of-talkset==1",)))
    with RayEngine(1, None) as engine, pytest.raises(TalksetError, match="could not be made") as caught:
        list(engine.map(Version(), range(1), needs))
    assert caught.value.reason == "missing_model"
