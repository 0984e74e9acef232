"""Tiny random models of the supported architectures, built from configs, and a byte-level tokenizer.

Nothing here is downloaded. Every model has weights that a wrong hook point
cannot hide behind: norm weights away from one, biases away from zero, and
blocks whose attention and MLP both move the residual stream.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

BOS, EOS, PAD = 256, 257, 258
VOCAB = 262
WIDTH = 48
LAYERS = 4
HEADS = 4
HEAD_WIDTH = 12
WINDOW = 16

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ bos_token + '[SYS]' + messages[0]['content'] + '[/SYS]\n' }}"
    "{% set turns = messages[1:] %}{% else %}{{ bos_token }}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{{ '<' + message['role'] + '>\n' + message['content'] }}"
    "{% if not (loop.last and continue_final_message is defined and continue_final_message) %}{{ '<end>\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>\n' }}{% endif %}"
)


def build(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """A model with weights that a wrong hook point cannot hide behind."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                spread = 0.5 if "embed" in name or "wte" in name else 1.5 / parameter.shape[-1] ** 0.5
                parameter.copy_(spread * noise)
            else:
                parameter.add_(0.2 * noise)
    return model.eval()


def _shared(**changes: object) -> dict[str, object]:
    settings: dict[str, object] = {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "head_dim": HEAD_WIDTH,
        "max_position_embeddings": 4096,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "tie_word_embeddings": False,
    }
    return {**settings, **changes}


def llama() -> PreTrainedModel:
    """Sequential, RMSNorm, grouped keys and values."""
    return build(LlamaConfig(**_shared()), 1)


def qwen2() -> PreTrainedModel:
    """Biases in the query, key and value projections."""
    settings = _shared()
    del settings["head_dim"]
    return build(Qwen2Config(**settings), 2)


def qwen3() -> PreTrainedModel:
    """Norms on queries and keys; heads * head_dim is not the hidden size."""
    return build(Qwen3Config(**_shared(head_dim=16)), 3)


def gemma2() -> PreTrainedModel:
    """Norms before and after each sub-layer, soft caps, window on every second layer."""
    return build(Gemma2Config(**_shared(sliding_window=WINDOW, query_pre_attn_scalar=16)), 4)


def gemma3() -> PreTrainedModel:
    """Gemma 3 text: as Gemma 2, with query and key norms and a hybrid window pattern."""
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    return build(Gemma3TextConfig(**_shared(sliding_window=WINDOW, query_pre_attn_scalar=16, layer_types=kinds)), 5)


def _neox(parallel: bool, seed: int) -> PreTrainedModel:
    settings = _shared(use_parallel_residual=parallel, hidden_act="gelu")
    del settings["head_dim"], settings["num_key_value_heads"]
    return build(GPTNeoXConfig(**settings), seed)


def gpt_neox() -> PreTrainedModel:
    """Parallel attention and MLP, LayerNorm (Pythia)."""
    return _neox(True, 6)


def gpt_neox_sequential() -> PreTrainedModel:
    """The sequential variant of GPT-NeoX."""
    return _neox(False, 7)


def gpt2() -> PreTrainedModel:
    """Learned positions, LayerNorm, Conv1D weights, tied embeddings."""
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=2048,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return build(config, 8)


def mistral() -> PreTrainedModel:
    """Every layer looks back over 16 tokens only."""
    return build(MistralConfig(**_shared(sliding_window=WINDOW)), 9)


def phi3() -> PreTrainedModel:
    """Fused projections."""
    settings = _shared(sliding_window=None, original_max_position_embeddings=4096, resid_pdrop=0.0, embd_pdrop=0.0)
    del settings["head_dim"]
    return build(Phi3Config(**settings), 10)


def qwen3_moe() -> PreTrainedModel:
    """Mixture of experts: 4 experts, 2 a token."""
    settings = _shared(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=WIDTH, decoder_sparse_step=1)
    return build(Qwen3MoeConfig(**settings), 11)


ARCHITECTURES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": llama,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gpt_neox": gpt_neox,
    "gpt_neox_sequential": gpt_neox_sequential,
    "gpt2": gpt2,
    "mistral": mistral,
    "phi3": phi3,
    "qwen3_moe": qwen3_moe,
}
"""Name to builder; each call gives the same new float32 model in eval mode."""


def tiny_tokenizer(
    *, chat_template: bool = False, padding_side: str = "left", add_bos: bool = True
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: one token a byte (ids 0-255), then bos, eos and pad.

    Args:
        chat_template: whether it has a chat template (system, user and assistant turns).
        padding_side: ``left`` or ``right``.
        add_bos: whether encoding with special tokens puts bos in front.
    """
    # GPT-2's byte alphabet: one printable character stands for each byte.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<bos>", "<eos>", "<pad>")])
    if add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        padding_side=padding_side,
        clean_up_tokenization_spaces=False,
    )
    if chat_template:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast | None, folder: Path | str) -> Path:
    """Writes model (and tokenizer) as ``from_pretrained`` reads them; gives the folder."""
    folder = Path(folder)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder
