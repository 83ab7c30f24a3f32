"""What a config.json says that was not understood: it is told with the answer, and the answer's interval widens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .facts import Facts
from .families import tested

# Keys that say how large something is ...
_SIZE: Final = re.compile(
    r"size|dim|width|head|layer|rank|^num_|^n_|_num|hidden|expert|channel|kernel|state|conv|ratio|top_?k|group|vocab|inner|"
    r"block|window|expand|ffn|mlp|mult|depth|lora|compress|stack|loop|latent|gate|adapter|engram|memory|cross"
)
# ... and those that hold no weights and change no work: names, training, sampling, positions, towers told apart.
_WEIGHTLESS: Final = re.compile(
    r"(_token_id|_token_ids|_token_index|_id|_ids|_idx|_index|eps|epsilon|dropout|_drop|_prob|std|range|theta|loss|coef|"
    r"temperature|beta|alpha|scale|scaling|factor|capping|softcap|soft_cap|limit|_min|_max|floor|labels|pdrop|_type|_types|_dtype|"
    r"_mode|_name|_version|_act|activation|_bias|_norm|threshold|_impl|_method|_func|_freq|_offset|sink)$"
    r"|^(bos|eos|pad|sep|cls|mask|decoder_start|num_labels|chunk_size|initializer|rope|rotary|image|video|audio|speech|"
    r"vision|mask_|num_beam|num_return|pretraining_tp|max_|min_|mtp|num_nextn|num_mtp|transformers|torch|dtype|"
    r"problem|use_cache|output_|return_|is_|id2label|label2id|auto_map|architectures|_|attention_dropout|embd_pdrop|"
    r"top_p|top_k$|typical|length|no_repeat|repetition|diversity|bad_words|suppress|task_|tokenizer|prefix|pruned|"
    r"scale_|original_max|model_max|seq|n_positions|n_ctx|num_logits|quantization|ep_size|tp_|use_mamba_kernels|"
    r"mamba_chunk|topk_group|n_group$|num_expert_group|partial_rotary|layer_norm|norm_|embedding_multiplier|"
    r"residual_multiplier|attention_multiplier|logits|router_|use_|scoring|head_type|swiglu|moe_renorm|moe_router_act|"
    r"cross_attention_hidden_size|add_cross_attention|summary|finetuning|layer_types|unk_index|image_|projector|"
    r"query_pre_attn_scalar|expert_dtype|mlp_layer_types|mscale|residual_in|rescale|time_step|aux_loss|seq_aux|"
    r"moe_aux|moe_z|first_k_dense|num_attention_heads$|number_of)"
)


def unread(x: Facts) -> list[str]:
    """Return keys that state a size and that nothing read, where the family's own class does not know them either."""
    known = set(x.defaults) if tested(x.kind) else set()
    out = []
    for key, value in x.stated.items():
        if key in x.seen or key in known or not _bears(value):
            continue
        if _SIZE.search(key.lower()) and not _WEIGHTLESS.search(key.lower()):
            out.append(key)
    return sorted(out)


def _bears(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_bears(v) for v in value.values())
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) and value > 1


def doubts(x: Facts) -> tuple[str, ...]:
    """Return one sentence for each thing that was not understood."""
    out = list(x.told)
    if x.kind and not tested(x.kind):
        out.append(f"the model type {x.kind!r} is none of those compared with their own code; usual names are read")
    if not x.kind:
        out.append("the config states no model_type; sizes are read by their usual names")
    if keys := unread(x):
        few = ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
        out.append(f"config keys that may state sizes were not read: {few}")
    return tuple(out)
