"""The Ray engine: a pool of actors, each with one batch of items in flight (one item, unless a stage asks for more).

An actor keeps what the task loads (models) from item to item. With one batch in flight, the items over which a worker
died are known: they are given to fresh workers one by one once more, and an item that was alone with a dying worker
twice is a `Crash`; no other item suffers. Actors are asked for and used as they come, so that an autoscaler sees what
is wanted and a node that joins late, or is lost, only changes how many there are.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers see the devices that the driver sees
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray
import ray.exceptions

from pipelines.declarations import NO_NEEDS, Needs
from pipelines.engine import MAX_ATTEMPTS, Crash, Item, Task
from pipelines.process import over_time
from schemas.errors import TalksetError, UsageError

LOGGER = logging.getLogger(__name__)
OBJECT_STORE_BYTES: Final = 128 << 20
"""Paths and small records travel, so the object store of a Ray that is started here can be small."""
PATIENCE_S: Final = 60.0
"""After so long without any worker a warning tells what is waited for."""


@dataclass
class _Flight:
    """Items on a worker."""

    items: tuple[Any, ...]
    attempt: int
    actor: Any
    deadline: float | None


class RayEngine:
    """Runs the task on Ray actors; see `pipelines.engine.Engine`. Raises UsageError when no Ray is at `address`."""

    def __init__(self, workers: int | None, address: str | None) -> None:
        self._workers = workers
        self._address = address
        self._started_here = False
        self._needs: Needs | None = None
        self._idle: list[Any] = []
        self._coming: dict[Any, Any] = {}  # future of the first word of an actor -> the actor

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dismiss()
        if self._started_here:
            ray.shutdown()
            self._started_here = False

    def map(self, task: Task, items: Iterable[Item], needs: Needs = NO_NEEDS) -> Iterator[tuple[Item, Any]]:
        """Yield (item, outcome) as they are done."""
        rest = iter(items)
        waiting: list[tuple[tuple[Item, ...], int]] = []  # to be given out again, with the attempt
        flying: dict[Any, _Flight] = {}
        stored: Any = None
        exhausted = False
        heard = time.monotonic()
        try:
            while True:
                while stored is None or self._idle:
                    given = waiting.pop() if waiting else _batch(rest, needs.batch)
                    if given is None:
                        exhausted = True
                        break
                    if stored is None:
                        self._provide(needs)
                        stored = ray.put(task)
                    if not self._idle:
                        waiting.append(given)
                        break
                    actor = self._idle.pop()
                    limit = needs.time_limit_s
                    deadline = None if limit is None else time.monotonic() + limit * len(given[0])
                    flying[actor.run.remote(stored, given[0])] = _Flight(*given, actor, deadline)
                if exhausted and not flying and not waiting:
                    return
                done = self._wait(flying)
                if done is None and not flying and time.monotonic() - heard > PATIENCE_S:
                    LOGGER.warning("no worker for %s; the cluster has %s", needs, ray.available_resources())
                    heard = time.monotonic()
                if done is None:
                    yield from self._end_late(flying, needs)
                    continue
                heard = time.monotonic()
                yield from self._take(done, flying.pop(done), waiting)
        finally:  # a caller that stops early leaves no worker busy with what nobody waits for
            for flight in flying.values():
                ray.kill(flight.actor)

    def _take(
        self, done: Any, flight: _Flight, waiting: list[tuple[tuple[Any, ...], int]]
    ) -> Iterator[tuple[Any, Any]]:
        """The outcomes of a flight that has ended; items that deserve another attempt go to `waiting`."""
        try:
            outcomes: Sequence[Any] = ray.get(done)
        except ray.exceptions.RayActorError as error:
            ray.kill(flight.actor)  # one that is only out of reach must not come back
            self._ask_for_one()
            if len(flight.items) > 1:
                LOGGER.warning("a worker died over one of %d items; they are tried one by one", len(flight.items))
                waiting.extend(((item,), flight.attempt) for item in flight.items)
                return
            if flight.attempt < MAX_ATTEMPTS:
                item = flight.items[0]
                LOGGER.warning("a worker died over %s; it is tried once more", getattr(item, "unit", item))
                waiting.append((flight.items, flight.attempt + 1))
                return
            message = f"its worker process died {flight.attempt} times"
            yield flight.items[0], Crash(message, str(error), flight.attempt, "crashed")
            return
        except ray.exceptions.RayError as error:
            crash = Crash(f"{type(error).__name__}: {error}", traceback.format_exc())
            outcomes = [crash] * len(flight.items)
        self._idle.append(flight.actor)
        yield from zip(flight.items, outcomes, strict=True)

    def _wait(self, flying: dict[Any, _Flight]) -> Any:
        """The next flight that has ended, or None where a worker came or a deadline has passed."""
        deadlines = [flight.deadline for flight in flying.values() if flight.deadline is not None]
        pause = max(0.0, min([*deadlines, time.monotonic() + PATIENCE_S]) - time.monotonic())
        done, _ = ray.wait([*flying, *self._coming], num_returns=1, timeout=pause)
        if not done:
            return None
        if done[0] not in self._coming:
            return done[0]
        actor = self._coming.pop(done[0])
        try:
            ray.get(done[0])
        except ray.exceptions.RuntimeEnvSetupError as error:
            told = str(error).strip().splitlines()
            message = f"the environment that a stage asks for could not be made ({told[-1] if told else error})"
            raise TalksetError("missing_model", message, "Check the packages it names, then run again") from error
        except ray.exceptions.RayActorError:  # its node was lost before it began
            self._ask_for_one()
        else:
            self._idle.append(actor)
        return None

    def _end_late(self, flying: dict[Any, _Flight], needs: Needs) -> Iterator[tuple[Any, Any]]:
        """End the workers whose time is up."""
        now = time.monotonic()
        for done, flight in list(flying.items()):
            if flight.deadline is None or flight.deadline > now:
                continue
            del flying[done]
            ray.kill(flight.actor)
            self._ask_for_one()
            error = over_time(needs.time_limit_s or 0.0)
            for item in flight.items:
                yield item, Crash(str(error), "", flight.attempt, error.reason)

    def _provide(self, needs: Needs) -> None:
        """Have workers that can give what a task needs."""
        if not ray.is_initialized():
            self._start()
        if self._needs is not None and _hosting(self._needs) != _hosting(needs):
            self._dismiss()
        self._needs = needs
        wanted = self._count(needs) - len(self._idle) - len(self._coming)
        for _ in range(wanted):
            self._ask_for_one()

    def _count(self, needs: Needs) -> int:
        """How many workers are asked for.

        Without a number, as many as the cluster has room for now. A number is kept on a cluster, which may grow; here
        a worker beyond the cores would wait for one for ever.
        """
        have, asked = ray.cluster_resources(), needs.resources
        amounts = (("CPU", asked.cpus), ("GPU", asked.gpus), ("memory", asked.memory_mb * 2**20))
        room = min((int(have.get(name, 0.0) / amount + 1e-6) for name, amount in amounts if amount), default=1)
        if self._address is not None and self._workers is not None:
            return self._workers
        if room < 1:
            raise UsageError(f"no machine can give {asked}, there is {have}", "Add a machine, or ask for less")
        return min(self._workers or room, room)

    def _start(self) -> None:
        settings: dict[str, Any] = {"address": self._address}
        if self._address is None:
            settings |= {"num_cpus": self._workers, "object_store_memory": OBJECT_STORE_BYTES, "address": "local"}
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                **settings,
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                configure_logging=True,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError) as error:
            raise UsageError(
                f"no Ray at run.address={self._address!r} ({error})", "Start it, or leave it out"
            ) from error
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own ends the driver before it can say how to go on
        self._started_here = True

    def _ask_for_one(self) -> None:
        assert self._needs is not None
        resources, environment = self._needs.resources, self._needs.environment
        options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_restarts": 0}
        if resources.memory_mb:
            options["memory"] = int(resources.memory_mb * 2**20)
        if environment is not None:
            options["runtime_env"] = {"pip": list(environment.pip)}
        actor = ray.remote(**options)(_Host).remote()
        self._coming[actor.ready.remote()] = actor

    def _dismiss(self) -> None:
        for actor in (*self._idle, *self._coming.values()):
            ray.kill(actor)
        self._idle, self._coming = [], {}


class _Host:
    """A worker process."""

    def __init__(self) -> None:
        from pipelines.process import settle_process

        settle_process()

    def ready(self) -> None:
        """Tell that the process is there."""

    def run(self, task: Task, items: tuple[Any, ...]) -> list[Any]:
        """Run the task on items, one after the other."""
        outcomes: list[Any] = []
        for item in items:
            try:
                outcomes.append(task(item))
            except Exception as error:
                outcomes.append(Crash(f"{type(error).__name__}: {error}", traceback.format_exc()))
        return outcomes


def _batch(rest: Iterator[Item], size: int) -> tuple[tuple[Item, ...], int] | None:
    """The next items and the number of their attempt; None at the end."""
    items = tuple(itertools.islice(rest, size))
    return (items, 1) if items else None


def _hosting(needs: Needs) -> tuple[Any, ...]:
    """What a worker is made with."""
    return needs.resources, needs.environment
