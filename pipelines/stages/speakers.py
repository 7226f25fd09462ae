"""Which face of a source, if any, says what is heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.results import Result
from pipelines.stage import Job, SourceItem, Stage
from pipelines.stages.source_file import source_file
from schemas.types import Float32, Int64, Span

if TYPE_CHECKING:
    from pipelines.segmentation.scan import Scan


class Speakers(Stage[SourceItem]):
    """Source: for every face and time the log odds that the voice is its own."""

    name = "speakers"
    section = "speaker"
    needs = ("segment", "speech")
    models = ("speaker",)
    decided_later = ("min_margin", "min_evidence", "weights_path")  # the judge's name carries the hash of the weights

    def run(self, job: Job[SourceItem]) -> Result:
        """Log odds of every track at the times at which its mouth was read; none where there is no sound."""
        from annotate.active_speaker.base import Face, Heard
        from annotate.sound import HeldSound, Sound, spooled
        from pipelines.segmentation.scan import unpack_scan
        from pipelines.stages.speech import reader_of

        heard = job.results["speech"]
        scan = unpack_scan(job.results["segment"])
        judged = [n for n, track in enumerate(scan.tracks) if len(track.mouth_us)]
        if heard.value["reason"] is not None or not heard.value["speech"] or not judged:
            return pack_odds({})
        judge, start_us = job.models.speaker, heard.value["start_us"]
        speech = tuple(Span(a - start_us, b - start_us) for a, b in heard.value["speech"])
        sound: Sound = HeldSound(np.zeros(0, np.float32))
        crops: dict[int, Any] = {}
        if judge.crop_px is not None:
            end_us = max(scan.end_us, start_us + 1)
            sound = spooled(reader_of(job), start_us, end_us, job.scratch / "sound.raw")
            crops = _crops(job, scan, judged, judge.crop_px)
        faces = [Face(scan.tracks[n].mouth_us - start_us, scan.tracks[n].mouth, crops.get(n)) for n in judged]
        odds = judge.log_odds(faces, Heard(sound, speech, heard.arrays["lips"]))
        times = (scan.tracks[n].mouth_us for n in judged)
        return pack_odds(dict(zip(judged, zip(times, odds, strict=True), strict=True)))


def pack_odds(odds: Mapping[int, tuple[Int64, Float32]]) -> Result:
    """Times (source clock) and log odds by number of the track, as the result of a stage."""
    numbers = sorted(odds)
    times = [odds[number][0] for number in numbers] or [np.zeros(0, np.int64)]
    values = [odds[number][1] for number in numbers] or [np.zeros(0, np.float32)]
    counts = np.array([len(odds[number][0]) for number in numbers], np.int64)
    arrays: dict[str, Any] = {"count": counts, "pts_us": np.concatenate(times), "log_odds": np.concatenate(values)}
    return Result({"tracks": numbers}, arrays)


def unpack_odds(result: Result) -> dict[int, tuple[Int64, Float32]]:
    """What `pack_odds` was given."""
    edges = np.cumsum(result.arrays["count"])[:-1]
    times, values = (np.split(result.arrays[name], edges) for name in ("pts_us", "log_odds"))
    return {number: (times[i], values[i]) for i, number in enumerate(result.value["tracks"])}


def _crops(job: Job[SourceItem], scan: Scan, judged: Sequence[int], size: int) -> dict[int, Any]:
    """(M, size, size) pictures of each face at the times of its mouth, in files: a second pass over the frames."""
    from annotate.active_speaker.network import face_crop
    from pipelines.decoding import GuardedReader

    due: dict[int, list[tuple[int, int]]] = {}
    crops: dict[int, Any] = {}
    for number in judged:
        times = scan.tracks[number].mouth_us.tolist()
        path, shape = job.scratch / f"crops-{number}.raw", (len(times), size, size)
        crops[number] = np.memmap(path, np.uint8, "w+", shape=shape)
        for place, time in enumerate(times):
            due.setdefault(time, []).append((number, place))
    boxes = {number: scan.tracks[number].face for number in judged}
    with source_file(job) as path, GuardedReader(path, job.config.run.decode) as reader:
        for pts_us, rgb in reader.frames(*job.item.span):
            for number, place in due.get(pts_us, ()):
                face = boxes[number]
                box = [float(np.interp(pts_us, face.pts_us, face.box_xywh[:, i])) for i in range(4)]
                crops[number][place] = face_crop(rgb, box, size)
    return crops
