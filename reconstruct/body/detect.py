"""Body and hands in the pictures of a clip: MediaPipe's pose and hand networks, which come with its package.

The pose network sees a square around the person of the face track. Each hand network follows one hand in a square
around the wrist that the pose says, so that small hands are seen large and left stays left. Where one of them sees
nothing, a third looks at the whole person. What was mixed up all the same is put right over the whole clip
(`reconstruct.body.sides`).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruct import quiet
from reconstruct.body.points import LEFT_SHOULDER, RIGHT_SHOULDER
from reconstruct.body.sides import Hand, chosen_hands, distinct_hands, repaired_pose
from reconstruct.landmarks.crops import Boxes
from schemas.config import ReconstructConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import BodyLandmarks, FaceTrack

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

VERSION: Final = 2
"""Of what is done around the networks: part of the detector's name."""
POSE_PX: Final = 384
"""Side of the square that the pose network is given; its own input has 256."""
HAND_PX: Final = 256
BOTH_HANDS_PX: Final = 640
"""Most that the network is given which looks for hands at the whole person."""
PERSON_FACES: Final = 7.5
"""Side of the square around a person, in face boxes."""
BELOW_FACE: Final = 2.3
"""How far below the face the middle of that square lies, in face boxes."""
HAND_SHOULDERS: Final = 1.25
"""Side of the square around a hand, in shoulder widths."""
LEAST_HAND_PX: Final = 48.0
BEYOND_WRIST: Final = 0.35
"""Where the middle of a hand's square lies beyond the wrist, in forearms."""
FACE_REACH: Final = 1.0
"""Farthest distance of the nose from the middle of the face box, in face boxes."""
LOST_AFTER: Final = 3
"""Frames of somebody else's pose after which the network looks anew."""
BLANK: Final = np.zeros((64, 64, 3), np.uint8)
FILES: Final = {
    "pose": {0: "pose_landmark_lite", 1: "pose_landmark_full", 2: "pose_landmark_heavy"},
    "hand": {0: "hand_landmark_lite", 1: "hand_landmark_full"},
}


@dataclass(frozen=True)
class Pose:
    """What the pose network sees of one person."""

    points: Float32
    """(33, 3) x, y in source pixels and visibility."""
    world: Float32
    """(33, 4) metres and visibility."""


class BodyDetector:
    """Pose and hands by MediaPipe's `solutions`; a context manager."""

    def __init__(self, config: ReconstructConfig) -> None:
        check_networks(config)
        self._config = config
        self.name = detector_name(config)
        self._graphs: dict[str, Any] = {}

    def __enter__(self) -> BodyDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the networks."""
        for graph in self._graphs.values():
            graph.close()
        self._graphs = {}

    def detect(
        self, frames: Iterable[tuple[int, UInt8]], track: FaceTrack | None, width: int, height: int
    ) -> BodyLandmarks:
        """Body and hands of the tracked person in every frame of one clip, given as (pts_us, rgb) in time order.

        A frame is not valid when no pose is found, or that of somebody whose nose is not at the face of the track.
        Without a track it is the person whom the network takes first. Raises UsageError for a frame of another size.
        """
        boxes = None if track is None else Boxes(track)
        self._forget()
        clock: list[int] = []
        poses: list[Pose | None] = []
        hands: list[list[list[Hand]]] = []
        strangers = 0
        for pts_us, rgb in frames:
            if rgb.shape[:2] != (height, width):
                raise UsageError(
                    f"a frame is {rgb.shape[1]}x{rgb.shape[0]}, not {width}x{height}", "Pass its true size"
                )
            face = None if boxes is None else boxes.at(pts_us)
            pose = self._pose("pose", rgb, *_person_square(face, width, height))
            if pose is not None and face is not None and not _is_face(pose, *face):
                pose, strangers = None, strangers + 1
                if strangers == LOST_AFTER:
                    self._reset("pose")
                    strangers = 0
            else:
                strangers = 0
            clock.append(pts_us)
            poses.append(pose)
            hands.append([] if pose is None else self._hands(rgb, pose, face))
        return self._landmarks(np.array(clock, np.int64), poses, hands, width, height)

    def detect_image(self, rgb: UInt8) -> BodyLandmarks | None:
        """Body and hands of one picture of one person, or None."""
        self._forget()
        height, width = rgb.shape[:2]
        square = _person_square(None, width, height)
        for _ in range(2):  # the second look starts from the first one's place
            pose = self._pose("pose", rgb, *square)
        if pose is None:
            return None
        hands = [self._hands(rgb, pose, None) for _ in range(2)][-1]
        return self._landmarks(np.zeros(1, np.int64), [pose], [hands], width, height)

    def _landmarks(
        self,
        clock: NDArray[np.int64],
        poses: list[Pose | None],
        hands: list[list[list[Hand]]],
        width: int,
        height: int,
    ) -> BodyLandmarks:
        count = len(poses)
        points, world = np.full((count, 33, 3), np.nan, np.float32), np.full((count, 33, 4), np.nan, np.float32)
        for index, pose in enumerate(poses):
            if pose is not None:
                points[index], world[index] = pose.points, pose.world
        points, world = repaired_pose(points, world)
        inside = (points[..., :2] >= 0).all(2) & (points[..., :2] <= [width, height]).all(2)
        points[..., 2] = np.where(np.isfinite(points[..., 2]), np.clip(points[..., 2], 0, 1) * inside, np.nan)
        found = chosen_hands(points, hands)
        return BodyLandmarks(
            pts_us=clock - clock[:1],
            pose_xyc=points,
            pose_world=world,
            left_hand_xyc=_within(found[0][0], width, height),
            right_hand_xyc=_within(found[1][0], width, height),
            left_hand_world=found[0][1],
            right_hand_world=found[1][1],
            valid=np.isfinite(points).all(axis=(1, 2)),
            width=width,
            height=height,
            detector=self.name,
        )

    def _pose(self, role: str, rgb: UInt8, centre: Float64, side: float) -> Pose | None:
        corner = centre - side / 2
        found = self._graph(role).process(cut(rgb, corner, side, POSE_PX))
        if found.pose_landmarks is None or found.pose_world_landmarks is None:
            return None
        values = np.array([(p.x, p.y, p.visibility) for p in found.pose_landmarks.landmark], np.float64)
        world = np.array([(p.x, p.y, p.z, p.visibility) for p in found.pose_world_landmarks.landmark], np.float32)
        values[:, :2] = values[:, :2] * side + corner
        return Pose(values.astype(np.float32), world)

    def _hands(self, rgb: UInt8, pose: Pose, face: tuple[Float64, float] | None) -> list[list[Hand]]:
        """What is found around each wrist, and in the whole person where that is not two hands."""
        found = [self._hand(side, rgb, pose) for side in (0, 1)]
        apart = pose.points[LEFT_SHOULDER, :2] - pose.points[RIGHT_SHOULDER, :2]
        if len(distinct_hands([*found[0], *found[1]], float(np.linalg.norm(apart)))) >= 2:
            return found
        height, width = rgb.shape[:2]
        centre, side = _person_square(face, width, height)
        return [*found, self._look("hands", rgb, centre - side / 2, side, min(BOTH_HANDS_PX, round(side)))]

    def _hand(self, side: int, rgb: UInt8, pose: Pose) -> list[Hand]:
        """The hands in a square around one wrist; none where the pose does not see the arm."""
        points = pose.points.astype(np.float64)
        elbow, wrist = points[13 + side], points[15 + side]
        height, width = rgb.shape[:2]
        shoulders = float(np.linalg.norm(points[LEFT_SHOULDER, :2] - points[RIGHT_SHOULDER, :2]))
        trunk = 0.8 * float(np.linalg.norm(points[[11, 12], :2].mean(0) - points[[23, 24], :2].mean(0)))
        size = max(HAND_SHOULDERS * max(shoulders, 0.7 * trunk), LEAST_HAND_PX)
        centre = wrist[:2] + BEYOND_WRIST * (wrist[:2] - elbow[:2])
        if (centre < -0.25 * size).any() or (centre > np.array([width, height]) + 0.25 * size).any():
            return []
        return self._look(f"hand{side}", rgb, centre - size / 2, size, HAND_PX)

    def _look(self, role: str, rgb: UInt8, corner: Float64, size: float, pixels: int) -> list[Hand]:
        """The hands in the square from `corner`, given to a network with so many pixels a side."""
        found = self._graph(role).process(cut(rgb, corner, size, pixels))
        if not found.multi_hand_landmarks:
            return []
        hands = []
        for marks, places, label in zip(
            found.multi_hand_landmarks, found.multi_hand_world_landmarks, found.multi_handedness, strict=True
        ):
            own = label.classification[0]
            # the labels are those of a mirrored picture
            left = own.score if own.label == "Right" else 1 - own.score
            xy = np.array([(p.x, p.y) for p in marks.landmark], np.float64) * size + corner
            world = np.array([(p.x, p.y, p.z) for p in places.landmark], np.float64)
            hands.append(Hand(xy, world, float(left), float(own.score)))
        return hands

    def _graph(self, role: str) -> Any:
        if role not in self._graphs:
            solutions, config = quiet.solutions(), self._config
            with quiet.quiet():
                if role == "pose":
                    made = solutions.pose.Pose(model_complexity=config.pose_complexity, smooth_landmarks=False)
                else:
                    made = solutions.hands.Hands(max_num_hands=2, model_complexity=config.hand_complexity)
                made.process(BLANK)
            self._graphs[role] = made
        return self._graphs[role]

    def _reset(self, role: str) -> None:
        with quiet.quiet():
            self._graphs[role].reset()
            self._graphs[role].process(BLANK)

    def _forget(self) -> None:
        """Start a clip without memory of the last one."""
        for role in self._graphs:
            self._reset(role)


def detector_name(config: ReconstructConfig) -> str:
    """Name and version of the detector of a configuration, without making it."""
    version = importlib.metadata.version("mediapipe")
    return f"mediapipe-pose{config.pose_complexity}-hands{config.hand_complexity}-{version}+{VERSION}"


def check_networks(config: ReconstructConfig) -> None:
    """Raise UsageError for an unknown complexity, TalksetError missing_model for a network that is not installed."""
    folder = Path(str(importlib.metadata.distribution("mediapipe").locate_file("mediapipe"))) / "modules"
    for kind, complexity in (("pose", config.pose_complexity), ("hand", config.hand_complexity)):
        known = FILES[kind]
        if complexity not in known:
            raise UsageError(f"reconstruct.{kind}_complexity is {complexity}", f"Use {' or '.join(map(str, known))}")
        path = folder / f"{kind}_landmark" / f"{known[complexity]}.tflite"
        if not path.is_file():
            raise TalksetError(
                "missing_model",
                f"{path} is not installed: MediaPipe's package has it not, and nothing is downloaded",
                f"Use reconstruct.{kind}_complexity=1, or put the file there yourself",
            )


def cut(rgb: UInt8, corner: Float64, side: float, size: int) -> UInt8:
    """The square from `corner` (continuous source pixels) scaled to `size` pixels; black outside of the picture."""
    scale = size / side
    shrink = int(1 / scale)
    if shrink > 1:  # average first, or the linear sampling below would skip pixels
        height, width = rgb.shape[0] // shrink * shrink, rgb.shape[1] // shrink * shrink
        small = (width // shrink, height // shrink)
        rgb = np.asarray(cv2.resize(rgb[:height, :width], small, interpolation=cv2.INTER_AREA), np.uint8)
        corner, scale = corner / shrink, scale * shrink
    shift = -corner * scale + 0.5 * scale - 0.5
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return np.asarray(cv2.warpAffine(rgb, matrix, (size, size), flags=cv2.INTER_LINEAR), np.uint8)


def _person_square(face: tuple[Float64, float] | None, width: int, height: int) -> tuple[Float64, float]:
    """Centre and side of the square around the person of a face, or of the whole picture."""
    whole = np.array([width / 2, height / 2]), float(max(width, height))
    if face is None:
        return whole
    centre, size = face
    side = PERSON_FACES * size
    return whole if side >= whole[1] else (centre + np.array([0, BELOW_FACE * size]), side)


def _is_face(pose: Pose, centre: Float64, size: float) -> bool:
    return bool(np.linalg.norm(pose.points[0, :2] - centre) <= FACE_REACH * size)


def _within(hand: Float32, width: int, height: int) -> Float32:
    """A hand's points (T, 21, 3), those outside of the picture with confidence 0."""
    inside = (hand[..., :2] >= 0).all(2) & (hand[..., :2] <= [width, height]).all(2)
    hand[..., 2] *= inside
    return hand
