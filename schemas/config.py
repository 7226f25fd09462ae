"""The configuration of a run: frozen dataclasses, one YAML file, dotted overrides, unknown keys refused.

Each section belongs to one stage; the digest of a section is part of the key of that stage's results, so a field that
cannot change a result (verbosity, worker count) must not live in a stage's section.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from schemas.errors import UsageError
from schemas.label_config import EmotionConfig, LanguageModelConfig, MotionEventsConfig, SemanticsConfig, StyleConfig
from schemas.settings import build, over, set_values, to_dict


@dataclass(frozen=True)
class SegmentConfig:
    """From source to clips: shots, dominant face, lengths."""

    shot_backend: str = "adaptive"
    """`adaptive` (embedded: PySceneDetect's detector, and fades) or `transnetv2` (a network from a file finds both)."""
    shot_weights_path: str | None = None
    """TorchScript or ONNX file of the network; `docs/segmentation.md` says what goes in and out."""
    shot_threshold: float = 3.0
    """PySceneDetect AdaptiveDetector: ratio of the frame score to its neighbourhood that makes a cut."""
    detect_every_s: float = 0.2
    """Seconds between face detections of the tracking pass."""
    min_face_px: float = 40.0
    """Smallest accepted face box width, source pixels."""
    dominance: float = 1.5
    """The dominant face must have this many times the summed box area of the next one, else the shot is ambiguous."""
    bridge_s: float = 0.4
    """Longest gap without a detection that a track survives: a turn of the head or a hand before the face."""
    transitions: bool = True
    """Whether fades and dissolves are looked for; their frames show two pictures at once and are in no clip."""
    mouth_hz: float = 25.0
    """Readings of each face's mouth in a second, at most one a frame. Lips close for 60 to 100 ms for a p, b or m, so
    fewer than 20 miss them; each reading takes 5 ms of one core."""
    min_clip_s: float = 1.0
    max_clip_s: float = 30.0
    require_speech: bool = True
    """Whether a source with sound gives clips only where exactly one visible person speaks; a source without sound, or
    false (sign language with background noise), gives the dominant face."""
    min_speech_ratio: float = 0.2
    """Least part of a clip in which somebody speaks: a short sentence between two breaths has a third."""
    max_pause_s: float = 2.0
    """Longest silence inside a clip; at a longer one it ends. Pauses between sentences last up to about 1 s."""
    border_s: float = 0.5
    """Silence that a clip keeps before its first and after its last speech, where there is any."""


@dataclass(frozen=True)
class SpeakerConfig:
    """Which visible face, if any, says what is heard."""

    backend: str = "lips"
    """`lips` (embedded: what mouths do against what the sound asks of lips), `light-asd` or `talknet` (networks from
    files)."""
    weights_path: str | None = None
    """TorchScript or ONNX file of the network; `docs/segmentation.md` says what goes in and out."""
    max_offset_ms: float = 500.0
    """Largest offset between sound and picture that is looked for before lips are compared."""
    min_margin: float = 2.5
    """Least log odds for the speaker of a clip where several faces are seen, against nobody and against the next face,
    mean over a second of its speech. Of three silent people whose lips move, one reaches 2.0 in 4 of 100 sentences of
    1.5 s and 2.5 in 1; the true speaker reaches 2.5 in 77."""
    min_evidence: float = -2.5
    """Least log odds for a face that is alone in the picture, over all the speech of a clip (1.5 s count once). Most
    videos show who talks (about 12 to 1), so lips that are hard to read do not cost the clip, lips that contradict the
    sound do; the longer the clip, the surer."""


@dataclass(frozen=True)
class LandmarkConfig:
    """2D landmark detection on a clip."""

    backend: str = "mediapipe"
    """`mediapipe` (478 points), `mediapipe-tasks` (478 points and blend shapes) or `face-alignment` (68 points)."""
    task_path: str | None = None
    """MediaPipe's FaceLandmarker model, a `.task` file; mediapipe-tasks needs it."""
    weights_path: str | None = None
    """Weights of the face-alignment network; looked for in the cache folder when not given."""
    min_detection_confidence: float = 0.5
    min_tracking_confidence: float = 0.5
    crop_scale: float = 2.0
    """Side of the square crop around the tracked face box, in box widths."""
    confidence: str = "flip"
    """MediaPipe's confidence per point: `flip` (agreement with the mirrored picture), `crops` (with a wider, shifted
    crop) or `none` (all ones). face-alignment takes the height of its heat maps."""
    confidence_every: int = 10
    """Frames from one measurement of the confidence to the next; it is interpolated between them. Each one takes as
    long as a frame: 10 costs a tenth of the speed."""
    min_valid_ratio: float = 0.5
    """Clips with fewer valid frames are rejected as face_lost."""


@dataclass(frozen=True)
class PhotometricConfig:
    """Refinement of the landmark fit with the pixels of the face."""

    enabled: bool = False
    rasterizer: str = "warp"
    """Backend that finds what hides what: `warp` or `pytorch3d`."""
    size_px: int = 256
    """Side of the face square that pixels are read from."""
    blur_px: float = 1.0
    """Standard deviation of the smoothing of that square."""
    iterations: int = 10
    """Most Gauss-Newton iterations for shape and light; the motion of all frames takes half as many."""
    key_frames: int = 12
    """Frames, spread over the clip, on which shape, light and focal length are refined."""
    shading_weight: float = 3e4
    """Weight of the mean squared difference of log albedo between a point of the skin and all skin."""
    texture_weight: float = 3e4
    """Weight of the mean squared difference of log albedo between a frame and the clip, point by point."""
    shading_scale: float = 0.15
    """Geman-McClure scale of the shading residual, natural logarithm of linear light."""
    texture_scale: float = 0.07
    """Geman-McClure scale of the texture residual."""
    chroma_scale: float = 0.15
    """Points count as skin by their colour; scale of the log ratio of colour channels."""
    shape_weight: float = 0.3
    """Pull of identity coefficients to the mean head while pixels are used."""
    unseen_landmark_gain: float = 10.0
    """Factor on the precision of landmarks of lips, lids and irises, where pixels are not compared, in the motion
    stage, after their lasting misplacement is taken away."""
    rotation_inertia: float = 1e3
    """Second differences over time of the head's rotation, radians."""
    translation_inertia: float = 1e5
    """Second differences over time of the head's place, metres."""
    min_facing: float = 0.3
    """Points are compared where the cosine between normal and line of sight is larger."""
    min_contrast: float = 0.02
    """Clips whose face varies less (standard deviation of the logarithm of light) are left as they are."""


@dataclass(frozen=True)
class FitConfig:
    """Whole-clip head fit on landmarks: a robust least squares in units of the interocular distance."""

    head_model: str = "open-head"
    iterations: int = 15
    """Most Gauss-Newton iterations of each of the two stages."""
    tolerance: float = 5e-3
    """A stage ends when an iteration lowers the objective by less than this fraction."""
    key_frames: int = 12
    """Frames, spread over the clip, on which shape and focal length are found."""
    robust_scale: float = 0.12
    """Geman-McClure scale of the landmark error, as a fraction of the interocular distance."""
    landmark_correlation: float = 12.0
    """How many landmarks err together: a detector's misplacements on a person are not independent of each other."""
    gap_noise: float = 0.02
    """Error of the distance of upper and lower lid in interocular distances: what both have wrong together drops out of
    it, so it is weighed more than their places."""
    hold_out: int = 3
    """Every so many landmarks of the skin away from lids and lips are left out, to measure `held_out_nme`; 0: none."""
    damping: float = 1e-3
    """Levenberg-Marquardt damping of the first step, relative to the diagonal."""
    embedding_floor_m: float = 0.002
    """Landmarks err by spread^2 + floor^2 on a person, where spread is how firmly a landmark sits on the model."""
    shape_from: str = "clip"
    """Whose identity coefficients a clip has: `clip`, its own, or `speaker`, one set for all clips of a speaker
    (without a name: of a source), found from all of them together."""
    focal_from: str = "clip"
    """Which clips have one focal length: `clip`, each its own, or `source`, those of a source (and speaker): right for
    one camera that does not zoom, wrong for edited video, whose shots come from several."""
    focal_px: float | None = None
    """Known focal length in pixels; estimated when not given."""
    focal_weight: float = 0.2
    """Pull of the log focal length to that of an ordinary camera (40 degrees across the longer side)."""
    shape_weight: float = 0.015
    """Pull of identity coefficients (unit variance) to the mean head."""
    expression_weight: float = 0.6
    """Pull of expression coefficients and jaw to rest."""
    temporal_weight: float = 150.0
    """Second differences over time of expressions, against landmark errors that are new in every frame."""
    neck_after_s: float = 0.0
    """Head rotations that last about this long (1 is a good value) are the body's, shorter ones the neck's; 0 leaves
    the neck at rest and the whole rotation in `global_pose`, as most data sets of talking heads have it."""
    vergence_weight: float = 5.0
    """Pull of both eyes to one direction."""
    mirror_weight: float = 1.0
    """Pull of expressions whose two sides mostly move together, such as blinks, to each other (by their names)."""
    max_nme: float = 0.05
    """Clips with a larger mean NME are rejected as poor_fit."""
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    """The optional stage after the landmarks."""


@dataclass(frozen=True)
class WhisperxConfig:
    """WhisperX, which runs in an environment of its own (`docs/words.md` has the command that makes it)."""

    python: str | None = None
    """Path of the environment's interpreter, or `ray`: the engine makes the environment on every machine, as a Ray
    runtime environment with `package`."""
    package: str = "whisperx==3.8.6"
    """Requirement of pip for `ray`, with an exact version: it is part of the results' keys."""
    model: str = "small"
    """Whisper model that transcribes, by name or folder."""
    align_model: str | None = None
    """wav2vec2 model that aligns, by name or folder; None: WhisperX' default for the language."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    compute_type: str = "default"
    """Numbers of Whisper: float32 on a CPU and float16 on a GPU by default; `int8` takes less memory."""
    batch_size: int = 8
    """Pieces of sound transcribed at once."""
    diarize_model: str | None = None
    """pyannote pipeline that tells speakers apart, by name or folder; None: nobody asks who speaks."""
    local_only: bool = False
    """Refuse to download models."""


@dataclass(frozen=True)
class ReconstructConfig:
    """Body and hands of a clip, beside its head."""

    body: bool = False
    """Whether body and hands are detected and fitted."""
    body_model: str = "open-body"
    pose_complexity: int = 1
    """MediaPipe's pose network: 0, 1 or 2; only that of 1 comes with the package."""
    hand_complexity: int = 1
    """MediaPipe's hand networks: 0 (faster) or 1."""
    min_visibility: float = 0.5
    """Points of the pose that are less visible do not count, and the joints below them are not observed."""
    num_betas: int = 60
    """Identity coefficients that are fitted; the others are zero."""
    key_frames: int = 12
    """Frames, spread over the clip, on which the person is found."""
    iterations: int = 15
    """Most Gauss-Newton iterations of each of the two stages."""
    robust_scale: float = 4.0
    """Geman-McClure scale, in standard deviations of a landmark."""
    smoothness: float = 1.0
    """Factor on the weight of second differences over time."""
    max_residual: float = 0.08
    """Clips whose upper body lies farther from its landmarks (median, in shoulder widths) are rejected as poor_body."""
    max_penetration: float = 0.03
    """Largest fraction of arm and hand vertices inside the trunk or the head, mean over frames."""
    max_implausible: float = 3.0
    """Largest implausibility: the pose prior's RMS in standard deviations, mean over frames."""
    max_jitter: float = 0.08
    """Largest RMS second difference of the upper body's joints in shoulder widths a frame^2, at 25 frames/s."""
    min_hand_ratio: float = 0.0
    """Least fraction of frames in which a hand is seen, of the hand seen more often."""


@dataclass(frozen=True)
class AlignConfig:
    """Words and phones of the sound."""

    enabled: bool = True
    backend: str = "pocketsphinx"
    """`pocketsphinx` (English, embedded) or `whisperx` (other languages too)."""
    recognize: bool = False
    """Whether words are recognised where a source has no transcript; pocketsphinx hears about every other word."""
    whisperx: WhisperxConfig = field(default_factory=WhisperxConfig)


@dataclass(frozen=True)
class MediaConfig:
    """The clip's own video and sound in the data set."""

    enabled: bool = True
    crf: int = 18
    """x264 constant rate factor; lower is larger and better."""


@dataclass(frozen=True)
class OverlayConfig:
    """Mesh over video, for review."""

    enabled: bool = True
    height: int = 480
    """Height of the picture in pixels."""
    crf: int = 23


@dataclass(frozen=True)
class SyncConfig:
    """How far sound and lips of a clip are apart. Thresholds hold for one backend: each has its own confidence."""

    enabled: bool = True
    backend: str = "lips"
    """`lips` (embedded) or `syncnet` (SyncNet, with weights by path)."""
    weights_path: str | None = None
    """TorchScript or ONNX file of SyncNet; `docs/quality.md` says what goes in and out."""
    range_ms: int = 500
    """Largest offset that is looked for, either way, milliseconds. Broadcast faults stay within 300."""
    correct: bool = False
    """Whether the sound of a clip is shifted to its lips, and the offset measured again. Media, words and
    phones are then those of the shifted sound."""
    correct_above_ms: float = 40.0
    """Smaller offsets are left: a frame, and twice the spread of recordings in sync."""
    trust: float = 0.5
    """Offsets with less confidence are neither corrected nor a reason to reject."""
    max_offset_ms: float | None = None
    """Clips whose offset, after any correction, is larger are rejected as out_of_sync; None: none. Viewers notice 45 ms
    of early and 125 ms of late sound (ITU-R BT.1359)."""
    min_confidence: float | None = None
    """Clips with less confidence, after any correction, are rejected as out_of_sync: dubbed or not the speaker; None:
    none."""
    min_long_confidence: float | None = 0.5
    """The same for clips of 6 s and more, and in proportion less for shorter ones: a clip of 3 s needs 0.2, one of 1 s
    nothing, for so little of a voice proves nothing. Only for the backend `lips`, which it was measured with."""


@dataclass(frozen=True)
class QualityConfig:
    """Limits of the measures of `schemas.quality`: clips beyond one are rejected as low_quality. None: no limit.

    The defaults reject what is broken, not what is poor; the profiles `pretrain` and `strict` ask for more. Limits with
    `_worst` bound the worst value of a clip, the others its mean. docs/quality.md has the reason of each.
    """

    enabled: bool = True
    min_face_px: float | None = 40.0
    min_face_px_worst: float | None = None
    min_sharpness: float | None = 0.003
    min_sharpness_worst: float | None = None
    min_brightness: float | None = 0.04
    min_brightness_worst: float | None = None
    max_burnt: float | None = 0.5
    max_burnt_worst: float | None = None
    max_yaw_deg: float | None = 60.0
    max_yaw_deg_worst: float | None = None
    max_pitch_deg: float | None = 45.0
    max_pitch_deg_worst: float | None = None
    max_roll_deg: float | None = 60.0
    max_roll_deg_worst: float | None = None
    max_occlusion: float | None = None
    max_occlusion_worst: float | None = None
    max_blockiness: float | None = 4.0
    max_blockiness_worst: float | None = None
    min_bits_per_pixel: float | None = None
    min_bits_per_pixel_worst: float | None = None
    min_snr_db: float | None = -5.0
    min_snr_db_worst: float | None = None
    min_speech_modulation: float | None = None
    min_speech_modulation_worst: float | None = None
    max_clipped: float | None = 0.1
    max_clipped_worst: float | None = None


@dataclass(frozen=True)
class DuplicatesConfig:
    """Copies among the clips, of this run and of earlier data sets."""

    enabled: bool = True
    action: str = "group"
    """`group` (copies are kept, named in `duplicate_group`, and share a split) or `reject` (all but the first go)."""
    against: str = ""
    """Folders of earlier data sets, separated by commas: their clips count as the first ones, and what is a copy of one
    has its split."""
    min_share: float = 0.5
    """Least part of the shorter clip that the other one shares: a jingle makes no copy."""
    max_sound_error: float = 0.3
    """Largest share of differing bits in sound codes; copies have up to 0.15, other sound 0.38 and more."""
    min_motion_match: float = 0.85
    """Least correlation of lips and nods; copies have 0.94 and more, other clips of one person up to 0.65."""


@dataclass(frozen=True)
class SplitConfig:
    """Parts of the data set that share no speaker, source or copy."""

    train: float = 0.9
    val: float = 0.05
    test: float = 0.05
    """Shares of the speakers (of the sources, where nobody is named); they sum to 1. A speaker keeps the split while
    the shares stay, whatever is added to the manifest."""


@dataclass(frozen=True)
class ShardConfig:
    """Parquet layout."""

    clips_per_row_group: int = 8
    max_shard_mb: int = 256
    zstd_level: int = 3
    figures: bool = True
    """Pictures in the data card: about a second."""


@dataclass(frozen=True)
class DownloadConfig:
    """Fetching sources that are not local files: http(s), s3, gs, pages of video sites."""

    cache: str | None = None
    """Folder of fetched files; None: `downloads` in the user's cache folder. Machines of a cluster may share it."""
    cache_gb: float = 100.0
    """Gigabytes (1e9 bytes) that the folder may hold; beyond them the least recently used files go. A file in use never
    goes, so the folder may be larger for a while."""
    recheck_h: float = 24.0
    """Hours for which what a URI gave is taken as still true; after that the server is asked whether it changed. 0 asks
    in every run, which takes a request for each source."""
    max_gb: float = 20.0
    """Largest file, gigabytes: five hours of 1080p video."""
    total_s: float = 7200.0
    """Longest time for one file, seconds, resumed attempts included, waits for the host not: 20 GB at 3 MB/s."""
    stall_s: float = 30.0
    """Longest time for a connection, an answer, or `min_kb_s` times it of content."""
    min_kb_s: float = 4.0
    """Slowest transfer, kilobytes a second over `stall_s`: slower ones are broken off and resumed."""
    attempts: int = 5
    """Attempts at one file before its error is final; each goes on where the last one broke off."""
    max_wait_s: float = 120.0
    """Longest wait that a server may ask for with Retry-After, seconds; where it asks for more, the file fails as
    rate_limited or unavailable and is left to a later run."""
    max_redirects: int = 8
    per_host: int = 4
    """Parallel transfers from one host, over all processes that share the cache folder."""
    interval_s: float = 0.2
    """Least time from one request to a host to the next, seconds."""
    allow_hosts: str = ""
    """Hosts, separated by commas, that may have addresses that are not public (127.0.0.1, 10.0.0.0/8, ...)."""
    sites: bool = False
    """Whether web pages are given to yt-dlp, which knows the players of about 1,800 sites; needs `talkset[sites]`."""
    site_height_px: int = 1080
    """Largest picture height that is asked of a video site, where it has several."""


@dataclass(frozen=True)
class DecodeConfig:
    """Limits of what decoding a source may cost; it runs in a child process, so that it can be ended. 0: no limit."""

    stall_s: float = 60.0
    """Seconds until a file is open, the next frames are there, or a clip's sound or media is made."""
    total_s: float = 14_400.0
    """Seconds for one pass over the frames of a source, with what is done with them."""
    memory_mb: float = 4000.0
    """Resident memory of the decoding process, megabytes (1e6): frames in flight of 8K video take about 2500."""
    max_megapixels: float = 40.0
    """Largest picture: 8K UHD has 33."""


@dataclass(frozen=True)
class RetryConfig:
    """When what failed is tried again; which failures may go away by themselves is in `schemas.errors`."""

    attempts: int = 4
    """Attempts at one result that fails for a transient reason, over all runs; then it is in quarantine."""
    wait_s: float = 2.0
    """Least wait before the second attempt, seconds; it doubles with each further one, up to a half longer by a jitter
    that depends on the clip."""
    max_wait_s: float = 300.0
    """Longest wait without its jitter, seconds."""


@dataclass(frozen=True)
class RunConfig:
    """How to run; never part of a result's key."""

    engine: str = "ray"
    """`ray` or `local` (in this process)."""
    workers: int | None = None
    """Parallel workers; None: one per core."""
    address: str | None = None
    """Address of a running Ray cluster; None starts one on this machine."""
    gpu_fraction: float = 0.0
    """Part of a GPU for each worker of a stage that uses one: landmarks with face-alignment, words with WhisperX on
    cuda. 0 reserves none."""
    time_scale: float = 1.0
    """Multiplies the time limits of all stages, for slow machines."""
    results: str | None = None
    """Where results of stages are kept, as s3://bucket/prefix, gs://... or file:///folder; None: in the output folder,
    which every worker must then reach."""
    error_budget: float = 0.0
    """Fraction of sources that may fail before the exit status becomes 1."""
    retry: RetryConfig = field(default_factory=RetryConfig)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)


@dataclass(frozen=True)
class Config:
    """A whole run."""

    name: str = "talkset"
    version: str = "1.0.0"
    licence: str = ""
    """Licence of the data set as a whole, for its card."""
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)
    landmarks: LandmarkConfig = field(default_factory=LandmarkConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    reconstruct: ReconstructConfig = field(default_factory=ReconstructConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    media: MediaConfig = field(default_factory=MediaConfig)
    overlay: OverlayConfig = field(default_factory=OverlayConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    emotion: EmotionConfig = field(default_factory=EmotionConfig)
    motion_events: MotionEventsConfig = field(default_factory=MotionEventsConfig)
    style: StyleConfig = field(default_factory=StyleConfig)
    semantics: SemanticsConfig = field(default_factory=SemanticsConfig)
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)
    run: RunConfig = field(default_factory=RunConfig)


PROFILES: Final = ("pretrain", "strict")
"""Ready settings, `profiles/NAME.yaml`: for much data of mixed quality, and for little of the best."""
_PROFILE_PATH: Final = "profile:"


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file over the defaults, then apply `section.key=value` overrides (values are YAML).

    A key `profile` in the file or an override, or the path `profile:NAME`, puts one of the `PROFILES` under all that.
    Raises UsageError that names an unknown key with a suggestion, or a value of the wrong type.
    """
    tree: dict[str, Any] = {}
    if path is not None and str(path).startswith(_PROFILE_PATH):
        tree["profile"] = str(path).removeprefix(_PROFILE_PATH)
    elif path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"cannot read the configuration {path}: {error.strerror}", "Check the path") from error
        except yaml.YAMLError as error:
            raise UsageError(f"{path} is not valid YAML: {error}", "Mend the line it names") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise UsageError(
                f"{path} must hold a mapping, got {type(loaded).__name__}", "Write `section: {key: value}`"
            )
        tree = loaded or {}
    set_values(tree, overrides, "See `talkset run --show-config`")
    profile = tree.pop("profile", None)
    if profile is not None:
        tree = over(_profile(profile), tree)
    return build(Config, tree)


def _profile(name: Any) -> dict[str, Any]:
    """The values of a profile that comes with talkset."""
    if name not in PROFILES:
        raise UsageError(f"unknown profile {name!r}", f"Known: {', '.join(PROFILES)}")
    text = (Path(__file__).parent / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    return typing.cast("dict[str, Any]", yaml.safe_load(text))


def dump_yaml(config: Config) -> str:
    """The resolved configuration as YAML text."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)
