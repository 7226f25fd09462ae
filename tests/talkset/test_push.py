from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from dataset_builder import build
from fake_hub import TOKEN, FakeHub
from s3_server import s3_server

from schemas import remote_folder
from schemas.errors import TalksetError, UsageError
from schemas.files import HIDDEN_FOLDER, MANIFEST_NAME, format_checksums, read_checksums, refresh_manifest
from schemas.remote_folder import Folder
from schemas.verify import verify_dataset
from talkset.dataset import Dataset, DatasetError, open_dataset
from talkset.push import objects, push
from talkset.push.objects import push_folder
from talkset.push.source import AGAIN
from talkset.store import without_secrets

REPOSITORY = Path(__file__).resolve().parents[2]
CLIPS = 6


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built") / "data"
    build(root, CLIPS)
    (root / "media").mkdir()
    (root / "media" / "clip_0001.mp4").write_bytes(bytes(range(256)) * 1000)
    (root / HIDDEN_FOLDER).mkdir(exist_ok=True)
    (root / HIDDEN_FOLDER / "ledger.sqlite").write_bytes(b"run state")
    refresh_manifest(root)
    (root / "notes.txt").write_text("not listed")
    return root


@pytest.fixture
def local(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "local"))


@pytest.fixture
def newer(built: Path, tmp_path: Path) -> Path:
    """Another version: a file less, a file changed to the same size, the tables unchanged."""
    root = Path(shutil.copytree(built, tmp_path / "newer"))
    shutil.rmtree(root / "media")
    (root / "notes.txt").unlink()
    facts = (root / "dataset.json").read_text().replace('"version": "1.2.0"', '"version": "1.2.1"')
    (root / "dataset.json").write_text(facts)
    card = (root / "README.md").read_bytes()
    (root / "README.md").write_bytes(card.replace(b"\n", b" ", 1))
    refresh_manifest(root)
    return root


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folder, "WAITS_S", (0.0,) * 4)


def published(root: Path) -> dict[str, bytes]:
    """What should be at the destination."""
    return {name: (root / name).read_bytes() for name in (*read_checksums(root), MANIFEST_NAME)}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_equal_values(found: Dataset, expected: Dataset) -> None:
    assert len(found) == len(expected) == CLIPS
    assert found.index.equals(expected.index)
    for clip, truth in zip(found, expected, strict=True):
        assert list(clip) == list(truth)
        for name in truth:
            np.testing.assert_array_equal(clip[name], truth[name])
        np.testing.assert_array_equal(clip["landmarks.face_xy"], truth["landmarks.face_xy"])
        assert truth.words()
        assert clip.words() == truth.words()
    last = expected[len(expected) - 1]
    np.testing.assert_array_equal(found[str(last.clip_id)]["expression"], last["expression"])
    condition = "speaker == 's1' and num_frames > 20"
    chosen = [clip.clip_id for clip in expected if clip.speaker == "s1" and clip.num_frames > 20]
    assert chosen
    assert [clip.clip_id for clip in open_dataset(found.store.path, where=condition)] == chosen


# ------------------------------------------------------------------------------------------------------- folders


def test_a_folder_gets_the_listed_files_and_verifies(built: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "größe 1"
    report = push(built, target.as_uri())
    assert content(target) == published(built)
    assert verify_dataset(target) == []
    assert (report.files, report.skipped) == (len(published(built)), 0)
    assert report.bytes == sum(len(data) for data in published(built).values())
    assert_equal_values(open_dataset(target.as_uri()), open_dataset(built))


def test_a_data_set_at_the_destination_stays_without_replace(local: Path, newer: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    push(local, target.as_uri())
    with pytest.raises(UsageError, match=r"already holds a data set.*--replace"):
        push(newer, target.as_uri())
    assert content(target) == published(local)


def test_replace_sends_what_differs_and_removes_what_is_gone(local: Path, newer: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    push(local, target.as_uri())
    (target / "keep.txt").write_text("somebody's own")
    unchanged = (target / "index.parquet").stat().st_mtime_ns
    report = push(newer, target.as_uri(), replace=True)
    assert content(target) == {**published(newer), "keep.txt": b"somebody's own"}
    assert (target / "index.parquet").stat().st_mtime_ns == unchanged
    assert report.files == 3  # README.md, MANIFEST.sha256, dataset.json
    assert report.skipped == len(published(newer)) - 3


@pytest.mark.parametrize("damage", ["altered", "missing", "list", "unfinished"])
def test_nothing_of_a_damaged_data_set_is_published(local: Path, tmp_path: Path, damage: str) -> None:
    target = tmp_path / "target"
    push(local, target.as_uri())
    before = content(target)
    victim = local / "words.parquet"
    if damage == "altered":
        data = victim.read_bytes()
        victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "missing":
        victim.unlink()
    elif damage == "list":
        (local / MANIFEST_NAME).write_text((local / MANIFEST_NAME).read_text().replace("a", "b"))
        victim = local / MANIFEST_NAME
    else:
        (local / MANIFEST_NAME).unlink()
        victim = local / MANIFEST_NAME
    with pytest.raises(TalksetError) as caught:
        push(local, target.as_uri(), replace=True)
    assert str(victim) in str(caught.value)
    assert damage not in ("altered", "missing") or "talkset verify" in caught.value.remedy
    assert content(target) == before


def test_run_state_in_the_list_is_refused(local: Path, tmp_path: Path) -> None:
    hashes = read_checksums(local)
    hashes[f"{HIDDEN_FOLDER}/ledger.sqlite"] = hashlib.sha256(b"run state").hexdigest()
    (local / MANIFEST_NAME).write_text(format_checksums(hashes))
    with pytest.raises(TalksetError, match="no part of a data set"):
        push(local, (tmp_path / "target").as_uri())
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftpx://user:secret@host/x", "ftpx://host/x is no destination"),
        ("relative/folder", "is no destination"),
        ("file:///", "names no bucket or folder"),
        ("hf://models/user/name", "is no data set repository"),
        ("hf://datasets/user/name/sub/folder", "is no data set repository"),
    ],
)
def test_unknown_destinations(built: Path, url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        push(built, url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("inside", ["", "copy"])
def test_a_data_set_is_not_pushed_into_itself(local: Path, inside: str) -> None:
    before = content(local)
    with pytest.raises(UsageError, match="inside the data set"):
        push(local, (local / inside).as_uri(), replace=True)
    assert content(local) == before


def test_secrets_are_not_shown() -> None:
    url = "s3://KEY:SECRET@bucket/x?region=us-east-1&session_token=TOKEN&scheme=http"
    assert without_secrets(url) == "s3://bucket/x?region=us-east-1&session_token=***&scheme=http"
    assert without_secrets("abfss://box@account.dfs.core.windows.net/x") == "abfss://box@account.dfs.core.windows.net/x"


# -------------------------------------------------------------------------------------------------------- faults


class FaultyStore(pafs.FileSystemHandler):  # type: ignore[misc]
    """A local folder whose calls fail as told: `fault(call, path)` returns an exception or None."""

    def __init__(self, fault: Callable[[str, str], Exception | None]) -> None:
        self._inner = pafs.LocalFileSystem()
        self._fault = fault
        self._lock = threading.Lock()
        self.calls: list[tuple[str, str]] = []

    def _enter(self, call: str, path: str) -> None:
        with self._lock:
            self.calls.append((call, path))
            error = self._fault(call, path)
        if error is not None:
            raise error

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def get_type_name(self) -> str:
        return "faulty"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        self._enter("info", paths[0])
        return self._inner.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        self._enter("list", selector.base_dir)
        return self._inner.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._inner.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._inner.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        raise AssertionError("not needed")

    delete_root_dir_contents = delete_dir_contents

    def delete_file(self, path: str) -> None:
        self._enter("delete", path)
        self._inner.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        self._enter("move", dest)
        self._inner.move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        raise AssertionError("not needed")

    def open_input_stream(self, path: str) -> Any:
        self._enter("read", path)
        return self._inner.open_input_stream(path)

    open_input_file = open_input_stream

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        self._enter("open", path)
        return pa.PythonFile(_FaultyFile(open(path, "wb"), lambda: self._enter("write", path)), mode="w")

    open_append_stream = open_output_stream


class _FaultyFile:
    """A file that may fail in the middle of a block, as a connection does."""

    def __init__(self, stream: BinaryIO, before: Callable[[], None]) -> None:
        self._stream, self._before = stream, before

    def write(self, data: Any) -> int:
        block = bytes(data)
        self._stream.write(block[: len(block) // 2])
        self._before()
        self._stream.write(block[len(block) // 2 :])
        return len(block)

    def close(self) -> None:
        self._stream.close()

    def flush(self) -> None:
        self._stream.flush()

    @property
    def closed(self) -> bool:
        return self._stream.closed


def send(root: Path, target: Path, handler: FaultyStore, replace: bool = False) -> Any:
    from pipelines.report import NoProgress
    from talkset.push.source import open_source

    folder = Folder(pafs.PyFileSystem(handler), str(target), "faulty://target", AGAIN)
    return push_folder(open_source(root, NoProgress()), folder, replace, NoProgress())


def never(call: str, path: str) -> None:
    return None


@pytest.mark.usefixtures("no_waits")
def test_every_call_may_fail_once(local: Path, newer: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for root, replace in ((local, False), (newer, True)):
        seen: set[tuple[str, str]] = set()

        def once(call: str, path: str, seen: set[tuple[str, str]] = seen) -> Exception | None:
            first = (call, path) not in seen
            seen.add((call, path))
            return OSError(errno.ECONNRESET, "connection reset") if first else None

        report = send(root, target, FaultyStore(once), replace)
        assert content(target) == published(root)
        assert report.files + report.skipped == len(published(root))
        assert len(seen) > 10


@pytest.mark.usefixtures("no_waits")
def test_a_lasting_fault_ends_in_an_error_that_names_the_file(local: Path, tmp_path: Path) -> None:
    def broken(call: str, path: str) -> Exception | None:
        return OSError("no route") if call == "write" and path.endswith("/stats.json") else None

    handler = FaultyStore(broken)
    with pytest.raises(TalksetError, match=r"writing stats\.json at faulty://target failed \(no route\)") as caught:
        send(local, tmp_path / "target", handler)
    assert "push again" in caught.value.remedy
    assert handler.calls.count(("write", str(tmp_path / "target" / "stats.json"))) == 5
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        open_dataset(tmp_path / "target")


def test_a_fault_that_will_not_pass_is_not_tried_again(local: Path, tmp_path: Path) -> None:
    def full(call: str, path: str) -> Exception | None:
        return OSError(errno.ENOSPC, "no space") if call == "write" and path.endswith("/stats.json") else None

    handler = FaultyStore(full)
    with pytest.raises(TalksetError, match="no space"):
        send(local, tmp_path / "target", handler)
    assert handler.calls.count(("write", str(tmp_path / "target" / "stats.json"))) == 1


class CutError(Exception):
    """The machine goes down."""


def cut_after(count: int) -> Callable[[str, str], Exception | None]:
    """Nothing works after so many changes at the destination."""
    left = [count]

    def fault(call: str, path: str) -> Exception | None:
        left[0] -= call in ("open", "write", "move", "delete")
        return CutError() if left[0] < 0 else None

    return fault


def _both(first: Path, second: Path, target: Path, handler: FaultyStore) -> None:
    send(first, target, handler)
    send(second, target, handler, replace=True)


def version_at(target: Path) -> str | None:
    """The version that can be opened."""
    if (target / "dataset.json").exists():
        return str(open_dataset(target).facts["version"])
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        open_dataset(target)
    return None


def test_a_push_cut_anywhere_is_invisible_and_goes_on(
    local: Path, newer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "BATCH_FILES", 3)
    wholes = {"1.2.0": published(local), "1.2.1": published(newer)}
    whole = FaultyStore(never)
    _both(local, newer, tmp_path / "a", whole)
    changes = sum(call in ("open", "write", "move", "delete") for call, _ in whole.calls)
    skipped = set()
    for count in range(0, changes, 3):
        target = tmp_path / "b"
        handler = FaultyStore(cut_after(count))
        with pytest.raises(CutError):
            _both(local, newer, target, handler)
        version = version_at(target)
        assert version is None or wholes[version].items() <= content(target).items()
        # whichever version comes next, what arrived of the other one is never taken for it
        root = (local, newer)[count % 2]
        report = send(root, target, FaultyStore(never), replace=True)
        assert content(target) == published(root), count
        skipped.add(report.skipped)
        shutil.rmtree(target)
    assert {0} < skipped


@pytest.mark.usefixtures("no_waits")
def test_what_arrived_is_not_sent_again(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "BATCH_FILES", 1)
    names = [name for name in sorted(read_checksums(local)) if name != "dataset.json"]
    stop = names[4]

    def broken(call: str, path: str) -> Exception | None:
        return OSError("gone") if path.endswith(f"/{stop}") and call == "open" else None

    with pytest.raises(TalksetError, match="gone"):
        send(local, tmp_path / "target", FaultyStore(broken))
    handler = FaultyStore(never)
    report = send(local, tmp_path / "target", handler)
    opened = {Path(path).relative_to(tmp_path / "target").as_posix() for call, path in handler.calls if call == "open"}
    assert report.skipped == 4
    assert opened.isdisjoint(names[:4])
    assert opened >= set(names[4:])
    assert content(tmp_path / "target") == published(local)


def test_a_claim_goes_before_its_file_is_overwritten(local: Path, newer: Path, tmp_path: Path) -> None:
    """Two cut pushes in turn: the first recorded README.md, the second overwrote it and could not say so."""
    target = tmp_path / "target"

    def cut_at(end: str) -> FaultyStore:
        return FaultyStore(lambda call, path: CutError() if call == "open" and end in path else None)

    with pytest.raises(CutError):
        send(local, target, cut_at(MANIFEST_NAME))
    assert (target / "README.md").read_bytes() == (local / "README.md").read_bytes()
    with pytest.raises(CutError):
        send(newer, target, cut_at("part-"))
    assert (target / "README.md").read_bytes() == (newer / "README.md").read_bytes()
    send(local, target, FaultyStore(never))
    assert content(target) == published(local)


def test_a_file_that_was_cut_short_at_the_destination_is_sent_again(local: Path, newer: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    push(local, target.as_uri())
    (target / "index.parquet").write_bytes((target / "index.parquet").read_bytes()[:-1])
    push(newer, target.as_uri(), replace=True)
    assert content(target) == published(newer)


def test_a_file_that_changes_while_it_is_sent_is_not_published(local: Path, tmp_path: Path) -> None:
    victim = local / "stats.json"

    def meddle(call: str, path: str) -> None:
        if call == "open" and path.endswith("/stats.json"):
            victim.write_bytes(victim.read_bytes() + b" ")

    with pytest.raises(TalksetError, match=r"stats\.json has sha256 .* nothing was published"):
        send(local, tmp_path / "target", FaultyStore(meddle))
    assert not (tmp_path / "target" / "dataset.json").exists()


@pytest.mark.parametrize("text", ["{", '{"claims": {"../x": "0"}, "names": [], "manifest_sha256": ""}', "[]"])
def test_a_damaged_record_is_refused(local: Path, tmp_path: Path, text: str) -> None:
    record = tmp_path / "target" / objects.RECORD_NAME
    record.parent.mkdir(parents=True)
    record.write_text(text)
    with pytest.raises(TalksetError, match=r"faulty://target: \.push is damaged"):
        send(local, tmp_path / "target", FaultyStore(never))


def test_an_old_version_without_a_list_is_left_alone(local: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "dataset.json").write_text("{}")
    with pytest.raises(TalksetError, match=r"without MANIFEST\.sha256"):
        push(local, target.as_uri(), replace=True)
    assert content(target) == {"dataset.json": b"{}"}


# ------------------------------------------------------------------------------------------------------------ S3


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of an empty bucket of a local S3 server, with %s for the prefix."""
    with s3_server() as (_, url):
        yield url % "bucket/%s"


@pytest.fixture(scope="module")
def in_bucket(bucket: str, built: Path) -> str:
    """A data set that was pushed."""
    url = bucket % "sets/made-up"
    report = push(built, url)
    assert report.url == url
    assert report.files == len(published(built))
    return url


def test_s3_gives_the_same_values(in_bucket: str, built: Path) -> None:
    filesystem, base = pafs.FileSystem.from_uri(in_bucket)
    infos = filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
    files = {info.path.removeprefix(f"{base}/"): info.size for info in infos if info.type == pafs.FileType.File}
    assert files == {name: len(data) for name, data in published(built).items()}
    assert_equal_values(open_dataset(in_bucket), open_dataset(built))


def test_s3_replace(bucket: str, built: Path, newer: Path) -> None:
    url = bucket % "replaced"
    push(built, url)
    with pytest.raises(UsageError, match="already holds"):
        push(newer, url)
    report = push(newer, url, replace=True)
    assert report.files == 3
    opened = open_dataset(url)
    assert opened.facts["version"] == "1.2.1"
    assert not opened.has_file("media/clip_0001.mp4")


def test_s3_without_the_bucket(bucket: str, built: Path) -> None:
    url = (bucket % "x").replace("s3://bucket/", "s3://no-such-bucket/")
    with pytest.raises(TalksetError, match="NO_SUCH_BUCKET"):
        push(built, url)


LOADER = """
import multiprocessing
import sys
import numpy as np
from talkset import open_dataset

class Clips:
    def __init__(self, path):
        self.dataset = open_dataset(path)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, number):
        return self.dataset[number]["expression"]

def check(items, expected):
    assert len(items) == len(expected) > 4
    for value, truth in zip(items, expected):
        np.testing.assert_array_equal(value, truth)

if __name__ == "__main__":
    clips = Clips(sys.argv[1])
    expected = list(Clips(sys.argv[2]))
    check(list(clips), expected)  # the parent has used S3 before the workers start
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        check(pool.map(clips.__getitem__, range(len(clips)), chunksize=3), expected)
    print("spawn", flush=True)
    import torch

    loader = torch.utils.data.DataLoader(clips, batch_size=None, num_workers=2, multiprocessing_context="fork")
    check([item.numpy() for item in loader], expected)
    print("fork", flush=True)
"""


def test_s3_in_loader_workers(in_bucket: str, built: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = tmp_path / "load.py"
    script.write_text(LOADER)
    call = [sys.executable, str(script), in_bucket, str(built)]
    done = subprocess.run(call, cwd=REPOSITORY, env=_environment(), capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["spawn", "fork"], done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


# ----------------------------------------------------------------------------------------------------------- hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    constants = pytest.importorskip("huggingface_hub.constants", reason="pip install talkset[hub]")
    with FakeHub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # read from the environment when it was first imported
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield server


def test_hub_one_commit_and_the_same_values(hub: FakeHub, built: Path) -> None:
    url = "hf://datasets/user/name"
    report = push(built, url)
    repository = hub.repositories["user/name"]
    assert repository.private
    assert repository.titles == ["initial commit", "made-up 1.2.0"]
    assert repository.tree() == {**published(built), ".gitattributes": repository.tree()[".gitattributes"]}
    assert (report.files, report.skipped, report.url) == (len(published(built)), 0, url)
    assert_equal_values(open_dataset(url), open_dataset(built))


def test_hub_replace_is_one_commit_of_what_differs(hub: FakeHub, local: Path, newer: Path) -> None:
    url = "hf://datasets/user/name"
    push(local, url)
    repository = hub.repositories["user/name"]
    assert open_dataset(url).facts["version"] == "1.2.0"
    with pytest.raises(UsageError, match=r"already holds a data set.*--replace"):
        push(newer, url)
    repository.tree()["LICENSE"] = b"somebody's own"
    hub.requests.clear()
    report = push(newer, url, replace=True)
    assert repository.titles[1:] == ["made-up 1.2.0", "made-up 1.2.1"]
    others = {name: repository.tree()[name] for name in (".gitattributes", "LICENSE")}
    assert repository.tree() == {**published(newer), **others}
    assert (report.files, report.skipped) == (3, len(published(newer)) - 3)
    assert not any(request.startswith("PUT") for request in hub.requests)
    assert open_dataset(url).facts["version"] == "1.2.1"
    assert push(newer, url, replace=True).files == 0
    assert len(repository.titles) == 3


def test_hub_branch(hub: FakeHub, built: Path) -> None:
    push(built, "hf://datasets/user/name@v1.2")
    repository = hub.repositories["user/name"]
    assert set(repository.tree("main")) == {".gitattributes"}
    assert_equal_values(open_dataset("hf://datasets/user/name@v1.2"), open_dataset(built))


def test_hub_public_only_when_asked(hub: FakeHub, built: Path, newer: Path) -> None:
    url = "hf://datasets/user/open"
    push(built, url, private=False)
    repository = hub.repositories["user/open"]
    assert not repository.private
    with pytest.raises(UsageError, match=r"is public.*--public"):
        push(newer, url, replace=True)
    assert repository.titles == ["initial commit", "made-up 1.2.0"]


def test_hub_faults_that_pass(hub: FakeHub, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.faults += ["PUT /objects/", "POST /api/datasets/user/name/preupload", "POST /datasets/user/name.git"]
    push(built, "hf://datasets/user/name")
    assert hub.faults == []
    assert published(built).items() <= hub.repositories["user/name"].tree().items()


def test_hub_a_failed_commit_publishes_nothing(hub: FakeHub, built: Path) -> None:
    hub.faults += ["POST /api/datasets/user/name/commit"]
    with pytest.raises(
        TalksetError, match=r"(?s)hf://datasets/user/name failed .*503.*nothing was published"
    ) as caught:
        push(built, "hf://datasets/user/name")
    assert "Signature" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert set(hub.repositories["user/name"].tree()) == {".gitattributes"}
    hub.requests.clear()
    push(built, "hf://datasets/user/name")
    assert not any(request.startswith("PUT") for request in hub.requests)  # what arrived is known by its hash


def test_hub_wrong_token(hub: FakeHub, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(TalksetError, match=r"(?s)401.*HF_TOKEN") as caught:
        push(built, "hf://datasets/user/name")
    assert "hf_wrong" not in str(caught.value)


def test_hub_damaged_data_set(hub: FakeHub, local: Path) -> None:
    (local / "stats.json").write_text("{}")
    with pytest.raises(TalksetError, match=r"stats\.json"):
        push(local, "hf://datasets/user/name")
    assert hub.repositories == {}


def test_hub_client_missing(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install talkset\[hub\]"):
        push(built, "hf://datasets/user/name")
