"""Plain questions: each is answered, or refused with advice that gives an answer when it is followed.

    python bench/questions.py                  5,000 questions: models x chips x layouts x prompts x rates x goals
    python bench/questions.py --count 300 --seed 7

Advice is what an error says after "try": `section.key = value`, or another value of the key it names, or "lower the rate
to". It is followed up to four times, as a reader would who takes each sentence at its word.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import traceback
from collections import Counter
from typing import Any

from wattline.core.errors import WattlineError
from wattline.scenario import scenario as scenarios

MODELS = (
    "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b-fp8", "qwen3-8b", "qwen3-32b", "qwen3-30b-a3b", "qwen3-235b-a22b-fp8",
    "gpt-oss-20b", "gpt-oss-120b", "deepseek-v3", "mixtral-8x7b", "gemma-3-27b", "nemotron-nano-9b-v2", "mistral-7b",
    "Qwen/Qwen2.5-32B-Instruct", "microsoft/phi-2", "deepseek-ai/DeepSeek-V3.2", "google/gemma-3-4b-it", "google/gemma-2-2b",
    "HuggingFaceTB/SmolLM2-1.7B", "Qwen/Qwen3-Next-80B-A3B-Instruct", "tiiuae/Falcon-H1-7B-Instruct",
)  # fmt: skip
CHIPS = (
    "h100", "h200", "b200", "a100", "a100-sxm-40gb", "l40s", "l4", "a40", "mi300x", "gb200", "NVIDIA GeForce RTX 4090",
    "rtx-5090", "a10g", "p5.48xlarge", "tpu-v6e", "h20", "h100-pcie", "rtx-pro-6000",
)  # fmt: skip
_ASSIGN = re.compile(
    r"\b((?:serve|train|hardware|goal|site)\.\w+) = \"?([\w.%/ -]+?)\"?(?= and |[,;:)]| or |$| \(| on )"
)
_TRY = re.compile(r"\btry (.*)$")


def question(draw: random.Random) -> dict[str, Any]:
    """Return one plain question as sections of a scenario."""
    hardware: dict[str, Any] = {"chip": draw.choice(CHIPS), "nodes": 1}
    if draw.random() < 0.8:
        hardware["chips_per_node"] = draw.choice((1, 1, 2, 4, 8))
    model = {"name": draw.choice(MODELS)}
    if draw.random() < 0.75:
        serve: dict[str, Any] = {
            "prompt": draw.choice((16, 128, 1024, 4000, 16000, 100000)), "output": draw.choice((1, 16, 128, 500, 2000)),
            "tensor": draw.choice((1, 1, 2, 4, 8)),
        }  # fmt: skip
        if draw.random() < 0.5:
            serve["rate"] = draw.choice(("0.01 rps", "0.5 req/s", "2 QPS", "20 req/s"))
        if draw.random() < 0.4:
            serve["tpot"] = draw.choice(("5 ms", "25 ms", "50 ms", "200 ms"))
        if draw.random() < 0.3:
            serve["ttft"] = draw.choice(("100 ms", "500 ms", "2 s"))
        if draw.random() < 0.2:
            serve["data"] = draw.choice((1, 2, 4))
        return {"model": model, "hardware": hardware, "serve": serve}
    train: dict[str, Any] = {
        "tokens": draw.choice(("1B", "100B", "1T")), "sequence": draw.choice((2048, 8192)),
        "global_batch": draw.choice((8, 64, 512)), "microbatch": draw.choice((1, 2)), "tensor": draw.choice((1, 2, 4, 8)),
        "pipeline": draw.choice((1, 1, 2, 4)),
    }  # fmt: skip
    hardware["nodes"] = draw.choice((1, 2, 8))
    goal = draw.choice(({}, {"max_slowdown": "5 %"}, {"least_energy": True}))
    return {"model": model, "hardware": hardware, "train": train, **({"goal": goal} if goal else {})}


def advice(message: str) -> dict[str, str] | None:
    """Return what an error says to try: dotted key -> value; None where it says nothing that can be done."""
    lower = re.search(r"lower the rate to ([\d.,e-]+) requests/s", message)
    if lower:
        return {"serve.rate": f"{0.98 * float(lower[1].replace(',', ''))} req/s"}
    said = _TRY.search(message)
    if said is None:
        return None
    text = said[1]
    changes = {key: value.strip() for key, value in _ASSIGN.findall(text + ";")}
    if not changes:
        named = re.search(r"\b((?:serve|train|hardware)\.\w+) = ", message)
        first = re.match(r"['\"]?([\w.-]+)", text)
        changes = {named[1]: first[1]} if named and first else {}
    return changes or None


def follow(
    sections: dict[str, Any], times: int = 6, *, detail: bool = True, simulated: bool = False
) -> tuple[str, str]:
    """Return how a question ends: "answered", "advised", "goal" (nothing can meet it), "no advice" or "bad advice"."""
    said = ""
    changes: dict[str, str] = {}
    try:
        stated = scenarios.parse(sections)
    except WattlineError as error:
        return "refused", str(error)
    for turn in range(times):
        try:
            scenarios.solve(stated, detail=detail, simulated=simulated)
        except WattlineError as error:
            said = str(error)
        except Exception:
            return "crashed", traceback.format_exc(limit=-2)
        else:
            return ("advised" if turn else "answered"), said
        if "was found that fits" in said:
            return "too large", said
        found = advice(said)
        if found is None:
            return "no advice", said
        if all(changes.get(k) == v for k, v in found.items()):
            return "bad advice", f"{found} again: {said}"
        changes |= found
        try:
            stated = stated.with_(found)
        except WattlineError as error:
            return "bad advice", f"{found}: {error}"
    return "bad advice", f"after {times} times: {said}"


ENDS = ("answered", "advised", "too large")


def main() -> int:
    """Ask, and exit 1 where a question ends without an answer or a reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--simulated", action="store_true", help="Choose settings by simulation, as `wattline plan` does."
    )
    given = parser.parse_args()
    draw, ends = random.Random(given.seed), Counter[str]()
    for number in range(given.count):
        asked = question(draw)
        end, said = follow(asked, simulated=given.simulated)
        ends[end] += 1
        if end not in ENDS:
            print(f"{number}: {end}: {asked}\n    {said}", flush=True)
    print(", ".join(f"{end} {count}" for end, count in ends.most_common()))
    return 0 if set(ends) <= set(ENDS) else 1


if __name__ == "__main__":
    sys.exit(main())
