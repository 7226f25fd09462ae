"""The index of a data set without reading it whole: filters touch only their own columns, others load when asked for.

Needs only numpy and pyarrow. A million clips cost eight bytes each and the columns that were used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from talkset.store import DatasetError, Store
from talkset.where import parse_where, unknown_column

FILE: Final = "index.parquet"
KNOWN_VERSION: Final = (1, 1, 0)
"""Schema version whose columns this reader has heard of."""
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_NAMES: Final = ("clip_id", "shard")
"""Columns whose values become file names."""


class Index:
    """The selected rows of index.parquet and of the index columns that users added."""

    def __init__(self, store: Store, rows: NDArray[np.int64] | None = None) -> None:
        """All rows, or those of the given rising row numbers."""
        self.store = store
        self.schema = _schema(store)
        self._rows = np.arange(_count(store), dtype=np.int64) if rows is None else rows
        self._columns: dict[str, pa.ChunkedArray] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(N,) row numbers in the files, rising."""
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        """Without the columns: a data loader worker reads those that it needs."""
        whole = len(self._rows) == _count(self.store)
        return {"store": self.store, "rows": None if whole else self._rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["store"], state["rows"])  # type: ignore[misc]

    def select(self, where: str | pc.Expression | None, split: str | None, every_status: bool = False) -> Index:
        """The rows that pass as well; only accepted clips unless `where` mentions status or `every_status`.

        Raises DatasetError or WhereError for a filter that cannot be used.
        """
        condition, used = self._condition(where)
        if not every_status and "status" not in used:
            accepted = pc.field("status") == "accepted"
            condition, used = (accepted if condition is None else condition & accepted), used | {"status"}
        if split is not None:
            inside = pc.field("split") == split
            condition, used = (inside if condition is None else condition & inside), used | {"split"}
        if condition is None:
            return self
        found = []
        for first, rows, table in self._groups(sorted(used)):
            numbered = table.append_column("__row", pa.array(np.arange(table.num_rows, dtype=np.int64)))
            try:
                passed = numbered.filter(condition)["__row"].to_numpy()
            except pa.ArrowException as error:
                raise DatasetError(f"where {str(where)!r} cannot be applied to the index: {error}") from error
            kept = passed if rows is None else np.intersect1d(passed, rows, assume_unique=True)
            found.append(kept + first)
        return Index(self.store, np.concatenate(found) if found else np.zeros(0, np.int64))

    def _condition(self, where: str | pc.Expression | None) -> tuple[Any, frozenset[str]]:
        """A filter as an expression, and the columns that it reads."""
        if where is None:
            return None, frozenset()
        if isinstance(where, str):
            return parse_where(where, self.schema, _older(self.store))
        used: set[str] = set()
        while True:  # an expression does not tell its columns; binding it names those that are missing, one by one
            known = pa.schema([field for field in self.schema if field.name in used])
            missing = _missing_field(where, known)
            if missing is None:
                return where, frozenset(used)
            if missing not in self.schema.names or missing in used:
                raise DatasetError(f"where: {unknown_column(missing, self.schema.names)}{_older(self.store)}")
            used.add(missing)

    def _groups(self, names: Sequence[str]) -> Iterator[tuple[int, NDArray[np.int64] | None, pa.Table]]:
        """Row groups with selected rows: number of their first row, the selected rows in there or None for all."""
        ends = self.store.group_ends(FILE)
        borders = np.searchsorted(self._rows, ends, side="left")
        first_selected = 0
        for group, (end, last_selected) in enumerate(zip(ends.tolist(), borders.tolist(), strict=True)):
            first = int(ends[group - 1]) if group else 0
            count = last_selected - first_selected
            if count:
                table = self._read(group, names)
                rows = None if count == end - first else self._rows[first_selected:last_selected] - first
                yield first, rows, table
            first_selected = last_selected

    def _read(self, group: int, names: Sequence[str]) -> pa.Table:
        stored = self.store.schema(FILE).names
        table = self.store.read_group(FILE, group, [name for name in names if name in stored])
        for name in names:
            if name not in stored:
                added = self.store.read_group(f"columns/{name}.parquet", group, [name])[name]
                if table.num_columns and len(added) != table.num_rows:
                    path = f"{self.store.shown}/columns/{name}.parquet"
                    raise DatasetError(f"{path} does not fit the index; run `talkset verify`")
                table = table.append_column(name, added) if table.num_columns else pa.table({name: added})
        return table.select(list(names))

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of the selected rows, kept for the next time. Raises KeyError with a suggestion."""
        if name not in self._columns:
            if name not in self.schema.names:
                raise KeyError(unknown_column(name, self.schema.names) + _older(self.store))
            self._columns[name] = self.table([name])[name]
            if name in _NAMES:
                self._check_names(name)
        return self._columns[name]

    def table(self, names: Sequence[str] | None = None) -> pa.Table:
        """Columns (all by default) of the selected rows as a table; nothing is kept."""
        names = self.schema.names if names is None else names
        parts = [table if rows is None else table.take(pa.array(rows)) for _, rows, table in self._groups(names)]
        if not parts:
            return pa.schema([self.schema.field(name) for name in names]).empty_table()
        return pa.concat_tables(parts).combine_chunks()

    def value(self, name: str, position: int) -> Any:
        """One value."""
        return self.column(name)[position].as_py()

    def position(self, clip_id: str) -> int:
        """Where a clip is among the selected rows, -1 if it is not."""
        return int(pc.index(self.column("clip_id"), clip_id).as_py())

    def _check_names(self, column: str) -> None:
        """Refuse names that would leave the data set's folder."""
        names = pc.unique(self._columns[column].drop_null())
        unsafe = names.filter(pc.invert(pc.match_substring_regex(names, rf"\A{_SAFE_NAME.pattern}\z")))
        if len(unsafe):
            message = f"{self.store.shown}/{FILE} has the unsafe {column} {unsafe[0].as_py()!r}"
            raise DatasetError(f"{message}; it is not a plain file name, do not trust this data set")


class IndexRow(Mapping[str, Any]):
    """One row of an index as a mapping; a column is read when it is first asked for."""

    def __init__(self, index: Index, position: int) -> None:
        self._index = index
        self._position = position

    def __getitem__(self, name: str) -> Any:
        return self._index.value(name, self._position)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index.schema.names)

    def __len__(self) -> int:
        return len(self._index.schema.names)

    def __repr__(self) -> str:
        return repr(dict(self))


def added_columns(store: Store, table: str) -> list[str]:
    """Names of the columns that users added to the index ("index") or to the signals ("params")."""
    added = [item for item in store.facts.get("sidecars", ()) if item.get("table") == table]
    names = [str(item.get("name")) for item in added]
    for name in names:
        if _SAFE_NAME.fullmatch(name) is None:
            message = f"{store.shown}/dataset.json has the unsafe column name {name!r}"
            raise DatasetError(f"{message}; it is not a plain file name, do not trust this data set")
    return names


def _older(store: Store) -> str:
    """What to add to an error about a column that a newer schema version may bring."""
    version = str(store.facts["schema_version"])
    if tuple(map(int, version.split("."))) >= KNOWN_VERSION:
        return ""
    return f" (it has schema version {version}; `talkset upgrade {store.shown} --out FOLDER` brings newer columns)"


def _schema(store: Store) -> pa.Schema:
    schema = store.schema(FILE)
    for name in added_columns(store, "index"):
        schema = schema.append(store.schema(f"columns/{name}.parquet").field(name))
    return schema


def _count(store: Store) -> int:
    ends = store.group_ends(FILE)
    return int(ends[-1]) if len(ends) else 0


def _missing_field(expression: pc.Expression, schema: pa.Schema) -> str | None:
    """The name of a column that the expression needs and `schema` lacks."""
    try:
        schema.empty_table().filter(expression)
    except pa.ArrowInvalid as error:
        match = re.search(r"No match for FieldRef\.Name\((.*?)\) in", str(error))
        return match[1] if match else None
    except pa.ArrowException:
        return None  # another fault of the expression; applying it to the index reports it
    return None
