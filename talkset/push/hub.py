"""Pushing to a data set repository of the Hugging Face hub: one commit, so all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from schemas.errors import TalksetError, UsageError
from schemas.files import MANIFEST_NAME
from talkset.push.objects import parse_checksums
from talkset.push.source import AGAIN, FACTS_NAME, ListedFile, PushReport, Source, occupied

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    from pipelines.report import Progress

KIND: Final = "dataset"
BATCH_FILES: Final = 256
_URL: Final = re.compile(r"hf://datasets/([\w.\-]+/[\w.\-]+)(?:@([^/@]+))?/?")
_SIGNATURE: Final = re.compile(r"(https?://[^\s?]+)\?\S+")


@dataclass(frozen=True)
class Address:
    """A data set repository and, where one is named, its branch."""

    repo_id: str
    branch: str | None

    def __str__(self) -> str:
        return f"hf://datasets/{self.repo_id}" + ("" if self.branch is None else f"@{quote(self.branch, safe='')}")


def hub_address(url: str) -> Address | None:
    """The repository that an hf: URL means, None for other URLs. Raises UsageError for one that is no data set."""
    if not url.startswith("hf:"):
        return None
    match = _URL.fullmatch(url)
    if match is None:
        remedy = "Give hf://datasets/<user>/<name>, with @<branch> where wanted"
        raise UsageError(f"{url} is no data set repository", remedy)
    return Address(match[1], None if match[2] is None else unquote(match[2]))


def push_hub(source: Source, address: Address, replace: bool, private: bool, progress: Progress) -> PushReport:
    """Upload a checked data set; see `talkset.push.push`."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise UsageError(f"pushing to {address} needs huggingface_hub", "pip install talkset[hub]") from error
    api = huggingface_hub.HfApi(library_name="talkset")
    try:
        report = _push(api, source, address, replace, private, progress)
    except TalksetError:
        raise
    except Exception as error:  # HTTP, LFS and connection errors of several client libraries
        text = _SIGNATURE.sub(r"\1", str(error))
        message = f"pushing to {address} failed ({type(error).__name__}: {text}); nothing was published"
        status = getattr(getattr(error, "response", None), "status_code", None)
        log_in = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write"
        raise TalksetError("not_writable", message, log_in if status in (401, 403, 404) else AGAIN) from error
    huggingface_hub.HfFileSystem().invalidate_cache()  # readers of this process would see the old listing
    return report


def _push(api: HfApi, source: Source, address: Address, replace: bool, private: bool, progress: Progress) -> PushReport:
    """Make the repository hold the data set, by one commit on top of what was looked at."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    repo_id, branch = address.repo_id, address.branch
    api.create_repo(repo_id, repo_type=KIND, private=private, exist_ok=True)
    if branch is not None:
        api.create_branch(repo_id, branch=branch, repo_type=KIND, exist_ok=True)
    info = api.repo_info(repo_id, repo_type=KIND, revision=branch)
    if private and info.private is False:
        raise UsageError(f"{address} exists and is public", "Make it private on the hub, or allow it with --public")
    there = _files_there(api, repo_id, info.sha)
    if FACTS_NAME in there and not replace:
        raise occupied(str(address))
    stale = _older(api, address, info.sha, there) - source.files.keys() if FACTS_NAME in there else set()

    manifest = source.manifest
    files = {**source.files, MANIFEST_NAME: ListedFile(hashlib.sha256(manifest).hexdigest(), len(manifest))}
    wanted = [name for name in sorted(files) if not _same(source, name, files[name], there.get(name))]
    contents: dict[str, bytes | Path] = {name: source.root / name for name in wanted}
    if MANIFEST_NAME in contents:
        contents[MANIFEST_NAME] = manifest
    additions = [CommitOperationAdd(name, content) for name, content in contents.items()]
    progress.begin("send", len(wanted))
    for start in range(0, len(additions), BATCH_FILES):
        batch = additions[start : start + BATCH_FILES]
        api.preupload_lfs_files(repo_id, batch, repo_type=KIND, revision=branch, free_memory=False)
        for addition in batch:
            if addition.path_in_repo in source.files:
                source.expect(addition.path_in_repo, addition.upload_info.sha256.hex())
            progress.step()
    deletions = [CommitOperationDelete(name, is_folder=False) for name in sorted(stale)]
    if additions or deletions:
        facts: dict[str, Any] = json.loads((source.root / FACTS_NAME).read_bytes())
        api.create_commit(
            repo_id,
            [*additions, *deletions],
            commit_message=f"{facts.get('name')} {facts.get('version')}",
            repo_type=KIND,
            revision=branch,
            parent_commit=info.sha,
        )
    sent = sum(files[name].size for name in wanted)
    return PushReport(len(wanted), sent, len(files) - len(wanted), str(address))


def _files_there(api: HfApi, repo_id: str, revision: str | None) -> dict[str, RepoFile]:
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo_id, repo_type=KIND, revision=revision, recursive=True)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _older(api: HfApi, address: Address, revision: str | None, there: Mapping[str, RepoFile]) -> set[str]:
    """The files of the version that is replaced, as far as they are there."""
    data = None
    if MANIFEST_NAME in there:
        with tempfile.TemporaryDirectory() as scratch:
            path = api.hf_hub_download(
                address.repo_id, MANIFEST_NAME, repo_type=KIND, revision=revision, local_dir=scratch
            )
            data = Path(path).read_bytes()
    return parse_checksums(data, str(address)).keys() & there.keys()


def _same(source: Source, name: str, file: ListedFile, there: RepoFile | None) -> bool:
    """Whether the repository has that content: LFS files are named by SHA-256, others by git's hash of a blob."""
    if there is None or there.size != file.size:
        return False
    if there.lfs is not None:
        return bool(there.lfs.sha256 == file.sha256)
    digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    for block in (source.manifest,) if name == MANIFEST_NAME else source.blocks(name):
        digest.update(block)
    return digest.hexdigest() == there.blob_id
