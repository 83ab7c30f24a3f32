"""Are model configs told right: parameters of real configs, of families of transformers, and of perturbed sizes.

    python bench/configs.py reference FOLDER          real configs and their counts: right, refused, silently wrong
    python bench/configs.py families [TYPE ...]       the default config of every family that transformers can count
    python bench/configs.py sweep [TYPE ...]          every size of every family changed, one at a time
    python bench/configs.py fuzz --seed 1 --each 3    several sizes of every family changed at once
    python bench/configs.py unknown                   every family read as if its type were new
    python bench/configs.py defaults                  write workload/data/families.json anew

FOLDER holds NAME/config.json and truth.csv (name, parameters, expert_parameters, top_k). All but `reference` need
transformers and torch, which count the parameters on the meta device; neither is a dependency of Wattline.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wattline.core.errors import InputError
from wattline.workload.config import read
from wattline.workload.config.families import class_defaults
from wattline.workload.model import Model

CLOSE, WRONG = 0.01, 0.02

# Keys that hold no weights in any family: changing them tests nothing.
_IDLE = re.compile(
    r"token|_id$|_ids$|index$|eps|dropout|std|range|theta|loss|coef|beta|alpha|scal|cap|limit|_min|_max|labels|init|position|"
    r"^max_|chunk_size|group$|n_group|logits|pretraining|sliding|window|source|prob|mtp|nextn|rope_|rotary|_cycles|length$|"
    r"num_beams|clamp|mem_len|lang|topk$|thresh|image|audio|patch|channels|vision|block_size|buckets|distance|n_top|extent|"
    r"attn_res|loop|number_of|n_input|n_recurrent|random"
)


def main() -> int:
    """Run one of the checks; exit 1 where something is wrong and not said."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", choices=("reference", "families", "sweep", "fuzz", "unknown", "defaults"))
    parser.add_argument("names", nargs="*", help="FOLDER for reference, model types for the others")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=3, help="changed configs of each family (fuzz)")
    given = parser.parse_args()
    if given.check == "reference":
        return _tell(_reference(Path(given.names[0] if given.names else "configs")))
    if given.check == "defaults":
        return _defaults()
    types = given.names or _families()
    if given.check == "unknown":
        return _unknown(types)
    cases = {"families": _plain, "sweep": _one_by_one, "fuzz": lambda t: _several(t, given.seed, given.each)}
    return _tell(_counted(cases[given.check], types))


def _tell(rows: Iterator[tuple[str, str, str]]) -> int:
    """Print each row that is not right and how many there are of each kind."""
    kinds: Counter[str] = Counter()
    for kind, name, text in rows:
        kinds[kind] += 1
        if kind != "right":
            print(f"{kind:15} {name:44} {text}", flush=True)
    print(", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    return 1 if kinds["silently wrong"] else 0


def judge(config: Any, parameters: float, active: float | None = None) -> tuple[str, str]:
    """Return how a config is told: "right" within 1 %, "near" within 2 %, "refused", "said" or "silently wrong"."""
    try:
        model = read(config)
    except InputError as error:
        return "refused", str(error)
    off = [model.parameters / parameters - 1]
    if active is not None:
        off.append(model.active_parameters / active - 1)
    worst = max(off, key=abs)
    text = " ".join(f"{value:+.2%}" for value in off)
    if abs(worst) <= CLOSE:
        return "right", text
    return ("near" if abs(worst) <= WRONG else "said" if _said(model) else "silently wrong"), text


def _said(model: Model) -> bool:
    """Whether the answer says why its count may be another: something in doubt, or encoders counted apart."""
    return bool(model.doubts or model.towers)


def _reference(folder: Path) -> Iterator[tuple[str, str, str]]:
    with (folder / "truth.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = folder / row["name"]
            if not row["parameters"]:
                try:
                    model = read(path)
                except InputError as error:
                    yield "refused", row["name"], str(error)
                    continue
                yield (
                    "uncounted",
                    row["name"],
                    f"{model.parameters / 1e9:.2f} B, {model.active_parameters / 1e9:.2f} B active",
                )
                continue
            total, experts = float(row["parameters"]), float(row["expert_parameters"] or 0)
            model_experts = read(path).experts if experts else 0
            idle = experts * (1 - float(row["top_k"] or 0) / model_experts) if model_experts else 0.0
            kind, text = judge(path, total, total - idle)
            yield kind, row["name"], text


# ------------------------------------------------------------------ counted by transformers
def _families() -> list[str]:
    from transformers.models.auto import modeling_auto

    return sorted(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def _count(kind: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], float] | None:
    """Return the whole config of a family with some values set and its parameters; None where it cannot be built."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    try:
        config = CONFIG_MAPPING[kind](**{k: v for k, v in values.items() if k != "is_encoder_decoder"})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception:  # anything: families refuse sizes in their own ways
        return None
    unique = {id(p): p.numel() for p in model.parameters()}
    return json.loads(config.to_json_string(use_diff=False)), float(sum(unique.values()))


def _counted(cases: Any, types: list[str]) -> Iterator[tuple[str, str, str]]:
    for kind in types:
        for change in cases(kind):
            found = _count(kind, {**{k: v for k, v in class_defaults(kind).items() if v is not None}, **change})
            if found is None:
                continue
            verdict, text = judge(found[0], found[1])
            yield verdict, f"{kind} {change or ''}", text


def _plain(_kind: str) -> list[dict[str, Any]]:
    return [{}]


def _sizes(kind: str) -> dict[str, int]:
    return {
        k: v for k, v in class_defaults(kind).items()
        if isinstance(v, int) and not isinstance(v, bool) and v >= 1 and not _IDLE.search(k)
    }  # fmt: skip


def _switches(kind: str) -> dict[str, bool]:
    return {k: v for k, v in class_defaults(kind).items() if isinstance(v, bool) and k != "is_encoder_decoder"}


def _other(key: str, value: int, factor: float) -> int:
    if re.search("layers|num_blocks", key):
        return max(2, min(value, 12) - 4)
    if re.search("head|group|rank|expert", key):
        return max(1, int(value * (2 if factor > 1 else 0.5)))
    return value + 1 if value < 8 else int(value * factor)


def _one_by_one(kind: str) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [{key: _other(key, value, 1.5)} for key, value in _sizes(kind).items()]
    return [*out, *({key: not value} for key, value in _switches(kind).items())]


def _several(kind: str, seed: int, each: int) -> list[dict[str, Any]]:
    draw = random.Random(f"{seed} {kind}")
    sizes, switches = _sizes(kind), _switches(kind)
    out = []
    for _ in range(each):
        keys = draw.sample(sorted(sizes), min(len(sizes), draw.choice((1, 2, 3))))
        change: dict[str, Any] = {key: _other(key, sizes[key], draw.choice((0.5, 1.5, 2.0))) for key in keys}
        if switches and draw.random() < 0.5:
            key = draw.choice(sorted(switches))
            change[key] = not switches[key]
        out.append(change)
    return out


def _unknown(types: list[str]) -> int:
    """Print how wrong families are read whose type is not known: what a doubt is worth."""
    off, silent = [], []
    for kind in types:
        found = _count(kind, {})
        if found is None or any(isinstance(found[0].get(k), dict) for k in ("text_config",)):
            continue
        try:
            model = read({**found[0], "model_type": "brand_new", "architectures": None})
        except InputError:
            continue
        off.append(abs(model.parameters / found[1] - 1))
        silent += [] if model.doubts else [kind]
    off.sort()
    at = {p: off[int(p / 100 * (len(off) - 1))] for p in (50, 68, 90)}
    print(f"{len(off)} families; error at " + ", ".join(f"p{p} {value:.1%}" for p, value in at.items()))
    print(f"not said: {', '.join(silent) or 'none'}")
    return 1 if silent else 0


# ------------------------------------------------------------------ the defaults of configuration classes
_SKIP = re.compile(
    r"(_token_id|_token_index|_id|_idx|_ids|_index|eps|dropout|std|range|theta|loss|coef|prob|temperature|beta|alpha|scale|"
    r"scaling|multiplier|capping|cap|limit|min|max|floor|labels|init|pdrop|length|fill|mode|temporal|tp|version|drop|top_p|"
    r"extent|threshold)$|^(bos|eos|pad|sep|cls|mask|decoder_start|num_labels|chunk_size_feed_forward|initializer|rope|image_|"
    r"video_|audio_token|mask_|apply_spec|ctc|feat_extract|num_beams|pretraining_tp|max_window|max_length|mtp|keys_to|"
    r"base_model|attribute_map|summary|use_cache|output_|return_dict|transformers|dtype|problem)"
)


def _defaults() -> int:
    """Write the class defaults of every family that writes or reads text, and the role of the others."""
    from transformers import CONFIG_MAPPING, PretrainedConfig
    from transformers.models.auto import modeling_auto as auto

    def names(*tables: str) -> set[str]:
        return {key for table in tables for key in getattr(auto, f"MODEL_{table}_NAMES", {})}

    roles = {
        "decoder": names("FOR_CAUSAL_LM_MAPPING"),
        "encoder-decoder": names("FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING"),
        "encoder": names("FOR_MASKED_LM_MAPPING"),
        "multimodal": names("FOR_IMAGE_TEXT_TO_TEXT_MAPPING", "FOR_MULTIMODAL_LM_MAPPING"),
        "speech": names("FOR_CTC_MAPPING", "FOR_AUDIO_CLASSIFICATION_MAPPING", "FOR_SPEECH_SEQ_2_SEQ_MAPPING",
                        "FOR_TEXT_TO_WAVEFORM_MAPPING", "FOR_TEXT_TO_SPECTROGRAM_MAPPING", "FOR_AUDIO_TOKENIZATION_MAPPING"),
        "image": names("FOR_IMAGE_CLASSIFICATION_MAPPING", "FOR_BACKBONE_MAPPING", "FOR_OBJECT_DETECTION_MAPPING",
                       "FOR_SEMANTIC_SEGMENTATION_MAPPING", "FOR_DEPTH_ESTIMATION_MAPPING", "FOR_MASK_GENERATION_MAPPING",
                       "FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING", "FOR_VIDEO_CLASSIFICATION_MAPPING"),
    }  # fmt: skip
    base = {f.name for f in dataclasses.fields(PretrainedConfig)} - {"tie_word_embeddings", "is_encoder_decoder"}
    out: dict[str, Any] = {}
    for kind in sorted(CONFIG_MAPPING.keys()):
        role = next((r for r, members in roles.items() if kind in members), "")
        if not role and not kind.endswith(("_text", "text_model")):
            continue
        role = role or "decoder"
        out[kind] = {"role": role, **(_class_of(CONFIG_MAPPING[kind], base) if role in list(roles)[:3] else {})}
    classes: dict[str, str] = {}
    for table in ("FOR_CAUSAL_LM_MAPPING", "FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING", "FOR_MASKED_LM_MAPPING", "MAPPING"):
        for kind, found in getattr(auto, f"MODEL_{table}_NAMES").items():
            for name in [found] if isinstance(found, str) else found:
                if out.get(kind, {}).get("role") in list(roles)[:3]:
                    classes.setdefault(name, kind)
    path = Path(__file__).resolve().parents[1] / "src/wattline/workload/data/families.json"
    lines = (
        f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}"
        for k, v in ({"_architectures": classes} | out).items()
    )
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{path}: {len(out)} families")
    return 0


def _class_of(kind: Any, base: set[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name in base or field.name.startswith("_") or _SKIP.search(field.name):
            continue
        value = field.default
        if value is dataclasses.MISSING:
            try:
                value = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
            except Exception:  # a nested configuration that cannot stand alone
                value = None
        if isinstance(value, tuple):
            value = list(value)
        if field.name == "is_encoder_decoder" and not value:
            continue
        short = isinstance(value, list) and 0 < len(value) < 12 and all(isinstance(v, int | str) for v in value)
        named = isinstance(value, str) and "act" in field.name
        part = isinstance(value, float) and ("ratio" in field.name or "factor" in field.name)
        if value is None or isinstance(value, int) or short or named or part:
            out[field.name] = value
    return out


if __name__ == "__main__":
    sys.exit(main())
