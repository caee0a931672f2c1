"""Builds the tiny CLIP's tokenizer: CLIP's own byte-level BPE, with some 900 tokens instead of 49,408."""

import json
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer, models, trainers
from transformers import CLIPTokenizer

from encoder.tiny_clip.captions import SUBJECTS, Language, random_caption

MAX_TOKENS: Final = 32
_WORD_END: Final = "</w>"

Merge = tuple[str, str]


def build_tokenizer(seed: int) -> Any:
    """A `CLIPTokenizer` that has whole English words and single Chinese characters of `captions` as tokens.

    Any other text falls apart into bytes, as with every CLIP; nothing is out of vocabulary.
    """
    rng = np.random.default_rng(seed)
    symbols = _byte_symbols()
    merges = _english_merges(_sentences("en", rng))
    merges += _chinese_merges(_sentences("zh", rng), symbols, known=frozenset(merges))
    pieces = [*symbols, *(s + _WORD_END for s in symbols), *("".join(merge) for merge in merges)]
    # The two special tokens come last: a CLIP text model reads its sentence vector at the end token.
    tokens = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def _sentences(language: Language, rng: np.random.Generator) -> list[str]:
    subjects = (SUBJECTS[i] for i in rng.integers(len(SUBJECTS), size=4000).tolist())
    return [random_caption(subject, rng, language).text for subject in subjects]


def _english_merges(sentences: list[str]) -> list[Merge]:
    clip: Any = CLIPTokenizer()._tokenizer
    learner: Any = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END, continuing_subword_prefix=""))
    learner.normalizer = clip.normalizer
    learner.pre_tokenizer = clip.pre_tokenizer
    learner.train_from_iterator(
        sentences,
        trainers.BpeTrainer(
            vocab_size=700,
            min_frequency=2,
            end_of_word_suffix=_WORD_END,
            continuing_subword_prefix="",
            show_progress=False,
        ),
    )
    return [(first, second) for first, second in json.loads(learner.to_str())["model"]["merges"]]


def _chinese_merges(sentences: list[str], symbols: list[str], known: frozenset[Merge]) -> list[Merge]:
    """Each character's three bytes become one token, within a word and at its end.

    Learned merges would glue whole captions together instead: Chinese writes no spaces.
    """
    merges: dict[Merge, None] = {}
    for character in sorted({c for sentence in sentences for c in sentence if not c.isascii()}):
        first, second, third = (symbols[byte] for byte in character.encode())
        merges[first, second] = None
        merges[first + second, third] = None
        merges[first + second, third + _WORD_END] = None
    return [merge for merge in merges if merge not in known]


def _byte_symbols() -> list[str]:
    """The printable character that stands for each byte in GPT-2's and CLIP's vocabularies."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
