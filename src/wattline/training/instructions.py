"""The names of a pipeline's computations."""

from __future__ import annotations

from typing import Final

FORWARD: Final = "forward"
BACKWARD: Final = "backward"
BACKWARD_INPUT: Final = "backward_input"
BACKWARD_WEIGHT: Final = "backward_weight"

Task = tuple[int, str, int]  # chunk, instruction, microbatch
Row = list[Task]
