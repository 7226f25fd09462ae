"""The data card: README.md of a data set, written from its facts, its index and its statistics."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import yaml

from schemas.errors import REASONS
from schemas.figures import FIGURES
from schemas.statistics import HEAD_ANGLES, QUANTILES
from schemas.summary import IndexSummary, Tally
from schemas.tables import SHARDED, TABLES, Column

LONGEST_TABLE: Final = 50
"""A table of the card ends here and says how much it leaves out."""

TAGS: Final = ("talking-head", "3d-face", "facial-animation", "audio-visual", "speech", "parquet")

_HUB_LICENCES: Final = {
    "apache-2.0": "apache-2.0",
    "bsd-2-clause": "bsd-2-clause",
    "bsd-3-clause": "bsd-3-clause",
    "cc0-1.0": "cc0-1.0",
    "cc-by-2.0": "cc-by-2.0",
    "cc-by-3.0": "cc-by-3.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc-by-nc-nd-4.0": "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0": "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0": "cc-by-nd-4.0",
    "cc-by-sa-3.0": "cc-by-sa-3.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0",
    "cdla-permissive-2.0": "cdla-permissive-2.0",
    "mit": "mit",
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
    "pddl-1.0": "pddl",
}
"""SPDX identifiers in lower case with the hub's own; any other licence is `other` with its name."""

_HUB_TYPES: Final = {
    pa.string(): "string",
    pa.bool_(): "bool",
    pa.int32(): "int32",
    pa.int64(): "int64",
    pa.float32(): "float32",
    pa.float64(): "float64",
}

_HISTORY: Final = {
    "run": "built from videos",
    "merge": "joined from several data sets",
    "filter": "clips selected",
    "split": "clips assigned to splits",
    "add-column": "columns added",
    "upgrade": "brought to a newer schema version",
}


def render_card(
    facts: Mapping[str, Any], summary: IndexSummary, statistics: Mapping[str, Any], has_figures: bool
) -> str:
    """The card as Markdown with the front matter that the Hugging Face hub reads.

    `facts` is the content of dataset.json, `summary` what was counted over its index, `statistics` the content of
    stats.json; `has_figures` says whether the pictures of `schemas.figures` are beside the card.
    No date: the same data give the same card.
    """
    sections = [
        _front_matter(facts, summary),
        f"# {_text(facts['name'])} {_text(facts['version'])}",
        "Talking clips with fitted 3D head parameters, 2D landmarks, words and phones. The parameters are"
        " pseudo-ground truth: they were fitted to video, not measured in 3D.",
        _contents(facts, summary),
        _figures() if has_figures else "",
        _motion(statistics),
        _outcome(summary),
        _licences(facts, summary),
        _models(facts, summary),
        _added_columns(facts),
        _READING,
        _limits(facts, summary),
        _VERSIONS,
        _history(facts),
        _provenance(facts),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(facts: Mapping[str, Any], summary: IndexSummary) -> str:
    """The YAML block on top: what the hub shows, which files make a table, and the types of its columns."""
    empty = summary.accepted == 0
    tables = [name for name in TABLES if not (empty and name in _PARTS)]  # without a clip there is no part
    front: dict[str, Any] = {"pretty_name": facts["name"], **_hub_licence(facts["licence"])}
    front["tags"] = list(TAGS)
    front["size_categories"] = [_size_category(summary.accepted)]
    front["configs"] = [
        {"config_name": name, "data_files": f"{name}/*.parquet" if name in _PARTS else f"{name}.parquet"}
        for name in tables
    ]
    front["configs"][0]["default"] = True
    front["dataset_info"] = [
        {"config_name": name, "features": [_feature(column) for column in TABLES[name].columns]} for name in tables
    ]
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=math.inf)
    return f"---\n{text}---"


_PARTS: Final = tuple(table.name for table in SHARDED)


def _hub_licence(licence: str) -> dict[str, str]:
    name = " ".join(licence.split())
    if not name:
        return {}
    known = _HUB_LICENCES.get(name.lower())
    if known:
        return {"license": known}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "other"}


def _size_category(clips: int) -> str:
    limits = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    place = next(place for place in range(len(limits)) if clips < 1000 * 10**place)
    return f"n<{limits[0]}" if place == 0 else f"{limits[place - 1]}<n<{limits[place]}"


def _feature(column: Column) -> dict[str, str]:
    """A column as `datasets.Features` reads it from YAML; `sequence` is the form that every release understands."""
    if pa.types.is_list(column.type):
        return {"name": column.name, "sequence": _HUB_TYPES[column.type.value_type]}
    return {"name": column.name, "dtype": _HUB_TYPES[column.type]}


def _contents(facts: Mapping[str, Any], summary: IndexSummary) -> str:
    counts = facts["counts"]
    unnamed = summary.missing["speaker"]
    rates = ", ".join(f"{rate:g}" for rate, _ in sorted(summary.frame_rates.most_common(5))) or "unknown"
    rows = [
        ("accepted clips", f"{counts['accepted']}"),
        ("hours", f"{counts['seconds'] / 3600:.3f}"),
        ("frames", f"{counts['frames']}"),
        ("frames with a face", f"{counts['valid_frames']}"),
        ("frames per second", rates + (", and others" if len(summary.frame_rates) > 5 else "")),
        ("source videos", f"{summary.sources}"),
        ("speakers", f"{summary.named_speakers}" + (f" named; {unnamed} clips without a name" if unnamed else "")),
        ("words", f"{counts['words']}"),
        ("phones", f"{counts['phones']}"),
        ("events", f"{counts['events']}"),
    ]
    blocks = ["## Contents", _table(("what", "count"), rows)]
    for tallies, title in ((summary.splits, "split"), (summary.languages, "language")):
        if any(value is not None for value in tallies):
            cells = [(value or "", f"{tally.clips}", f"{tally.hours:.3f}") for value, tally in _sorted(tallies)]
            blocks.append(_table((title, "clips", "hours"), cells))
    return "\n\n".join(blocks)


def _figures() -> str:
    return "\n\n".join(f"![{meaning}]({name})" for name, meaning in FIGURES.items())


def _motion(statistics: Mapping[str, Any]) -> str:
    """Quantiles of the motion that a reader can picture, for every head model."""
    rows = []
    for model, signals in statistics["signals"].items():
        angles = statistics["head_angles_deg"].get(model, {"count": 0})
        lines = [(f"head {axis}", "deg", angles, place, 1.0) for place, axis in enumerate(HEAD_ANGLES)]
        lines += [
            (meaning, unit, signals.get(name, {"count": 0}), place, factor)
            for meaning, unit, name, place, factor in (
                ("jaw opening", "deg", "jaw_pose", 0, 180 / math.pi),
                ("depth", "m", "translation", 2, 1.0),
                ("focal length", "px", "focal_px", 0, 1.0),
            )
        ]
        for meaning, unit, values, place, factor in lines:
            if values["count"]:
                cells = [f"{factor * values[quantile][place]:.3g}" for quantile in QUANTILES]
                rows.append((model, meaning, unit, *cells))
    if not rows:
        return ""
    head = ("model", "motion", "unit", *(f"{100 * fraction:g} %" for fraction in QUANTILES.values()))
    note = (
        "Quantiles over the frames with a face (of the focal length: over clips), within"
        f" {100 * statistics['quantile_relative_error']:.1g} % of their value. Pitch is positive upwards, yaw to the"
        " subject's left, roll to the subject's right. `stats.json` has the same quantiles, mean, std, min and max"
        " of every dimension of every signal."
    )
    return "\n\n".join(("## Motion", _table(head, rows), note))


def _outcome(summary: IndexSummary) -> str:
    rows = [
        (status, reason or "", REASONS.get(reason or "", ""), str(count))
        for (status, reason), count in sorted(summary.outcomes.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    ]
    note = (
        "Rows that are not accepted carry no parameters; they are kept in the index so that nothing is lost silently."
    )
    return "\n\n".join(("## What became of every clip", _table(("status", "reason", "meaning", "rows"), rows), note))


def _licences(facts: Mapping[str, Any], summary: IndexSummary) -> str:
    whole = _text(facts["licence"]) if facts["licence"] else "not stated by its maker"
    rows = [
        (licence or "", f"{tally.clips}", f"{tally.hours:.3f}", f"{summary.sources_of(licence)}")
        for licence, tally in _sorted(summary.by_licence)
    ]
    return "\n\n".join(
        (
            "## Licences",
            f"Data set as a whole: {whole}. Clips by the licence of their source video:",
            _table(("licence of the source", "clips", "hours", "sources"), rows),
        )
    )


def _models(facts: Mapping[str, Any], summary: IndexSummary) -> str:
    left = dict(summary.head_models)
    rows = []
    for model in facts["models"]:
        name, sha256 = model.get("name", ""), model.get("sha256", "")
        mine = [key for key in left if (key[1] == sha256 if key[1] else key[0] == name)]
        tallies = [left.pop(key) for key in mine]
        rows.append((name, model.get("licence", ""), *_sums(tallies), sha256))
    for (found, digest), tally in sorted(left.items(), key=lambda item: (item[0][0] or "", item[0][1] or "")):
        rows.append((found or "not named", "not stated", *_sums([tally]), digest or ""))
    note = "Expression and shape codes are meaningful only with the model that the row names."
    return "\n\n".join(("## Models", _table(("model", "licence", "clips", "hours", "sha256"), rows), note))


def _sums(tallies: Sequence[Tally]) -> tuple[str, str]:
    """Clips and hours of a model; empty for one that fits no head."""
    if not tallies:
        return "", ""
    return str(sum(tally.clips for tally in tallies)), f"{sum(tally.hours for tally in tallies):.3f}"


def _added_columns(facts: Mapping[str, Any]) -> str:
    rows = [
        (
            sidecar["name"],
            column["name"],
            " x ".join(str(axis) for axis in column.get("shape") or ()),
            column.get("unit") or "",
            column.get("meaning") or "",
        )
        for sidecar in facts.get("sidecars", [])
        for column in sidecar["columns"]
    ]
    if not rows:
        return ""
    note = "Columns that were added after the clips were fitted, in their own files under `columns/`."
    return "\n\n".join(("## Added columns", note, _table(("added as", "column", "shape", "unit", "meaning"), rows)))


_READING: Final = """## How to read it

Start Python in the folder of the data set, or put its path in the place of `.`.

```python
from talkset import open_dataset           # needs numpy and pyarrow only
clips = open_dataset(".", where="nme_mean < 0.05")
clip = clips[0]
clip["expression"]                         # (T, E) float32
clip.window(0.0, 0.5)                      # half a second of every signal, by presentation time
```

```python
import pandas
index = pandas.read_parquet("index.parquet")
params = pandas.read_parquet("params")     # per-frame tensors are flat lists of num_frames x width values
row = params.iloc[0]
jaw = row["jaw_pose"].reshape(row["num_frames"], 3)
```

```python
import polars
params = polars.scan_parquet("params/*.parquet").select("clip_id", "num_frames", "jaw_pose")
index = polars.scan_parquet("index.parquet").filter(polars.col("status") == "accepted")
clips = index.select("clip_id", "speaker", "nme_mean").join(params, on="clip_id").collect()
jaw = clips["jaw_pose"][0].to_numpy().reshape(clips["num_frames"][0], 3)
```

```sql
-- DuckDB
SELECT i.clip_id, i.nme_mean, p.expression
FROM 'index.parquet' i JOIN 'params/*.parquet' p USING (clip_id) WHERE i.status = 'accepted';
```

```python
import os
from datasets import load_dataset          # Hugging Face; every table is a configuration
params = load_dataset(os.getcwd(), "params", split="train").with_format("numpy")
row = params[0]
jaw = row["jaw_pose"].reshape(row["num_frames"], 3)
```

Shape, unit, space and rotation kind of a column are in its Arrow field metadata. Units: metres, radians,
microseconds, pixels. Model space: y up, z out of the face; camera space: x right, y down, z forward; left and right
are the subject's. `sha256sum -c MANIFEST.sha256` or `talkset verify` proves the files unchanged."""


def _limits(facts: Mapping[str, Any], summary: IndexSummary) -> str:
    counts = facts["counts"]
    lines = ["Fitted from one camera: absolute size and distance rest on the model's shape space and the focal length."]
    kinds = {"nme_mean": "Landmark error", "held_out_nme": "Error of landmarks held out of the fit"}
    for column, landmarks in kinds.items():
        errors = summary.numbers[column]
        if errors.count:
            middle, high = (100 * float(value) for value in errors.quantiles((0.5, 0.95))[:, 0])
            lines.append(
                f"{landmarks} of a clip (share of the outer eye corner distance): median {middle:.2f} %,"
                f" 95 % of the clips below {high:.2f} %, worst {100 * float(errors.maximum[0]):.2f} %."
            )
    unseen = counts["frames"] - counts["valid_frames"]
    if unseen:
        lines.append(
            f"{unseen} of {counts['frames']} frames show no face: `valid` is false there, the values are not measured."
        )
    missing = {
        "transcript": "have no transcript",
        "sync_confidence": "have no measured sync of sound and lips",
        "speech_ratio": "have no measured share of speech",
    }
    for column, text in missing.items():
        if summary.missing[column]:
            lines.append(f"{summary.missing[column]} of {summary.accepted} accepted clips {text}.")
    if summary.silent:
        lines.append(f"{summary.silent} of {summary.accepted} accepted clips have no sound.")
    if summary.warned:
        lines.append(f"{summary.warned} accepted clips carry a warning (index column `warnings`).")
    if None in summary.by_licence:
        lines.append(
            f"The licence of the source is unknown for {summary.by_licence[None].clips} of {summary.accepted} accepted"
            " clips."
        )
    if len(summary.head_models) > 1:
        lines.append("Clips of several head models: do not mix their expression and shape codes.")
    return "\n".join(("## Known limits", "", *(f"- {line}" for line in lines)))


_VERSIONS: Final = """## Versions

The version is MAJOR.MINOR.PATCH. PATCH: the same data, with a better description. MINOR: columns were added; what was
there is unchanged. MAJOR: the data changed, such as clips added, removed, fitted again or moved to another split.
A result is comparable with another one of the same MAJOR version. The sha256 of `MANIFEST.sha256` names a version
exactly."""


def _history(facts: Mapping[str, Any]) -> str:
    rows = []
    for number, entry in enumerate(facts.get("history", []), start=1):
        operation = str(entry["operation"])
        sources = "; ".join(
            f"{source['name']} {source['version']} ({source['manifest_sha256']})" for source in entry.get("from", [])
        )
        parameters = json.dumps(entry.get("parameters", {}), ensure_ascii=False, sort_keys=True)
        meaning = f"{operation}: {_HISTORY[operation]}" if operation in _HISTORY else operation
        rows.append((str(number), meaning, parameters, sources))
    if not rows:
        return ""
    note = "What was done, the oldest step first, and the sha256 of the `MANIFEST.sha256` that it started from."
    return "\n\n".join(("## History", note, _table(("step", "operation", "parameters", "from"), rows)))


def _provenance(facts: Mapping[str, Any]) -> str:
    rows = list(facts["generator"].items())
    head = f"Configuration digest `{facts['config_digest']}` (config.yaml), schema version {facts['schema_version']}."
    return "\n\n".join(("## How it was made", head, _table(("library", "version"), rows)))


def _sorted(tallies: Mapping[str | None, Tally]) -> list[tuple[str | None, Tally]]:
    """By value, clips without one first."""
    return sorted(tallies.items(), key=lambda item: item[0] or "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [[_text(cell) for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells[:LONGEST_TABLE]]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    left_out = len(cells) - LONGEST_TABLE
    return f"{text}\n\nand {left_out} more." if left_out > 0 else text


def _text(value: str) -> str:
    """User text that cannot break the Markdown around it."""
    plain = " ".join(value.split())
    return re.sub(r"([\\|`\[\]])", r"\\\1", plain).replace("<", "&lt;")
