"""What people say where they write a number, date, time, sum of money or unit: one or several readings of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

Words = tuple[str, ...]

_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip

_CURRENCIES: Final = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
"""Sign -> one, several, one hundredth, several hundredths."""

_SCALES: Final = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "t": "trillion"}

_UNITS: Final = {
    "kg": "kilogram", "g": "gram", "mg": "milligram", "km": "kilometer", "m": "meter", "cm": "centimeter",
    "mm": "millimeter", "mi": "mile", "lb": "pound", "lbs": "pound", "oz": "ounce", "l": "liter", "ml": "milliliter",
    "s": "second", "sec": "second", "ms": "millisecond", "min": "minute", "h": "hour", "hr": "hour", "hrs": "hour",
    "hz": "hertz", "khz": "kilohertz", "mhz": "megahertz", "ghz": "gigahertz", "kb": "kilobyte", "mb": "megabyte",
    "gb": "gigabyte", "tb": "terabyte", "w": "watt", "kw": "kilowatt", "v": "volt", "px": "pixel",
}  # fmt: skip

ABBREVIATIONS: Final[dict[str, tuple[Words, ...]]] = {
    "dr.": (("doctor",), ("drive",)), "st.": (("saint",), ("street",)), "mt.": (("mount",),), "no.": (("number",),),
    "gen.": (("general",),), "sgt.": (("sergeant",),), "lt.": (("lieutenant",),), "col.": (("colonel",),),
    "capt.": (("captain",),), "gov.": (("governor",),), "sen.": (("senator",),), "rep.": (("representative",),),
    "rev.": (("reverend",),), "hon.": (("honorable",),), "prof.": (("professor",),), "ave.": (("avenue",),),
    "blvd.": (("boulevard",),), "rd.": (("road",),), "approx.": (("approximately",),), "dept.": (("department",),),
    "vs": (("versus",),), "vs.": (("versus",),), "jan.": (("january",),), "feb.": (("february",),),
    "mar.": (("march",),), "apr.": (("april",),), "jun.": (("june",),), "jul.": (("july",),), "aug.": (("august",),),
    "sep.": (("september",),), "sept.": (("september",),), "oct.": (("october",),), "nov.": (("november",),),
    "dec.": (("december",),), "mr": (("mister",),), "mrs": (("missus",),), "dr": (("doctor",), ("drive",)),
    "e.g.": (("for", "example"), ("e", "g")), "i.e.": (("that", "is"), ("i", "e")), "etc": (("etcetera",),),
    "&": (("and",),), "+": (("plus",),), "=": (("equals",),), "@": (("at",),), "%": (("percent",),),
}  # fmt: skip
"""Abbreviation or sign as written, in lower case -> its readings."""


def readings(text: str) -> tuple[Words, ...]:
    """The ways to say a number, date, time, sum of money, percentage or quantity; the most usual first.

    Lower-case words of the dictionary. Empty where the text is none of these, or leaves open what it is.
    """
    lower = text.lower().replace("\N{MINUS SIGN}", "-")
    for pattern, read in _RULES:
        match = pattern.fullmatch(lower)
        if match is not None and (found := tuple(dict.fromkeys(read(match)))):
            return found
    return ()


def money_scale(amount: str, scale: str) -> tuple[tuple[Words, ...], tuple[Words, ...]] | None:
    """Readings of the two words of a sum such as "$2.5 million": the currency is said last. None for anything else."""
    if scale.lower() not in _SCALES.values() or amount[:1] not in _CURRENCIES:
        return None
    if not re.fullmatch(_NUMBER, amount[1:]):
        return None
    return tuple(dict.fromkeys(_number(amount[1:]))), ((scale.lower(), _CURRENCIES[amount[0]][1]),)


def unit(text: str) -> tuple[Words, ...]:
    """Readings of a unit that follows a number as a word of its own (5 km, 30 km/h); empty for anything else."""
    over, _, under = text.lower().partition("/")
    if over not in _UNITS or (under and under not in _UNITS):
        return ()
    name = _UNITS[over] if _UNITS[over].endswith("hertz") else _UNITS[over] + "s"
    tail = ("per", _UNITS[under]) if under else ()
    return ((name, *tail), (_UNITS[over], *tail))


def cardinal(number: int) -> Words:
    """English words of a whole number, American style (no "and"). Raises ValueError below 0 and from 1e12 on."""
    if not 0 <= number < 10**12:
        raise ValueError(f"no cardinal for {number}")
    return _split(_engine().number_to_words(number, andword=""))


def ordinal(number: int) -> Words:
    """English words of a rank. Raises what `cardinal` raises."""
    cardinal(number)
    return _split(_engine().ordinal(_engine().number_to_words(number, andword="")))


@functools.cache
def _engine() -> Any:
    """Inflect's engine, imported without the run-time type checks that take it three seconds to set up."""
    import typeguard

    checked: Any = typeguard.typechecked

    def unchecked(target: Any = None, **_: Any) -> Any:
        return target if target is not None else unchecked

    typeguard.typechecked = unchecked
    try:
        import inflect
    finally:
        typeguard.typechecked = checked
    return inflect.engine()


def _split(text: str) -> Words:
    return tuple(text.replace("-", " ").replace(",", " ").split())


def _digits(text: str, zero: str = "oh") -> Words:
    return tuple(zero if digit == "0" else cardinal(int(digit))[0] for digit in text)


def _number(text: str) -> Iterator[Words]:
    """Whole or decimal, groups of three separated by commas."""
    whole, point, rest = text.replace(",", "").partition(".")
    if point:
        head = cardinal(int(whole)) if whole else ()
        yield (*(head or ("zero",)), "point", *_digits(rest))
        yield (*(head or ("zero",)), "point", *_digits(rest, "zero"))
        yield ("point", *_digits(rest)) if not head else (*head, "point", *_digits(rest))
        return
    value = int(whole)
    bare = text == whole
    leading = bare and len(whole) > 1 and whole[0] == "0"
    if bare and len(whole) == 4 and not leading and 1100 <= value < 2100:
        yield from _year(value)
    if not leading and value < 10**12:
        yield cardinal(value)
        if value >= 100:
            yield _with_and(value)
    if bare and (leading or len(whole) > 3):
        yield _digits(whole)
        yield _digits(whole, "zero")
    if bare and len(whole) == 3 and not leading and value % 100:
        yield (*cardinal(value // 100), *_pair(value % 100))


def _with_and(value: int) -> Words:
    return _split(_engine().number_to_words(value))


def _pair(value: int) -> Words:
    return ("oh", *cardinal(value)) if value < 10 else cardinal(value)


def _year(value: int) -> Iterator[Words]:
    century, rest = divmod(value, 100)
    if century == 20 and rest < 10:
        yield cardinal(value)
        yield ("two", "thousand", "and", *cardinal(rest)) if rest else cardinal(value)
    elif rest == 0:
        yield (*cardinal(century), "hundred")
    else:
        yield (*cardinal(century), *_pair(rest))


def _money(match: re.Match[str]) -> Iterator[Words]:
    sign, amount, scale = match["sign"], match["amount"], match["scale"]
    one, several, cent, cents = _CURRENCIES[sign]
    if scale:
        for words in _number(amount):
            yield (*words, _SCALES.get(scale, scale), several)
        return
    whole, point, rest = amount.replace(",", "").partition(".")
    if point and len(rest) == 2:
        units, hundredths = int(whole or 0), int(rest)
        small = (*cardinal(hundredths), cent if hundredths == 1 else cents)
        large = (*cardinal(units), one if units == 1 else several)
        if not units:
            yield small
        elif not hundredths:
            yield large
        else:
            yield (*large, "and", *small)
            yield (*large, *small)
            yield (*cardinal(units), *_pair(hundredths))
        return
    for words in _number(amount):
        yield (*words, one if words == ("one",) else several)


def _quantity(match: re.Match[str]) -> Iterator[Words]:
    unit = _UNITS[match["unit"]]
    for words in _number(match["amount"]):
        yield (*words, unit if words == ("one",) or unit.endswith("hertz") else unit + "s")
        if match["unit"] in _SCALES:
            yield (*words, _SCALES[match["unit"]])


def _scaled(match: re.Match[str]) -> Iterator[Words]:
    for words in _number(match["amount"]):
        yield (*words, _SCALES[match["scale"]])


def _time(match: re.Match[str]) -> Iterator[Words]:
    hour, minute = int(match["hour"]), int(match["minute"])
    half = match["half"] or ""
    tail = (f"{half[0]}.m.",) if half else ()
    if hour > 24 or minute > 59:
        return
    if minute:
        yield (*cardinal(hour), *_pair(minute), *tail)
    else:
        yield (*cardinal(hour), *(tail or ("o'clock",)))
        yield (*cardinal(hour), *tail)
        yield (*cardinal(hour), "hundred", *tail)


def _date(year: str, month: int, day: int) -> Iterator[Words]:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return
    name = _MONTHS[month - 1]
    years = list(_number(year)) if year else [()]
    for said in years[:2]:
        yield (name, *ordinal(day), *said)
        yield (name, *cardinal(day), *said)
        yield ("the", *ordinal(day), "of", name, *said)


def _slashed(match: re.Match[str]) -> Iterator[Words]:
    first, second, year = int(match["first"]), int(match["second"]), match["year"]
    yield from _date(year, first, second)
    yield from _date(year, second, first)


def _fraction(match: re.Match[str]) -> Iterator[Words]:
    above, below = int(match["above"]), int(match["below"])
    if below == 2:
        yield (("one", "half") if above == 1 else (*cardinal(above), "halves"))
    elif below:
        name = ("quarter",) if below == 4 else ordinal(below)
        yield (*cardinal(above), *name[:-1], name[-1] if above == 1 else name[-1] + "s")
    yield (*cardinal(above), "over", *cardinal(below))
    yield (*cardinal(above), *cardinal(below))


def _decade(match: re.Match[str]) -> Iterator[Words]:
    for words in _number(match["number"]):
        last = words[-1]
        yield (*words[:-1], last[:-1] + "ies" if last.endswith("y") else last + ("es" if last.endswith("x") else "s"))


_NUMBER: Final = r"(?:\d{1,3}(?:,\d{3})+|\d{1,12})(?:\.\d{1,12})?|\.\d{1,12}"
_UNIT: Final = "|".join(sorted(_UNITS, key=len, reverse=True))
_RULES: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Iterator[Words]]], ...]] = (
    (re.compile(_NUMBER), lambda match: _number(match[0])),
    (re.compile(rf"-(?P<amount>{_NUMBER})"), lambda match: (("minus", *words) for words in _number(match["amount"]))),
    (re.compile(r"(?P<number>\d{1,9})(?:st|nd|rd|th)"), lambda match: iter((ordinal(int(match["number"])),))),
    (
        re.compile(
            rf"(?P<sign>[$£€¥₹])(?P<amount>{_NUMBER})\s*(?P<scale>k|m|bn|b|t|thousand|million|billion|trillion)?"
        ),
        _money,
    ),
    (re.compile(rf"(?P<amount>{_NUMBER})(?P<sign>[£€])(?P<scale>)"), _money),
    (re.compile(rf"(?P<amount>{_NUMBER})%"), lambda match: ((*words, "percent") for words in _number(match["amount"]))),
    (re.compile(r"(?P<number>\d{1,3}0)'?s"), _decade),
    (re.compile(rf"(?P<amount>{_NUMBER})(?P<unit>{_UNIT})"), _quantity),
    (re.compile(rf"(?P<amount>{_NUMBER})(?P<scale>k|bn|b)"), _scaled),
    (re.compile(r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?P<half>[ap]\.?m\.?)?"), _time),
    (re.compile(r"(?P<hour>\d{1,2})(?P<minute>)(?P<half>[ap]\.?m\.?)"), lambda match: _hour(match)),
    (
        re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"),
        lambda match: _date(match["year"], int(match["month"]), int(match["day"])),
    ),
    (re.compile(r"(?P<first>\d{1,2})/(?P<second>\d{1,2})/(?P<year>\d{4})"), _slashed),
    (re.compile(r"(?P<above>\d{1,3})/(?P<below>\d{1,3})"), _fraction),
    (re.compile(r"#(?P<amount>\d{1,9})"), lambda match: (("number", *words) for words in _number(match["amount"]))),
)


def _hour(match: re.Match[str]) -> Iterator[Words]:
    yield (*cardinal(int(match["hour"])), f"{match['half'][0]}.m.")
