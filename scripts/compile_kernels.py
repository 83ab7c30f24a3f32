"""Compile the numeric kernels once, so that the first plan does not wait for it; they are kept on disk.

python scripts/compile_kernels.py
"""

from __future__ import annotations

from pathlib import Path

from wattline import scenario

EXAMPLE = Path(__file__).parent.parent / "examples" / "llama-70b-training.toml"


def main() -> None:
    """Plan a small pipeline twice: exactly, and unfolded from fewer microbatches."""
    small = scenario.load(EXAMPLE).with_({"train.global_batch": 16, "train.recompute": "full"})
    for microbatches in (16, 160):
        scenario.solve(small.with_({"train.global_batch": microbatches}))


if __name__ == "__main__":
    main()
