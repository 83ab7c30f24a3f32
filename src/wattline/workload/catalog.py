"""The models Wattline knows by name: facts in data/models.toml, one table each, and configs in data/configs.json.

A name that is in neither may be a folder with a config.json, or lie in the cache of Hugging Face's client; nothing is
fetched from the network.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ..core.errors import InputError, nearest
from .config import read
from .model import Latent, Layer, Model, Recurrent, Weights, hybrid

# Keys that describe the pattern of layers, or the entry itself, and are no field of Model.
_OWN = ("layers", "full_every", "dense_first", "experts_every", "hybrid", "ids", "like")


def models() -> list[str]:
    """Return the names of all models in the catalog, sorted."""
    return sorted({*_tables(), *_configs()})


def ids() -> dict[str, str]:
    """Return Hugging Face id -> name in the catalog."""
    own = {i: key for key, table in _tables().items() for i in table.get("ids", ())}
    return own | {i: key for key, entry in _configs().items() for i in entry["ids"]}


# What makers put behind a model's name where its weights answer to instructions.
_TALKING = ("instruct", "chat", "-it")
_UNTAUGHT = ("base", "-pt")


def hub_id(name: str, *, talking: bool = True) -> str:
    """Return the Hugging Face id to load a model by: of instructed weights where wanted and known, else `name` itself.

    A catalog entry may stand for several models of one shape, so an id that says the name asked for comes first,
    then one that says the entry's own.

    >>> hub_id("llama-3.1-8b"), hub_id("llama-3.1-8b", talking=False), hub_id("kimi-k2.5")
    ('meta-llama/Llama-3.1-8B-Instruct', 'meta-llama/Llama-3.1-8B', 'moonshotai/Kimi-K2.5')
    """
    if "/" in name:
        return name
    key = _names().get(name.lower(), name)
    known = [i for i, of in ids().items() if of == key and "/" in i]
    own = next((same for n in (name, key) if (same := [i for i in known if _plain(i) == _plain(n)])), known)
    wanted = [i for i in own if i.lower().endswith(_TALKING) == talking]
    return (wanted or own or [name])[0]


def _plain(hub: str) -> str:
    """Return the last part of an id, lower case, without the word for how its weights were trained."""
    last = hub.lower().rpartition("/")[2]
    for word in (*_TALKING, *_UNTAUGHT):
        last = last.removesuffix(word)
    return last.rstrip("-")


@cache
def model(name: str) -> Model:
    """Return a model by its short name or Hugging Face id, upper or lower case.

    >>> model("meta-llama/Llama-3.1-70B-Instruct").name
    'llama-3.1-70b'
    """
    key = _names().get(name.lower()) or _names().get(name.lower().rpartition("/")[2])
    if key is not None:
        return _build(key, _facts(key)) if key in _tables() else _from_config(key)
    if (path := local(name)) is not None:
        return read(path, name.rstrip("/").rpartition("/")[2])
    raise InputError(f"model {name!r} is not in the catalog; {_hint(name)}")


def local(name: str) -> Path | None:
    """Return the config of a model that lies on this machine: a path, or an id in the cache of Hugging Face's
    client."""
    path = Path(name).expanduser()
    if ("/" in name or name.endswith((".json", ".gguf"))) and path.exists():
        return path
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    folder = hub / f"models--{name.replace('/', '--')}"
    if "/" not in name or not folder.is_dir():
        return None
    revision = folder / "refs" / "main"
    known = [folder / "snapshots" / revision.read_text(encoding="utf-8").strip()] if revision.exists() else []
    for snapshot in (*known, *sorted(folder.glob("snapshots/*"))):
        if (snapshot / "config.json").exists():
            return snapshot
    return None


def _from_config(key: str) -> Model:
    entry = _configs()[key]
    source = f"config.json of {entry['ids'][0]}"
    found = read(entry["config"], key)
    # Models of one shape under one entry may have been made for different lengths.
    context = found.context if len(entry["ids"]) == 1 else 0
    return replace(found, published=float(entry["published"]), source=source, context=context)


def _hint(name: str) -> str:
    short = name.lower().rpartition("/")[2]
    family = [n for n in models() if n.startswith(short)]
    hint = nearest(short, models(), 2) if not family else f"there is {', '.join(family[:4])}"
    if hint.startswith("known"):
        hint = nearest(short, [n.rpartition("/")[2] for n in _names()], 2)
    if hint.startswith("known"):
        hint = f"`wattline catalog models` lists {len(models())}"
    return f'{hint} (or give config = "path/to/config.json"; nothing is fetched from the network)'


@cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    text = resources.files(__package__).joinpath("data/models.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def _configs() -> Mapping[str, Mapping[str, Any]]:
    """Name -> ids, published parameters and config; the name is that of the first id."""
    text = resources.files(__package__).joinpath("data/configs.json").read_text(encoding="utf-8")
    return {entry["ids"][0].rpartition("/")[2].lower(): entry for entry in json.loads(text)}


@cache
def _names() -> dict[str, str]:
    """Every name, in lower case -> key of its table."""
    names: dict[str, str] = {}
    for key, entry in _configs().items():
        for other in entry["ids"]:
            names.setdefault(other.lower(), key)
            names.setdefault(other.lower().rpartition("/")[2], key)
    for key, table in _tables().items():
        for other in table.get("ids", ()):
            names[other.lower()] = names[other.lower().rpartition("/")[2]] = key
    return names | {key.lower(): key for key in _tables()}


def _facts(key: str) -> dict[str, Any]:
    """The table of `key` with what it takes from the one it is like."""
    table = dict(_tables()[key])
    base = _facts(table["like"]) if "like" in table else {}
    if "layers" in table:
        base.pop("hybrid", None)
    return base | table


def _build(key: str, facts: dict[str, Any]) -> Model:
    stated = {k: v for k, v in facts.items() if k not in _OWN}
    stated["weights"] = _weights(facts.get("weights", {}))
    stated.setdefault("kv_heads", facts["heads"])
    if "picture" in facts:
        stated["picture"] = tuple(facts["picture"])
    if "latent" in facts:
        stated["latent"] = Latent(**facts["latent"])
    if "recurrent" in facts:
        stated["recurrent"] = Recurrent(**facts["recurrent"])
    return Model(name=key, pattern=_pattern(facts), **stated)


def _weights(stated: str | Mapping[str, Any]) -> Weights:
    return Weights.all(stated) if isinstance(stated, str) else Weights(**stated)


def _pattern(facts: Mapping[str, Any]) -> tuple[Layer, ...]:
    if "hybrid" in facts:
        return hybrid(facts["hybrid"])
    full = facts.get("full_every", 0 if facts.get("window") else 1)
    every, first = facts.get("experts_every", 1), facts.get("dense_first", 0)
    routed = bool(facts.get("experts"))
    return tuple(
        Layer(
            "full" if full and (i + 1) % full == 0 else "window",
            "experts" if routed and i >= first and (i + 1) % every == 0 else "dense",
        )
        for i in range(facts["layers"])
    )
