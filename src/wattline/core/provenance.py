"""Where a number comes from: measured, fitted to measurements, or modelled from facts alone."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from .errors import InputError


class Provenance(StrEnum):
    """Three kinds, the weakest first; text stands for each in JSON and in calls."""

    MODELLED = "modelled"
    CALIBRATED = "calibrated"
    MEASURED = "measured"

    @staticmethod
    def of(text: str) -> Provenance:
        """Return the kind that `text` names, or refuse it."""
        try:
            return Provenance(text)
        except ValueError:
            raise InputError(f"provenance is one of {', '.join(Provenance)}, got {text!r}") from None

    @staticmethod
    def weakest(kinds: Iterable[str]) -> Provenance:
        """Return the kind that holds for a combination: what one part only models, the whole only models."""
        order = list(Provenance)
        return min((Provenance.of(kind) for kind in kinds), key=order.index, default=Provenance.MODELLED)
