"""What a report keeps of very many problems."""

from __future__ import annotations

import numpy as np

from schemas.verify_report import MAX_FILES, MAX_PER_FILE, MAX_PER_KIND, Problem, Report


def test_few_problems_are_all_kept_in_order() -> None:
    report = Report()
    report.add("b", "kind", "one")
    report.rows("a", "kind", np.array([4, 2]), lambda row: f"row {row}")
    report.rows("c", "kind", np.array([], np.int64), lambda row: f"row {row}")
    assert report.problems() == [Problem("b", "one"), Problem("a", "row 4"), Problem("a", "row 2")]
    assert report.files == {"a", "b"}
    assert report.unread == set()


def test_many_of_one_kind_are_counted_and_not_described() -> None:
    report = Report()
    described = []

    def describe(row: int) -> str:
        described.append(row)
        return str(row)

    for _ in range(3):
        report.rows("a", "kind", np.arange(1_000_000), describe)
    assert described == list(range(MAX_PER_KIND))
    problems = report.problems()
    assert len(problems) == MAX_PER_KIND + 1
    assert problems[-1] == Problem("a", f"... and {3_000_000 - MAX_PER_KIND} more of this kind: kind")


def test_many_kinds_in_one_file() -> None:
    report = Report()
    for kind in range(20):
        report.rows("a", f"kind {kind}", np.arange(8), str)
    problems = report.problems()
    shown = [problem for problem in problems if not problem.message.startswith("...")]
    assert len(shown) == MAX_PER_FILE
    hidden = sum(int(problem.message.split()[2]) for problem in problems[len(shown) :])
    assert hidden + len(shown) == 160


def test_many_files_of_one_folder_and_many_at_the_root() -> None:
    report = Report()
    for number in range(MAX_FILES + 25):
        report.add(f"media/{number}", "gone", "is gone")
        report.add(f"media/{number}", "gone", "is gone")
    problems = report.problems()
    assert len({problem.file for problem in problems}) == MAX_FILES + 1
    assert problems[-1] == Problem("media", "... and 50 more of this kind: gone")
    report.unreadable("media/0", "cannot be read")
    assert report.unread == {"media/0"}
    assert Problem("media/0", "cannot be read") in report.problems()
