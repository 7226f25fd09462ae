"""The Ray engine: one actor for each worker, one item in flight for each actor.

An actor keeps what the task loads (models) from item to item. With one item in flight, the item over which a worker
died is known: it is given to a fresh worker once more, and after that it is a `Crash`; no other item suffers.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers see the devices that the driver sees
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray
import ray.exceptions

from pipelines.engine import MAX_ATTEMPTS, Crash, Item, Task
from schemas.errors import UsageError

LOGGER = logging.getLogger(__name__)
OBJECT_STORE_BYTES = 128 << 20
"""Paths and small records travel, so the object store of a Ray that is started here can be small."""


class RayEngine:
    """Runs the task on Ray actors; see `pipelines.engine.Engine`. Raises UsageError when no Ray is at `address`."""

    def __init__(self, workers: int | None, address: str | None) -> None:
        self._workers = workers
        self._address = address
        self._started_here = False
        self._actors: list[Any] = []

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        if self._started_here:
            ray.shutdown()
            self._started_here = False

    def map(self, task: Task, items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """Yield (item, outcome) as they are done."""
        rest = iter(items)
        waiting: list[tuple[Item, int]] = []  # items to be given out again
        flying: dict[Any, tuple[Item, int, Any]] = {}  # future -> item, attempt, actor
        idle: list[Any] | None = None
        stored: Any = None
        while True:
            while idle is None or idle:
                given = waiting.pop() if waiting else next(((item, 1) for item in rest), None)
                if given is None:
                    break
                if idle is None:
                    self._start()
                    idle, stored = list(self._actors), ray.put(task)
                actor = idle.pop()
                flying[actor.run.remote(stored, given[0])] = (*given, actor)
            if not flying or idle is None:
                return
            done, _ = ray.wait(list(flying), num_returns=1)
            item, attempt, actor = flying.pop(done[0])
            try:
                outcome = ray.get(done[0])
            except ray.exceptions.RayActorError as error:
                actor = self._replace(actor)
                if attempt < MAX_ATTEMPTS:
                    LOGGER.warning("a worker died over %s; it is tried once more", item)
                    waiting.append((item, attempt + 1))
                    idle.append(actor)
                    continue
                outcome = Crash(f"its worker process died {attempt} times", str(error), attempt, "crashed")
            except ray.exceptions.RayError as error:
                outcome = Crash(f"{type(error).__name__}: {error}", traceback.format_exc())
            idle.append(actor)
            yield item, outcome

    def _start(self) -> None:
        if not ray.is_initialized():
            settings: dict[str, Any] = {"address": self._address}
            if self._address is None:
                settings |= {"num_cpus": self._workers, "object_store_memory": OBJECT_STORE_BYTES, "address": "local"}
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
            self._started_here = True
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        count = min(self._workers or cores, cores)  # an actor beyond that would wait for a core for ever
        while len(self._actors) < count:
            self._actors.append(_new_host())

    def _replace(self, dead: Any) -> Any:
        fresh = _new_host()
        self._actors[self._actors.index(dead)] = fresh
        return fresh


class _Host:
    """A worker process."""

    def __init__(self) -> None:
        from pipelines.process import settle_process

        settle_process()

    def run(self, task: Task, item: Any) -> Any:
        """Run the task on one item."""
        try:
            return task(item)
        except Exception as error:
            return Crash(f"{type(error).__name__}: {error}", traceback.format_exc())


def _new_host() -> Any:
    return ray.remote(num_cpus=1, max_restarts=0)(_Host).remote()
