"""Say how engines' own kernels differ from the source's, from public kernel tables: three numbers a kernel and format.

    python scripts/calibrate_versions.py REFERENCE_DIR [--dry]

REFERENCE_DIR/kernels holds aiconfigurator's tables (Apache-2.0) of one engine's kernels on one chip. Measured
seconds = slope x the roofline's + seconds a product, fitted to the logarithms of at most `MOST` rows, robustly, of
up to `TOKENS` tokens; those of `MANY` and more, as prompts have, give a slope of their own. No serving row enters, so
an engine or a chip left out of a serving fit keeps its kernels.
Run it before calibrate_serving.py and calibrate_engines.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray
from scipy.optimize import least_squares

import wattline.serving.engine as room
from wattline.hardware import catalog
from wattline.source.base import Device, tables
from wattline.source.roofline.routing import route
from wattline.source.roofline.source import Roofline
from wattline.workload.operator import Gemm, GroupedGemm, Operator

Array = NDArray[np.float64]
DATA = Path(room.__file__).parent / "data" / "kernels.toml"
MOST, TOKENS, MANY, SEED = 1500, 512, 2048, 0
# Layers of experts shorter than this are all launch and ramp: they would drown the slope of those that cost time.
LEAST = 15e-6
# (folder, chip, engine and version, engine): tables nearest to the engines of the serving rows.
TABLES = (
    ("a100_sxm", "a100-sxm-80gb", "vllm_0.14.0", "vllm"),
    ("h100_sxm", "h100-sxm", "vllm_0.14.0", "vllm"),
    ("l40s", "l40s", "vllm_0.14.0", "vllm"),
    ("b200_sxm", "b200-sxm", "vllm_0.19.0", "vllm"),
    ("b200_sxm", "b200-sxm", "trtllm_1.3.0rc15", "trtllm"),
)
# dtype of a table -> name of the format, arithmetic, activations, weights.
FORMATS = {
    "bfloat16": ("bf16", "bf16", "bf16", "bf16"),
    "fp8": ("fp8", "fp8", "fp8", "fp8"),
    "fp8_block": ("fp8_block", "fp8", "fp8", "fp8"),
    "nvfp4": ("fp4", "fp4", "fp4", "fp4"),
    "w4a8_mxfp4_mxfp8": ("w4a8", "fp8", "fp8", "fp4"),
    "int4_wo": ("int4", "bf16", "bf16", "int4"),
}
# Kernels that a recipe does not run: TensorRT-LLM's experts in fp4 run on the backend made for few tokens.
LEFT = {"moe_torch_flow_cutlass"}


@dataclass(frozen=True)
class Lesson:
    """Measured seconds beside the roofline's, of products of one format; `each`: products in a row."""

    measured: Array
    modelled: Array
    tokens: Array
    each: int

    def fit(self) -> tuple[float, float, float, float]:
        """Return slopes of few tokens and of many, seconds of one product besides, and the median size of the error."""
        few = (self.tokens <= TOKENS) & (self.modelled > LEAST * (self.each - 1))
        few = few if few.sum() >= 30 else self.tokens <= TOKENS

        def misses(x: Array) -> Array:
            return np.asarray(np.log((np.exp(x[0]) * self.modelled[few] + np.exp(x[1])) / self.measured[few]))

        found = least_squares(lambda x: 4.0 * misses(x), [0.0, np.log(1e-5)], loss="soft_l1").x
        size = float(np.median(np.abs(np.expm1(misses(found)))))
        slope, seconds = np.exp(found)
        many = self.tokens >= MANY
        wide = float(np.median((self.measured[many] - seconds) / self.modelled[many])) if many.sum() >= 10 else slope
        return float(slope), wide, float(seconds) / self.each, size


def _rows(path: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pyarrow.parquet.read_table(path).to_pydict()
    return found


def _some(index: list[int]) -> list[int]:
    if len(index) <= MOST:
        return index
    return sorted(np.random.default_rng(SEED).choice(index, MOST, replace=False).tolist())


def _column(t: dict[str, list[Any]], name: str, index: list[int]) -> Array:
    return np.array([t[name][i] for i in index], dtype=np.float64)


def moe(path: Path) -> Iterator[tuple[str, list[tuple[Operator, ...]], Array, Array, int]]:
    """Give each format's layers of experts: both products, routed as the benchmark routes.

    Of experts spread over ranks only rows dealt evenly count: the others time the unluckiest rank of one draw.
    """
    t = _rows(path)
    for dtype, (name, arithmetic, a, b) in FORMATS.items():
        index = _some([
            i for i in range(len(t["latency"]))
            if t["moe_dtype"][i] == dtype and t["kernel_source"][i] not in LEFT and t["num_tokens"][i] <= 4 * MANY
            and (t["moe_ep_size"][i] == 1 or t["distribution"][i] == "balanced")
        ])  # fmt: skip
        work: list[tuple[Operator, ...]] = []
        for i in index:
            k, experts, ranks = int(t["topk"][i]), int(t["num_experts"][i]), int(t["moe_ep_size"][i])
            local, inner = max(1, experts // ranks), t["inter_size"][i] / t["moe_tp_size"][i]
            dealt = route(t["distribution"][i], int(t["num_tokens"][i]), k, experts, ranks)
            shared: dict[str, Any] = {
                "precision": arithmetic, "tokens": dealt.rows * experts / (k * local), "top_k": k, "experts": experts,
                "local_experts": local, "active": dealt.active, "skew": dealt.skew, "a": a, "b": b,
            }  # fmt: skip
            wide = t["hidden_size"][i]
            up = GroupedGemm(name="experts_up", n=2 * inner, k=wide, **shared)
            work.append((up, GroupedGemm(name="experts_down", n=wide, k=inner, **shared)))
        yield name, work, np.array([t["latency"][i] for i in index]) * 1e-3, _column(t, "num_tokens", index), 2


def gemm(path: Path) -> Iterator[tuple[str, list[tuple[Operator, ...]], Array, Array, int]]:
    """Give each format's dense products, of a million weights and more."""
    t = _rows(path)
    for dtype, (name, arithmetic, a, b) in FORMATS.items():
        index = _some([
            i for i in range(len(t["latency"]))
            if t["gemm_dtype"][i] == dtype and t["m"][i] <= 4 * MANY and t["n"][i] * t["k"][i] > 1e6
        ])  # fmt: skip
        work: list[tuple[Operator, ...]] = [
            (Gemm(name="g", precision=arithmetic, m=t["m"][i], n=t["n"][i], k=t["k"][i], a=a, b=b),) for i in index
        ]
        yield name, work, np.array([t["latency"][i] for i in index]) * 1e-3, _column(t, "m", index), 1


def main(arguments: Sequence[str]) -> None:
    names = [a for a in arguments if not a.startswith("--")]
    if len(names) != 1:
        raise SystemExit(__doc__)
    source = Roofline()
    lines = [
        "# How an engine's kernels differ from the source's: [slope of few tokens,",
        "# slope of many, seconds a product besides, rows, median error of few].",
        'source = "public kernel tables of ai-dynamo/aiconfigurator (Apache-2.0), by scripts/calibrate_versions.py"',
    ]
    for folder, chip_name, version, engine in TABLES:
        chip = catalog.device(chip_name)
        device, top = Device(chip, catalog.default_node(chip)), np.array([chip["clock.max"]])
        for kind, read in (("gemm", gemm), ("moe", moe)):
            lines += ["", f"# {chip.title}, {version.replace('_', ' ')}"]
            lines += [f"[{chip.tags['architecture']}.{engine}.{'grouped_gemm' if kind == 'moe' else kind}]"]
            path = Path(names[0]) / "kernels" / folder / f"{version}_{kind}_perf.parquet"
            for name, work, measured, tokens, each in read(path):
                if len(work) < 30 or (kind == "gemm" and name == "bf16"):
                    continue
                # Products in 16 bits are the source's own. The same Triton kernels widen 4-bit experts on their way in.
                told = "w4a16" if name == "bf16" else name
                modelled = tables(source, tuple(work), device, top).time[:, 0]
                slope, wide, seconds, size = Lesson(measured, modelled, tokens, each).fit()
                lines.append(f"{told} = [{slope:.3f}, {wide:.3f}, {seconds:.2e}, {len(work)}, {size:.2f}]")
                print(chip_name, version, kind, lines[-1])
    if "--dry" not in arguments:
        DATA.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
