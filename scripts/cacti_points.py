"""Run CACTI over a grid of SRAMs and print tests/hardware/cacti.csv: the witnesses of the closed forms.

    python scripts/cacti_points.py FOLDER      FOLDER holds `cacti` and `cache.cfg_temp`, such as
                                               zigzag/cacti/cacti_master of the wheel zigzag-dse 3.9.1 (CACTI 7)

One read-write port, a plain RAM, everything else as in that template (ITRS high-performance devices, 360 K).
Columns: node in nm, bytes, bits of one access, pJ/bit read and written.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

NODES = (22, 45, 65)
CAPACITIES = (2**13, 2**15, 2**17, 2**20, 2**22)
WIDTHS = (64, 512)


def configured(template: str, node: int, capacity: int, width: int) -> str:
    """Return the template with one SRAM's figures in it."""
    for key, value in (
        ("size (bytes)", capacity),
        ("block size (bytes)", width // 8),
        ("output/input bus width", width),
        ("technology (u)", node / 1000),
        ("read-write port", 1),
        ("exclusive read port", 0),
        ("exclusive write port", 0),
    ):
        template = re.sub(rf"(?m)^-{re.escape(key)}.*", f"-{key} {value}", template)
    return template


def energies(folder: Path, node: int, capacity: int, width: int) -> tuple[float, float]:
    """Return pJ/bit of a read and a write."""
    template = (folder / "cache.cfg_temp").read_text("utf-8")
    with tempfile.NamedTemporaryFile("w", suffix=".cfg", dir=folder) as file:
        file.write(configured(template, node, capacity, width))
        file.flush()
        out = subprocess.run(["./cacti", "-infile", file.name], cwd=folder, capture_output=True, text=True).stdout
    found = [re.search(rf"Total dynamic {what} energy per access \(nJ\): (\S+)", out) for what in ("read", "write")]
    if not all(found):
        sys.exit(f"CACTI finds no design of {capacity} B, {width} bit in {node} nm")
    read, write = (1e3 * float(match[1]) / width for match in found if match)
    return read, write


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    print("nanometres,capacity,width,read,write")
    for node in NODES:
        for capacity in CAPACITIES:
            for width in WIDTHS:
                read, write = energies(folder, node, capacity, width)
                print(f"{node},{capacity},{width},{read:.4g},{write:.4g}")


if __name__ == "__main__":
    main()
