"""Trains the tiny CLIP from nothing: `python -m encoder.tiny_clip.training --out DIR`, a quarter of an hour on two idle cores.

One seed, thread count and CPU type give the same weights bit by bit; another CPU does not. So the weights are shipped.

Contrastive learning as in CLIP (Radford et al. 2021, arXiv:2103.00020) with two differences. A caption is a positive for
every picture of the batch that it is true of, not only for its own. And three linear heads, thrown away at the end, guess
kind, colour and scene from the picture's vector, which tells the vision tower early what to look at.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows it by
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel
from transformers.utils.logging import disable_progress_bar

from encoder.tiny_clip.captions import COLOURS, KINDS, SCENES, SUBJECTS, Caption, Subject, random_caption
from encoder.tiny_clip.drawing import draw
from encoder.tiny_clip.tokenizer import MAX_TOKENS, build_tokenizer

log = structlog.get_logger(__name__)

PROJECTION_DIM: Final = 512
"""As openai/clip-vit-base-patch32, so that a collection made for one has the shape for the other."""
IMAGE_SIZE: Final = 96
_STORED_SIZE: Final = 108
"""Training pictures are kept a little larger, for random crops."""
_TRAINING_STREAM: Final = 1
"""`evaluation` draws from another one, so that no seed can show it a picture of the training."""
_UNSAID: Final = -1
_MAX_LOG_SCALE: Final = 4.6052
"""ln 100, CLIP's own bound on the temperature."""
_VOCABULARIES: Final = (tuple(KINDS), tuple(COLOURS), tuple(SCENES))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the shipped weights were trained with."""

    steps: int = 2800
    batch: int = 128
    pictures: int = 22_400
    """Each of the 560 subjects forty times."""
    learning_rate: float = 1e-3
    warmup_steps: int = 80
    weight_decay: float = 0.05
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        if self.pictures < self.batch:
            raise ValueError(f"{self.pictures} pictures do not fill one batch of {self.batch}")


@dataclass(frozen=True, slots=True)
class TrainedClip:
    model: Any
    tokenizer: Any
    image_processor: Any

    def save(self, folder: Path) -> None:
        """Writes a folder that loads as any downloaded CLIP does, in bfloat16: half the bytes, the same recall."""
        deepcopy(self.model).to(torch.bfloat16).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors are written 0600, which another user's container could not read


@dataclass(frozen=True, slots=True)
class _TrainingSet:
    pixels: Tensor
    """uint8, [pictures, 3, 108, 108]."""
    labels: Tensor
    """int64, [pictures, 3]: kind, colour, scene."""
    subjects: tuple[Subject, ...]


class _Learner:
    """The model, its helper heads, and one step of learning."""

    def __init__(self, model: Any, recipe: Recipe) -> None:
        self.model = model
        self.heads = nn.ModuleList(nn.Linear(PROJECTION_DIM, len(names)) for names in _VOCABULARIES)
        self.optimizer = self._optimizer(recipe)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, partial(_learning_rate_share, recipe))

    def _optimizer(self, recipe: Recipe) -> torch.optim.AdamW:
        decayed: list[Tensor] = []
        others: list[Tensor] = [*self.heads.parameters()]
        for name, parameter in self.model.named_parameters():
            is_matrix = parameter.ndim > 1 and "embedding" not in name
            (decayed if is_matrix else others).append(parameter)
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))

    def step(self, pixels: Tensor, labels: Tensor, tokens: Any, said: Tensor) -> float:
        """Learns from one batch; its loss. `said` is labels with -1 where the caption is silent."""
        # No bfloat16 autocast: where a virtual machine's CPU flags promise AMX and the host withholds it, oneDNN's
        # bfloat16 kernels end the process (SIGILL), and without AMX they gain nothing at this size.
        out = self.model(**tokens, pixel_values=pixels)
        logits = out.text_embeds @ out.image_embeds.T * self.model.logit_scale.exp()
        loss = _contrastive_loss(logits, _truth(said, labels))
        loss = loss + self._attribute_loss(out.vision_model_output.pooler_output, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, _MAX_LOG_SCALE)
        return float(loss.detach())

    def _attribute_loss(self, vision: Tensor, labels: Tensor) -> Tensor:
        losses = [F.cross_entropy(head(vision), labels[:, i]) for i, head in enumerate(self.heads)]
        return torch.stack(losses).sum()


def train(recipe: Recipe) -> TrainedClip:
    """Draws the pictures, learns, and gives back the model in eval mode. Sets torch's global seed and thread count."""
    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(recipe.threads)
    pictures = _draw_training_set(recipe)
    tokenizer = build_tokenizer(recipe.seed)
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=square)
    model = _build_model(len(tokenizer))
    _learn(_Learner(model, recipe), tokenizer, image_processor, pictures, recipe)
    return TrainedClip(model.eval(), tokenizer, image_processor)


def _learn(learner: _Learner, tokenizer: Any, image_processor: Any, data: _TrainingSet, recipe: Recipe) -> None:
    rng = np.random.default_rng(recipe.seed + 5)
    mean = torch.tensor(image_processor.image_mean)[:, None, None]
    std = torch.tensor(image_processor.image_std)[:, None, None]
    started = time.monotonic()
    learner.model.train()
    for step, chosen in enumerate(islice(_batches(recipe, rng), recipe.steps)):
        captions = [random_caption(data.subjects[i], rng) for i in chosen]
        tokens = tokenizer([c.text for c in captions], return_tensors="pt", padding=True, truncation=True)
        pixels = (_augment(data.pixels[chosen], rng) - mean) / std
        loss = learner.step(pixels, data.labels[chosen], tokens, torch.tensor([_numbers(c) for c in captions]))
        if step % 100 == 0 or step == recipe.steps - 1:
            log.info("step", step=step, loss=round(loss, 3), elapsed_s=round(time.monotonic() - started))


def _batches(recipe: Recipe, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Numbers of pictures, epoch after epoch without end; what does not fill a batch is left out of its epoch."""
    while True:
        order = rng.permutation(recipe.pictures)
        for first in range(0, recipe.pictures - recipe.batch + 1, recipe.batch):
            yield order[first : first + recipe.batch]


def _draw_training_set(recipe: Recipe) -> _TrainingSet:
    with ProcessPoolExecutor(recipe.threads) as pool:
        drawn = list(pool.map(partial(_draw_square, recipe.seed), range(recipe.pictures), chunksize=64))
    subjects = tuple(SUBJECTS[i % len(SUBJECTS)] for i in range(recipe.pictures))
    log.info("pictures drawn", count=len(drawn))
    return _TrainingSet(
        pixels=torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor([_numbers(subject) for subject in subjects]),
        subjects=subjects,
    )


def _draw_square(seed: int, number: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng((_TRAINING_STREAM, seed, number))
    picture = draw(*SUBJECTS[number % len(SUBJECTS)], rng)
    left = (picture.width - picture.height) // 2
    square = (left, 0, left + picture.height, picture.height)
    return np.asarray(picture.resize((_STORED_SIZE, _STORED_SIZE), Image.Resampling.BICUBIC, box=square))


def _build_model(vocabulary: int) -> Any:
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": 16,
        "projection_dim": PROJECTION_DIM,
    }
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "projection_dim": PROJECTION_DIM,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=PROJECTION_DIM)
    # sdpa, the default, has a slow backward on CPUs.
    return CLIPModel._from_config(config, attn_implementation="eager")


def _augment(stored: Tensor, rng: np.random.Generator) -> Tensor:
    """Random crop, exposure and mirror: uint8 [n, 3, 108, 108] to float in 0…1, [n, 3, 96, 96]."""
    top, left = rng.integers(0, _STORED_SIZE - IMAGE_SIZE + 1, 2).tolist()
    pixels = stored[:, :, top : top + IMAGE_SIZE, left : left + IMAGE_SIZE].float() / 255
    exposure = rng.uniform(0.88, 1.12, (len(pixels), 1, 1, 1)).astype(np.float32)
    pixels = (pixels * torch.from_numpy(exposure)).clamp_(0, 1)
    return pixels.flip(-1) if rng.random() < 0.5 else pixels


def _numbers(words: Subject | Caption) -> tuple[int, int, int]:
    """Kind, colour and scene as class numbers, -1 where a caption is silent."""
    said = (words.kind, words.colour, words.scene)
    kind, colour, scene = (
        _UNSAID if word is None else names.index(word) for word, names in zip(said, _VOCABULARIES, strict=True)
    )
    return kind, colour, scene


def _truth(said: Tensor, labels: Tensor) -> Tensor:
    """1 where caption (row) is true of picture (column), else 0."""
    agrees = (said[:, None, :] == _UNSAID) | (said[:, None, :] == labels[None, :, :])
    return agrees.all(-1).float()


def _contrastive_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy over rows and over columns, the probability shared evenly among all that is true."""
    rows, columns = (
        -(truth / truth.sum(dim, keepdim=True) * F.log_softmax(logits, dim)).sum(dim).mean() for dim in (1, 0)
    )
    return (rows + columns) / 2


def _learning_rate_share(recipe: Recipe, step: int) -> float:
    """Linear warm-up times half a cosine, ending at one percent."""
    cosine = 0.5 * (1 + np.cos(np.pi * min(1.0, step / recipe.steps)))
    return float(min(1.0, (step + 1) / recipe.warmup_steps) * (cosine + 0.01))


def main(arguments: Sequence[str] | None = None) -> None:
    default = Recipe()
    parser = argparse.ArgumentParser(prog="python -m encoder.tiny_clip.training", description="Train the tiny CLIP.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--pictures", type=int, default=default.pictures)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--threads", type=int, default=default.threads)
    given = parser.parse_args(arguments)
    disable_progress_bar()
    recipe = Recipe(steps=given.steps, pictures=given.pictures, seed=given.seed, threads=given.threads)
    train(recipe).save(given.out)
    log.info("saved", folder=str(given.out), bytes=sum(file.stat().st_size for file in given.out.iterdir()))


if __name__ == "__main__":
    main()
