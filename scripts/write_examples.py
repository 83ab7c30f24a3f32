"""Write what each shipped example answers beside it, and the pictures of some.

    python scripts/write_examples.py            writes examples/*.expected.json and docs/pictures/**/*.svg
    python scripts/write_examples.py NAME ...   writes what these examples answer, and no pictures

The tests hold the examples against these files, so a change of a model's constants shows as a change here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wattline.scenario import (
    design,
    design_file,
    fleet,
    fleet_place,
    scenario,
)
from wattline.scenario import (
    search as serve_search,
)
from wattline.scenario import (
    simulate_site as site_simulation,
)
from wattline.show.cli import design as cli_design
from wattline.show.report.site_page import write_site_charts
from wattline.site.answer import expected as expected_fleet

ROOT = Path(__file__).parent.parent
# Examples whose charts stand in the docs: chart -> file of docs/pictures.
PICTURES = {
    "llama-70b-training": {n: f"{n}.svg" for n in ("frontier", "breakdown", "elasticities", "plan")},
    "curtailment": {"prices": "fleet-prices.svg"},
    **{f"design-{n}": {"joules": f"answers/{n}.svg"} for n in ("memory", "domains", "precision")},
    "design-chip": {n: f"design/{n}.svg" for n in ("designs", "steps", "joules")},
}
KEYS = ("time_s", "energy_j", "average_power_w")


def expected(path: Path) -> dict[str, object]:
    """Return the figures of an example that its file and the tests hold."""
    if fleet.is_fleet(path):
        stated = fleet.load(path)
        if stated.pools:
            told = fleet_place.solve(stated).to_dict()
            return {key: told[key] for key in ("feed_w", "placed", "pools", "ways")}
        told = expected_fleet(fleet.solve(stated))
        return told if not stated.simulate else {**told, "simulated": site_simulation.run(stated).summary()}
    if cli_design.asked(path):
        return design.answer(design_file.load(path)).expected()
    stated = scenario.load(path)
    if scenario.searches(stated):
        return expected_search(stated)
    answer = scenario.solve(stated).to_dict()
    return {
        "goal": answer["goal"],
        "chosen": {key: answer["chosen"][key] for key in KEYS},
        "baseline": {key: answer["baseline"][key] for key in KEYS},
        "savings": answer["savings"],
        "breakdown_j": answer["breakdown_j"],
    }


# What tests leave out of a search: an hour of it over every chip takes them too long.
CUT = {
    "serve.duration": "2 min", "serve.search.chips": "h100-sxm,h200-sxm", "serve.search.tensor": "2,4",
    "serve.search.confirm": 4,
}  # fmt: skip


def expected_search(stated: scenario.Scenario) -> dict[str, object]:
    """Return what a search finds with what `CUT` says, and that."""
    told = serve_search.search(stated.with_(CUT), jobs=1).to_dict()
    keep = ("configuration", "chips", "energy_per_token_j", "ttft_s", "tpot_s", "latency_s")
    return {
        "with": CUT,
        "goal": told["goal"],
        **{name: {key: told[name][key] for key in keep} for name in ("chosen", "baseline")},
        "savings": told["savings"],
        "breakdown_j": told["breakdown_j"],
    }


def main() -> None:
    """Write every example's figures, then the pictures."""
    names = sys.argv[1:]
    for path in sorted((ROOT / "examples").glob("*.toml")):
        if names and path.stem not in names:
            continue
        text = json.dumps(expected(path), indent=1) + "\n"
        path.with_suffix(".expected.json").write_text(text, "utf-8")
    if names:
        return
    pictures = ROOT / "docs" / "pictures"
    for name, to in PICTURES.items():
        command = [sys.executable, "-m", "wattline.show.cli.main", "plan", str(ROOT / "examples" / f"{name}.toml")]
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([*command, "--charts", folder], check=True, stdout=subprocess.DEVNULL)
            for chart, file in to.items():
                (pictures / file).parent.mkdir(exist_ok=True)
                shutil.copy(Path(folder) / f"{chart}.svg", pictures / file)
    played = site_simulation.run(fleet.load(ROOT / "examples" / "site-simulated.toml"))
    write_site_charts(played.runs, pictures / "site")
    for left in (pictures / "site").glob("*.png"):
        left.unlink()


if __name__ == "__main__":
    main()
