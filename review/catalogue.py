"""Pages of a data set's index for the queue: sorted by any score, filtered and searched by DuckDB on the file itself.

Nothing is read ahead but medians and spreads of the scores, so a hundred thousand clips open as fast as ten.
"""

from __future__ import annotations

import functools
import glob
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from schemas.errors import TalksetError, UsageError
from schemas.tables import SAFE_NAME

INDEX: Final = "index.parquet"
MAX_PAGE: Final = 500
MIN_SPREAD: Final = 0.05
"""A score's spread counts at least as this share of its median, so that noise of a constant score is no outlier."""
OVERALL: Final = "overall"


@dataclass(frozen=True)
class Score:
    """A column, or an expression over columns, to sort by."""

    name: str
    label: str
    unit: str
    worse: str
    """high or low: which end is shown first."""
    columns: tuple[str, ...]
    sql: str
    overall: bool = True
    """Whether it counts for the overall score."""


def _score(name: str, label: str, unit: str = "", worse: str = "high", overall: bool = True) -> Score:
    return Score(name, label, unit, worse, (name,), f'"{name}"', overall)


SCORES: Final = (
    _score("nme_p95", "Landmark error, p95", "%"),
    _score("nme_mean", "Landmark error", "%"),
    _score("held_out_nme", "Held-out error", "%"),
    _score("uncertainty_mm", "Uncertainty", "mm"),
    _score("psnr_db", "Pixel agreement", "dB", "low"),
    Score(
        "jitter_excess_px",
        "Jitter over detector's",
        "px",
        "high",
        ("jitter_px", "detector_jitter_px"),
        'greatest("jitter_px" - "detector_jitter_px", 0)',
    ),
    _score("jitter_px", "Jitter", "px", overall=False),
    _score("valid_ratio", "Frames with face", "%", "low"),
    Score("sync_error_ms", "Sound offset", "ms", "high", ("sync_offset_ms",), 'abs("sync_offset_ms")'),
    _score("sync_confidence", "Sync confidence", "", "low", overall=False),
    _score("speech_ratio", "Speech", "%", "low", overall=False),
    _score("emotion_confidence", "Emotion confidence", "", "low", overall=False),
)
FACETS: Final = ("status", "speaker", "split", "reason", "emotion", "language", "detector", "head_model")
"""Columns that the queue can be limited by."""
SEARCHED: Final = ("clip_id", "speaker", "source_uri", "transcript", "warnings")
VERDICT_FILTERS: Final = {
    "open": "o.mine IS NULL",
    "accept": "o.mine = 'accept'",
    "reject": "o.mine = 'reject'",
    "skip": "o.mine = 'skip'",
    "judged": "o.mine IS NOT NULL",
    "conflict": "o.outcome = 'conflict'",
    "any": "true",
}
MAX_FACET_VALUES: Final = 200
MAX_WORDS: Final = 8
"""Words of a search that are looked for."""


@dataclass(frozen=True)
class Query:
    """What the queue shows."""

    sort: str = OVERALL
    best_first: bool = False
    verdict: str = "any"
    search: str = ""
    facets: Mapping[str, str] | None = None
    """Column -> value, of `FACETS`."""
    offset: int = 0
    limit: int = 50


class Catalogue:
    """The index of a data set as pages. Thread safe.

    Raises TalksetError corrupt_data for an index that cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / INDEX
        self._lock = threading.Lock()
        self._connection = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "1GB"})
        # a folder's name may hold what is a pattern to DuckDB
        location = glob.escape(str(self._path.resolve())).replace("'", "''")
        try:
            self._connection.execute(f"CREATE VIEW clips AS SELECT * FROM read_parquet('{location}')")
            described = self._connection.execute("DESCRIBE clips").fetchall()
        except duckdb.Error as error:
            raise _unreadable(self._path, error) from error
        self.columns = frozenset(str(row[0]) for row in described)
        self._connection.execute(
            "CREATE TABLE opinions (clip_id VARCHAR PRIMARY KEY, mine VARCHAR, outcome VARCHAR, sample DOUBLE)"
        )
        self._sampled = False
        self.scores, self._spreads = self._measure()

    def _measure(self) -> tuple[tuple[Score, ...], dict[str, tuple[float, float]]]:
        """The scores that have values, and of each the median and the spread (interquartile range)."""
        known = [score for score in SCORES if self.columns.issuperset(score.columns)]
        if not known:
            return (), {}
        quantiles = ", ".join(f"quantile_cont({score.sql}, [0.25, 0.5, 0.75])" for score in known)
        row = self._run(f"SELECT {quantiles} FROM clips WHERE status = 'accepted'")[0]
        spreads = {}
        for score, found in zip(known, row, strict=True):
            if found is not None:
                low, median, high = (float(value) for value in found)
                spreads[score.name] = (median, max(high - low, MIN_SPREAD * abs(median), 1e-9))
        return tuple(score for score in known if score.name in spreads), spreads

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def spread(self, name: str) -> tuple[float, float] | None:
        """Median and spread of a score over the accepted clips."""
        return self._spreads.get(name)

    def set_opinions(self, mine: Mapping[str, str], outcomes: Mapping[str, str]) -> None:
        """Replace what is known of all decisions: this reviewer's verdicts, and what all say together, by clip id."""
        ids = sorted({*mine, *outcomes})
        rows = pa.table(
            {
                "clip_id": pa.array(ids, pa.string()),
                "mine": pa.array([mine.get(clip_id) for clip_id in ids], pa.string()),
                "outcome": pa.array([outcomes.get(clip_id) for clip_id in ids], pa.string()),
            }
        )
        with self._lock:
            self._connection.register("given", rows)
            self._connection.execute("UPDATE opinions SET mine = NULL, outcome = NULL")
            self._connection.execute(
                "INSERT INTO opinions SELECT clip_id, mine, outcome, NULL FROM given"
                " ON CONFLICT DO UPDATE SET mine = excluded.mine, outcome = excluded.outcome"
            )
            self._connection.unregister("given")

    def set_opinion(self, clip_id: str, mine: str | None, outcome: str | None) -> None:
        """Note a new decision."""
        self._run(
            "INSERT INTO opinions VALUES (?, ?, ?, NULL)"
            " ON CONFLICT DO UPDATE SET mine = excluded.mine, outcome = excluded.outcome",
            (clip_id, mine, outcome),
        )

    def set_sample(self, places: Mapping[str, float]) -> None:
        """Limit the queue to these clips, in the order of the given numbers: a blind second look."""
        rows = pa.table({"clip_id": list(places), "place": pa.array(list(places.values()), pa.float64())})
        with self._lock:
            self._connection.register("given", rows)
            self._connection.execute(
                "INSERT INTO opinions SELECT clip_id, NULL, NULL, place FROM given"
                " ON CONFLICT DO UPDATE SET sample = excluded.sample"
            )
            self._connection.unregister("given")
        self._sampled = True

    def page(self, query: Query) -> dict[str, Any]:
        """One page: `rows` with what the queue shows, `total` clips that pass, `counts` of their verdicts.

        Raises UsageError for an unknown score, filter or page.
        """
        where, values = self._where(query)
        order, score = self._order(query)
        if not query.offset >= 0 or not 1 <= query.limit <= MAX_PAGE:
            raise UsageError(f"page of {query.limit} rows from {query.offset}", f"Ask for 1 to {MAX_PAGE} rows from 0")
        with self._lock:  # one look at the file gives both the page and the counts
            self._execute(
                f"CREATE OR REPLACE TEMP TABLE hit AS SELECT c.clip_id, {score} AS score, o.mine, o.sample"
                f" FROM clips c LEFT JOIN opinions o USING (clip_id) WHERE {where}",
                values,
            )
            page = self._execute(f"SELECT clip_id FROM hit ORDER BY {order} LIMIT {query.limit} OFFSET {query.offset}")
            ids = [str(row[0]) for row in page]
            counted = self._execute(
                "SELECT count(*), count(*) FILTER (mine IS NULL), count(*) FILTER (mine = 'accept'),"
                " count(*) FILTER (mine = 'reject'), count(*) FILTER (mine = 'skip') FROM hit"
            )[0]
        names = ("open", "accept", "reject", "skip")
        return {
            "rows": self._shown(ids, score),
            "total": counted[0],
            "counts": dict(zip(names, counted[1:], strict=True)),
        }

    def _shown(self, ids: Sequence[str], score: str) -> list[dict[str, Any]]:
        """What the queue shows of some clips, in that order; read apart, because sorting whole rows is slow."""
        wanted = ("speaker", "split", "reason", "num_frames", "start_us", "end_us", "warnings", "source_uri")
        extra = ", ".join(f'c."{name}"' for name in wanted if name in self.columns)
        transcript = "left(c.transcript, 160) AS transcript," if "transcript" in self.columns else ""
        sql = f"""
            SELECT c.clip_id, c.status, {transcript} {extra}, {score} AS score, {self._worst("c")} AS worst,
                o.mine AS verdict, o.outcome AS outcome
            FROM clips c LEFT JOIN opinions o USING (clip_id) WHERE c.clip_id IN ({", ".join("?" for _ in ids)})"""
        found = {row["clip_id"]: row for row in self._run_named(sql, ids)} if ids else {}
        return [found[clip_id] for clip_id in ids]

    def values(self, clip_id: str) -> dict[str, float | None]:
        """Every score of a clip, by its name."""
        if not self.scores:
            return {}
        wanted = ", ".join(f'{score.sql} AS "{score.name}"' for score in self.scores)
        rows = self._run_named(f"SELECT {wanted} FROM clips WHERE clip_id = ?", (clip_id,))
        return rows[0] if rows else {}

    @functools.cached_property
    def facets(self) -> dict[str, list[str]]:
        """Column -> its values, of the columns that a queue is worth limiting by."""
        found: dict[str, list[str]] = {}
        for name in FACETS:
            if name in self.columns:
                limit = MAX_FACET_VALUES + 1
                sql = f'SELECT "{name}", count(*) n FROM clips WHERE "{name}" IS NOT NULL GROUP BY 1 ORDER BY 1'
                values = [str(row[0]) for row in self._run(f"{sql} LIMIT {limit}")]
                if len(values) > 1 or name == "status":
                    found[name] = values[:MAX_FACET_VALUES]
        return found

    def ids(self, where: str = "true") -> list[str]:
        """Ids of the clips that pass a condition of this module's own making."""
        return [str(row[0]) for row in self._run(f"SELECT clip_id FROM clips c WHERE {where} ORDER BY clip_id")]

    def _where(self, query: Query) -> tuple[str, list[str]]:
        if query.verdict not in VERDICT_FILTERS:
            raise UsageError(f"unknown verdict filter {query.verdict!r}", f"Known: {', '.join(VERDICT_FILTERS)}")
        parts, values = [VERDICT_FILTERS[query.verdict]], []
        if self._sampled:
            parts.append("o.sample IS NOT NULL")
        for name, value in (query.facets or {}).items():
            if name not in FACETS or name not in self.columns:
                raise UsageError(f"unknown filter {name!r}", f"Known: {', '.join(FACETS)}")
            parts.append(f'c."{name}" = ?')
            values.append(value)
        searched = ", ".join(f'c."{name}"' for name in SEARCHED if name in self.columns)
        for word in query.search.split()[:MAX_WORDS]:
            parts.append(f"contains(lower(concat_ws(' ', {searched})), ?)")
            values.append(word.lower())
        return " AND ".join(parts), values

    def _order(self, query: Query) -> tuple[str, str]:
        """ORDER BY, and the expression of the score that is shown."""
        if query.sort == OVERALL:
            score, direction = self._overall("c"), "DESC"
        else:
            chosen = next((score for score in SCORES if score.name == query.sort), None)
            if chosen is None:
                raise UsageError(f"unknown score {query.sort!r}", f"Known: {OVERALL}, {', '.join(self._spreads)}")
            known = self.columns.issuperset(chosen.columns)
            score, direction = (chosen.sql if known else "NULL"), "DESC" if chosen.worse == "high" else "ASC"
        if query.best_first:
            direction = "ASC" if direction == "DESC" else "DESC"
        if self._sampled:
            return "sample", score  # the order must not tell what was thought of the clip
        return f"score {direction} NULLS LAST, clip_id", score

    def _distances(self, table: str) -> dict[str, str]:
        """Of each score that counts for the overall one: how many spreads a clip is worse than the median."""
        found = {}
        for score in self.scores:
            if score.overall:
                median, spread = self._spreads[score.name]
                sign = 1 if score.worse == "high" else -1
                sql = score.sql.replace('"', f'{table}."', 1) if len(score.columns) == 1 else score.sql
                found[score.name] = f"({sign} * ({sql} - {median!r}) / {spread!r})"
        return found

    def _overall(self, table: str) -> str:
        distances = self._distances(table)
        return f"greatest({', '.join(distances.values())})" if distances else "NULL"

    def _worst(self, table: str) -> str:
        """The name of the score that makes a clip's overall score."""
        distances = self._distances(table)
        if not distances:
            return "NULL"
        overall = self._overall(table)
        cases = " ".join(f"WHEN {sql} = {overall} THEN '{name}'" for name, sql in distances.items())
        return f"CASE {cases} END"

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._execute(sql, values)

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return list(self._connection.execute(sql, list(values)).fetchall())
        except duckdb.Error as error:
            raise _unreadable(self._path, error) from error

    def _run_named(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        try:
            with self._lock:
                cursor = self._connection.execute(sql, list(values))
                names = [item[0] for item in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except duckdb.Error as error:
            raise _unreadable(self._path, error) from error


def _unreadable(path: Path, error: Exception) -> TalksetError:
    return TalksetError("corrupt_data", f"{path} cannot be queried ({error})", "Run `talkset verify`")


def safe_clip_id(clip_id: str) -> bool:
    """Whether an id can be the stem of a file and nothing else."""
    return SAFE_NAME.fullmatch(clip_id) is not None
