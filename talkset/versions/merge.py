"""One data set out of several: parts and media are linked, the index and the long tables are written again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.dataset_files import DatasetFiles
from schemas.errors import TalksetError, UsageError
from schemas.files import write_atomic
from schemas.tables import INDEX, LONG, PARAMS, SHARDED, Table
from talkset.versions.version import Version, adopt_files, conform, link_parts, make_facts, new_folder, next_version


def merge_datasets(roots: Sequence[Path], out: Path, *, name: str | None = None, version: str | None = None) -> Path:
    """All clips of several data sets as one; returns its folder. A MAJOR change of the first one's data.

    Clips keep their ids, splits and scores. Columns that users added to some of them are empty for the others' clips.
    Raises UsageError for fewer than two, for clip ids that occur twice, for added columns of one name and different
    kinds, or for an `out` that exists; TalksetError for damage or a full disk.
    """
    if len(roots) < 2:
        raise UsageError(f"merging needs at least two data sets, got {len(roots)}", "Name two or more folders")
    sources = [Version.read(root) for root in roots]
    sidecars = _common_sidecars(sources)
    new = version or next_version(str(sources[0].facts["version"]), "MAJOR")
    facts = make_facts(sources, "merge", {"sources": len(sources)}, name=name, version=new)
    facts |= _joined_facts(sources)
    facts["sidecars"] = [item for item, _ in sidecars]
    extra = tuple(table for item, table in sidecars if item["table"] == "params")
    extra_index = tuple(table for item, table in sidecars if item["table"] == "index")
    with new_folder(out) as staging:
        config = sources[0].config_yaml
        with DatasetFiles(staging, facts, config, sources[0].shards, extra, extra_index) as files:
            hashes: dict[str, str] = {}
            for source in sources:
                mapping = _add_parts(source, files, extra, hashes)
                _add_rows(source, files, extra_index, mapping)
                hashes |= adopt_files(source, staging)
            _keep_configs(sources, staging)
            try:
                files.finish(hashes)
            except ValueError as error:
                remedy = "Take the clips out of one of the data sets with `talkset filter` first"
                raise UsageError(f"the data sets cannot be merged: {error}", remedy) from error
    return out


def _joined_facts(sources: Sequence[Version]) -> dict[str, Any]:
    """Models, licences and settings of all sources."""
    models: list[Any] = []
    for source in sources:
        models += [model for model in source.facts.get("models", ()) if model not in models]
    stated = sorted({str(source.facts["licence"]) for source in sources if source.facts.get("licence")})
    digests = {source.facts.get("config_digest") for source in sources}
    ways = {source.facts.get("split_by") for source in sources}
    return {
        "models": models,
        "licence": " AND ".join(stated),
        "config_digest": digests.pop() if len(digests) == 1 else None,
        "split_by": ways.pop() if len(ways) == 1 else None,
    }


def _common_sidecars(sources: Sequence[Version]) -> list[tuple[dict[str, Any], Table]]:
    """Every added column of any source with its table. Raises UsageError where two differ in kind."""
    found: dict[str, tuple[dict[str, Any], Table]] = {}
    for source in sources:
        for kind in ("params", "index"):
            items = [item for item in source.sidecars if item["table"] == kind]
            tables = {table.name: table for table in source.sidecar_tables(kind)}
            for item in items:
                table = tables.get(f"columns/{item['name']}")
                if table is None:
                    continue
                known = found.setdefault(item["name"], (item, table))
                if known[0]["table"] != kind or _kind(known[1]) != _kind(table):
                    message = f"the added column {item['name']!r} of {source.root} is of another kind than before"
                    raise UsageError(message, "Add it under another name")
    return list(found.values())


def _kind(table: Table) -> tuple[Any, ...]:
    column = table.columns[-1]
    return column.type, column.shape, column.unit, column.space, column.rotation


def _add_parts(source: Version, files: DatasetFiles, extra: Sequence[Table], hashes: dict[str, str]) -> dict[str, str]:
    """Link the parts of a source and measure them; returns old part name -> new part name."""
    mapping = {}
    own = {table.name for table in source.sidecar_tables("params")}
    linked = [table.name for table in (*SHARDED, *extra) if table in SHARDED or table.name in own]
    for part in source.part_names:
        hashes |= link_parts(source, files, linked, part)
        mapping[part] = files.part_name
        readers: list[Iterator[pa.Table]] = [source.row_groups(f"{name}/{part}") for name in linked]
        for groups in zip(*readers, strict=True):
            rows = dict(zip(linked, groups, strict=True))
            keys = rows[PARAMS.name].select(["clip_id", "num_frames"])
            files.write_group(
                {**rows, **{table.name: conform(keys, table) for table in extra if table.name not in rows}}
            )
        files.close_part()
    return mapping


def _add_rows(source: Version, files: DatasetFiles, extra_index: Sequence[Table], mapping: dict[str, str]) -> None:
    """Append index and long tables, with the new names of the parts."""
    own = {table.name for table in source.sidecar_tables("index")}
    readers = {table.name: source.row_groups(f"{table.name}.parquet") for table in extra_index if table.name in own}
    position = INDEX.schema.get_field_index("shard")
    for group in source.row_groups("index.parquet"):
        try:
            shards = [None if shard is None else mapping[shard] for shard in group["shard"].to_pylist()]
        except KeyError as error:
            message = f"{source.root}/index.parquet names the part {error}, which is missing"
            raise TalksetError("corrupt_data", message, "Run `talkset verify`") from error
        files.write(INDEX.name, group.set_column(position, INDEX.schema.field("shard"), pa.array(shards, pa.string())))
        for table in extra_index:
            rows = next(readers[table.name]) if table.name in readers else conform(group.select(["clip_id"]), table)
            files.write(table.name, rows)
    for table in LONG:
        for group in source.row_groups(f"{table.name}.parquet"):
            files.write(table.name, group)


def _keep_configs(sources: Sequence[Version], staging: Path) -> None:
    """The configuration of every source, where they differ from the first one's."""
    for number, source in enumerate(sources):
        if source.config_yaml and source.config_yaml != sources[0].config_yaml:
            folder = staging / "configs"
            folder.mkdir(exist_ok=True)
            write_atomic(folder / f"{number:03d}.yaml", source.config_yaml.encode())
