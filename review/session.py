"""The state behind the review server: one data set, one reviewer, the queue, the journal, and what is cached."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from review import clip_view
from review.agreement import agreement, outcome, outcomes, state_before, to_undo, work
from review.catalogue import OVERALL, Catalogue, Query, safe_clip_id
from review.decisions import REASONS, Decision, checked, content_sha256, new_id
from review.journal import Journal, last_words
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, read_checksums
from talkset.dataset import Clip, Dataset, DatasetError, open_dataset

ANY_STATUS: Final = "status in ('accepted', 'rejected', 'failed')"
CACHE_BYTES: Final = 256 << 20
Renderer = Callable[[str, Path], None]
"""Writes the rendered overlay of a clip into a file; raises TalksetError."""


class UnknownClipError(KeyError):
    """The data set has no clip of that id."""


@dataclass(frozen=True)
class Settings:
    """How a data set is reviewed."""

    root: Path
    reviewer: str
    cache: Path
    """Folder for rendered overlays; it may be deleted at any time."""
    journal: Path | None = None
    """Folder of the journal, by default inside the data set."""
    blind: int = 0
    """Number of judged clips for a second look without the first decisions; 0 for an ordinary review."""
    seed: int = 0

    @property
    def round(self) -> int:
        """1, or 2 for a second look."""
        return 2 if self.blind else 1


class ReviewSession:
    """Everything that the server answers with. Thread safe.

    Raises UsageError for a folder without a data set, or a second look where nothing was judged, TalksetError for
    damaged tables.
    """

    def __init__(self, settings: Settings, render: Renderer | None = None) -> None:
        self.settings = settings
        self._render = render
        root = settings.root
        if not (root / "dataset.json").is_file():
            raise UsageError(f"{root} holds no data set (no dataset.json)", "Give the folder `talkset run` wrote")
        # Two readers: the mesh of one clip may take a second, the next clip's curves must not wait for it.
        self._quick, self._slow = self._opened(), self._opened()
        self._quick_lock, self._slow_lock = threading.Lock(), threading.Lock()
        self._render_lock = threading.Lock()
        self._judge_lock = threading.Lock()
        self.catalogue = Catalogue(root)
        self.journal = Journal(root, settings.journal)
        self.save_problem = self.journal.problem()
        self._digests: dict[str, str] = {}
        self._cache: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._cache_lock = threading.Lock()
        try:
            self._shard_hashes: Mapping[str, str] = read_checksums(root)
        except TalksetError:
            self._shard_hashes = {}
        if settings.blind:
            self.catalogue.set_sample(self._second_look())
        self._share_opinions()

    def _opened(self) -> Dataset:
        try:
            return open_dataset(self.settings.root, where=ANY_STATUS)
        except DatasetError as error:
            raise TalksetError("corrupt_data", str(error)) from error

    def close(self) -> None:
        """Let go of files."""
        self.catalogue.close()

    def _second_look(self) -> dict[str, float]:
        """Some clips that were judged in the first round, in an order that tells nothing."""
        first = [item for item in self.journal.decisions if item.round == 1]
        judged = {clip_id for clip_id, said in outcomes(first).items() if said != "skip"}
        known = judged.intersection(self.catalogue.ids("status = 'accepted'"))
        if not known:
            raise UsageError("no clip has been judged yet, so there is nothing to look at again", "Review without it")
        drawn = sorted(known, key=lambda name: hashlib.sha256(f"{self.settings.seed}:{name}".encode()).digest())
        return {clip_id: float(place) for place, clip_id in enumerate(drawn[: self.settings.blind])}

    def _visible(self) -> list[Decision]:
        """The decisions that this reviewer may see: in a second look only those of the second look."""
        everything = self.journal.decisions
        if not self.settings.blind:
            return everything
        me = self.settings.reviewer
        return [item for item in everything if item.round == 2 and item.reviewer == me]

    def _share_opinions(self) -> None:
        visible = self._visible()
        last = last_words(visible).values()
        mine = {item.clip_id: str(item.verdict) for item in last if self._is_mine(item)}
        self.catalogue.set_opinions(mine, outcomes(visible))

    def _is_mine(self, item: Decision) -> bool:
        return item.reviewer == self.settings.reviewer and item.round == self.settings.round

    def facts(self) -> dict[str, Any]:
        """What the page is told first."""
        stored = self._quick.facts
        scores = [
            {"name": score.name, "label": score.label, "unit": score.unit, "worse": score.worse}
            for score in self.catalogue.scores
        ]
        overall = {"name": OVERALL, "label": "Worst in any score", "unit": "", "worse": "high"}
        return {
            "name": stored.get("name"),
            "version": stored.get("version"),
            "clips": len(self._quick),
            "reviewer": self.settings.reviewer,
            "blind": bool(self.settings.blind),
            "reasons": [{"code": code, "label": label} for code, label in REASONS.items()],
            "scores": [overall, *scores],
            "facets": self.catalogue.facets,
            "save_problem": self.save_problem,
            "can_render": self._render is not None,
            "block": clip_view.BLOCK,
        }

    def queue(self, query: Query) -> dict[str, Any]:
        """A page of clips."""
        if self.journal.refresh():  # another server on the same folder
            self._share_opinions()
        return self.catalogue.page(query)

    def progress(self) -> dict[str, Any]:
        """Counts, pace, agreement, disagreements and damage of the journal."""
        everything = self.journal.decisions
        found = asdict(agreement(everything))
        return {
            **work(everything, self.settings.reviewer, self.settings.round),
            "agreement": found,
            "conflicts": 0
            if self.settings.blind
            else sum(said == "conflict" for said in outcomes(everything).values()),
            "damage": [asdict(item) for item in self.journal.damage],
        }

    def _clip(self, dataset: Dataset, clip_id: str) -> Clip:
        try:
            if safe_clip_id(clip_id):
                return dataset[clip_id]
        except KeyError:
            pass
        raise UnknownClipError(clip_id)

    def clip(self, clip_id: str) -> dict[str, Any]:
        """Everything of a clip that is known at once. Raises UnknownClipError, TalksetError for damaged tables."""
        with self._quick_lock:
            clip = self._clip(self._quick, clip_id)
            try:
                view = clip_view.overview(clip, self.settings.root)
                digest = self._digest(clip)
            except DatasetError as error:
                raise TalksetError("corrupt_data", str(error)) from error
        view["content_sha256"] = digest
        view["scores"], view["why"] = self._scores(clip_id)
        stored = clip_view.media_file(self.settings.root, "overlays", clip_id)
        view["overlay"] = stored is not None or self._render is not None
        return {**view, **self._opinions(clip_id, digest)}

    def _digest(self, clip: Clip) -> str:
        if clip.clip_id not in self._digests:
            self._digests[clip.clip_id] = content_sha256(clip)
        return self._digests[clip.clip_id]

    def _scores(self, clip_id: str) -> tuple[list[dict[str, Any]], str | None]:
        """Each score beside the median of all clips, and the name of the one that is worst."""
        rows: list[dict[str, Any]] = []
        values = self.catalogue.values(clip_id)
        for score in self.catalogue.scores:
            value, spread = values.get(score.name), self.catalogue.spread(score.name)
            if spread is None:
                continue
            sign = 1 if score.worse == "high" else -1
            distance = None if value is None else sign * (value - spread[0]) / spread[1]
            row = {"name": score.name, "value": value, "median": spread[0], "distance": distance}
            rows.append({**row, "counts": score.overall})
        counted = [row for row in rows if row["distance"] is not None and row["counts"]]
        worst = max(counted, key=lambda row: row["distance"], default=None)
        return rows, None if worst is None else str(worst["name"])

    def _opinions(self, clip_id: str, digest: str) -> dict[str, Any]:
        opinions = [item for item in last_words(self._visible()).values() if item.clip_id == clip_id]
        mine = next((item for item in opinions if self._is_mine(item)), None)
        others = [_shown(item, digest) for item in opinions if item is not mine]
        return {"mine": None if mine is None else _shown(mine, digest), "others": others}

    def slow_curves(self, clip_id: str) -> dict[str, Any]:
        """Curves that take a moment."""
        with self._slow_lock:
            try:
                return clip_view.slow_curves(self._clip(self._slow, clip_id))
            except DatasetError as error:
                raise TalksetError("corrupt_data", str(error)) from error

    def array(self, clip_id: str, kind: str, block: int = 0) -> bytes:
        """Landmarks, faces, or a block of the mesh, as the page draws them; kept for the next time.

        Raises UnknownClipError, IndexError for no such block, TalksetError where the clip or its model cannot be read.
        """
        key = (clip_id, f"{kind} {block}")
        with self._cache_lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        landmarks = kind == "landmarks"
        with self._quick_lock if landmarks else self._slow_lock:
            clip = self._clip(self._quick if landmarks else self._slow, clip_id)
            if not clip.signals:
                raise TalksetError("missing_file", f"clip {clip_id} is {clip.index['status']}: it has no {kind}")
            try:
                if landmarks:
                    data = clip_view.landmark_bytes(clip)
                else:
                    data = clip_view.face_bytes(clip) if kind == "faces" else clip_view.vertex_bytes(clip, block)
            except DatasetError as error:
                raise TalksetError("missing_model", str(error)) from error
        with self._cache_lock:
            self._cache[key] = data
            while sum(map(len, self._cache.values())) > CACHE_BYTES and len(self._cache) > 1:
                self._cache.popitem(last=False)
        return data

    def overlay(self, clip_id: str) -> Path:
        """The rendered overlay: the data set's own, else one that is made now and kept in the cache.

        Raises UnknownClipError, TalksetError where it cannot be made.
        """
        with self._quick_lock:
            clip = self._clip(self._quick, clip_id)
            digest = self._digest(clip)
        stored = clip_view.media_file(self.settings.root, "overlays", clip_id)
        if stored is not None:
            return stored
        if self._render is None:
            raise TalksetError("missing_file", f"clip {clip_id} has no overlay", "Render it with `talkset overlay`")
        path = self.settings.cache / f"{digest}.mp4"
        with self._render_lock:
            if not path.is_file():
                with named_errors(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                self._render(clip_id, path)
        return path

    def media(self, clip_id: str) -> Path:
        """The clip's video. Raises UnknownClipError, TalksetError missing_file."""
        with self._quick_lock:
            self._clip(self._quick, clip_id)
        path = clip_view.media_file(self.settings.root, "media", clip_id)
        if path is None:
            message = f"media/{clip_id}.mp4 is missing"
            raise TalksetError("missing_file", message, "Fetch it, or build with media.enabled=true")
        return path

    def judge(self, clip_id: str, values: Mapping[str, Any], seen: str | None) -> dict[str, Any]:
        """Save a decision; `seen` is the id of the reviewer's last decision on the clip that the page knew of.

        Returns the saved decision and, where another tab had decided meanwhile, that decision as `replaced`; both
        stay in the journal. Raises UnknownClipError, UsageError for bad values, TalksetError where it cannot be saved.
        """
        with self._quick_lock:
            clip = self._clip(self._quick, clip_id)
            digest, shard = self._digest(clip), clip.index["shard"]
            length = clip.duration_us if clip.index["end_us"] is not None else 0
        given = {key: values.get(key) for key in ("verdict", "reasons", "marks", "comment", "corrections", "seconds")}
        decision = checked(
            {
                **{key: value for key, value in given.items() if value is not None},
                "clip_id": clip_id,
                "content_sha256": digest,
                "reviewer": self.settings.reviewer,
                "round": self.settings.round,
                "decision_id": values.get("decision_id") or new_id(),
                "dataset": f"{self._quick.facts.get('name')} {self._quick.facts.get('version')}",
                "shard": shard,
                "shard_sha256": self._shard_hashes.get(f"params/{shard}"),
            }
        )
        if any(mark.end_us > length for mark in decision.marks):
            raise UsageError(f"a mark ends after the clip's {length} us", "Mark inside the clip")
        with self._judge_lock:
            before = last_words(self.journal.decisions).get(decision.key)
            again = before is not None and before.decision_id == decision.decision_id
            saved = self.journal.append(decision)
            self._note(clip_id)
        replaced = before if before is not None and not again and before.decision_id != seen else None
        return {"saved": _shown(saved, digest), "replaced": None if replaced is None else _shown(replaced, digest)}

    def undo(self) -> dict[str, Any]:
        """Take the reviewer's newest decision back: what was said of the clip before counts again.

        Returns the clip's id and the state now; `clip_id` None where nothing is left to undo.
        """
        with self._judge_lock:
            everything = self.journal.decisions
            undone = to_undo(everything, self.settings.reviewer, self.settings.round)
            if undone is None:
                return {"clip_id": None}
            before = state_before(everything, undone)
            empty = replace(undone, verdict=None, reasons=(), marks=(), comment="", corrections={}, seconds=None)
            restored = replace(before or empty, decision_id=new_id(), undoes=undone.decision_id, time="")
            self.journal.append(restored)
            self._note(undone.clip_id)
        return {"clip_id": undone.clip_id, "verdict": undone.verdict, "now": restored.verdict}

    def _note(self, clip_id: str) -> None:
        """Tell the queue of a changed clip."""
        opinions = [item for item in last_words(self._visible()).values() if item.clip_id == clip_id]
        mine = next((item.verdict for item in opinions if self._is_mine(item)), None)
        self.catalogue.set_opinion(clip_id, mine, outcome(opinions))


def _shown(item: Decision, digest: str) -> dict[str, Any]:
    """A decision for the page; `stale` where the clip was fitted again since."""
    return {**asdict(item), "stale": item.content_sha256 != digest}
