"""SI inside, units at the edges: ``parse("250 W", "W")`` in, ``show(250, "W")`` out.

Inside Wattline every quantity is a float in SI base units (seconds, joules, watts, hertz, bytes,
FLOP). Text with a unit is read once, where a person or a file is met, and written once on the way
out. A bare number is refused wherever a unit is due: it is the commonest silent error in this field.
"""

from __future__ import annotations

import math
import re
from typing import Final

from .errors import UnitError, nearest

# Decimal prefixes (SI brochure, 9th edition, table 7) and binary ones (IEC 80000-13).
_PREFIX: Final = {
    "": 1.0, "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3,
    "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21, "Y": 1e24,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip

# unit -> (dimension, factor to the SI unit of that dimension, may take a prefix)
_ATOM: Final[dict[str, tuple[str, float, bool]]] = {
    "s": ("s", 1.0, True),
    "min": ("s", 60.0, False),
    "h": ("s", 3600.0, False),
    "d": ("s", 86400.0, False),
    "day": ("s", 86400.0, False),
    "days": ("s", 86400.0, False),
    "week": ("s", 604800.0, False),
    "y": ("s", 31557600.0, False),  # Julian year, 365.25 d
    "J": ("J", 1.0, True),
    "Wh": ("J", 3600.0, True),
    "W": ("W", 1.0, True),
    "Hz": ("Hz", 1.0, True),
    "B": ("B", 1.0, True),
    "bit": ("B", 0.125, True),
    "b": ("B", 0.125, True),
    "FLOP": ("FLOP", 1.0, True),
    "FLOPs": ("FLOP", 1.0, True),
    "OP": ("FLOP", 1.0, True),
    "MAC": ("FLOP", 2.0, True),  # one multiply-accumulate is two operations
    "V": ("V", 1.0, True),
    "g": ("g", 1.0, True),
    "t": ("g", 1e6, True),  # metric tonne
    "lb": ("g", 453.59237, False),  # international avoirdupois pound
    "USD": ("USD", 1.0, True),
    "EUR": ("EUR", 1.0, True),
    "L": ("L", 1.0, True),
    "m3": ("L", 1000.0, False),
    "K": ("K", 1.0, False),
    "m2": ("m2", 1.0, False),
    "mm2": ("m2", 1e-6, False),
    "token": ("token", 1.0, True),
    "tokens": ("token", 1.0, True),
    "tok": ("token", 1.0, True),
    "request": ("request", 1.0, True),
    "requests": ("request", 1.0, True),
    "req": ("request", 1.0, True),
    "reqs": ("request", 1.0, True),
    "sec": ("s", 1.0, False),
    "secs": ("s", 1.0, False),
    "second": ("s", 1.0, False),
    "seconds": ("s", 1.0, False),
    "minute": ("s", 60.0, False),
    "minutes": ("s", 60.0, False),
    "hr": ("s", 3600.0, False),
    "hour": ("s", 3600.0, False),
    "hours": ("s", 3600.0, False),
    "gCO2": ("g", 1.0, True),
    "gCO2e": ("g", 1.0, True),
    "gCO2eq": ("g", 1.0, True),
    "g_CO2e": ("g", 1.0, True),
    "tCO2e": ("g", 1e6, True),
    "tCO2": ("g", 1e6, True),
    "%": ("", 0.01, False),
    "": ("", 1.0, True),
}

# Rates as the field writes them, in any case.
_RATES: Final = {
    "rps": "request/s", "qps": "request/s", "rpm": "request/min", "qpm": "request/min", "tps": "token/s",
    "reqs/sec": "request/s", "req/sec": "request/s",
}  # fmt: skip

# What a compound dimension is called inside, so that J/s and W meet.
_SAME: Final = {"J/s": "W", "/s": "Hz"}

# A number, then its unit. Commas and underscores only between groups of three digits, so that a
# decimal comma ("1,5 W") is refused and not read as fifteen.
_TEXT: Final = re.compile(
    r"""^\s*([+-]?
        (?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]{1,3}(?:_[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)
        (?:[eE][+-]?[0-9]+)?)\s*(.*?)\s*$""",
    re.VERBOSE,
)


def _atom(text: str) -> tuple[str, float]:
    """Split one unit like ``GiB`` or ``kWh`` into its dimension and factor."""
    if text in _ATOM:
        dimension, factor, _ = _ATOM[text]
        return dimension, factor
    for cut in (2, 1):
        prefix, unit = text[:cut], text[cut:]
        if prefix in _PREFIX and unit in _ATOM and _ATOM[unit][2]:
            dimension, factor, _ = _ATOM[unit]
            return dimension, factor * _PREFIX[prefix]
    raise UnitError(f"unit {text!r} is not known; {nearest(text, [u for u in _ATOM if u])}")


def _unit(text: str) -> tuple[str, float]:
    """Return (dimension, factor to SI) of a unit with at most one division, like ``pJ/bit``."""
    text = _RATES.get(text.lower(), text)
    text = text.replace("FLOPS", "FLOP/s").replace("Flop", "FLOP").replace("bps", "bit/s")
    if text.count("/") > 1:
        raise UnitError(f"unit {text!r} has more than one '/'; write it as A/B")
    if "/" not in text:
        return _atom(text)
    over, under = (part.strip() for part in text.split("/"))
    top, up = _atom("" if over == "1" else over)
    bottom, down = _atom(under)
    if not under:
        raise UnitError(f"unit {text!r} ends in '/'; write it as A/B")
    if top == bottom:
        return "", up / down
    name = f"{top}/{bottom}" if bottom else top
    return _SAME.get(name, name), up / down


def parse(text: object, unit: str, *, key: str = "") -> float:
    """Read a quantity and return it in SI.

    Parameters
    ----------
    text : a string with a unit ("250 W", "1.2 GWh", "30 d", "989 TFLOP/s", "2 pJ/bit"), or a bare
        number where `unit` is "" (a pure count or fraction; "2 %" and "15T" are read too).
    unit : the SI unit expected ("W", "J", "s", "B/s", "J/B", ...); "" for a pure number.
    key : what the quantity is called, for the message.

    Raises
    ------
    UnitError : no unit, an unknown one, or one of another dimension; NaN and infinities too.

    >>> parse("1.2 GWh", "J") / 3.6e12
    1.2
    """
    where = f"{key}: " if key else ""
    want = _unit(unit)[0]
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise UnitError(f"{where}expected a quantity in {unit or 'plain numbers'}, got {text!r}")
    if not isinstance(text, str):
        if want and want not in ("token", "request"):
            raise UnitError(f'{where}{text!r} has no unit; write it with one, e.g. "{text} {_usual(unit, key)}"')
        return _finite(_float(text, where), where)
    match = _TEXT.match(text)
    if not match:
        raise UnitError(f"{where}{text!r} is not a number{_example(unit)}")
    if match[2].startswith(","):
        raise UnitError(f"{where}{text!r} has a comma that does not part thousands; write a decimal point")
    number = float(match[1].replace(",", "").replace("_", ""))
    if not match[2] and want and want not in ("token", "request"):
        raise UnitError(f'{where}{text!r} has no unit; write it with one, e.g. "{text} {_usual(unit, key)}"')
    try:
        # A count takes a bare prefix: "15T" tokens, "2 M" requests; and B, as the field says it, is 1e9.
        if want in ("token", "request") and match[2] in (*_PREFIX, "B"):
            return _finite(number * (1e9 if match[2] == "B" else _PREFIX[match[2]]), "")
        if want == "" and match[2] in _PREFIX:
            return _finite(number * _PREFIX[match[2]], "")
        got, factor = _unit(match[2])
    except UnitError as error:
        raise UnitError(f"{where}{error}") from None
    if got != want:
        got_unit = match[2] or "no unit"
        raise UnitError(f"{where}{text!r} is in {got_unit}, expected {unit or 'a plain number'}{_example(unit)}")
    return _finite(number * factor, where)


# How quantities are written in the field, for messages.
_WRITTEN: Final = {
    "": "1.5", "W": "250 W", "J": "1.2 GWh", "s": "50 ms", "B": "80 GB", "B/s": "3.35 TB/s", "J/B": "5 pJ/bit",
    "Hz": "1.4 GHz", "FLOP/s": "989 TFLOP/s", "J/FLOP": "0.5 pJ/FLOP", "USD/J": "80 USD/MWh", "g/J": "400 g/kWh",
    "token": "15T", "request/s": "4 req/s",
}  # fmt: skip


def _usual(unit: str, key: str) -> str:
    """Return the unit a bare number was most likely meant in: latencies are told in milliseconds."""
    return "ms" if unit == "s" and key.rpartition(".")[2] in ("tpot", "ttft", "itl") else unit


def _example(unit: str) -> str:
    return f', e.g. "{_WRITTEN.get(unit, f"10 {unit}")}"'


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise UnitError(f"{where}{value} is not a finite number")
    return value


def _float(number: float, where: str) -> float:
    try:
        return float(number)
    except OverflowError:
        raise UnitError(f"{where}a whole number of {len(str(number))} digits is out of range") from None


# Units that take no prefix in writing, and what they are written in instead.
_SHOWN: Final = {
    "K": ("K", 1.0),
    "m2": ("mm2", 1e-6),
    "g/J": ("g/kWh", 1 / 3.6e6),
    "USD/J": ("USD/MWh", 1 / 3.6e9),
    "EUR/J": ("EUR/MWh", 1 / 3.6e9),
}


def show(value: float, unit: str, digits: int = 3) -> str:
    """Write an SI value for a person, with a prefix that keeps 1 to 999 before the point.

    >>> show(4.284e13, "J"), show(2.07e6, "s"), show(0.0302, "")
    ('11.9 GWh', '24 d', '0.0302')
    """
    if not math.isfinite(value):
        return f"{value} {unit}".strip()
    if unit == "s":
        return _show_time(value, digits)
    if unit == "J" and abs(value) >= 3.6e6:
        value, unit = value / 3600.0, "Wh"
    if unit in ("USD", "EUR") and abs(value) >= 1e6:  # dollars and cents of millions are noise
        value = float(f"{value:.{digits - 1}e}")
    if unit in ("", "%", "USD", "EUR"):
        return f"{_round(value, digits)} {unit}".strip()
    if unit in _SHOWN:
        unit, factor = _SHOWN[unit]
        return f"{_round(value / factor, digits)} {unit}"
    if unit == "g" and abs(value) >= 1e6:
        value, unit = value / 1e6, "t"
    for prefix in ("E", "P", "T", "G", "M", "k", "", "m", "µ", "n", "p", "f"):
        scale = _PREFIX[prefix]
        if abs(value) >= scale * (1 - 0.5 * 10.0**-digits):
            return f"{_round(value / scale, digits)} {prefix}{unit}"
    return f"{_round(value, digits)} {unit}"


def _show_time(value: float, digits: int) -> str:
    for unit, scale in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if abs(value) >= 2 * scale:
            return f"{_round(value / scale, digits)} {unit}"
    for prefix in ("", "m", "µ", "n", "p"):
        if abs(value) >= _PREFIX[prefix] * (1 - 0.5 * 10.0**-digits):
            return f"{_round(value / _PREFIX[prefix], digits)} {prefix}s"
    return f"{_round(value, digits)} s"


def _round(value: float, digits: int) -> str:
    """Format with `digits` significant digits, thousands separated, without an exponent."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
