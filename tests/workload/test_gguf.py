"""Tests for `wattline.workload.config.gguf`: headers written here, byte by byte as docs/gguf.md says."""

from __future__ import annotations

import struct

import pytest

from wattline.core.errors import InputError
from wattline.workload.config import read

Q4_K, Q6_K, F32 = 12, 14, 0
HIDDEN, LAYERS, HEADS, KV, FFN, VOCAB = 512, 4, 8, 2, 1024, 1000


def text(word):
    return struct.pack("<Q", len(word)) + word.encode()


def write(path, tensors, **more):
    keys = {
        "embedding_length": HIDDEN, "block_count": LAYERS, "attention.head_count": HEADS, "attention.head_count_kv": KV,
        "feed_forward_length": FFN, "vocab_size": VOCAB, **more,
    }  # fmt: skip
    body = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for key, value in keys.items():
        body += text(f"llama.{key}") + struct.pack("<II", 4, value)
    for name, shape, kind in tensors:
        body += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys) + 1) + body)
    return path


def tensors():
    kv = HIDDEN // HEADS * KV
    out = [("token_embd.weight", (HIDDEN, VOCAB), Q6_K), ("output.weight", (HIDDEN, VOCAB), Q6_K)]
    for i in range(LAYERS):
        for name, n in (("attn_q", HIDDEN), ("attn_k", kv), ("attn_v", kv), ("attn_output", HIDDEN)):
            out.append((f"blk.{i}.{name}.weight", (HIDDEN, n), Q4_K))
        out += [(f"blk.{i}.ffn_{n}.weight", (HIDDEN, FFN), Q4_K) for n in ("gate", "up", "down")]
        out += [(f"blk.{i}.{n}_norm.weight", (HIDDEN,), F32) for n in ("attn", "ffn")]
    return [*out, ("output_norm.weight", (HIDDEN,), F32)]


def test_a_header_gives_sizes_and_how_they_are_stored(tmp_path):
    """Parameters are those of the tensors, bytes those of their types: 4.5 bits in the layers, 6.5625 at the ends."""
    model = read(write(tmp_path / "small.gguf", tensors()))
    counts = {Q4_K: 0, Q6_K: 0, F32: 0}
    for _, shape, kind in tensors():
        size = 1
        for n in shape:
            size *= n
        counts[kind] += size
    assert model.parameters == sum(counts.values())
    assert model.doubts == ()
    assert model.weight_bytes == pytest.approx(
        counts[Q4_K] * 144 / 256 + counts[Q6_K] * 210 / 256 + 4 * counts[F32], rel=1e-3
    )
    assert model.weights.of("dense") == "int4"


def test_tensors_that_are_not_what_the_sizes_say_are_told(tmp_path):
    """A header whose sizes give another count than its tensors is no silent guess."""
    model = read(write(tmp_path / "odd.gguf", tensors(), block_count=LAYERS + 4))
    assert any("its tensors hold" in doubt for doubt in model.doubts)


def test_a_file_that_ends_early_is_an_input_error(tmp_path):
    """A header cut off, or another file of that name, is a sentence."""
    path = write(tmp_path / "cut.gguf", tensors())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="ends within its header"):
        read(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(InputError, match="is not GGUF"):
        read(path)
