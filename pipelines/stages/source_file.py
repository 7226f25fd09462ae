"""The file of an item's source, fetched where it is not here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipelines.stage import Job


def source_file(job: Job[Any]) -> AbstractContextManager[Path]:
    """The file of the item's source while the context lasts; a remote one is fetched where it is not here.

    Raises the errors of `pipelines.download.fetch`.
    """
    from pipelines.download import local_file

    item = job.item
    return local_file(item.uri, item.path, item.sha256, job.config.run.download)
