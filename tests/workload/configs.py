"""Hugging Face config.json files of many families, cut to the keys that say something about sizes.

Each comes with the parameter count its makers publish.
"""

from typing import Any

CONFIGS: dict[str, tuple[dict[str, Any], float]] = {
    "llama": (
        {
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
            "attention_bias": False, "mlp_bias": False, "torch_dtype": "bfloat16", "hidden_act": "silu",
        },
        8.03e9,
    ),
    "qwen2": (
        {
            "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
            "num_hidden_layers": 28, "num_key_value_heads": 4, "vocab_size": 152064, "sliding_window": 131072,
            "use_sliding_window": False, "max_window_layers": 28, "tie_word_embeddings": False,
        },
        7.61e9,
    ),
    "qwen3_moe": (
        {
            "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
            "num_attention_heads": 32, "num_hidden_layers": 48, "num_key_value_heads": 4, "head_dim": 128,
            "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
            "vocab_size": 151936, "sliding_window": None, "tie_word_embeddings": False,
        },
        30.5e9,
    ),
    "mixtral": (
        {
            "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
            "vocab_size": 32000, "sliding_window": None, "tie_word_embeddings": False,
        },
        46.7e9,
    ),
    "gemma2": (
        {
            "model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_attention_heads": 16,
            "num_hidden_layers": 42, "num_key_value_heads": 8, "head_dim": 256, "sliding_window": 4096,
            "vocab_size": 256000, "hidden_activation": "gelu_pytorch_tanh",
        },
        9.24e9,
    ),
    "gemma3": (
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504, "head_dim": 128,
                "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16, "sliding_window": 1024,
            },
            "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27}, "torch_dtype": "bfloat16",
        },
        27.0e9,
    ),
    "gpt2": (
        {
            "model_type": "gpt2", "n_embd": 1600, "n_head": 25, "n_layer": 48, "n_positions": 1024,
            "vocab_size": 50257, "activation_function": "gelu_new",
        },
        1.558e9,
    ),
    "gpt_neox": (
        {
            "model_type": "gpt_neox", "hidden_size": 6144, "intermediate_size": 24576, "num_attention_heads": 64,
            "num_hidden_layers": 44, "vocab_size": 50432, "tie_word_embeddings": False, "torch_dtype": "float16",
        },
        20.55e9,
    ),
    "opt": (
        {
            "model_type": "opt", "hidden_size": 9216, "ffn_dim": 36864, "num_attention_heads": 72,
            "num_hidden_layers": 64, "vocab_size": 50272, "max_position_embeddings": 2048, "torch_dtype": "float16",
        },
        66e9,
    ),
    "bloom": (
        {"model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112, "vocab_size": 250880},
        176.247e9,
    ),
    "falcon": (
        {
            "model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32,
            "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True, "bias": False,
            "vocab_size": 65024,
        },
        6.92e9,
    ),
    "falcon-new": (
        {
            "model_type": "falcon", "hidden_size": 14848, "num_attention_heads": 232, "num_hidden_layers": 80,
            "num_kv_heads": 8, "new_decoder_architecture": True, "vocab_size": 65024,
        },
        180e9,
    ),
    "phi3": (
        {
            "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 32, "sliding_window": 2047, "vocab_size": 32064,
            "tie_word_embeddings": False,
        },
        3.82e9,
    ),
    "phi": (
        {
            "model_type": "phi", "hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 32,
            "num_hidden_layers": 32, "vocab_size": 51200, "tie_word_embeddings": False, "hidden_act": "gelu_new",
        },
        2.78e9,
    ),
    "deepseek_v3": (
        {
            "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
            "num_attention_heads": 128, "num_key_value_heads": 128, "num_hidden_layers": 61, "n_routed_experts": 256,
            "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1,
            "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
            "v_head_dim": 128, "vocab_size": 129280, "tie_word_embeddings": False,
            "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
        },
        671e9,
    ),
    "gpt_oss": (
        {
            "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
            "num_key_value_heads": 8, "head_dim": 64, "num_hidden_layers": 36, "num_local_experts": 128,
            "num_experts_per_tok": 4, "experts_per_token": 4, "sliding_window": 128, "vocab_size": 201088,
            "layer_types": ["sliding_attention", "full_attention"] * 18, "tie_word_embeddings": False,
            "attention_bias": True,
            "quantization_config": {
                "quant_method": "mxfp4",
                "modules_to_not_convert": [
                    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head",
                ],
            },
        },
        116.83e9,
    ),
    "glm4_moe": (
        {
            "model_type": "glm4_moe", "hidden_size": 4096, "intermediate_size": 10944, "moe_intermediate_size": 1408,
            "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 46,
            "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1,
            "attention_bias": True, "vocab_size": 151552, "tie_word_embeddings": False,
        },
        106e9,
    ),
    "cohere": (
        {
            "model_type": "cohere", "hidden_size": 12288, "intermediate_size": 33792, "num_attention_heads": 96,
            "num_key_value_heads": 8, "num_hidden_layers": 64, "vocab_size": 256000,
        },
        104e9,
    ),
    "dbrx": (
        {
            "model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "vocab_size": 100352,
            "attn_config": {"kv_n_heads": 8}, "tie_word_embeddings": False,
            "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4},
        },
        132e9,
    ),
    "llama4": (
        {
            "model_type": "llama4",
            "text_config": {
                "model_type": "llama4_text", "hidden_size": 5120, "intermediate_size": 8192,
                "intermediate_size_mlp": 16384, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
                "num_hidden_layers": 48, "num_local_experts": 128, "num_experts_per_tok": 1,
                "interleave_moe_layer_step": 2, "attention_chunk_size": 8192, "vocab_size": 202048,
                "tie_word_embeddings": False,
            },
        },
        400e9,
    ),
    "nemotron_h": (
        {
            "model_type": "nemotron_h", "hidden_size": 4480, "intermediate_size": 15680, "num_attention_heads": 40,
            "num_key_value_heads": 8, "head_dim": 128, "mamba_num_heads": 128, "mamba_head_dim": 80,
            "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4, "num_hidden_layers": 56, "vocab_size": 131072,
            "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
            "tie_word_embeddings": False, "mlp_hidden_act": "relu2",
        },
        8.89e9,
    ),
    "qwen3_next": (
        {
            "model_type": "qwen3_next", "hidden_size": 2048, "intermediate_size": 5120, "moe_intermediate_size": 512,
            "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "num_hidden_layers": 48,
            "num_experts": 512, "num_experts_per_tok": 10, "shared_expert_intermediate_size": 512,
            "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
            "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "full_attention_interval": 4,
            "decoder_sparse_step": 1, "vocab_size": 151936, "tie_word_embeddings": False,
        },
        79.7e9,
    ),
    "jamba": (
        {
            "model_type": "jamba", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_hidden_layers": 32, "num_experts": 16, "num_experts_per_tok": 2,
            "attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1,
            "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256, "vocab_size": 65536,
        },
        51.6e9,
    ),
}  # fmt: skip
