"""Write src/wattline/scenario/keys.py anew from the schema: the keys of a scenario by the type of their value.

python scripts/write_keys.py        after a key was added to scenario/schema.py
"""

from __future__ import annotations

from pathlib import Path

from wattline.scenario import schema

PLACE = Path(__file__).parent.parent / "src" / "wattline" / "scenario" / "keys.py"
KINDS = {"text": "Text", "choice": "Text", "whole": "Whole", "flag": "Flag", "texts": "Texts", "wholes": "Wholes"}
WORDS = {
    "Number": "Quantities in SI, and fractions.",
    "Whole": "Whole numbers.",
    "Flag": "True or false.",
    "Text": "Texts and choices.",
    "Texts": "Lists of texts.",
    "Wholes": "Lists of whole numbers.",
}
HEAD = '''"""The keys of a scenario by the type of their value, so that a checker knows ``scenario["serve.rate"]``.

Written by scripts/write_keys.py from `schema.KEYS`; a key that is missing here is one of `Value`.
"""

from __future__ import annotations

from typing import Literal

Value = float | int | bool | str | tuple[str, ...] | tuple[int, ...]

'''


def text() -> str:
    """Return the module."""
    out = HEAD
    for name, words in WORDS.items():
        out += f"# {words}\n{name}Key = Literal[\n"
        line = "   "
        for key in schema.KEYS.values():
            word = f' "{key.path}",'
            if KINDS.get(key.kind, "Number") != name:
                continue
            if len(line + word) > 116:
                out, line = out + line + "\n", "   "
            line += word
        out += line + "\n]  # fmt: skip\n"
    return out


if __name__ == "__main__":
    PLACE.write_text(text(), "utf-8")
