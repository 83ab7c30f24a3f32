"""Tests for `wattline.hardware.catalog`."""

from __future__ import annotations

from pathlib import Path

import pytest

from wattline.core.errors import InputError
from wattline.hardware import catalog
from wattline.hardware.chip import balance
from wattline.hardware.facts import KINDS

# Published figures, typed in by hand from the makers' datasheets: bf16 (fp16 for the V100) dense
# FLOP/s, main memory B/s, power limit W, operations per byte at which both bind.
DATASHEET = [
    ("a100-sxm-40gb", "bf16", 312e12, 1.555e12, 400, 200.6),
    ("a100-sxm-80gb", "bf16", 312e12, 2.039e12, 400, 153.0),
    ("h100-sxm", "bf16", 989.4e12, 3.35e12, 700, 295.3),
    ("h100-pcie", "bf16", 756e12, 2.0e12, 350, 378.0),
    ("h200-sxm", "bf16", 989.4e12, 4.8e12, 700, 206.1),
    ("b200-sxm", "bf16", 2250e12, 7.7e12, 1000, 292.2),
    ("gb200", "bf16", 2500e12, 8.0e12, 1200, 312.5),
    ("b300-sxm", "bf16", 2250e12, 7.67e12, 1100, 293.4),
    ("gb300", "bf16", 2500e12, 8.0e12, 1400, 312.5),
    ("rtx-pro-6000", "bf16", 468e12, 1597e9, 600, 293.0),
    ("mi325x", "bf16", 1307.4e12, 6.0e12, 1000, 217.9),
    ("mi355x", "bf16", 2516.6e12, 8.0e12, 1400, 314.6),
    ("l4", "bf16", 121e12, 300e9, 72, 403.3),
    ("l40s", "bf16", 362.05e12, 864e9, 350, 419.0),
    ("a40", "bf16", 149.7e12, 696e9, 300, 215.1),
    ("v100-sxm", "fp16", 125e12, 900e9, 300, 138.9),
    ("mi300x", "bf16", 1307.4e12, 5.3e12, 750, 246.7),
    ("tpu-v5e", "bf16", 197e12, 819e9, 200, 240.5),
    ("rtx-3090", "bf16", 71.2e12, 936e9, 350, 76.1),
    ("rtx-4090", "bf16", 165.2e12, 1008e9, 450, 163.9),
    ("rtx-5090", "bf16", 209.5e12, 1792e9, 575, 116.9),
    ("a10g", "bf16", 70e12, 600e9, 300, 116.7),
    ("t4", "fp16", 65.1e12, 320e9, 70, 203.4),
    ("h20", "bf16", 148e12, 4000e9, 400, 37.0),
    ("gh200", "bf16", 989.4e12, 4000e9, 900, 247.3),
    ("mi250x", "bf16", 383e12, 3276.8e9, 560, 116.9),
    ("tpu-v5p", "bf16", 459e12, 2765e9, 400, 166.0),
    ("tpu-v6e", "bf16", 918e12, 1640e9, 300, 559.8),
    ("tpu-v7", "bf16", 2307e12, 7370e9, 960, 313.0),
    ("trainium1", "bf16", 190e12, 820e9, 300, 231.7),
    ("trainium2", "bf16", 667e12, 2900e9, 500, 230.0),
    ("gaudi2", "bf16", 432e12, 2460e9, 600, 175.6),
    ("gaudi3", "bf16", 1835e12, 3700e9, 900, 495.9),
    ("a100-pcie-80gb", "bf16", 312e12, 1935e9, 300, 161.2),
    ("h100-nvl", "bf16", 835.5e12, 3938e9, 400, 212.2),
]


@pytest.mark.parametrize(("name", "precision", "rate", "bandwidth", "limit", "ratio"), DATASHEET)
def test_a_chip_says_what_its_datasheet_says(
    name: str, precision: str, rate: float, bandwidth: float, limit: float, ratio: float
) -> None:
    """Peak rate, bandwidth and power limit are the maker's, within half a percent."""
    chip = catalog.chip(name)
    assert chip[f"compute.rate.{precision}"] == pytest.approx(rate, rel=1e-9)
    assert chip["memory.hbm.bandwidth"] == pytest.approx(bandwidth, rel=5e-3)
    assert chip["power.limit"] == limit
    assert balance(chip, precision) == pytest.approx(ratio, rel=5e-3)


def test_every_chip_is_checked_against_its_datasheet() -> None:
    """A chip added to the catalog needs a line in the table above."""
    assert {row[0] for row in DATASHEET} == set(catalog.names("chip"))


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("a100", 2048),
        ("h100", 4096),
        ("h100-pcie", 4096),
        ("h200", 4096),
        ("b200", 8192),
        ("gb200", 8192),
        ("b300", 8192),
        ("gb300", 8192),
        ("rtx-pro-6000", 1024),
        ("l4", 1024),
        ("a40", 1024),
        ("v100", 1024),
        ("rtx-3090", 512),
        ("rtx-4090", 512),
        ("rtx-5090", 512),
        ("a10g", 512),
        ("t4", 1024),
        ("gh200", 4096),
        ("h100-nvl", 4096),
        ("mi250x", 1024),
    ],
)
def test_the_peak_rate_is_units_times_clock(name: str, operations: int) -> None:
    """16-bit peak = units x operations per cycle (the makers' whitepapers) x reference clock."""
    chip = catalog.chip(name)
    peak = chip.get("compute.rate.bf16", chip.get("compute.rate.fp16", 0.0))
    assert peak == pytest.approx(chip["compute.units"] * operations * chip["clock.reference"], rel=5e-3)


@pytest.mark.parametrize("name", catalog.names("chip"))
def test_every_chip_has_a_node_to_sit_in(name: str) -> None:
    """A scenario that names a chip alone gets a node of the catalog, large enough for its links."""
    node = catalog.default_node(catalog.chip(name))
    assert node["chips"] >= 1
    assert node.get("host.idle", 0.0) <= node["host.power"]


@pytest.mark.parametrize(
    ("name", "peak"),
    [("hgx-h100", 10.2e3), ("hgx-h200", 10.2e3), ("hgx-b200", 14.3e3), ("hgx-a100", 6.5e3), ("dgx-v100", 3.5e3)],
)
def test_a_node_stays_under_its_rated_power(name: str, peak: float) -> None:
    """Chips at their limit, host, adapters and fans come to 70 % to 100 % of the maker's rated maximum."""
    node = catalog.node(name)
    chip = next(c for c in map(catalog.chip, catalog.names("chip")) if c.tags["node"] == name)
    load = node["chips"] * chip["power.limit"] + node["host.power"] + node["nic.count"] * node["nic.power"]
    assert 0.7 * peak < load * (1 + node["fan.fraction"]) <= peak


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("h100", "h100-sxm"),
        ("H100-SXM5", "h100-sxm"),
        ("a100", "a100-sxm-80gb"),
        ("TPU_v5e", "tpu-v5e"),
        (" L40S ", "l40s"),
        ("nvidia h100", "h100-sxm"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("Tesla T4", "t4"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("p5.48xlarge", "h100-sxm"),
        ("Standard_ND96isr_H100_v5", "h100-sxm"),
        ("a3-ultragpu-8g", "h200-sxm"),
    ],
)
def test_a_chip_is_found_however_it_is_written(word: str, name: str) -> None:
    """Case, spaces, underscores and common aliases do not matter."""
    assert catalog.chip(word).name == name


@pytest.mark.parametrize("kind", KINDS)
def test_an_alias_means_one_sheet(kind: str) -> None:
    """No alias is shared by two sheets, or hides a name."""
    words = list(catalog.names(kind))
    for name in catalog.names(kind):
        tags = {"chip": catalog.chip, "node": catalog.node, "rack": catalog.rack, "site": catalog.site}[kind](name).tags
        words += [word.strip() for word in tags.get("aliases", "").split(",")]
    assert sorted(words) == sorted(set(words))
    assert all(word == word.lower().replace(" ", "-").replace("_", "-") for word in words)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """A misspelt chip names the one that was meant; a strange one lists all."""
    with pytest.raises(InputError, match="'h100sxm' is not in the catalog; did you mean 'h100-sxm"):
        catalog.chip("h100sxm")
    with pytest.raises(InputError, match="known: average, hyperscale"):
        catalog.site("zzz")
    with pytest.raises(InputError, match="did you mean 'node'"):
        catalog.names("nodes")


def test_a_sheet_is_read_once() -> None:
    """Asking again returns the same object."""
    assert catalog.chip("h100") is catalog.chip("h100-sxm")


def test_a_file_of_ones_own_states_only_what_differs(tmp_path: Path) -> None:
    """`base` supplies the rest: facts, title and the node to sit in, but no aliases."""
    path = tmp_path / "h100-low.toml"
    path.write_text('base = "H100"\npower.limit = ["500 W", "our setting"]\n')
    mine = catalog.chip(str(path))
    assert (mine.name, mine["power.limit"]) == ("h100-low", 500.0)
    assert mine["memory.hbm.bandwidth"] == 3.35e12
    assert catalog.default_node(mine).name == "hgx-h100"
    assert "aliases" not in mine.tags
    assert catalog.chip("h100")["power.limit"] == 700.0


def test_a_base_may_be_a_file_beside(tmp_path: Path) -> None:
    """A path in `base` is taken from where the file stands."""
    (tmp_path / "a.toml").write_text('base = "h100"\npower.limit = ["500 W", "our setting"]\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\npower.idle = ["60 W", "our meter"]\n')
    mine = catalog.chip(str(tmp_path / "b.toml"))
    assert (mine["power.limit"], mine["power.idle"]) == (500.0, 60.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('base = "mine.toml"', "leads back to the file itself"),
        ('base = "h1000"', "not in the catalog"),
        ("base = 5", "base must be the name of a chip"),
        ('base = "h100"\npower.limit = "500 W"', "mine.toml: chip mine: power.limit must be"),
        ('base = "h100"\nvoltage.min = ["1.2 V", "x"]', "voltage.min must not exceed voltage.max"),
        ('name = "mine"', "must state clock.min"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    """A loop of bases, an unknown base or a bad fact raises one sentence."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        catalog.chip(str(path))


def test_a_missing_file_is_not_looked_up_as_a_name() -> None:
    """A path that is not there says so."""
    with pytest.raises(InputError, match="cannot be read"):
        catalog.chip("nowhere/h100.toml")


def test_a_chip_without_a_node_asks_for_one(tmp_path: Path) -> None:
    """A chip that names no node raises and says what to state."""
    site = catalog.site("typical")
    with pytest.raises(InputError, match="names no node to sit in; state a node"):
        catalog.default_node(site)


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "Tesla V100-SXM2-16GB", "NVIDIA H200 NVL", "h100-x"]
)
def test_another_board_of_a_known_die_is_not_taken_for_it(name: str) -> None:
    """A name with more in it than memory of the right size is another board, which is refused."""
    with pytest.raises(InputError, match="is not in the catalog"):
        catalog.chip(name)


def test_every_instance_fits_the_node_of_its_chip() -> None:
    """A cloud instance has no more chips than the node its chip sits in."""
    for known in catalog._instances().values():
        assert known.chips <= catalog.default_node(catalog.chip(known.name))["chips"]
