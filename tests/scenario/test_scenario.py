"""Tests for `wattline.scenario.scenario`: one file in, one answer out, and clear words for bad input."""

import pickle
from pathlib import Path
from typing import get_args

import pytest

from wattline.core.errors import (
    CapacityError,
    GoalError,
    InputError,
    ScenarioError,
    UnitError,
    WattlineError,
)
from wattline.scenario import keys, schema, whatif
from wattline.scenario import scenario as sc

EXAMPLES = Path(__file__).parents[2] / "examples"

TRAIN = {
    "model": {"name": "llama-3.1-8b"},
    "hardware": {"chip": "h100-sxm", "nodes": 1},
    "train": {"tokens": "1B", "sequence": 2048, "global_batch": 32, "tensor": 2, "pipeline": 4, "recompute": "full"},
}
SERVE = {
    "model": {"name": "llama-3.1-8b"},
    "hardware": {"chip": "h100-sxm", "chips_per_node": 1},
    "serve": {"rate": "4 req/s", "tpot": "50 ms"},
}


def changed(base: dict, **sections: dict) -> dict:
    return {**base, **{name: {**base.get(name, {}), **keys} for name, keys in sections.items()}}


def answer(data: dict, **changes: object):
    return sc.solve(sc.parse(data).with_({k.replace("__", "."): v for k, v in changes.items()}), detail=False)


def test_values_are_si_inside() -> None:
    """Text with units is read once; counts take the suffixes the field uses."""
    s = sc.parse(changed(TRAIN, site={"price": "80 USD/MWh", "pue": 1.2}, goal={"max_slowdown": "2 %"}))
    assert s["train.tokens"] == 1e9
    assert s["site.price"] == pytest.approx(80 / 3.6e9)
    assert s["goal.max_slowdown"] == pytest.approx(0.02)


def test_set_replaces_any_value_at_any_layer() -> None:
    """Software, silicon and site are changed the same way, and the answer moves."""
    base = answer(TRAIN)
    dearer = sc.solve(sc.parse(TRAIN).with_({"chip.memory.hbm.energy": "20 pJ/bit"}), detail=False)
    assert dearer.baseline.breakdown_j["chip.memory.hbm"] > 2 * base.baseline.breakdown_j["chip.memory.hbm"]
    assert sc.solve(sc.parse(TRAIN).with_({"site.pue": "1.5"}), detail=False).chosen.energy_j == pytest.approx(
        1.5 * base.chosen.energy_j, rel=1e-3
    )
    other = sc.solve(sc.parse(TRAIN).with_({"hardware.chip": "h200-sxm"}), detail=False)
    assert "H200" in other.title


def test_a_new_goal_takes_the_place_of_the_old() -> None:
    """A scenario has one goal, also after --set."""
    s = sc.parse(changed(TRAIN, goal={"max_slowdown": "2 %"})).with_({"goal.deadline": "30 d"})
    assert sc.goal_of(s).kind == "deadline"


def test_a_hugging_face_config_will_do_for_a_model(tmp_path: Path) -> None:
    """model.config takes a path beside the scenario file."""
    (tmp_path / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,'
        ' "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": true,'
        ' "torch_dtype": "bfloat16"}'
    )
    (tmp_path / "s.toml").write_text(
        '[model]\nconfig = "config.json"\n[hardware]\nchip = "h100-sxm"\nchips_per_node = 1\n[serve]\ntpot = "50 ms"\n'
    )
    a = sc.solve(sc.load(tmp_path / "s.toml"), detail=False)
    assert a.chosen.time_s <= 0.05


def test_every_default_used_is_an_assumption() -> None:
    """What the user did not say, the answer says."""
    text = " ".join(answer(TRAIN).assumptions)
    assert "train.overlap" in text
    assert "hardware.node = hgx-h100" in text
    assert "train.tokens" not in text


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"train": {"tensr": 2}}, ScenarioError, r"unknown key train.tensr; did you mean 'tensor'\?"),
        ({"tran": {"tensor": 2}}, ScenarioError, r"unknown section \[tran\]; did you mean 'train'\?"),
        ({"site": {"price": "80 USD"}}, UnitError, r"site.price: '80 USD' is in USD, expected USD/J"),
        ({"site": {"price": 80}}, UnitError, r"site.price: 80 has no unit"),
        ({"site": {"pue": float("nan")}}, UnitError, r"site.pue: nan is not a finite number"),
        ({"site": {"pue": 0.9}}, ScenarioError, r"site.pue must be between 1 and 5, got 0.9"),
        (
            {"train": {"tensor": 6}},
            ScenarioError,
            r"train.tensor = 6 does not divide 32 attention heads; try train.tensor = \d",
        ),
        ({"train": {"pipeline": 64, "tensor": 1}}, ScenarioError, r"train.pipeline = 64 needs 64 layers or more"),
        ({"train": {"tensor": 2.5}}, ScenarioError, r"train.tensor must be a whole number, got 2.5"),
        ({"train": {"schedule": "2f2b"}}, ScenarioError, r"train.schedule = '2f2b' is not known"),
        ({"train": {"global_batch": 0}}, ScenarioError, r"train.global_batch must be at least 1"),
        ({"hardware": {"chip": "h1000"}}, InputError, r"chip 'h1000' is not in the catalog; did you mean"),
        ({"model": {"name": "lama-3.1-8b"}}, InputError, r"did you mean 'llama-3.1-8b'"),
        (
            {"hardware": {"chips_per_node": 9}},
            ScenarioError,
            r"hardware.chips_per_node = 9 but node hgx-h100 has 8; try 8",
        ),
        (
            {"chip": {"memory": {"hbm": {"enrgy": "2 pJ/bit"}}}},
            ScenarioError,
            r"unknown key chip.memory.hbm.enrgy; did you",
        ),
        ({"chip": {"memory": {"hbm": {"energy": "2 W"}}}}, UnitError, r"memory.hbm.energy: '2 W' is in W"),
        ({"goal": {"max_slowdown": "1 %", "deadline": "3 d"}}, ScenarioError, r"\[goal\] takes one key"),
        ({"goal": {"cost": "3 USD"}}, ScenarioError, r"needs site.price"),
        ({"goal": {"deadline": "1 s"}}, GoalError, r"cannot be met: the fastest plan takes"),
        ({"model": {"name": "llama-3.1-405b"}}, CapacityError, r"does not fit: needs .* has .*; try"),
        ({"serve": {"rate": "1 req/s"}}, ScenarioError, r"\[train\] or \[serve\], not both"),
        (
            {"site": {"power_limit": "1 kW"}},
            GoalError,
            r"^site.power_limit = 1 kW cannot be met: the least possible is",
        ),
        ({"site": {"pue": "nan"}}, UnitError, r'site.pue: .nan. is not a number, e.g. "1.5"'),
        (
            {"hardware": {"chip": "v100-sxm"}},
            ScenarioError,
            r"train.precision = bf16 but v100-sxm computes in .*; try fp16",
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(changes: dict, error: type[WattlineError], words: str) -> None:
    """Each message names the key, the value and what would work."""
    with pytest.raises(error, match=words) as caught:
        answer(changed(TRAIN, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"serve": {"tpot": "1 ms"}}, GoalError, r"serve.tpot = 1 ms cannot be met: the best is"),
        ({"serve": {"rate": "5000 req/s"}}, GoalError, r"split it over more than \d+ replicas"),
        ({"model": {"name": "llama-3.1-70b"}}, CapacityError, r"does not fit"),
        ({"goal": {"deadline": "3 d"}}, ScenarioError, r"goal.deadline is not a goal for serving"),
        ({"serve": {"requests": "missing.csv"}}, InputError, r"requests missing.csv: cannot be read"),
    ],
)
def test_bad_serving_input_too(changes: dict, error: type[WattlineError], words: str) -> None:
    """Serving names which promise fails and by how much."""
    with pytest.raises(error, match=words):
        answer(changed(SERVE, **changes))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing file and broken TOML are one sentence each."""
    with pytest.raises(InputError, match=r"none.toml: cannot be read \(No such file"):
        sc.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[model\n")
    with pytest.raises(InputError, match="not valid TOML"):
        sc.load(tmp_path / "bad.toml")
    with pytest.raises(ScenarioError, match="says no work; add a"):
        sc.solve(sc.parse({"model": {"name": "llama-3.1-8b"}}))
    with pytest.raises(ScenarioError, match=r"hardware.chip must be given"):
        sc.solve(sc.parse({"model": {"name": "llama-3.1-8b"}, "serve": {"prompt": 8}}))
    with pytest.raises(ScenarioError, match="names no model"):
        sc.solve(sc.parse({"hardware": {"chip": "h100-sxm"}, "serve": {"prompt": 8}}))


def test_sketched_rows_agree_with_exact_ones() -> None:
    """A sweep's sketch, corrected by one exact solve, lies within the rounding of the exact plan."""
    base = sc.parse(changed(TRAIN, goal={"max_slowdown": "2 %"}))
    for change in (
        {"chip.memory.hbm.energy": "20 pJ/bit"},
        {"hardware.chip": "h200-sxm"},
        {"goal.max_slowdown": "8 %"},
    ):
        sketch, exact = whatif.sketch(base, change), whatif.summary(base, change)
        assert sketch["method"] == "steady state, corrected"
        assert exact["method"] == "exact"
        assert set(sketch) <= set(exact)
        assert sketch["time_s"] == pytest.approx(exact["time_s"], rel=2e-3)
        assert sketch["energy_j"] == pytest.approx(exact["energy_j"], rel=1e-2)
        assert sketch["baseline_energy_j"] == pytest.approx(exact["baseline_energy_j"], rel=1e-6)
    assert whatif.sketch(base, {"train.tensor": 6})["error"].startswith("train.tensor = 6")


def test_a_chip_with_one_clock_still_plans() -> None:
    """Where there is no clock to choose, the batch alone makes the frontier."""
    one = {
        "hardware": {"chip": "tpu-v5e", "chips_per_node": 1},
        "model": {"name": "gpt-oss-20b"},
        "serve": {"prompt": 64},
    }
    a = sc.solve(sc.parse(one), detail=False)
    assert a.chosen.energy_j > 0
    assert {k["clock_hz"] for k in a.chosen.knobs} == {1.5e9}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1e400", True, None, [], "many"])
def test_whole_numbers_are_whole(value: object) -> None:
    """No odd value of a whole-number key leads anywhere but to a sentence."""
    with pytest.raises(WattlineError):
        sc.parse(changed(TRAIN, train={"tensor": value}))


def test_a_lower_voltage_saves_energy() -> None:
    """Energies are stated at a fixed voltage, so another curve scales them at the clocks it moves."""
    base = answer(TRAIN).baseline
    lower = sc.solve(sc.parse(TRAIN).with_({"chip.voltage.max": "0.95 V"}), detail=False).baseline
    assert lower.breakdown_j["chip.compute.bf16"] < 0.95 * base.breakdown_j["chip.compute.bf16"]
    assert lower.energy_j < base.energy_j


def test_chips_without_a_scale_up_link_meet_over_pcie() -> None:
    """In a server of cards, tensor-parallel collectives cross the host link, not the network."""
    cards = {
        "hardware": {"chip": "l40s", "chips_per_node": 2},
        "model": {"name": "llama-3.1-8b"},
        "serve": {"tensor": 2},
    }
    parts = sc.solve(sc.parse(cards), detail=False).chosen.breakdown_j
    assert parts["chip.link.pcie"] > 0
    assert "chip.link.fabric" not in parts
    assert "chip.link.nvlink" not in parts


def test_no_key_is_said_twice():
    """Two rows of one key would hide each other: the table has each key once."""
    rows = [row.path for row in schema._table()]
    assert len(rows) == len(set(rows))


def test_a_checker_knows_the_type_of_every_key():
    """The literals that give ``scenario[key]`` its type name the keys of the schema, each with the type of its kind."""
    kinds = {"text": keys.TextKey, "choice": keys.TextKey, "whole": keys.WholeKey, "flag": keys.FlagKey,
             "texts": keys.TextsKey, "wholes": keys.WholesKey}  # fmt: skip
    stated: dict[object, set[str]] = {literal: set() for literal in (*kinds.values(), keys.NumberKey)}
    for key in schema.KEYS.values():
        stated[kinds.get(key.kind, keys.NumberKey)].add(key.path)
    for literal, paths in stated.items():
        assert set(get_args(literal)) == paths, "run scripts/write_keys.py"


def test_a_scenario_is_not_changed_by_what_it_was_made_from_and_travels():
    """Its mappings cannot be written to, a copy with changes leaves it as it was, and it goes to other processes."""
    values = {"site.pue": 1.2}
    stated = sc.Scenario("s", values)
    values["site.pue"] = 9.0
    assert stated["site.pue"] == 1.2
    with pytest.raises(TypeError):
        stated.values["site.pue"] = 2.0
    assert stated.with_({"site.pue": 1.3})["site.pue"] == 1.3
    assert stated["site.pue"] == 1.2
    assert pickle.loads(pickle.dumps(stated)).values == stated.values
