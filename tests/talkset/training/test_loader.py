"""Training batches: all of an epoch once, the same for any readers, resumable at every batch, never a hang."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from schemas.config import ShardConfig
from talkset import open_dataset
from talkset.dataset import Dataset
from talkset.store import DatasetError
from talkset.training.normalise import Normaliser

torch = pytest.importorskip("torch")
from talkset.training.loader import Loader, _InWorker  # noqa: E402 - needs torch

REPOSITORY = Path(__file__).resolve().parents[3]
WINDOW_S, HOP_S = 0.3, 0.12
Item = tuple[str, float]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips in 12 row groups of two parts."""
    root = tmp_path_factory.mktemp("loader") / "ds"
    build(root, clips=24, shards=ShardConfig(clips_per_row_group=2, figures=False))
    for table in ("params", "landmarks"):
        whole = pq.read_table(root / table / "part-00000.parquet")
        for part, rows in enumerate((whole.slice(0, 10), whole.slice(10))):
            path = root / table / f"part-{part:05d}.parquet"
            pq.write_table(rows, path, row_group_size=2, write_page_checksum=True, use_dictionary=False)
    index = pq.read_table(root / "index.parquet")
    rows = index.to_pylist()
    for row in rows:
        if row["row"] is not None and row["row"] >= 10:
            row["shard"], row["row"] = "part-00001.parquet", row["row"] - 10
    pq.write_table(pa.Table.from_pylist(rows, schema=index.schema), root / "index.parquet")
    return root


@pytest.fixture(scope="module")
def dataset(root: Path) -> Dataset:
    return open_dataset(root)


def make(dataset: Dataset, **options: Any) -> Loader:
    arguments: dict[str, Any] = {
        "columns": ["expression", "pts_us"],
        "batch_size": 5,
        "window_s": WINDOW_S,
        "hop_s": HOP_S,
        "lanes": 2,
        "shuffle_groups": 3,
        "seed": 1,
        **options,
    }
    return dataset.loader(**arguments)


def items(batch: dict[str, Any]) -> list[Item]:
    return list(zip(batch["clip_id"], batch["start_s"].tolist(), strict=True))


def epoch(loader: Loader) -> list[list[Item]]:
    return [items(batch) for batch in loader]


def all_items(dataset: Dataset) -> list[Item]:
    found = []
    for clip in dataset:
        starts = range(0, clip.duration_us - round(WINDOW_S * 1e6) + 1, round(HOP_S * 1e6))
        found += [(clip.clip_id, start / 1e6) for start in starts]
    return found


def test_an_epoch_is_every_window_once_with_its_values(dataset: Dataset) -> None:
    columns = ["expression", "face_xy", "shape", "pts_us", "valid"]
    loader = make(dataset, columns=columns)
    seen = []
    batches = list(loader)
    assert len(batches) == len(loader)
    for batch in batches:
        seen += items(batch)
        assert batch["mask"].sum(1).tolist() == batch["length"].tolist()
        assert not (batch["valid"] & ~batch["mask"]).any()
        for place, (clip_id, start) in enumerate(items(batch)):
            clip = dataset[clip_id]
            window = clip.window(start, start + WINDOW_S)
            frames = int(batch["length"][place])
            for name in ("expression", "pts_us", "valid"):
                np.testing.assert_array_equal(batch[name][place, :frames].numpy(), window[name])
                assert not batch[name][place, frames:].any()
            np.testing.assert_array_equal(batch["shape"][place].numpy(), window["shape"])
            times = clip["pts_us"]
            inside = (times >= round(start * 1e6)) & (times < round((start + WINDOW_S) * 1e6))
            face = np.nan_to_num(clip["face_xy"][inside])
            np.testing.assert_array_equal(batch["face_xy"][place, :frames].numpy(), face)
    assert sorted(seen) == sorted(all_items(dataset))
    assert seen != all_items(dataset)
    assert {name: batches[0][name].dtype for name in ("expression", "valid", "mask", "length", "start_s")} == {
        "expression": torch.float32,
        "valid": torch.bool,
        "mask": torch.bool,
        "length": torch.int64,
        "start_s": torch.float64,
    }


def test_whole_clips_in_order(dataset: Dataset) -> None:
    loader = make(dataset, window_s=None, hop_s=None, shuffle=False, batch_size=7)
    assert [[clip_id for clip_id, _ in batch] for batch in epoch(loader)] == [
        [clip.clip_id for clip in list(dataset)[first : first + 7]] for first in range(0, 24, 7)
    ]
    assert loader._readers[0].held == 0
    assert len(epoch(make(dataset, window_s=None, hop_s=None, batch_size=7, drop_last=True))) == 3


def test_epochs_follow_one_another(dataset: Dataset) -> None:
    loader = make(dataset)
    first, second = epoch(loader), epoch(loader)
    assert first != second
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second))
    assert loader.epoch == 2
    loader.set_epoch(0)
    assert epoch(loader) == first
    assert epoch(make(dataset, epoch=1)) == second
    assert epoch(make(dataset, seed=2)) != first


@pytest.mark.parametrize("threads", [0, 1, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_and_threads_share_one_order(dataset: Dataset, world: int, threads: int) -> None:
    expected = epoch(make(dataset, threads=0))
    loaders = [make(dataset, rank=rank, world_size=world, threads=threads) for rank in range(world)]
    parts = [epoch(loader) for loader in loaders]
    assert {len(part) for part in parts} == {len(expected) // world} == {len(loader) for loader in loaders}
    merged = [batch for together in zip(*parts, strict=True) for batch in together]
    assert merged == expected[: len(merged)]


def test_each_row_group_is_decoded_once(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from talkset.training import batches, decoding

    reads: list[tuple[str, int]] = []
    original = decoding.decode

    def spy(*arguments: Any) -> Any:
        reads.append((arguments[3], arguments[4]))
        return original(*arguments)

    monkeypatch.setattr(batches, "decode", spy)
    loader = make(dataset, cache_mb=0, threads=0)
    epoch(loader)
    assert len(reads) == len(set(reads)) == 12
    most = 0
    for _ in loader:
        most = max(most, loader._readers[0].held)
    assert 0 < most <= 12
    assert len(reads) == 24
    assert loader._cache.nbytes == 0
    cached = make(dataset, threads=2)
    epoch(cached)
    reads.clear()
    epoch(cached)
    assert reads == []
    assert len(cached._cache) == 12


def test_resume_at_every_batch(dataset: Dataset) -> None:
    whole = epoch(make(dataset, batch_size=9))
    following = epoch(make(dataset, batch_size=9, epoch=1))
    for given in range(len(whole) + 1):
        loader = make(dataset, batch_size=9)
        iterator = iter(loader)
        assert [items(next(iterator)) for _ in range(given)] == whole[:given]
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        iterator.close()  # type: ignore[attr-defined]
        resumed = make(dataset, batch_size=9, threads=2)
        resumed.load_state_dict(state)
        resumed.set_epoch(resumed.epoch)
        assert resumed.state_dict() == state
        left = epoch(resumed)
        assert left == (whole[given:] if given < len(whole) else following)
        assert epoch(resumed)[0] == epoch(make(dataset, batch_size=9, epoch=resumed.epoch - 1))[0]


def test_resume_with_other_ranks(dataset: Dataset) -> None:
    whole = epoch(make(dataset))
    loaders = [make(dataset, rank=rank, world_size=2) for rank in range(2)]
    iterators = [iter(loader) for loader in loaders]
    for _ in range(3):
        for iterator in iterators:
            next(iterator)
    states = [loader.state_dict() for loader in loaders]
    assert states[0] == states[1]
    alone = make(dataset)
    alone.load_state_dict(states[0])
    assert epoch(alone) == whole[6:]


def test_a_state_of_something_else_is_refused(dataset: Dataset) -> None:
    state = make(dataset).state_dict()
    for options, message in (
        ({"batch_size": 4}, "batch_size=5, this one has 4"),
        ({"columns": ["expression"]}, "columns"),
        ({"seed": 9}, "seed=1, this one has 9"),
        ({"hop_s": None}, "hop_s=0.12"),
        ({"shuffle": False}, "shuffle"),
    ):
        with pytest.raises(DatasetError, match=message):
            make(dataset, **options).load_state_dict(state)
    with pytest.raises(DatasetError, match="other clips"):
        make(dataset.select("speaker != 's1'")).load_state_dict(state)
    with pytest.raises(DatasetError, match="no state of a loader"):
        make(dataset).load_state_dict({})


def test_normalised_batches_have_no_nan(dataset: Dataset) -> None:
    columns = ["expression", "residual_px", "shape", "pts_us"]
    plain, normal = make(dataset, columns=columns), make(dataset, columns=columns, normalise="mean_std")
    assert normal.normaliser is not None
    assert set(normal.normaliser.shift) == {"expression", "residual_px", "shape"}
    some_not_seen = False
    for before, after in zip(plain, normal, strict=True):
        np.testing.assert_array_equal(before["valid"], after["valid"])
        np.testing.assert_array_equal(before["pts_us"], after["pts_us"])
        inside = after["mask"]
        expected = normal.normaliser.normalise("expression", before["expression"])
        np.testing.assert_allclose(after["expression"][inside], expected[inside], rtol=1e-6)
        assert not after["expression"][~inside].any()
        hidden = inside & ~after["valid"]
        some_not_seen |= bool(hidden.any())
        assert not after["residual_px"][hidden].any()
        for name in ("expression", "residual_px", "shape"):
            assert torch.isfinite(after[name]).all()
        np.testing.assert_allclose(normal.normaliser.denormalise("shape", after["shape"]), before["shape"], atol=1e-5)
    assert some_not_seen
    own = Normaliser("mean_std", {"expression": np.ones(52)}, {"expression": np.full(52, 2.0)})
    given = next(iter(make(dataset, columns=columns, normalise=own)))
    first = next(
        iter(plain.dataset.loader(columns, 5, window_s=WINDOW_S, hop_s=HOP_S, lanes=2, shuffle_groups=3, seed=1))
    )
    np.testing.assert_allclose(
        given["expression"][first["mask"]], (first["expression"][first["mask"]] - 1) / 2, atol=1e-6
    )
    np.testing.assert_array_equal(given["shape"], first["shape"])


def test_an_early_end_leaves_no_threads(dataset: Dataset) -> None:
    before = set(threading.enumerate())
    loader = make(dataset, threads=3)
    for _ in loader:
        assert len(set(threading.enumerate()) - before) > 0
        break
    assert set(threading.enumerate()) == before
    held = iter(loader)
    next(held)
    assert len(epoch(loader)) == len(loader)  # a new iteration ends the one before
    assert list(held) == []
    held = iter(loader)
    next(held)
    loader.close()
    assert set(threading.enumerate()) == before
    assert len(epoch(loader)) == len(loader)
    assert set(threading.enumerate()) == before


def test_an_interpreter_that_exits_does_not_wait(root: Path) -> None:
    code = (
        "import sys, talkset\n"
        "loader = talkset.open_dataset(sys.argv[1]).loader(['expression'], 1, threads=2, cache_mb=0)\n"
        "batches = iter(loader)\n"
        "print(next(batches)['expression'].shape[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "52\n", "")


@pytest.fixture
def damaged(root: Path, tmp_path: Path) -> Dataset:
    shutil.copytree(root, tmp_path / "ds")
    path = tmp_path / "ds" / "params" / "part-00001.parquet"
    metadata = pq.ParquetFile(path).metadata
    names = metadata.schema.to_arrow_schema().names
    column = metadata.row_group(3).column(names.index("expression"))
    with path.open("r+b") as file:
        file.seek(column.data_page_offset + column.total_compressed_size // 2)
        file.write(b"\xff" * 64)
    return open_dataset(tmp_path / "ds")


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 2}, {"num_workers": 1}])
def test_damage_is_an_error_here(damaged: Dataset, options: dict[str, Any]) -> None:
    before = set(threading.enumerate())
    loader = make(damaged, **options)
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"part-00001\.parquet row group 3 cannot be read"):
            epoch(loader)
    loader.close()
    assert {thread for thread in threading.enumerate() if thread.name.startswith("talkset")} <= before


def test_batches_of_workers_are_equal_to_those_made_here(dataset: Dataset) -> None:
    columns = ["expression", "face_xy", "shape", "pts_us", "focal_px", "landmarks.valid"]
    for pad in (True, False):
        here, there = make(dataset, columns=columns, pad=pad), make(dataset, columns=columns, pad=pad, num_workers=1)
        for mine, other in zip(here, there, strict=True):
            assert set(mine) == set(other)
            for name, value in mine.items():
                if isinstance(value, torch.Tensor):
                    assert value.dtype == other[name].dtype
                    assert torch.equal(value, other[name])
                elif name != "clip_id":
                    assert all(torch.equal(a, b) for a, b in zip(value, other[name], strict=True))
        there.close()


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_give_the_same_and_resume(dataset: Dataset, context: str) -> None:
    whole, following = epoch(make(dataset)), epoch(make(dataset, epoch=1))
    loader = make(dataset, num_workers=2, multiprocessing_context=context)
    iterator = iter(loader)
    assert [items(next(iterator)) for _ in range(4)] == whole[:4]
    state = loader.state_dict()
    assert epoch(loader) == whole  # the one before is ended; its batches made ahead are not seen again
    assert epoch(loader) == following
    loader.load_state_dict(state)
    assert epoch(loader) == whole[4:]
    alone = make(dataset)
    alone.load_state_dict(state)
    assert epoch(alone) == whole[4:]
    loader.close()


def test_a_worker_that_dies_is_an_error(dataset: Dataset) -> None:
    loader = make(dataset, batch_size=1, num_workers=1, multiprocessing_context="fork")
    iterator = iter(loader)
    next(iterator)
    assert loader._pool is not None
    worker = loader._pool._iterator._workers[0]  # type: ignore[union-attr]

    def kill_and_read_on() -> None:
        os.kill(worker.pid, signal.SIGKILL)
        list(iterator)

    with pytest.raises(RuntimeError, match="worker"):
        kill_and_read_on()
    assert len(epoch(loader)) == len(loader)  # new workers
    loader.close()
    worker.join(10)
    assert not worker.is_alive()


def test_what_travels_to_a_worker_is_small(dataset: Dataset) -> None:
    loader = make(dataset)
    assert len(pickle.dumps(_InWorker(loader._source, 1))) < 10_000
    plan = loader._plan()
    assert len(pickle.dumps(plan.request(0))) < 200 * loader.batch_size


def test_arguments_that_cannot_be_used(dataset: Dataset, root: Path) -> None:
    for options, message in (
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"window_s": 60.0}, "none of the 24 selected clips is 60.0 s long"),
        ({"window_s": -1.0}, "window_s must be a positive number"),
        ({"window_s": None}, "hop_s is 0.12 without window_s"),
        ({"columns": []}, "name the columns"),
        ({"columns": ["head_model"]}, "cannot be a tensor"),
        ({"rank": 2, "world_size": 2}, r"rank must be one of 0\.\.1"),
        ({"rank": 0}, "both rank and world_size"),
        ({"rank": 0, "world_size": 999}, "leave none for each of 999 ranks"),
        ({"normalise": "minmax"}, "known: mean_std, quantile"),
    ):
        with pytest.raises(DatasetError, match=message):
            make(dataset, **options)
    with pytest.raises(KeyError, match="did you mean 'expression'"):
        make(dataset, columns=["expresion"])
    with pytest.raises(DatasetError, match="2 selected rows have no parameters"):
        make(open_dataset(root, where="status != 'x'"))
    with pytest.raises(DatasetError, match="nothing to load"):
        make(open_dataset(root, where="speaker == 'nobody'"))


def test_ranks_come_from_torch_distributed(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = epoch(make(dataset, rank=1, world_size=3))
    for name, value in (("is_initialized", True), ("get_rank", 1), ("get_world_size", 3)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    assert epoch(make(dataset)) == expected
    assert len(epoch(make(dataset, rank=0, world_size=1))) > len(expected)


def test_pinning_without_a_gpu_says_so(dataset: Dataset) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loader = make(dataset, pin_memory=True)
    assert bool(caught) != torch.cuda.is_available()
    assert next(iter(loader))["expression"].is_pinned() == torch.cuda.is_available()
