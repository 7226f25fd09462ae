"""How fast the embedded judges of emotion are, one core."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from annotate.emotion import emotion_of
from annotate.emotion.base import EmotionClassifier
from annotate.emotion.face import FaceJudge
from annotate.emotion.text import TextJudge
from annotate.emotion.voice import VoiceJudge
from annotate.performance import Performance
from labels_parts.setting import Setting
from reconstruct.models.arkit import ARKIT_NAMES, to_arkit
from synthetic.make import perform
from synthetic.talker import DEMO_TALKERS

REAL_TIME = 20.0
"""Of all embedded annotators together on two cores; emotion alone has to leave room for the others."""


def speed(setting: Setting) -> None:
    """CPU time of face, voice and text, together and alone, over a talker's clip."""
    truth, utterance = perform(DEMO_TALKERS[0], setting.model)
    track = truth.track
    weights = to_arkit(setting.model, track.expression, track.jaw_pose, track.left_eye_pose, track.right_eye_pose)
    length, spoken = int(truth.pts_us[-1]) + 40_000, truth.speech
    clip = Performance(truth.pts_us, length, track.valid, ARKIT_NAMES, weights, samples=utterance.samples)
    clip = dataclasses.replace(clip, words=spoken.words, phones=spoken.phones)
    judges: dict[str, list[EmotionClassifier]] = {
        "face": [FaceJudge("clip")],
        "voice": [VoiceJudge()],
        "text": [TextJudge()],
    }
    judges["all"] = [judge for each in judges.values() for judge in each]
    for name, chosen in judges.items():
        emotion_of(clip, chosen)
        taken = []
        for _ in range(3):
            started = time.process_time()
            emotion_of(clip, chosen)
            taken.append(time.process_time() - started)
        times = clip.seconds / float(np.min(taken))
        print(f"  {name:8} {1000 * min(taken):8.1f} ms of CPU for {clip.seconds:.1f} s: {times:6.0f} x real time")
    claim = "speed: emotion, one core"
    setting.limits.check(claim, times, 2 * REAL_TIME, "x real time", at_least=True)
