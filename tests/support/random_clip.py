"""A CLIP with random weights, in the layout of a downloaded one: loads in no time and knows nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

IMAGE_SIZE = 32
DIMENSION = 16
MAX_TOKENS = 12


def save_random_clip(folder: Path, seed: int = 0, **vision: Any) -> Path:
    """Writes the model to `folder` and returns it. `vision` overrides fields of the vision configuration."""
    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    model = CLIPModel(_config(len(tokenizer), vision))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    ).save_pretrained(folder)
    return folder


def _config(vocabulary: int, vision: dict[str, Any]) -> CLIPConfig:
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **layers,
        "vocab_size": vocabulary,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    return CLIPConfig(
        text_config=text,
        vision_config={**layers, "image_size": IMAGE_SIZE, "patch_size": 8, **vision},
        projection_dim=DIMENSION,
    )


def _tokenizer() -> Any:
    """One token per byte, within a word and at its end."""
    symbols = sorted(ByteLevel.alphabet())
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: n for n, token in enumerate(tokens)}, merges=[], model_max_length=MAX_TOKENS)
