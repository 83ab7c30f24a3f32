"""Questions in one line: `wattline serve MODEL`, `wattline train MODEL`, and the ways into them: `init`, `examples`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from ...core.errors import InputError
from .output import Engine, Jobs, Json, Sets, Verbose, filled, pairs, print_json, progress, terminal

if TYPE_CHECKING:
    from ...scenario.scenario import Scenario

Chip = Annotated[str, Parameter(help="Chip by catalog name, as its driver prints it, or a cloud instance.")]
Count = Annotated[int | None, Parameter(name=("--count", "-n"), help="Chips in all; those of the instance, or 1.")]
Price = Annotated[str | None, Parameter(help='Electricity, e.g. "80 USD/MWh".')]
Carbon = Annotated[str | None, Parameter(help='Carbon intensity, e.g. "400 gCO2e/kWh".')]
Keep = Annotated[Path | None, Parameter(help="Write the scenario into this file, to keep and to change.")]

# What people ask, with a line that answers it; `wattline examples` prints them and the tests run them.
EXAMPLES: tuple[tuple[str, str], ...] = (
    ("two RTX 4090 in a workstation, a chat model",
    "wattline serve qwen3-8b --chip rtx-4090 -n 2 --isl 1000 --osl 300"),
    (
        "a rented p5.48xlarge with a promise per token",
        "wattline serve llama-3.1-70b --chip p5.48xlarge --isl 4000 --osl 500 --tpot 25ms",
    ),
    ("fine-tuning on one A100",
    "wattline train llama-3.1-8b --chip a100 --tokens 10M --recompute full --zero 0 --adapter lora"),
    ("pre-training on 64 H100", "wattline train llama-3.1-8b --chip h100 -n 64 --tokens 1T"),
    (
        "the best layout for a job on 8 H100, and why",
        "wattline train llama-3.2-1b --chip h100 -n 8 --tokens 10B --slower 2% --search",
    ),
    ("how large a model is", "wattline catalog models deepseek-ai/DeepSeek-V3.2"),
    ("what a chip is taken to be", "wattline catalog chips h200-sxm"),
)  # fmt: skip


def register(app: App) -> None:
    """Add the commands to the command line."""
    app.command(serve)
    app.command(train)
    app.command(init)
    app.command(examples)


def serve(
    model: str,
    *,
    chip: Chip = "h100",
    count: Count = None,
    isl: Annotated[int, Parameter(name=("--isl", "--prompt"), help="Mean tokens in.")] = 1024,
    osl: Annotated[int, Parameter(name=("--osl", "--output"), help="Mean tokens out.")] = 256,
    rate: Annotated[str | None, Parameter(help='Requests per second in all, e.g. "2 rps".')] = None,
    tpot: Annotated[
        str | None, Parameter(name=("--tpot", "--itl"), help='Longest time per token, e.g. "25 ms".')
    ] = None,
    ttft: Annotated[str | None, Parameter(help='Longest time to the first token, e.g. "500 ms".')] = None,
    percentile: Annotated[str | None, Parameter(help="Percentile of the limits, e.g. p99.")] = None,
    tensor: Annotated[
        int | None, Parameter(name=("--tensor", "--tp"), help="Chips of a replica; tried if left out.")
    ] = None,
    precision: Annotated[str | None, Parameter(help="Precision of the weights: fp8, int4, w4a16, ...")] = None,
    kv: Annotated[str | None, Parameter(help="Precision of the KV cache, e.g. fp8.")] = None,
    price: Price = None,
    carbon: Carbon = None,
    sets: Sets = (),
    toml: Keep = None,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Plan the serving of a model from one line: replicas, clock and batch that take least energy per token.

    Example: wattline serve llama-3.1-8b --chip h200 -n 8 --isl 4000 --osl 500 --tpot 25ms

    Parameters
    ----------
    model
        Model by name or Hugging Face id, a folder with a config.json, or the file.
    """
    from ...scenario import quick

    stated: dict[str, Any] = {
        "prompt": isl, "output": osl, "rate": rate, "tpot": tpot, "ttft": ttft, "tensor": tensor,
        "percentile": None if percentile is None else _percentile(percentile),
        "precision": _precision(precision), "kv_precision": _precision(kv),
    }  # fmt: skip
    _answer(quick.serving(model, chip, count, stated, {**_site(price, carbon), **pairs(sets)}), toml, json, verbose)


def train(
    model: str,
    *,
    chip: Chip = "h100",
    count: Count = None,
    tokens: Annotated[str, Parameter(help='Tokens to train on, e.g. "1T".')] = "1B",
    sequence: Annotated[int | None, Parameter(help="Tokens per sequence.")] = None,
    batch: Annotated[
        int | None, Parameter(name=("--batch", "--global-batch"), help="Sequences per optimizer step.")
    ] = None,
    tensor: Annotated[
        int | None, Parameter(name=("--tensor", "--tp"), help="Tensor-parallel chips; tried if left out.")
    ] = None,
    pipeline: Annotated[int | None, Parameter(name=("--pipeline", "--pp"), help="Pipeline stages.")] = None,
    precision: Annotated[str | None, Parameter(help="Precision of the products: bf16, fp8, ...")] = None,
    recompute: Annotated[str | None, Parameter(help="none, selective or full.")] = None,
    zero: Annotated[int | None, Parameter(help="ZeRO stage.")] = None,
    adapter: Annotated[str | None, Parameter(help="Train an adapter: lora or qlora.")] = None,
    slower: Annotated[str | None, Parameter(help='Slowdown allowed, e.g. "5 %".')] = None,
    search: Annotated[
        bool,
        Parameter(help="Search layout, schedule, microbatch, recomputation and clocks together; say why one wins."),
    ] = False,
    precisions: Annotated[str | None, Parameter(help="Precisions that a search looks at, e.g. bf16,fp8.")] = None,
    engine: Engine = "local",
    jobs: Jobs = None,
    price: Price = None,
    carbon: Carbon = None,
    sets: Sets = (),
    toml: Keep = None,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Plan the training of a model from one line; a layout that fits is found where none is stated.

    What is stated of the layout (--tensor, --pipeline, --recompute, --zero) a search leaves alone.

    Example: wattline train llama-3.1-8b --chip h100 -n 64 --tokens 1T --search

    Parameters
    ----------
    model
        Model by name or Hugging Face id, a folder with a config.json, or the file.
    """
    from ...scenario import quick

    stated: dict[str, Any] = {
        "tokens": tokens, "sequence": sequence, "global_batch": batch or max(64, 8 * (count or 1)), "tensor": tensor,
        "pipeline": pipeline, "precision": precision, "recompute": recompute, "zero": zero, "adapter": adapter,
    }  # fmt: skip
    goal = {} if slower is None else {"goal.max_slowdown": slower}
    changes = {**_site(price, carbon), **goal, **pairs(sets)}
    if not search:
        if precisions is not None:
            raise InputError("--precisions are those of a search; add --search, or state one with --precision")
        _answer(quick.training(model, chip, count, stated, changes), toml, json, verbose)
        return
    _searched(
        quick.training(model, chip, count, stated, changes, fit=False), precisions, (engine, jobs), toml, json, verbose
    )


def _searched(
    scenario: Scenario, precisions: str | None, where: tuple[str, int | None], toml: Path | None, json: bool,
    verbose: bool,
) -> None:  # fmt: skip
    """Search for a layout, and print the front, why the winner wins, and its plan."""
    from ...core.units import show
    from ...scenario import configure, quick
    from ..report import show_plan

    names = [name for text in (precisions or "").split(",") if (name := _precision(text))]
    with progress(len(configure.layouts(scenario, names))) as tell:
        found = configure.configure(scenario, precisions=names, engine=where[0], jobs=where[1], progress=tell)
    if toml is not None:
        toml.write_text(quick.text(scenario.with_(found.layout)), encoding="utf-8")
    if json:
        print_json({**found.answer.to_dict(), "search": found.to_dict()})
        return
    print(f"{found.fitting} of {found.looked} layouts fit; no other is faster or takes less energy than these:\n")
    rows = [[configure.words(r), show(r["time_s"], "s", 4), show(r["energy_j"], "J", 4)] for r in found.front]
    terminal().print(filled(["layout", "time", "energy"], rows))
    print()
    for sentence in found.why:
        terminal().print(sentence)
    print()
    show_plan(found.answer, terminal(), verbose=verbose)


def _site(price: str | None, carbon: str | None) -> dict[str, str]:
    return {f"site.{key}": value for key, value in (("price", price), ("carbon", carbon)) if value is not None}


def _percentile(text: str) -> str:
    return text.strip().lower().removeprefix("p").rstrip("%")


# Words of the field for how weights are stored -> precision.
_STORED = {
    "w4a16": "fp4", "int4": "fp4", "nvfp4": "fp4", "mxfp4": "fp4", "w8a8": "fp8", "w8a16": "fp8", "int8": "fp8",
    "fp8-kv": "fp8", "half": "bf16", "float16": "fp16", "bfloat16": "bf16",
}  # fmt: skip


def _precision(text: str | None) -> str | None:
    return None if text is None else _STORED.get(text.strip().lower(), text.strip().lower())


def _answer(scenario: Scenario, toml: Path | None, json: bool, verbose: bool) -> None:
    from ...scenario import quick
    from ...scenario import scenario as scenarios
    from ...scenario.levers import with_levers

    if toml is not None:
        toml.write_text(quick.text(scenario), encoding="utf-8")
    if sys.stderr.isatty():
        print("wattline: playing requests to choose settings ...", file=sys.stderr, end="\r", flush=True)
    answer = with_levers(scenarios.solve(scenario), scenario)
    if json:
        print_json(answer.to_dict())
        return
    from ..report import show_plan

    show_plan(answer, terminal(), verbose=verbose)


def init(file: Path = Path("scenario.toml"), /) -> None:
    """Ask a few questions and write a scenario with a comment beside each key.

    Example: wattline init chat.toml

    Parameters
    ----------
    file
        File to write (TOML); an existing one is not overwritten.
    """
    from ...scenario import quick

    if file.exists():
        raise InputError(f"{file} exists; name another file, or remove it first")
    work = _ask("Serve a model, or train one?", "serve")
    model = _ask("Which model (name, Hugging Face id, or path of a config.json)?", "llama-3.1-8b")
    chip = _ask("Which chip, or cloud instance?", "h100")
    count = int(_ask("How many chips in all?", "1"))
    if work.lower().startswith("t"):
        stated: dict[str, Any] = {"tokens": _ask("How many tokens?", "1B"), "global_batch": max(64, 8 * count)}
        scenario = quick.training(model, chip, count, stated)
    else:
        stated = {
            "prompt": int(_ask("Mean tokens in (ISL)?", "1024")), "output": int(_ask("Mean tokens out (OSL)?", "256")),
            "tpot": _ask("Longest time per token (empty: none)?", "") or None,
            "rate": _ask("Requests per second in all (empty: as many as it carries)?", "") or None,
        }  # fmt: skip
        stated["rate"] = f"{stated['rate']} rps" if stated["rate"] and stated["rate"][-1].isdigit() else stated["rate"]
        scenario = quick.serving(model, chip, count, stated)
    file.write_text(quick.text(scenario), encoding="utf-8")
    print(f"wrote {file}; answer it with: wattline plan {file}")


def _ask(question: str, default: str) -> str:
    """Ask on the terminal; the default where nothing is typed, or nobody is there."""
    print(f"{question} [{default}] ", end="", flush=True)
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        print()
    return line.strip() or default


def examples(*, json: Json = False) -> None:
    """List questions in one line that run as they stand.

    Example: wattline examples
    """
    if json:
        print_json([{"question": question, "command": command} for question, command in EXAMPLES])
        return
    for question, command in EXAMPLES:
        print(f"# {question}\n{command}\n")
