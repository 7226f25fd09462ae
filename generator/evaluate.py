"""How good generated motion is beside baselines in the same run: every metric under its own name, with intervals.

Shapes are the test speakers' own, lips are compared in the canonical pose, on the valid frames alone. What other rooms
know (the label stage's emotion, rules of visemes, a second fit of the same clips) comes in as functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from generator import metrics, metrics_time
from generator.api import Motion, Speaker
from generator.baselines import Heard, NearestInSound, copied, mean_face
from generator.data import clip_emotions, emotion_vector, feature_column, style_groups
from generator.features import MELS, PARTS, RATE_HZ
from generator.losses import canonical, spread_out
from generator.onsets import onsets_s
from generator.sample import Conditions, generate
from generator.style import StyleEncoder
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare
from schemas.errors import UsageError
from schemas.labels import EMOTIONS
from talkset.dataset import Clip, Dataset

Float32 = NDArray[np.float32]
Vectors = dict[str, Float32]
"""Motion vectors (T, D) by clip id."""
Recognise = Callable[[Motion], str]
Embed = Callable[[Motion], Float32]
"""motion -> an embedding of its style by whoever did not learn with the generator; near ones are alike (Euclidean)."""
Rules = Callable[[Clip, NDArray[np.int64]], Mapping[str, Float32] | None]
"""(clip, times in microseconds) -> signals of the mouth by viseme rules, None where the clip has no phones."""

BATCH: Final = 12
SILENCE: Final = -13.8
"""Log-mel energy of silence."""
UPPER_FACE: Final = 120
INNER_M: Final = 0.002
MIDDLE_M: Final = 0.006
TRUTH: Final = "truth"
GENERATOR: Final = "generator"
CHANCE: Final = "chance"
RETRIEVAL: Final = "style_retrieval_top1"
"""By the generator's own style encoder."""
RETRIEVAL_STATISTICAL: Final = "style_retrieval_top1_statistical"
"""By statistics that were not learned, less their mean over the real clips of the same emotion."""


@dataclass(frozen=True)
class Figure:
    """A mean over seeds and half the width of its 95 % interval (Student's t over seeds; NaN with one seed)."""

    mean: float
    half_width: float = float("nan")


@dataclass(frozen=True)
class StyleJudge:
    """Who says which clips are alike in style."""

    gallery: Mapping[str, Float32]
    """Embeddings of the real test clips by their id."""
    embed: Callable[[str, Float32], Float32]
    """(clip id, motion vectors (T, D)) -> embedding"""
    lengths_count: bool
    """Whether Euclidean distances tell who is near, else cosines."""


@dataclass
class Report:
    """Figures by method and metric, and what they were made of."""

    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def put(self, method: str, metric: str, values: Sequence[float]) -> None:
        """Note the values of all seeds."""
        known = np.array([value for value in values if np.isfinite(value)], np.float64)
        half = float("nan")
        if len(known) > 1:
            half = float(stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
        self.figures.setdefault(method, {})[metric] = Figure(float(known.mean()) if len(known) else float("nan"), half)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        return {
            "facts": self.facts,
            "figures": {
                method: {name: [_plain(f.mean), _plain(f.half_width)] for name, f in row.items()}
                for method, row in self.figures.items()
            },
        }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value


class Face:
    """The vertices that metrics look at, in the canonical pose."""

    def __init__(self, model: HeadModel, speaker: Speaker) -> None:
        lips = model.regions["lips"].astype(np.int64)
        upper = model.regions["upper_face"].astype(np.int64)
        upper = upper[spread_out(model.v_template[upper], UPPER_FACE)]
        inner = inner_lips(model)
        self.ids = np.unique(np.concatenate([lips, upper, inner]))
        self.lips, self.upper, self.inner = (np.searchsorted(self.ids, part) for part in (lips, upper, inner))
        self._skinning, self._layout = prepare(model, self.ids), speaker.generator.layout

    def vertices(self, motion: Float32, shape: Float32) -> NDArray[np.float64]:
        """(T, n, 3) metres."""
        made = canonical(self._skinning, self._layout, torch.as_tensor(motion)[None], torch.as_tensor(shape)[None])
        return made[0].numpy().astype(np.float64)


def inner_lips(model: HeadModel) -> NDArray[np.int64]:
    """Lip vertices about the middle of the mouth that are within 2 mm of where the lips meet: their inner border."""
    rest = model.v_template
    lips = model.regions["lips"].astype(np.int64)
    middle = lips[np.abs(rest[lips, 0]) < MIDDLE_M]
    below = model.weights[middle, 2] > 0.5
    if below.all() or not below.any():  # a jaw that is in the expressions: told apart by height
        below = rest[middle, 1] < np.median(rest[middle, 1])
    upper, lower = middle[~below], middle[below]
    near_upper = upper[rest[upper, 1] < rest[upper, 1].min() + INNER_M]
    near_lower = lower[rest[lower, 1] > rest[lower, 1].max() - INNER_M]
    return np.concatenate([near_upper, near_lower])


def read_clip(clip: Clip, speaker: Speaker, features: bool = True) -> Heard:
    """A clip on the generator's frame grid. Raises UsageError and DatasetError as the reader does."""
    generator = speaker.generator
    layout = generator.layout
    column = feature_column(generator.config.audio)
    columns = [*layout.signals, column] if features else [*layout.signals]
    found = clip.resampled(generator.config.rate, columns=columns)
    valid = np.asarray(found["valid"])
    motion = np.asarray(layout.vector({name: found[name] for name in layout.signals}), np.float32)
    heard = np.nan_to_num(np.asarray(found[column], np.float32)) if features else np.zeros((len(motion), 0), np.float32)
    return Heard(clip.clip_id, heard, np.where(valid[:, None], motion, 0).astype(np.float32), valid)


class Evaluation:
    """The test clips of a data set, with a generator and what it learned from."""

    def __init__(self, speaker: Speaker, test: Dataset, train: Dataset, seed: int = 0) -> None:
        if not len(test) or not len(train):
            raise UsageError(f"{len(test)} test and {len(train)} training clips", "Make a data set with both splits")
        self.speaker, self.test = speaker, test
        self.face = Face(speaker.model, speaker)
        self.clips: dict[str, Clip] = {clip.clip_id: clip for clip in test}
        self.heard = {name: read_clip(clip, speaker) for name, clip in self.clips.items()}
        self.train = [read_clip(clip, speaker) for clip in train]
        self.shapes = {name: np.asarray(clip.read("shape"), np.float32) for name, clip in self.clips.items()}
        self.emotions, _ = clip_emotions(test)
        self.groups = dict(zip(self.clips, style_groups(test).tolist(), strict=True))
        self.codes = {name: speaker.style_of(clip)[0] for name, clip in self.clips.items()}
        self.others = {name: self._other(name, seed) for name in self.clips}

    def _other(self, name: str, seed: int) -> str:
        """The clip whose style is asked for: another of the same group where there is one."""
        names = [other for other in self.clips if self.groups[other] == self.groups[name] and other != name]
        rng = np.random.default_rng([seed, list(self.clips).index(name), 77])
        return names[int(rng.integers(len(names)))] if names else name

    def generated(
        self, seed: int, emotions: Mapping[str, Float32] | None = None, names: Sequence[str] | None = None
    ) -> Vectors:
        """Motion for the sound of test clips, in the style of another clip of the same manner."""
        told = emotions or dict(zip(self.clips, self.emotions, strict=True))
        chosen = sorted(names or self.clips, key=lambda name: len(self.heard[name].features))
        made: Vectors = {}
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            longest = max(len(self.heard[name].features) for name in part)
            features = torch.stack([_padded(self.heard[name].features, longest) for name in part])
            conditions = Conditions(
                torch.stack([self.codes[self.others[name]] for name in part]),
                torch.stack([torch.as_tensor(told[name]) for name in part]),
                torch.stack([torch.as_tensor(self.shapes[name]) for name in part]),
                tuple(seed * 100_003 + list(self.clips).index(name) for name in part),
            )
            vectors = generate(self.speaker.generator, features, conditions)
            for name, vector in zip(part, vectors, strict=True):
                made[name] = vector[: len(self.heard[name].motion)].numpy()
        return made

    def baselines(self, rules: Rules | None) -> dict[str, Vectors]:
        """Motion by each baseline for every test clip."""
        mean, nearest = mean_face(self.train), NearestInSound(self.train)
        made: dict[str, Vectors] = {name: {} for name in ("mean face", "nearest in sound", "copy of another clip")}
        for name, heard in self.heard.items():
            frames = len(heard.motion)
            made["mean face"][name] = np.tile(mean, (frames, 1))
            made["nearest in sound"][name] = nearest(heard.features)
            made["copy of another clip"][name] = copied(self.heard[self.others[name]].motion, frames)
        ruled: Vectors = {}
        for name, heard in self.heard.items() if rules is not None else ():
            fps = self.speaker.generator.config.fps
            pts = np.round(np.arange(len(heard.motion)) * 1e6 / fps).astype(np.int64)
            signals = rules(self.clips[name], pts) if rules is not None else None
            if signals is not None:
                ruled[name] = self._with(mean, signals, len(pts))
        return made | ({"viseme rules": ruled} if len(ruled) == len(self.heard) else {})

    def _with(self, mean: Float32, signals: Mapping[str, Float32], frames: int) -> Float32:
        """The mean face with some signals replaced."""
        layout = self.speaker.generator.layout
        whole = {name: np.array(values) for name, values in layout.signals_of(np.tile(mean, (frames, 1))).items()}
        whole |= signals
        return np.asarray(layout.vector(whole), np.float32)

    def scores(self, vectors: Vectors) -> dict[str, float]:
        """Metrics of motion vectors, the mean over test clips."""
        rows = [self._clip_scores(name, vector) for name, vector in vectors.items()]
        return {key: _mean([row[key] for row in rows]) for key in rows[0]}

    def _clip_scores(self, name: str, vector: Float32) -> dict[str, float]:
        heard, face, fps = self.heard[name], self.face, self.speaker.generator.config.fps
        keep = heard.valid
        shape = self.shapes[name]
        bounded = self.speaker.bounded(torch.as_tensor(vector))
        truth = face.vertices(heard.motion[keep], shape)
        made = face.vertices(np.asarray(self.speaker.generator.layout.vector(bounded), np.float32)[keep], shape)
        neutral = face.vertices(self._neutral(), shape)[0]
        scores = {
            "lve_l2": metrics.lve_l2(truth, made, face.lips),
            "lve_sq": metrics.lve_sq(truth, made, face.lips),
            "lve_rms": metrics.lve_rms(truth, made, face.lips),
            "mod": metrics.mod(truth, made, face.inner),
            "mve": metrics.mve(truth, made),
            "mhd": metrics.mhd(truth, made),
            "fdd_std_sq": metrics.fdd_std_sq(truth, made, neutral, face.upper),
            "fdd_abs_xyz": metrics.fdd_abs_xyz(truth, made, face.upper),
            "fdd_motion": metrics.fdd_motion(truth, made, face.upper),
        }
        beats = metrics_time.head_beats_s(bounded["global_pose"], fps)
        onsets = self._onsets(name)
        scores["head_beat_align"] = metrics_time.head_beat_align(beats, onsets)
        speed = metrics_time.angular_speed(bounded["global_pose"], fps)
        scores["head_speed_deg_s"] = float(np.degrees(np.sqrt((speed**2).mean())))
        names = self.speaker.model.expression_names
        lids = [names.index(lid) for lid in ("eyeBlinkLeft", "eyeBlinkRight") if lid in names]
        if lids:
            closure = bounded["expression"][:, lids].mean(1)
            scores["blinks_per_min"] = metrics_time.blinks_per_minute(closure, fps)
        return scores

    def _neutral(self) -> Float32:
        layout = self.speaker.generator.layout
        zero = {group.signal: np.zeros((1, group.width), np.float32) for group in layout.groups}
        return np.asarray(layout.vector(zero), np.float32)

    def _onsets(self, name: str) -> NDArray[np.float64]:
        if not hasattr(self, "_onset_cache"):
            self._onset_cache: dict[str, NDArray[np.float64]] = {}
            self.onset_detector = ""
        if name not in self._onset_cache:
            sound, _ = self.clips[name].audio(RATE_HZ, mono=True)
            self._onset_cache[name], self.onset_detector = onsets_s(sound[:, 0])
        return self._onset_cache[name]

    def judges(self, embed: Embed | None) -> dict[str, StyleJudge]:
        """By the metric's name: the generator's own encoder, and `embed`.

        What `embed` finds is compared with what it finds in real clips of the same emotion, which is most of a face's
        statistics: two clips of a manner need not be of one emotion.
        """
        own = {name: code.numpy() for name, code in self.codes.items()}
        encoder = self.speaker.generator.style
        judges = {RETRIEVAL: StyleJudge(own, lambda name, v: _style(encoder, v, self.heard[name].valid), False)}
        if embed is not None:

            def embedded(name: str, vector: Float32) -> Float32:
                return embed(self.speaker.motion(torch.as_tensor(vector[self.heard[name].valid]), self.clips[name]))

            real = {name: embedded(name, heard.motion) for name, heard in self.heard.items()}
            felt = dict(zip(self.clips, self.emotions.argmax(1) * self.emotions.any(1), strict=True))
            usual = {e: np.mean([real[n] for n in real if felt[n] == e], axis=0) for e in set(felt.values())}
            gallery = {name: code - usual[felt[name]] for name, code in real.items()}
            statistics = StyleJudge(gallery, lambda name, v: embedded(name, v) - usual[felt[name]], True)
            judges[RETRIEVAL_STATISTICAL] = statistics
        return judges

    def retrieval(self, vectors: Vectors, judge: StyleJudge) -> float:
        """How often the nearest real clip, by style, is of the style that was asked for.

        The clip whose style was given and the one whose sound was used are not in the gallery of their own query.
        """
        hits = []
        for name, vector in vectors.items():
            left = [other for other in self.clips if other not in (name, self.others[name])]
            label, labels = str(self.groups[self.others[name]]), [str(self.groups[other]) for other in left]
            if label in labels:
                found, gallery = judge.embed(name, vector), np.stack([judge.gallery[other] for other in left])
                hits.append(metrics_time.retrieval_top1(found[None], gallery, [label], labels, judge.lengths_count))
        return float(np.mean(hits)) if hits else float("nan")

    def chance(self) -> float:
        """What `retrieval` gives to a style encoder that knows nothing."""
        shares = []
        for name in self.clips:
            left = [other for other in self.clips if other not in (name, self.others[name])]
            same = sum(self.groups[other] == self.groups[self.others[name]] for other in left)
            if same:
                shares.append(same / len(left))
        return float(np.mean(shares)) if shares else float("nan")

    def recognised(self, seed: int, recognise: Recognise) -> tuple[float, dict[str, float]]:
        """Share of generated clips whose emotion the label stage finds, at intensity 1; and by emotion.

        The sound is that of neutral clips where there are any, so that only the asked-for emotion can show.
        """
        neutral = [name for name, emotion in zip(self.clips, self.emotions, strict=True) if not emotion.any()]
        names = neutral or list(self.clips)
        found: dict[str, list[bool]] = {}
        for label in self._trained_emotions():
            asked = dict.fromkeys(names, emotion_vector(label, 1.0))
            for name, vector in self.generated(seed, asked, names).items():
                motion = self.speaker.motion(torch.as_tensor(vector), self.clips[name])
                found.setdefault(label, []).append(recognise(motion) == label)
        by_label = {label: float(np.mean(hits)) for label, hits in found.items()}
        return float(np.mean([hit for hits in found.values() for hit in hits])), by_label

    def recognised_truth(self, recognise: Recognise) -> float:
        """The same share for the real motion of test clips at intensity 1: what can be reached."""
        hits = []
        for (name, clip), emotion in zip(self.clips.items(), self.emotions, strict=True):
            if emotion.max() > 0.99:
                motion = self.speaker.motion(torch.as_tensor(self.heard[name].motion), clip)
                hits.append(recognise(motion) == EMOTIONS[int(emotion.argmax())])
        return float(np.mean(hits)) if hits else float("nan")

    def _trained_emotions(self) -> list[str]:
        return [name for place, name in enumerate(EMOTIONS) if (self.emotions[:, place] > 0).any()]


def _mean(values: Sequence[float]) -> float:
    """The mean of what is known; NaN where nothing is, as beats of a head that never moves."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


@torch.no_grad()
def _style(encoder: StyleEncoder, vector: Float32, valid: NDArray[np.bool_]) -> Float32:
    code, _ = encoder(torch.as_tensor(vector)[None], torch.as_tensor(valid)[None])
    return np.asarray(code[0].numpy(), np.float32)


def _padded(features: Float32, frames: int) -> Tensor:
    silent = np.full((frames - len(features), features.shape[1]), SILENCE if features.shape[1] == MELS * PARTS else 0.0)
    return torch.as_tensor(np.concatenate([features, silent]).astype(np.float32))


def evaluate(
    speaker: Speaker,
    test: Dataset,
    train: Dataset,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    recognise: Recognise | None = None,
    embed: Embed | None = None,
    rules: Rules | None = None,
    second: Dataset | None = None,
) -> Report:
    """All figures. `second` holds other fits of the same clips: the tracker's noise floor.

    Raises UsageError for data without test or training clips, and as reading does.
    """
    if not seeds:
        raise UsageError("no seeds are given", "Give one or more")
    setting = Evaluation(speaker, test, train)
    report = Report()
    runs = []
    sound_s = sum(len(heard.motion) for heard in setting.heard.values()) / speaker.generator.config.fps
    started = time.perf_counter()
    for seed in seeds:
        runs.append(setting.generated(seed))
    wall_s = time.perf_counter() - started
    judges = setting.judges(embed)

    def styles(vectors: Vectors) -> dict[str, float]:
        return {metric: setting.retrieval(vectors, judge) for metric, judge in judges.items()}

    told = [setting.scores(run) | styles(run) for run in runs]
    for metric in told[0]:
        report.put(GENERATOR, metric, [scores[metric] for scores in told])
    report.put(GENERATOR, "real_time_factor", [metrics_time.real_time_factor(len(seeds) * sound_s, wall_s)])
    if len(seeds) > 1:
        report.put(GENERATOR, "diversity_samples", [_diversity(setting, runs)])
    if recognise is not None:
        shares = [setting.recognised(seed, recognise) for seed in seeds[:1]]
        report.put(GENERATOR, "emotion_recognised", [share for share, _ in shares])
        report.facts["emotion_recognised_by_label"] = shares[0][1]
        report.put(TRUTH, "emotion_recognised", [setting.recognised_truth(recognise)])
    methods = setting.baselines(rules)
    methods[TRUTH] = {name: heard.motion for name, heard in setting.heard.items()}
    if second is not None:
        methods["tracker's noise floor"] = _second(setting, second)
    for method, vectors in methods.items():
        for metric, value in (setting.scores(vectors) | styles(vectors)).items():
            report.put(method, metric, [value])
    for metric in judges:
        report.put(CHANCE, metric, [setting.chance()])
    generator = speaker.generator
    report.facts |= {
        "test_clips": len(test), "test_speakers": len(set(test.column("speaker").to_pylist())), "seeds": list(seeds),
        "training_clips": len(train), "sound_s": round(sound_s, 1), "head_model": speaker.model.name,
        "onset_detector": setting.onset_detector, "beat_sigma_s": metrics_time.BEAT_SIGMA_S,
        "sample_steps": generator.config.diffusion.sample_steps, "step": generator.step, "data": dict(generator.data),
        "head_rotation": "vertices in canonical pose: none",
    }  # fmt: skip
    return report


def _diversity(setting: Evaluation, runs: list[Vectors]) -> float:
    values = []
    for name in setting.clips:
        samples = [setting.face.vertices(run[name], setting.shapes[name]) for run in runs]
        values.append(metrics_time.diversity_samples(samples))
    return float(np.mean(values))


def _second(setting: Evaluation, second: Dataset) -> Vectors:
    """The same clips' motion of another fit. Raises UsageError where a clip is missing."""
    made: Vectors = {}
    by_id = set(second.column("clip_id").to_pylist())
    for name, heard in setting.heard.items():
        if name not in by_id:
            raise UsageError(f"the second data set has no clip {name}", "Fit the same clips with another detector")
        other = read_clip(second[name], setting.speaker, features=False)
        frames = np.minimum(np.arange(len(heard.motion)), len(other.motion) - 1)
        made[name] = other.motion[frames]
    return made
