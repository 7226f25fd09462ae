"""What every engine does: each item once, errors as data, a dead worker costs nobody else anything."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray import cloudpickle

from pipelines.declarations import Environment, Needs, Resources
from pipelines.engine import Crash, Engine
from pipelines.engines.local import LocalEngine
from pipelines.engines.make import make_engine
from schemas.config import RunConfig
from schemas.errors import UsageError


@dataclass(frozen=True)
class Square:
    """Squares numbers; refuses 3."""

    offset: int = 0

    def __call__(self, item: int) -> int:
        import torch

        assert torch.get_num_threads() == 1
        if item == 3:
            raise ValueError("three is refused")
        return item * item + self.offset


@dataclass(frozen=True)
class Deadly:
    """Kills its process over 1 always, over 2 the first time."""

    folder: Path

    def __call__(self, item: int) -> int:
        first = not (self.folder / str(item)).exists()
        (self.folder / str(item)).touch()
        if item == 1 or (item == 2 and first):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return item


@pytest.fixture(scope="module", params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test module
    with make_engine(RunConfig(engine=request.param, workers=2)) as engine:
        yield engine


def test_every_item_once_and_errors_as_data(engine: Engine) -> None:
    outcomes = dict(engine.map(Square(), range(6)))
    refused = outcomes.pop(3)
    assert outcomes == {n: n * n for n in (0, 1, 2, 4, 5)}
    assert isinstance(refused, Crash)
    assert refused.message == "ValueError: three is refused"
    assert "in __call__" in refused.traceback
    assert dict(engine.map(Square(10), [1])) == {1: 11}  # the workers stay for the next task
    assert list(engine.map(Square(), [])) == []


def test_sigterm_stays_with_the_run(engine: Engine) -> None:
    assert len(list(engine.map(Square(), [1]))) == 1  # Ray is there by now, and would end the run without a word
    assert not str(getattr(signal.getsignal(signal.SIGTERM), "__module__", "")).startswith("ray")


def test_items_are_taken_as_workers_become_free(engine: Engine) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    stream = engine.map(Square(), items())
    next(stream)
    assert len(taken) <= 4
    list(stream)


def test_a_dead_worker_costs_only_its_item(engine: Engine, tmp_path: Path) -> None:
    if isinstance(engine, LocalEngine):
        pytest.skip("the local engine has no worker that could die alone")
    outcomes = dict(engine.map(Deadly(tmp_path), range(6)))
    dead = outcomes.pop(1)
    assert isinstance(dead, Crash)
    assert dead.attempts == 2
    assert outcomes == {n: n for n in (0, 2, 3, 4, 5)}


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'ray'"):
        make_engine(RunConfig(engine="rai"))
    with pytest.raises(UsageError, match="workers"):
        make_engine(RunConfig(workers=0))


@dataclass(frozen=True)
class Slow:
    """Sleeps over 1 for longer than any test waits, in steps of Python or in one native call."""

    def __call__(self, item: int) -> int:
        if item == 1:
            time.sleep(600)
        return item


def test_an_item_that_takes_too_long_is_ended_alone(engine: Engine) -> None:
    outcomes = dict(engine.map(Slow(), range(4), Needs(time_limit_s=1.5)))
    late = outcomes.pop(1)
    assert isinstance(late, Crash)
    assert "longer than 1.5 s" in late.message
    assert outcomes == {0: 0, 2: 2, 3: 3}
    assert dict(engine.map(Square(), [4])) == {4: 16}


def test_batches_give_what_single_items_give(engine: Engine, tmp_path: Path) -> None:
    outcomes = dict(engine.map(Square(), range(10), Needs(batch=4)))
    assert isinstance(outcomes.pop(3), Crash)
    assert outcomes == {n: n * n for n in range(10) if n != 3}
    if isinstance(engine, LocalEngine):
        return
    outcomes = dict(engine.map(Deadly(tmp_path), range(6), Needs(batch=3)))
    assert isinstance(outcomes.pop(1), Crash)
    assert outcomes == {n: n for n in (0, 2, 3, 4, 5)}


def test_needs_that_cannot_be_met_are_named(engine: Engine) -> None:
    if isinstance(engine, LocalEngine):
        with pytest.raises(UsageError, match="no environment with conflicting==1"):
            list(engine.map(Square(), [1], Needs(environment=Environment(("conflicting==1",)))))
        return
    with pytest.raises(UsageError, match="no machine can give"):
        list(engine.map(Square(), [1], Needs(Resources(cpus=1e6))))
    assert dict(engine.map(Square(), [2], Needs(Resources(cpus=0.5)))) == {2: 4}
