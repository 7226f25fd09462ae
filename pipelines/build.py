"""The stages that a source and a clip pass, from top to bottom."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.keys import person_digest, section_digest
from pipelines.results import Result, pack, unpack
from pipelines.stage import ClipItem, Job, SourceItem, Stage, View
from pipelines.words import spoken_words
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.types import Float32, HeadTrack, LandmarkTrack, VideoInfo


class Probe(Stage[SourceItem]):
    """Source: what its container says."""

    name = "probe"

    def run(self, job: Job[SourceItem]) -> Result:
        """`VideoInfo` as JSON. Raises the errors of `pipelines.decoding.probe`, and bad_value."""
        from pipelines.decoding import probe

        item = job.item
        with source_file(job) as path:
            info = probe(path, job.config.run.decode)
        start, end = item.source.start_us, info.video_start_us + info.duration_us
        if start is not None and start >= end:
            message = f"start {start / 1e6:g} s is not inside {item.path}, which ends at {end / 1e6:g} s"
            raise TalksetError("bad_value", message, "Mend start in the manifest")
        return Result({**vars(info), "fps": [info.fps.numerator, info.fps.denominator]})


class Segment(Stage[SourceItem]):
    """Source: shots, the dominant face of each, and the clips that come of it."""

    name = "segment"
    section = "segment"
    needs = ("probe",)
    models = ("finder",)

    def run(self, job: Job[SourceItem]) -> Result:
        """Clips and rejected spans. Raises decode_error and truncated."""
        from pipelines.decoding import GuardedReader
        from pipelines.segment import segment_source

        item, finder, config = job.item, job.models.finder, job.config.segment
        with source_file(job) as path, GuardedReader(path, job.config.run.decode) as reader:
            return Result(segment_source(reader, item.sha256, item.source_id, item.span, finder, config))


class Words(Stage[SourceItem]):
    """Source: words and phones of its sound, over the whole span; each clip takes its own from them."""

    name = "words"
    version = 2
    section = "align"
    needs = ("probe",)
    models = ("aligner",)
    decided_later = ("enabled", "recognize", "whisperx")  # the aligner's name carries the models of WhisperX

    def inputs(self, item: SourceItem) -> tuple[str, ...]:
        """What is said, and in which language."""
        return (item.source.transcript or "", item.source.language or "")

    def wanted(self, view: View[SourceItem]) -> bool:
        """Where there is a transcript, or one may be heard, and a clip to take words from it."""
        align = view.config.align
        said = align.enabled and (align.recognize or bool(view.item.source.transcript))
        return said and bool(view.values["segment"]["clips"])

    def run(self, job: Job[SourceItem]) -> Result:
        """Words and phones on the source clock, or the reason why there are none: that costs no clip."""
        from annotate.audio import read_audio
        from pipelines.decoding import guarded

        item, decode = job.item, job.config.run.decode
        span = source_span(item, video_info(job.results["probe"].value))

        def read(start_us: int, end_us: int) -> Float32:
            with source_file(job) as path:
                return guarded(path, decode, read_audio, start_us, end_us)

        source, aligner = item.source, job.models.aligner
        return Result(spoken_words(read, span, source.transcript, source.language, aligner, job.scratch))


class Landmarks(Stage[ClipItem]):
    """Clip: 2D landmarks of every frame."""

    name = "landmarks"
    version = 3
    section = "landmarks"
    models = ("detector",)
    decided_later = ("min_valid_ratio", "task_path", "weights_path")  # the detector's name carries the files' hashes

    def run(self, job: Job[ClipItem]) -> Result:
        """A `LandmarkTrack`, and how much it shakes; raises decode_error."""
        from pipelines.decoding import frames
        from reconstruct.landmarks.topology import topology_of
        from reconstruct.reprojection import landmark_jitter

        item = job.item
        with source_file(job) as path:
            pictures = frames(path, *item.span, job.config.run.decode)
            track = job.models.detector.detect(pictures, item.clip.track, item.info.width, item.info.height)
        if not len(track.valid):
            raise TalksetError("decode_error", f"no frame of {item.path} is inside {item.span} us", "Replace the file")
        packed = pack(track)
        face = track.face_xy[:, topology_of(track.detector).face].astype(np.float64)
        summary = {
            "num_frames": len(track.valid),
            "valid_ratio": float(np.mean(track.valid)),
            "detector_jitter_px": _known_or_none(landmark_jitter(face, 1.0, track.valid)),
        }
        return Result({"record": dict(packed.value), **summary}, packed.arrays)

    def judge(self, view: View[ClipItem]) -> None:
        """Raise face_lost."""
        least, ratio = view.config.landmarks.min_valid_ratio, view.values[self.name]["valid_ratio"]
        if ratio < least or ratio == 0:
            message = f"the face is seen in {ratio:.0%} of the frames, landmarks.min_valid_ratio is {least:.0%}"
            raise TalksetError("face_lost", message)


class Person(Stage[ClipItem]):
    """Clip: what its landmarks tell of the person in it, where a person is shared by clips (`pipelines.people`)."""

    name = "person"
    section = "fit"
    needs = ("landmarks",)
    models = ("head_model", "detector", "embedding")
    decided_later = ("max_nme", "shape_from", "focal_from", "temporal_weight", "neck_after_s", "photometric")

    def run(self, job: Job[ClipItem]) -> Result:
        """An `Evidence`; raises fit_failed."""
        from reconstruct.person import clip_evidence

        models, landmarks = job.models, landmark_track(job.results)
        packed = pack(clip_evidence(models.head, models.embedding, landmarks, job.config.fit, job.item.unit))
        return Result({"record": dict(packed.value)}, packed.arrays)


class Fit(Stage[ClipItem]):
    """Clip: head parameters from landmarks, and from pixels where asked for."""

    name = "fit"
    version = 2
    section = "fit"
    needs = ("landmarks",)
    models = ("head_model", "detector", "embedding")
    decided_later = ("max_nme", "shape_from", "focal_from")  # what they decide is the item's person

    def settings(self, config: Config) -> str:
        """Settings of the pixels count only where pixels do."""
        unread = () if config.fit.photometric.enabled else ("photometric",)
        return section_digest(config, self.section, (*self.decided_later, *unread))

    def inputs(self, item: ClipItem) -> tuple[str, ...]:
        """The person whom other clips have a say in."""
        return () if item.person is None else (person_digest(item.person),)

    def run(self, job: Job[ClipItem]) -> Result:
        """A `HeadTrack` with what is known of its quality; raises fit_failed, and decode_error with pixels."""
        from reconstruct.fit import fit_clip
        from reconstruct.landmarks.topology import topology_of
        from reconstruct.reprojection import landmark_jitter, reprojected

        model, embedding, landmarks = job.models.head, job.models.embedding, landmark_track(job.results)
        config, person = job.config.fit, job.item.person
        head, psnr_db = fit_clip(model, embedding, landmarks, config, person), None
        if config.photometric.enabled:
            head, psnr_db = _refined(job, landmarks, head)
        if person is not None and person.shape is not None:  # the solver keeps it only up to rounding
            head = dataclasses.replace(head, shape=person.shape, focal_px=person.focal_px or head.focal_px)
        if head.held_out_nme is not None and not np.isfinite(head.held_out_nme[head.valid]).all():
            head = dataclasses.replace(head, held_out_nme=None)  # no landmark was held out
        points = reprojected(model, embedding, head)[:, topology_of(landmarks.detector).face]
        packed = pack(head)
        errors = head.nme[head.valid]
        summary = {
            "nme_mean": float(np.mean(errors)),
            "nme_p95": float(np.percentile(errors, 95)),
            "held_out_nme": _mean_or_none(head.held_out_nme),
            "uncertainty_mm": _mean_or_none(head.uncertainty_mm),
            "jitter_px": _known_or_none(landmark_jitter(points, 1.0, head.valid)),
            "psnr_db": psnr_db,
        }
        return Result({"record": dict(packed.value), **summary}, packed.arrays)

    def judge(self, view: View[ClipItem]) -> None:
        """Raise poor_fit."""
        nme, most = view.values[self.name]["nme_mean"], view.config.fit.max_nme
        if not nme <= most:
            message = f"the mean landmark error is {nme:.2%} of the eye distance, fit.max_nme is {most:.2%}"
            raise TalksetError("poor_fit", message)


class Media(Stage[ClipItem]):
    """Clip: its own video and sound."""

    name = "media"
    section = "media"
    decided_later = ("enabled",)

    def wanted(self, view: View[ClipItem]) -> bool:
        """Unless switched off."""
        return view.config.media.enabled

    def run(self, job: Job[ClipItem]) -> Result:
        """An mp4 and, where there is sound, a mono wav at the sound's own rate."""
        from annotate.audio import read_audio, write_wav
        from pipelines.decoding import guarded
        from reconstruct.video import cut_video

        item, decode = job.item, job.config.run.decode
        files = {".mp4": job.scratch / "clip.mp4"}
        with source_file(job) as path:
            guarded(path, decode, cut_video, files[".mp4"], *item.span, crf=job.config.media.crf)
            samples = None
            if item.info.audio_rate is not None:
                samples = guarded(path, decode, read_audio, *item.span, rate=item.info.audio_rate)
        if samples is not None and item.info.audio_rate is not None:
            files[".wav"] = job.scratch / "clip.wav"
            write_wav(files[".wav"], samples, item.info.audio_rate)
        return Result({"suffixes": sorted(files)}, files=files)


class Overlay(Stage[ClipItem]):
    """Clip: mesh over video, for review."""

    name = "overlay"
    section = "overlay"
    needs = ("landmarks", "fit")
    models = ("head_model",)
    decided_later = ("enabled",)

    def run(self, job: Job[ClipItem]) -> Result:
        """An mp4."""
        from reconstruct.overlay import render_overlay

        target = job.scratch / "overlay.mp4"
        head, landmarks = head_track(job.results), landmark_track(job.results)
        start_us = job.item.clip.span.start_us
        with source_file(job) as path:
            render_overlay(path, start_us, head, landmarks, job.models.head, target, job.config.overlay)
        return Result({"suffixes": [".mp4"]}, files={".mp4": target})


def source_file(job: Job[Any]) -> AbstractContextManager[Path]:
    """The file of the item's source while the context lasts; a remote one is fetched where it is not here.

    Raises the errors of `pipelines.download.fetch`.
    """
    from pipelines.download import local_file

    item = job.item
    return local_file(item.uri, item.path, item.sha256, job.config.run.download)


def _refined(job: Job[ClipItem], landmarks: LandmarkTrack, head: HeadTrack) -> tuple[HeadTrack, float | None]:
    """The head refined with the pixels of the clip, and the mean PSNR in dB; None where the pixels told nothing."""
    from pipelines.decoding import frames
    from reconstruct.photometric.refine import refine_clip

    item = job.item
    model, embedding = job.models.head, job.models.embedding
    with source_file(job) as path:
        pictures = (rgb for _, rgb in frames(path, *item.span, job.config.run.decode))
        refined, report = refine_clip(model, embedding, landmarks, head, pictures, job.config.fit, item.person)
    return refined, _mean_or_none(report.psnr_after)


def _mean_or_none(values: NDArray[np.float32] | None) -> float | None:
    """Mean of the values that are there; None without one."""
    present = values[np.isfinite(values)] if values is not None else np.zeros(0)
    return float(np.mean(present, dtype=np.float64)) if len(present) else None


def _known_or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


SOURCE_STAGES = ("probe", "segment", "words")
PERSON_STAGES = ("landmarks", "person")
"""What every clip must have passed before a person can be shared."""
CLIP_STAGES = ("landmarks", "fit", "media")
REVIEW_STAGES = ("landmarks", "fit", "overlay")
"""What `overlay` needs is stored by then; only the overlay itself is made."""

_STAGES: Mapping[str, Stage[Any]] = {
    stage.name: stage for stage in (Probe(), Segment(), Words(), Landmarks(), Person(), Fit(), Media(), Overlay())
}


def stages_named(names: Sequence[str]) -> tuple[Stage[Any], ...]:
    """The stages of those names, in that order."""
    return tuple(_STAGES[name] for name in names)


def video_info(value: Mapping[str, Any]) -> VideoInfo:
    """What the probe stage found."""
    return VideoInfo(**{**value, "fps": Fraction(*value["fps"])})


def source_span(item: SourceItem, info: VideoInfo) -> tuple[int, int]:
    """The asked span within the video, microseconds of the source clock."""
    start, end = item.span
    last = info.video_start_us + info.duration_us
    return max(start or 0, info.video_start_us), min(last if end is None else end, last)


def landmark_track(results: Mapping[str, Result]) -> LandmarkTrack:
    """What the landmarks stage found."""
    result = results["landmarks"]
    return unpack(LandmarkTrack, Result(result.value["record"], result.arrays))


def head_track(results: Mapping[str, Result]) -> HeadTrack:
    """What the fit stage found."""
    result = results["fit"]
    return unpack(HeadTrack, Result(result.value["record"], result.arrays))
