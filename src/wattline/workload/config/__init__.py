"""Hugging Face config.json (and Mistral's params.json) -> Model."""

from __future__ import annotations

from .facts import ALIASES
from .read import read

__all__ = ["ALIASES", "read"]
