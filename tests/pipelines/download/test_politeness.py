"""Turns at a host, over threads and lock files."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pipelines.download.politeness import Hosts


def visits(
    folder: Path, count: int, host: str, per_host: int, interval_s: float, stay_s: float
) -> tuple[list[float], int]:
    """Start times and the largest number inside at once, of visitors that share nothing but the folder."""
    lock, starts, inside = threading.Lock(), [], [0, 0]

    def visit() -> None:
        with Hosts(folder, per_host, interval_s).turn(host):
            with lock:
                starts.append(time.monotonic())
                inside[0] += 1
                inside[1] = max(inside)
            time.sleep(stay_s)
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=visit) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(starts), inside[1]


def test_no_more_than_its_places_are_taken(tmp_path: Path) -> None:
    starts, most = visits(tmp_path, 6, "a.test", per_host=2, interval_s=0.0, stay_s=0.1)
    assert (len(starts), most) == (6, 2)


def test_requests_keep_their_distance(tmp_path: Path) -> None:
    starts, _ = visits(tmp_path, 4, "a.test", per_host=4, interval_s=0.15, stay_s=0.0)
    assert starts[-1] - starts[0] > 0.35  # three distances, less what waking up costs


def test_hosts_do_not_wait_for_each_other(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path, 1, 5.0)
    started = time.monotonic()
    with hosts.turn("a.test"), hosts.turn("b.test"), hosts.turn("[::1]"):
        assert time.monotonic() - started < 2


def test_a_host_that_asks_for_a_pause_gets_it(tmp_path: Path) -> None:
    Hosts(tmp_path, 4, 0.0).hold_off("a.test", 0.3)
    Hosts(tmp_path, 4, 0.0).hold_off("a.test", 0.1)  # a shorter one does not end it
    started = time.monotonic()
    with Hosts(tmp_path, 4, 0.0).turn("a.test"):
        assert time.monotonic() - started > 0.25


def test_a_place_is_given_back_after_an_error(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path, 1, 0.0)
    with pytest.raises(KeyError), hosts.turn("a.test"):
        raise KeyError
    with hosts.turn("a.test"):
        pass
