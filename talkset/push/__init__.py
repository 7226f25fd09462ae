"""Publishing a finished data set: to a folder, an object store or the Hugging Face hub, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from talkset.push.hub import hub_address, push_hub
from talkset.push.objects import open_folder, push_folder
from talkset.push.source import PushReport, open_source

if TYPE_CHECKING:
    from pipelines.report import Progress

__all__ = ["PushReport", "push"]


def push(
    root: Path, url: str, *, replace: bool = False, private: bool = True, progress: Progress | None = None
) -> PushReport:
    """Upload a finished data set to a URL that `pyarrow.fs` knows (s3://, gs://, file://, ...), or to the hub.

    Every file is compared with MANIFEST.sha256 before anything is changed at the destination, and again while it is
    sent. Only listed files and the list travel; the run state does not. An interrupted push leaves nothing that can be
    opened, and running it again goes on; how is told in `talkset.push.objects`. With `replace`, listed files of the old
    version that are not part of the new one are removed at the end; other files there are left alone. Two pushes to one
    place at the same time are not kept apart.

    hf://datasets/<user>/<name>[@<branch>]: a missing repository is made, private unless told otherwise, and one commit
    makes the whole change. The token is that of huggingface_hub (`hf auth login`, or HF_TOKEN).

    Raises TalksetError: missing_file, unreadable_file or corrupt_data for a damaged data set, of which nothing is
    published; not_writable when the destination fails for good. UsageError for an unknown destination or one inside the
    data set, one that holds a data set while `replace` is false, a public repository while `private` is true, or where
    huggingface_hub is missing.
    """
    from pipelines.report import NoProgress

    progress = progress or NoProgress()
    address = hub_address(url)
    if address is not None:
        return push_hub(open_source(root, progress), address, replace, private, progress)
    folder = open_folder(root, url)
    return push_folder(open_source(root, progress), folder, replace, progress)
