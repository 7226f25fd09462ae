"""What is wrong with a data set, said so that a badly broken one does not print a million lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

MAX_PER_KIND: Final = 10
"""Problems of one kind shown for one file."""
MAX_PER_FILE: Final = 50
"""Problems shown for one file."""
MAX_FILES: Final = 50
"""Files of one folder that are named for one kind of problem."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file of a data set."""

    file: str
    """Path relative to the data set."""
    message: str


class Report:
    """Collects problems; of each kind the first are kept with their text, the others counted."""

    def __init__(self) -> None:
        self._shown: list[Problem] = []
        self._per_file: Counter[str] = Counter()
        self._per_kind: Counter[tuple[str, str]] = Counter()
        self._files: Counter[tuple[str, str]] = Counter()
        self._hidden: Counter[tuple[str, str]] = Counter()
        self.files: set[str] = set()
        """Every file with a problem."""
        self.unread: set[str] = set()
        """Files of which not everything could be read."""

    def add(self, file: str, kind: str, message: str) -> None:
        """Report one problem; `kind` says in general what the message says of one row or file."""
        self._count(file, kind, 1, lambda _: message)

    def rows(self, file: str, kind: str, rows: NDArray[Any], describe: Callable[[int], str]) -> None:
        """Report one problem for each of `rows`; only those that are shown are described."""
        if len(rows):
            self._count(file, kind, len(rows), lambda place: describe(int(rows[place])))

    def unreadable(self, file: str, message: str) -> None:
        """Report a file that could not be read to its end."""
        self.unread.add(file)
        self.add(file, "the file cannot be read", message)

    def _count(self, file: str, kind: str, number: int, message: Callable[[int], str]) -> None:
        self.files.add(file)
        folder = file.rpartition("/")[0]
        if (file, kind) not in self._per_kind and folder:
            self._files[folder, kind] += 1
        if folder and self._files[folder, kind] > MAX_FILES:
            self._hidden[folder, kind] += number
            return
        room = min(number, MAX_PER_KIND - self._per_kind[file, kind], MAX_PER_FILE - self._per_file[file])
        room = max(0, room)
        for place in range(room):
            self._shown.append(Problem(file, message(place)))
        self._per_kind[file, kind] += number
        self._per_file[file] += room
        if number > room:
            self._hidden[file, kind] += number - room

    def problems(self) -> list[Problem]:
        """What was kept, in the order it was found, then how many more there are of each kind."""
        hidden = self._hidden.items()
        return self._shown + [Problem(file, f"... and {n} more of this kind: {kind}") for (file, kind), n in hidden]
