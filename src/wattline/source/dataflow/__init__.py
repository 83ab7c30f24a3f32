"""Mapping search: what a product costs on a chip made of levels, fan-outs and arithmetic (see docs/dataflow.md)."""

from .bound import certificates
from .convolution import convolution
from .cross import cross, frontier, settings
from .einsum import Einsum
from .footprint import Footprint, footprint, footprints
from .fuse import chain
from .mapper import search
from .source import Dataflow
from .sparse import with_zeros
from .tiling import Space

__all__ = [
    "Dataflow",
    "Einsum",
    "Footprint",
    "Space",
    "certificates",
    "chain",
    "convolution",
    "cross",
    "footprint",
    "footprints",
    "frontier",
    "search",
    "settings",
    "with_zeros",
]
