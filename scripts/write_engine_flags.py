"""Read what engines' own parsers take, out of their released wheels, and write it down for the tests of launch lines.

    pip download --no-deps vllm==0.11.2 sglang==0.5.6 kubernetes-validate==1.37.0
    python scripts/write_engine_flags.py vllm-*.whl sglang-*.whl kubernetes_validate-*.whl

The wheels' sources are parsed, not run: neither engine imports without torch and CUDA. Every `add_argument` of
`EngineArgs.add_cli_args` (vLLM) and `ServerArgs.add_cli_args` (SGLang) is taken with its type and choices; where vLLM
makes them of the annotations of its config classes, those are read as its `_compute_kwargs` does. Of Kubernetes' schema
the definitions that a Deployment and a Service use are taken, without their descriptions.
"""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "tests" / "serving"
KINDS = ("io.k8s.api.apps.v1.Deployment", "io.k8s.api.core.v1.Service")
KUBERNETES = "v1.31.0-local-strict"


def version(path: Path) -> str:
    """Return the version that a wheel's name states."""
    return path.name.split("-")[1]


def constants(tree: ast.Module) -> dict[str, Any]:
    """Return module-level names that are literal lists, or Literal[...] of strings."""
    out: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value
            if isinstance(value, ast.Subscript) and ast.unparse(value.value) == "Literal":
                value = value.slice
            try:
                found = ast.literal_eval(value)
            except ValueError:
                continue
            out[node.targets[0].id] = list(found) if isinstance(found, (tuple, list)) else [found]
    return out


def calls(tree: ast.AST, function: str) -> Iterator[ast.Call]:
    """Yield the `add_argument` calls of the functions of that name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
                    yield call


def stated(call: ast.Call, names: dict[str, Any]) -> dict[str, Any]:
    """Return what a call itself says of type, action and choices."""
    out: dict[str, Any] = {}
    for word in call.keywords:
        text = ast.unparse(word.value)
        if word.arg == "type":
            out["type"] = text if text in ("int", "float", "str") else "json" if "json" in text else "str"
        elif word.arg == "action":
            out["type"] = "switch" if "store_true" in text or "Boolean" in text else "str"
        elif word.arg == "choices":
            try:
                out["choices"] = ast.literal_eval(word.value)
            except ValueError:
                if isinstance(word.value, ast.Name) and word.value.id in names:
                    out["choices"] = names[word.value.id]
    return out


def annotated(text: str, names: dict[str, Any], classes: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return type and choices that vLLM makes of an annotation, in the order in which it asks."""
    tree = ast.parse(text, mode="eval")
    words = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    literals = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    named = [choice for word in words for choice in names.get(word, ())]
    if words & set(classes):
        return {"type": "json"}
    if "bool" in words:
        return {"type": "switch"}
    if literals or named:
        return {"type": "str", "choices": [*literals, *named]}
    if "int" in words:
        return {"type": "int"}
    if "float" in words:
        return {"type": "float"}
    return {"type": "json" if "dict" in words else "str"}


def vllm(wheel: Path) -> dict[str, Any]:
    """Return vLLM's flags, and the fields of its speculative config."""
    with zipfile.ZipFile(wheel) as file:
        trees = {
            name: ast.parse(file.read(name))
            for name in file.namelist()
            if name.startswith("vllm/config/")
            or name in ("vllm/engine/arg_utils.py", "vllm/model_executor/layers/quantization/__init__.py")
        }
    names: dict[str, Any] = {}
    classes: dict[str, dict[str, str]] = {}
    for tree in trees.values():
        names |= constants(tree)
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = {
                    f.target.id: ast.unparse(f.annotation)
                    for f in node.body
                    if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)
                }
    tree = trees["vllm/engine/arg_utils.py"]
    groups = {
        node.targets[0].id: classes[ast.unparse(node.value.args[0])]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "get_kwargs"
        and isinstance(node.targets[0], ast.Name)
    }
    flags: dict[str, Any] = {}
    for call in calls(tree, "add_cli_args"):
        found: dict[str, Any] = {}
        for word in call.keywords:
            for node in ast.walk(word.value) if word.arg is None else ():
                if isinstance(node, ast.Subscript):
                    fields, field = groups[ast.unparse(node.value)], ast.literal_eval(node.slice)
                    found = annotated(fields[field], names, classes) if field in fields else {"type": "str"}
        found |= stated(call, names)
        for flag in call.args:
            if isinstance(flag, ast.Constant):
                flags[flag.value] = found or {"type": "str"}
    speculative = {field: annotated(text, names, classes) for field, text in classes["SpeculativeConfig"].items()}
    return {"version": version(wheel), "flags": flags, "speculative_config": speculative}


def sglang(wheel: Path) -> dict[str, Any]:
    """Return SGLang's flags."""
    with zipfile.ZipFile(wheel) as file:
        tree = ast.parse(file.read("sglang/srt/server_args.py"))
    names = constants(tree)
    flags = {
        flag.value: stated(call, names) or {"type": "str"}
        for call in calls(tree, "add_cli_args")
        for flag in call.args
        if isinstance(flag, ast.Constant)
    }
    return {"version": version(wheel), "flags": flags}


def kubernetes(wheel: Path) -> dict[str, Any]:
    """Return the schema definitions that `KINDS` use."""
    with zipfile.ZipFile(wheel) as file:
        base = f"kubernetes_validate/kubernetes-json-schema/{KUBERNETES}/_definitions.json"
        whole = json.loads(file.read(base))["$defs"]

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: plain(v)
                for k, v in value.items()
                if not (k == "description" and isinstance(v, str)) and not k.startswith("x-kubernetes")
            }
        return [plain(v) for v in value] if isinstance(value, list) else value

    def refers(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"].rpartition("/")[2]
            for inner in value.values():
                yield from refers(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from refers(inner)

    kept: dict[str, Any] = {}
    waiting = list(KINDS)
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = json.loads(json.dumps(plain(whole[name])).replace("_definitions.json#", "#"))
            waiting += refers(kept[name])
    return {"version": KUBERNETES.removesuffix("-local-strict"), "$defs": dict(sorted(kept.items()))}


READERS = {"vllm": vllm, "sglang": sglang, "kubernetes_validate": kubernetes}


def main(paths: list[str]) -> None:
    """Write one JSON file of flags for the engines, and one of definitions for Kubernetes."""
    found = {Path(p).name.split("-")[0]: READERS[Path(p).name.split("-")[0]](Path(p)) for p in paths}
    schema = found.pop("kubernetes_validate")
    (OUT / "engine_flags.json").write_text(json.dumps(found, separators=(",", ":")) + "\n", "utf-8")
    (OUT / "kubernetes.json").write_text(json.dumps(schema, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
