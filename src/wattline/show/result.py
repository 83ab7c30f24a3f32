"""One answer type for every question: as plain values, as a table, in a notebook, and as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final, Literal, cast

from ..core.errors import InputError, MissingExtraError

# Where the main table of each kind of answer lies among its JSON keys.
_TABLES: Final = (
    "rows", "frontier", "jobs", "designs", "candidates", "controllers", "runs", "policies", "assignments", "nodes",
)  # fmt: skip
_FRAMES: Final = ("polars", "pandas", "pyarrow")


@dataclass(frozen=True, eq=False)
class Result:
    """What a question was answered with.

    Attributes
    ----------
    kind : "plan", "search", "fleet", "placement", "regions", "design", "simulation", "site simulation", "pipeline" or
        "rows".
    answer : the typed answer behind it (`frontier.answer.Answer`, `site.answer.FleetAnswer`, ...).
    """

    kind: str
    answer: Any
    _values: Callable[[], Mapping[str, Any]] = field(repr=False)
    _page: Callable[[Path], None] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the stable keys of ``--json``; SI units are in the names."""
        return dict(self._values())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The main table: a plan's frontier, a fleet's jobs, a study's designs, a sweep's points."""
        told = self.to_dict()
        for key in _TABLES:
            table = told.get(key)
            if isinstance(table, list) and table and isinstance(table[0], Mapping):
                return [dict(row) for row in table]
        return [{k: v for k, v in told.items() if not isinstance(v, (list, Mapping))}]

    def to_frame(self, backend: str | None = None) -> Any:
        """Return `rows` as a data frame of `backend`: polars, pandas or pyarrow, the first that is installed.

        Nested values stay out; they are in `to_dict`.
        """
        import importlib.util

        for name in (backend,) if backend else _FRAMES:
            if name not in _FRAMES:
                raise InputError(f"backend is one of {', '.join(_FRAMES)}, got {name!r}")
            if importlib.util.find_spec(name) is not None:
                return _frame(self.rows, name)
        raise MissingExtraError(f"to_frame() needs {backend or 'polars, pandas or pyarrow'}; pip install polars")

    def save(self, path: str | Path) -> Path:
        """Write the answer; the ending decides: .html a page that needs nothing else, .json, or .csv of `rows`."""
        path = Path(path)
        if path.suffix == ".html":
            if self._page is None:
                raise InputError(f"an answer of kind {self.kind!r} has no page; save it as .json or .csv")
            self._page(path)
        elif path.suffix == ".json":
            path.write_text(json.dumps(self.to_dict(), indent=2, allow_nan=True) + "\n", "utf-8")
        elif path.suffix == ".csv":
            _csv(self.rows, path)
        else:
            raise InputError(f"a file ends in .html, .json or .csv, got {path.name!r}")
        return path

    def __repr__(self) -> str:
        return f"Result({self.kind}: {self._headline()})"

    def _headline(self) -> str:
        told = self.to_dict()
        saved = told.get("savings", {})
        words = [str(told.get("title") or f"{len(self.rows)} rows")]
        if isinstance(saved, Mapping) and isinstance(saved.get("energy"), (int, float)):
            words.append(f"saves {100 * saved['energy']:.3g} % of the energy")
        return ", ".join(words)

    def _repr_html_(self) -> str:
        shown = getattr(self.answer, "_repr_html_", None)
        if shown is not None:
            return str(shown())
        from ..frontier import display

        rows = self.rows[:20]
        heads = [k for k, v in rows[0].items() if not isinstance(v, (list, Mapping))][:8]
        cells = [[_cell(row.get(k)) for k in heads] for row in rows]
        return f"<p><b>{escape(self._headline())}</b></p>" + display.table(heads, cells)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(k for row in rows for k, v in row.items() if not isinstance(v, (list, Mapping)))
    return {name: [row.get(name) for row in rows] for name in names}


def _frame(rows: list[dict[str, Any]], backend: str) -> Any:
    try:
        import narwhals as nw
    except ImportError:
        raise MissingExtraError("to_frame() needs narwhals; pip install wattline[frames]") from None

    return nw.from_dict(_columns(rows), backend=cast("Literal['polars', 'pandas', 'pyarrow']", backend)).to_native()


def _csv(rows: list[dict[str, Any]], path: Path) -> None:
    import csv

    columns = _columns(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
