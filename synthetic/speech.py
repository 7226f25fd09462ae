"""A formant synthesiser whose words and phones have exactly known times: the voice of the synthetic talkers.

Source and filter after Klatt, "Software for a cascade/parallel formant synthesizer" (JASA 67, 1980): glottal pulses and
aspiration through a cascade of resonators, frication and bursts through a parallel branch of their own.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from annotate.text import Token, dictionary, tokenize
from schemas.errors import UsageError
from schemas.types import Float32, Interval
from synthetic.phonetics import DURATIONS_MS, FUNCTION_WORDS, OBSTRUENTS, SONORANTS, VOWELS, Formants, Shape

Float64 = NDArray[np.float64]

_RATE: Final = 16_000
_STEP: Final = 40
"""Samples between updates of the filters: 2.5 ms, the grid of all phone boundaries."""

_STEP_US: Final = _STEP * 1_000_000 // _RATE
_STEPS_PER_MS: Final = 1000 / _STEP_US
_HOP: Final = 80
_FFT: Final = 640
"""The vocal tract's response falls by 65 dB within the 30 ms that a 10 ms window leaves of this."""

_BLOCK: Final = 2000
"""Windows filtered at once, to bound the memory that a long text takes."""

_OVERSAMPLE: Final = 4
"""The glottal pulse closes faster than a sample; made at a multiple of the rate, its aliases are filtered away."""

_MIN_PHONE_MS: Final = 40.0
_EDGE_MS: Final = 250.0
"""Silence before and after the utterance."""

_HIGHER_HZ: Final = (3500.0, 4500.0, 5500.0, 6500.0, 7500.0)
"""Formants four to eight, the same in all phones."""

_BANDWIDTHS_HZ: Final = (80.0, 100.0, 140.0, 220.0, 280.0, 450.0, 550.0, 650.0)
_ROOM_DB: Final = -58.0
"""Level of the room's noise re a vowel; digital silence occurs in no recording."""

_PEAK: Final = 0.5


@dataclass(frozen=True)
class Voice:
    """What tells one synthetic speaker from another."""

    f0_hz: float = 115.0
    """Mean fundamental frequency: 60 to 400."""
    formant_scale: float = 1.0
    """All formants over those of an adult man (shorter vocal tract, larger scale): 0.8 to 1.4; women about 1.16."""
    breathiness: float = 0.15
    """0 pressed to 1 breathy: open quotient, spectral tilt and noise in the voice."""
    speaking_rate: float = 1.0
    """Phones per time over the reference's: 0.5 to 1.6."""
    melody: float = 1.0
    """How far the fundamental frequency moves about its mean, as a factor: 0 (monotonous) to 2.5."""

    def __post_init__(self) -> None:
        """Refuse values no vocal tract has."""
        limits = {
            "f0_hz": (60, 400),
            "formant_scale": (0.8, 1.4),
            "breathiness": (0, 1),
            "speaking_rate": (0.5, 1.6),
            "melody": (0, 2.5),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"Voice.{name}={getattr(self, name)!r} is out of range", f"Choose {low} to {high}")


@dataclass(frozen=True)
class Utterance:
    """Speech with its truth."""

    samples: Float32
    """(N,) mono, peak 0.5 of full scale."""
    rate: int
    phones: tuple[Interval, ...]
    """ARPAbet phones without stress; silence is no interval. Microseconds from the first sample."""
    words: tuple[Interval, ...]
    """One per word of the text in its spelling; each spans its phones exactly."""


@dataclass(frozen=True)
class _Unit:
    """One phone (or a pause, "SIL") of the plan; times in steps of 2.5 ms."""

    phone: str
    start: int
    steps: int
    word: int
    """Index of its word, -1 in a pause."""
    accented: bool
    final: bool
    """In the last word of a phrase."""

    @property
    def stop(self) -> int:
        return self.start + self.steps


@dataclass(frozen=True)
class _Tracks:
    """Control parameters, one row per step."""

    formants_hz: Float64
    bandwidths_hz: Float64
    f0_hz: Float64
    voicing: Float64
    """Amplitude of the pulses into the cascade."""
    murmur: Float64
    """Amplitude of the pulses through closed lips: low frequencies only."""
    aspiration: Float64
    nasality: Float64
    zero_hz: Float64


def synthesize(text: str, voice: Voice, seed: int, rate: int = 16_000) -> Utterance:
    """Speak an English text.

    Words are looked up in the CMU dictionary (first pronunciation); punctuation makes pauses. The seed varies
    durations, melody and noise: the same text, voice, seed and rate give the same samples. Nothing is above 8 kHz.

    Raises TalksetError(bad_transcript) as `annotate.text.tokenize` does, and UsageError for a rate below 8000.
    """
    if rate < 8000:
        raise UsageError(f"rate={rate} cannot carry speech", "Choose 8000 or more samples per second")
    rng = np.random.default_rng(seed)
    tokens, units = _plan(text, voice, rng)
    tracks = _tracks(units, voice, rng)
    samples = _render(units, tracks, voice, rng)
    samples *= _PEAK / np.abs(samples).max()
    if rate != _RATE:
        ratio = Fraction(rate, _RATE)
        samples = signal.resample_poly(samples, ratio.numerator, ratio.denominator)
    phones = [_interval(unit.phone, unit.start, unit.stop) for unit in units if unit.word >= 0]
    words = []
    for index, token in enumerate(tokens):
        own = [unit for unit in units if unit.word == index]
        words.append(_interval(token.label, own[0].start, own[-1].stop))
    return Utterance(samples.astype(np.float32), rate, tuple(phones), tuple(words))


def _interval(label: str, start: int, stop: int) -> Interval:
    return Interval(start * _STEP_US, stop * _STEP_US, label, 1.0, interpolated=False, source="truth")


# --- the plan: which phone when


def _plan(text: str, voice: Voice, rng: np.random.Generator) -> tuple[list[Token], list[_Unit]]:
    """Words of the text and the timed phones and pauses."""
    tokenize(text)  # all of the text at once, so that the error names every bad word
    pieces = [piece for piece in re.split(r"(?<=[.,;:!?])\s+", text) if any(sign.isalnum() for sign in piece)]
    tokens: list[Token] = []
    units: list[_Unit] = []
    clock = 0

    def add(phone: str, milliseconds: float, word: int, accented: bool, final: bool) -> None:
        nonlocal clock
        steps = max(1, round(milliseconds * _STEPS_PER_MS))
        units.append(_Unit(phone, clock, steps, word, accented, final))
        clock += steps

    add("SIL", _EDGE_MS, -1, accented=False, final=False)
    for number, piece in enumerate(pieces):
        if number:
            pause = 200.0 if pieces[number - 1].rstrip()[-1] in ",;:" else 380.0
            add("SIL", pause * rng.uniform(0.85, 1.15) / voice.speaking_rate, -1, accented=False, final=False)
        phrase = tokenize(piece)
        for place, token in enumerate(phrase):
            phones = [phone for word in token.words for phone in dictionary()[word]]
            stressed = _stressed(phones) if token.words[0] not in FUNCTION_WORDS else -1
            final = place == len(phrase) - 1
            for index, phone in enumerate(phones):
                accent = index == stressed
                milliseconds = _duration_ms(phones, index, accent, final) * math.exp(rng.normal(0.0, 0.08))
                milliseconds = max(_MIN_PHONE_MS, milliseconds / voice.speaking_rate)
                add(phone, milliseconds, len(tokens), accent, final)
            tokens.append(token)
    add("SIL", _EDGE_MS, -1, accented=False, final=False)
    return tokens, units


def _stressed(phones: list[str]) -> int:
    """Index of the vowel that bears the accent: the first full one (the dictionary marks no stress)."""
    vowels = [index for index, phone in enumerate(phones) if phone in VOWELS]
    full = [index for index in vowels if phones[index] not in ("AH", "IH", "ER")]
    return (full or vowels or [-1])[0]


def _duration_ms(phones: list[str], index: int, accented: bool, final: bool) -> float:
    """Rules after Klatt (1976): accent, the last syllable before a pause, a voiceless consonant after a vowel."""
    duration = DURATIONS_MS[phones[index]]
    if phones[index] in VOWELS:
        duration *= 1.2 if accented else 0.9
        follower = OBSTRUENTS.get(phones[index + 1]) if index + 1 < len(phones) else None
        if follower is not None and not follower.voiced:
            duration *= 0.85
    last_vowel = max((place for place, phone in enumerate(phones) if phone in VOWELS), default=0)
    return duration * 1.35 if final and index >= last_vowel else duration


# --- the tracks: what the vocal tract does


def _tracks(units: list[_Unit], voice: Voice, rng: np.random.Generator) -> _Tracks:
    count = units[-1].stop
    voicing, murmur, aspiration, nasality = (np.zeros(count) for _ in range(4))
    zero_hz = np.full(count, 1000.0)
    for index, unit in enumerate(units):
        span = slice(unit.start, unit.stop)
        if unit.phone in VOWELS:
            voicing[span] = 1.0 if unit.accented else 0.8
        elif unit.phone in SONORANTS:
            sonorant = SONORANTS[unit.phone]
            voicing[span] = _gain(sonorant.level_db)
            if sonorant.zero_hz:
                nasality[span] = 1.0
                zero_hz[span] = sonorant.zero_hz * voice.formant_scale
        elif unit.phone == "HH":
            aspiration[span] = 0.35
        elif unit.phone in OBSTRUENTS:
            obstruent = OBSTRUENTS[unit.phone]
            if not obstruent.closure:
                voicing[span] = _gain(obstruent.voicing_db) if obstruent.voiced else 0.0
                continue
            release = _release(units, index)
            if obstruent.voiced:
                murmur[unit.start : release] = 0.35
            elif not obstruent.frication:
                aspiration[release : unit.stop] = 0.3
    phrase_end = np.zeros(count)
    for unit in units:
        if unit.final:  # the voice fades towards a pause
            phrase_end[unit.start : unit.stop] = 1.0
    voicing *= 1.0 - 0.25 * _smooth(phrase_end, 100.0)
    open_glottis = np.clip(_smooth((aspiration > 0).astype(np.float64), 15.0), 0.0, 1.0)
    formants = _formant_tracks(units, voice)
    bandwidths = np.tile(np.array(_BANDWIDTHS_HZ[: formants.shape[1]]), (count, 1))
    bandwidths[:, 0] += 200.0 * open_glottis + 60.0 * nasality + 60.0 * voice.breathiness
    bandwidths[:, 1] += 80.0 * open_glottis + 60.0 * nasality
    return _Tracks(
        formants_hz=formants,
        bandwidths_hz=bandwidths,
        f0_hz=_melody(units, voice, rng),
        voicing=voicing,
        murmur=murmur,
        aspiration=aspiration,
        nasality=_smooth(nasality, 15.0),
        zero_hz=_smooth(zero_hz, 15.0),
    )


def _release(units: list[_Unit], index: int) -> int:
    """Step at which a stop or affricate is released: its end less the voice onset time."""
    unit = units[index]
    obstruent = OBSTRUENTS[unit.phone]
    before_vowel = units[index + 1].phone in VOWELS or units[index + 1].phone in SONORANTS
    after_s = units[index - 1].phone == "S" and units[index - 1].word == unit.word
    if obstruent.frication:
        onset_ms = 70.0 if not obstruent.voiced else 50.0
    elif obstruent.voiced:
        onset_ms = 12.5
    else:
        onset_ms = 45.0 if before_vowel and not after_s else 22.5
    return unit.stop - max(2, min(round(onset_ms * _STEPS_PER_MS), round(unit.steps * 0.55)))


def _formant_tracks(units: list[_Unit], voice: Voice) -> Float64:
    """(steps, 6 to 8) Hz: targets joined by straight transitions, then smoothed."""
    times: list[float] = []
    knots: list[Formants] = []
    for index, unit in enumerate(units):
        start, stop, steps = unit.start, unit.stop, unit.steps
        if unit.phone in VOWELS:
            vowel = VOWELS[unit.phone]
            lag = min(0.3 * steps, 45.0 * _STEPS_PER_MS)
            times += [start + lag, stop - lag]
            knots += [vowel.onset, vowel.glide]
        elif unit.phone in SONORANTS:
            sonorant = SONORANTS[unit.phone]
            # nasals hold their place to the edge; liquids and glides move all the time
            lag = 0.05 * steps if sonorant.zero_hz else 0.35 * steps
            times += [start + lag, stop - lag]
            knots += [sonorant.formants] * 2
        elif unit.phone in OBSTRUENTS:
            times += [float(start), float(stop)]
            knots += [_locus(units, index, -1), _locus(units, index, +1)]
    # a shorter vocal tract has fewer resonances below the Nyquist frequency
    higher = [hz for hz in _HIGHER_HZ if hz * voice.formant_scale < 0.49 * _RATE]
    track = np.empty((units[-1].stop, 3 + len(higher)))
    table = np.array(knots)
    grid = np.arange(len(track)) + 0.5
    for formant in range(3):
        track[:, formant] = _smooth(np.interp(grid, times, table[:, formant]), 20.0)
    track[:, 3:] = higher
    # R and ER pull the third formant close to the second; keep them apart
    track[:, 2] = np.maximum(track[:, 2], track[:, 1] + 200.0)
    return track * voice.formant_scale


def _locus(units: list[_Unit], index: int, direction: int) -> Formants:
    """Formants of an obstruent at its left (-1) or right (+1) edge, pulled towards the next sonorant on that side."""
    obstruent = OBSTRUENTS[units[index].phone]
    neighbour = _neighbour(units, index, direction)
    if neighbour is None:
        return obstruent.locus
    first, second, third = obstruent.locus
    return (
        first,
        second + obstruent.pull * (neighbour[1] - second),
        third + 0.5 * obstruent.pull * (neighbour[2] - third),
    )


def _neighbour(units: list[_Unit], index: int, direction: int) -> Formants | None:
    """The nearest vowel's or sonorant's edge target on one side, None across a pause."""
    place = index + direction
    while units[place].phone != "SIL":
        phone = units[place].phone
        if phone in VOWELS:
            return VOWELS[phone].onset if direction > 0 else VOWELS[phone].glide
        if phone in SONORANTS:
            return SONORANTS[phone].formants
        place += direction
    return None


def _melody(units: list[_Unit], voice: Voice, rng: np.random.Generator) -> Float64:
    """(steps,) Hz: a falling line per phrase, a rise on each accent, a last fall, slow random wander."""
    count = units[-1].stop
    octaves = np.zeros(count)
    pauses = [unit for unit in units if unit.phone == "SIL"]
    for left, right in itertools.pairwise(pauses):
        octaves[left.stop : right.start] = np.linspace(0.18, -0.15, right.start - left.stop)
    width = 110.0 * _STEPS_PER_MS
    grid = np.arange(count)
    for unit in units:
        if unit.accented:
            height = rng.uniform(0.15, 0.3)
            centre = unit.start + 0.4 * unit.steps
            octaves += height * np.exp(-0.5 * ((grid - centre) / (0.5 * width)) ** 2)
    for pause in pauses[1:]:
        octaves -= 0.2 * np.exp(-0.5 * ((grid - pause.start) / (0.6 * width)) ** 2)
    wander = _smooth(rng.normal(0.0, 1.0, count), 60.0)
    return np.asarray(voice.f0_hz * 2.0 ** (voice.melody * _smooth(octaves, 30.0) + 0.06 * wander))


# --- the sound


def _render(units: list[_Unit], tracks: _Tracks, voice: Voice, rng: np.random.Generator) -> Float64:
    pulses = _pulses(tracks.f0_hz, voice)
    pulses /= np.sqrt(np.mean(pulses**2))
    hiss = rng.normal(0.0, 1.0, len(pulses))
    # breath is strongest while the glottis is open
    breath = hiss * (0.5 + 0.5 * np.clip(np.abs(pulses), 0.0, 1.0)) * (0.02 + 0.15 * voice.breathiness)
    source = _upsample(tracks.voicing) * (pulses + breath) + _upsample(tracks.aspiration) * hiss
    speech = _cascade(source, tracks)
    loud = np.repeat(tracks.voicing, _STEP) >= 0.6
    level = float(np.sqrt(np.mean(speech[loud] ** 2))) if loud.any() else float(np.sqrt(np.mean(speech**2)))
    low_pass = signal.butter(2, 350.0, fs=_RATE, output="sos")
    closed = signal.sosfilt(low_pass, _upsample(tracks.murmur) * pulses)
    speech += level * 0.6 * closed
    for index, unit in enumerate(units):
        if unit.phone in OBSTRUENTS:
            _add_noise(speech, units, index, voice, level, rng)
    return np.asarray(speech + level * _gain(_ROOM_DB) * rng.normal(0.0, 1.0, len(speech)))


def _pulses(f0_hz: Float64, voice: Voice) -> Float64:
    """Derivative of the glottal flow (KLGLOTT88: Klatt & Klatt 1990), tilted by breathiness."""
    rate = _RATE * _OVERSAMPLE
    f0 = np.interp(
        np.arange(len(f0_hz) * _STEP * _OVERSAMPLE) / (_STEP * _OVERSAMPLE), np.arange(len(f0_hz)) + 0.5, f0_hz
    )
    phase = np.cumsum(f0 / rate) % 1.0
    quotient = 0.5 + 0.3 * voice.breathiness
    opening = phase / quotient
    flow = np.where(opening < 1.0, 2.0 * opening - 3.0 * opening**2, 0.0)
    decay = math.exp(-2.0 * math.pi * (5000.0 - 3500.0 * voice.breathiness) / rate)
    tilted = signal.lfilter([1.0 - decay], [1.0, -decay], flow)
    return np.asarray(signal.resample_poly(tilted, 1, _OVERSAMPLE))


def _cascade(source: Float64, tracks: _Tracks) -> Float64:
    """Formants and nasal branch in series, varying in time.

    Each short window of the source is filtered by the vocal tract of its own moment, and the windows, which sum to one,
    are added up: a change of the filter cross-fades and never clicks, as a recursion with changing coefficients does.
    """
    window = np.asarray(signal.windows.hann(2 * _HOP + 1)[:-1])
    count = len(source) // _HOP + 1
    padded = np.pad(source, (_HOP, 2 * _HOP))
    out = np.zeros(count * _HOP + _FFT)
    for first in range(0, count, _BLOCK):
        starts = np.arange(first, min(first + _BLOCK, count)) * _HOP
        frames = padded[starts[:, np.newaxis] + np.arange(2 * _HOP)] * window
        response = _response(tracks, np.minimum(starts // _STEP, len(tracks.nasality) - 1))
        filtered = np.fft.irfft(np.fft.rfft(frames, _FFT, axis=1) * response, _FFT, axis=1)
        for part in range(0, _FFT, _HOP):  # the same slice of all windows lies side by side: no loop over windows
            begin = starts[0] + part
            out[begin : begin + len(starts) * _HOP] += filtered[:, part : part + _HOP].ravel()
    return out[_HOP : _HOP + len(source)]


def _response(tracks: _Tracks, moments: NDArray[np.int64]) -> NDArray[np.complex128]:
    """(moments, bins) transfer function of the vocal tract, gain 1 at 0 Hz."""
    delays = np.exp(-2j * np.pi * np.outer(np.arange(3), np.arange(_FFT // 2 + 1)) / _FFT)
    nasality, zero_hz = tracks.nasality[moments], tracks.zero_hz[moments]
    response = np.ones((len(moments), _FFT // 2 + 1), dtype=np.complex128)
    for formant in range(tracks.formants_hz.shape[1]):
        pole = _resonance(tracks.formants_hz[moments, formant], tracks.bandwidths_hz[moments, formant])
        response *= pole @ delays
    # pole and zero coincide, and so cancel, unless the phone is nasal
    fixed, narrow = np.full(len(moments), 270.0), np.full(len(moments), 100.0)
    response *= (_resonance(fixed, narrow) @ delays) * (_resonance(zero_hz, 100.0 + 500.0 * nasality) @ delays)
    zeros = (_resonance(fixed + 180.0 * nasality, narrow) @ delays) * (_resonance(zero_hz, narrow) @ delays)
    return np.asarray(zeros / response)


def _resonance(frequency_hz: Float64, bandwidth_hz: Float64) -> Float64:
    """(moments, 3) coefficients of 1, 1/z, 1/z^2 with a pole or zero pair there, sum 1."""
    radius = np.exp(-np.pi * bandwidth_hz / _RATE)
    cosine = np.cos(2.0 * np.pi * frequency_hz / _RATE)
    quadratic = np.stack([np.ones_like(radius), -2.0 * radius * cosine, radius**2], axis=1)
    return np.asarray(quadratic / quadratic.sum(axis=1, keepdims=True))


def _add_noise(
    speech: Float64, units: list[_Unit], index: int, voice: Voice, level: float, rng: np.random.Generator
) -> None:
    """Add the frication of a fricative, or the burst (and frication) of a stop, in place."""
    unit = units[index]
    obstruent = OBSTRUENTS[unit.phone]
    amplitude = level * _gain(obstruent.noise_db)
    if not obstruent.closure:
        _add_shaped(speech, unit.start, unit.stop, 12.5, obstruent.noise, voice.formant_scale, amplitude, rng)
        return
    release = _release(units, index)
    if obstruent.frication:
        _add_shaped(speech, release, unit.stop, 5.0, obstruent.frication, voice.formant_scale, amplitude, rng)
        return
    shape = obstruent.noise
    if not shape:  # a velar burst is a narrow peak between the second and third formant of the vowel
        _, second, third = _locus(units, index, +1)
        centre = round(0.5 * (second + third), -1)
        shape = ((0, -30), (0.6 * centre, -20), (0.85 * centre, -4), (centre, 0), (1.2 * centre, -6), (5000, -18))
        shape = (*shape, (8000, -25))
    burst = min(unit.stop, release + round(12.5 * _STEPS_PER_MS))
    _add_shaped(speech, release, burst, 2.5, shape, voice.formant_scale, amplitude, rng)


def _add_shaped(
    speech: Float64,
    start: int,
    stop: int,
    ramp_ms: float,
    shape: Shape,
    scale: float,
    amplitude: float,
    rng: np.random.Generator,
) -> None:
    """Add noise of unit level * amplitude and of the given spectrum over steps [start, stop), in place."""
    taps = _noise_filter(shape, scale)
    length = (stop - start) * _STEP
    noise = signal.fftconvolve(rng.normal(0.0, 1.0, length + len(taps) - 1), taps, mode="valid")
    ramp = max(1, min(round(ramp_ms * _RATE / 1000), length // 2))
    envelope = np.ones(length)
    envelope[:ramp] = np.sin(0.5 * np.pi * (np.arange(ramp) + 0.5) / ramp)
    envelope[-ramp:] = envelope[:ramp][::-1]
    speech[start * _STEP : stop * _STEP] += amplitude * envelope * noise


@functools.lru_cache(maxsize=256)
def _noise_filter(shape: Shape, scale: float) -> Float64:
    """Linear-phase filter that gives white noise this spectrum and keeps its level at 1."""
    nyquist = _RATE / 2
    grid = np.linspace(0.0, nyquist, 65)
    corners, levels = zip(*shape, strict=True)
    decibels = np.interp(grid, np.array(corners) * scale, levels)
    taps = np.asarray(signal.firwin2(127, grid, 10.0 ** (decibels / 20.0), fs=_RATE))
    return np.asarray(taps / np.sqrt(np.sum(taps**2)))


def _upsample(track: Float64) -> Float64:
    """One value per sample, with edges of about 8 ms centred on the steps' boundaries."""
    window = signal.windows.hann(129)
    return np.asarray(signal.fftconvolve(np.repeat(track, _STEP), window / window.sum(), mode="same"))


def _smooth(track: Float64, milliseconds: float) -> Float64:
    """Moving average of a track over a Hann window of that full width at half maximum; the ends are held."""
    half = max(1, round(milliseconds * _STEPS_PER_MS))
    window = signal.windows.hann(2 * half + 1)
    padded = np.pad(track, half, mode="edge")
    return np.asarray(np.convolve(padded, window / window.sum(), mode="valid"))


def _gain(decibels: float) -> float:
    return float(10.0 ** (decibels / 20.0))
