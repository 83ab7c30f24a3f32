"""A program as its user writes it, for the type checker alone: ``mypy --strict`` must find nothing here."""

import wattline

with wattline.measure("a", devices=[0]) as m:
    pass
joules: float | None = wattline.measure.merge([m.result]).joules
wattline.measure.prepare()


@wattline.measure("named")
def named(a: int) -> int:
    """Decorated with a name."""
    return a


@wattline.measure
def bare(a: int) -> int:
    """Decorated bare."""
    return a


total: int = named(3) + bare(2)
wattline.begin("x")
wattline.end()
