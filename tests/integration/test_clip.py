"""The embedder: the same vectors as transformers' own way, and one clear line for every model that cannot be loaded."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from encoder.clip import ClipEmbedder, load, normalised
from encoder.tiny_clip import WEIGHTS
from pixtail.core import settings
from pixtail.core.errors import ModelError, PictureError, Reason
from pixtail.core.ports import Picture
from tests.support.random_clip import DIMENSION, IMAGE_SIZE, save_random_clip

WEIGHTS_FILE = "model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def embedder(folder: Path) -> ClipEmbedder:
    return opened(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the model to spoil."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache and no network, whatever this machine has."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def opened(name: Path | str, **fields: object) -> ClipEmbedder:
    return load(settings.Model(name=str(name), device="cpu", **fields), settings.Pictures())


def images(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(count)
    return [Image.fromarray(rng.integers(0, 256, (40 + 7 * n, 50, 3), dtype=np.uint8)) for n in range(count)]


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_picture_vectors_are_those_of_transformers(folder: Path, embedder: ClipEmbedder) -> None:
    pictures = images(5)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    with torch.inference_mode():
        inputs = processor(pictures, return_tensors="pt")
        features = CLIPModel.from_pretrained(folder).get_image_features(**inputs).pooler_output
    expected = torch.nn.functional.normalize(features).numpy()
    vectors = embedder.encode([embedder.decode(png(image)) for image in pictures])
    assert (vectors.shape, vectors.dtype) == ((5, DIMENSION), np.float32)
    assert (vectors * expected).sum(axis=1).min() > 0.999999


def test_normalised_values_are_those_of_the_processor(folder: Path, embedder: ClipEmbedder) -> None:
    image = images(1)[0]
    theirs = CLIPImageProcessorPil.from_pretrained(folder)(image, return_tensors="np")["pixel_values"]
    raw = torch.from_numpy(embedder.decode(png(image)).pixels[None])
    np.testing.assert_allclose(normalised(raw, embedder.preprocessing).numpy(), theirs, atol=1e-6)


def test_text_vectors_are_those_of_transformers(folder: Path, embedder: ClipEmbedder) -> None:
    texts = ["a red truck", "红色卡车", ""]
    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        expected = torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output).numpy()
    np.testing.assert_allclose(embedder.encode_texts(texts), expected, atol=1e-5)


def test_vectors_have_unit_length_and_come_in_the_order_given(folder: Path) -> None:
    embedder = opened(folder, batch=2)
    pictures = [embedder.decode(png(image)) for image in images(5)]
    together = embedder.encode(pictures)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together, np.concatenate([embedder.encode([p]) for p in pictures]), atol=1e-5)


def test_a_text_of_any_length_is_cut_at_the_models_limit(embedder: ClipEmbedder) -> None:
    assert embedder.encode_texts(["word " * 1000]).shape == (1, DIMENSION)


def test_nothing_to_encode_gives_no_rows(embedder: ClipEmbedder) -> None:
    assert embedder.encode([]).shape == embedder.encode_texts([]).shape == (0, DIMENSION)


def test_many_threads_may_share_it(embedder: ClipEmbedder) -> None:
    texts = ["a", "a much longer text than that", "middle one"] * 10
    alone = {text: embedder.encode_texts([text]) for text in set(texts)}
    with ThreadPoolExecutor(8) as pool:
        for text, vectors in zip(texts, pool.map(lambda text: embedder.encode_texts([text]), texts), strict=True):
            np.testing.assert_allclose(vectors, alone[text], atol=1e-5)


def test_a_picture_of_which_the_model_makes_no_finite_vector_is_an_error(copy: Path, embedder: ClipEmbedder) -> None:
    spoilt = opened(copy)
    with torch.no_grad():
        spoilt._clip.visual_projection.weight.fill_(float("nan"))
    picture = Picture(np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), embedder.decode(png(images(1)[0])).facts)
    with pytest.raises(PictureError) as caught:
        spoilt.encode([picture])
    assert caught.value.reason is Reason.CORRUPT


def test_max_pixels_comes_from_the_settings(folder: Path) -> None:
    embedder = load(settings.Model(name=str(folder), device="cpu"), settings.Pictures(max_pixels=100))
    with pytest.raises(PictureError) as caught:
        embedder.decode(png(images(1)[0]))
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.skipif(not (WEIGHTS / "config.json").exists(), reason="the shipped model is not there yet: make tiny-clip")
def test_the_shipped_model_loads_by_its_name_exactly_as_its_folder_does() -> None:
    shipped, by_folder = opened("tiny-clip"), opened(WEIGHTS)
    assert (shipped.name, shipped.dimension) == ("tiny-clip", 512)
    assert shipped.fingerprint == by_folder.fingerprint
    vectors = shipped.encode_texts(["a red truck", "a blue bus"])
    assert vectors.dtype == np.float32
    assert float(vectors[0] @ vectors[1]) < 0.999


def test_the_fingerprint_is_short_and_the_same_for_the_same_files(
    folder: Path, copy: Path, embedder: ClipEmbedder
) -> None:
    assert opened(copy).fingerprint == opened(folder, batch=3).fingerprint == embedder.fingerprint
    assert len(embedder.fingerprint) == 10
    assert int(embedder.fingerprint, 16) >= 0


def test_the_fingerprint_changes_with_weights_preprocessing_tokenizer_and_dtype(copy: Path, tmp_path: Path) -> None:
    seen = {opened(copy).fingerprint, opened(copy, dtype="bfloat16").fingerprint}
    seen.add(opened(save_random_clip(tmp_path / "other", seed=1)).fingerprint)
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_mean": [0.5, 0.5, 0.5]}))
    seen.add(opened(copy).fingerprint)
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    seen.add(opened(copy).fingerprint)
    assert len(seen) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_is_used_by_itself_and_gives_nearly_the_same_directions(folder: Path, embedder: ClipEmbedder) -> None:
    by_gpu = load(settings.Model(name=str(folder)), settings.Pictures())
    pictures = [embedder.decode(png(image)) for image in images(3)]
    vectors, texts = by_gpu.encode(pictures), by_gpu.encode_texts(["a red truck"])
    assert by_gpu._clip.device.type == "cuda"
    assert by_gpu._clip.dtype == torch.bfloat16
    assert (vectors.dtype, by_gpu.fingerprint) == (np.float32, embedder.fingerprint)
    assert (vectors * embedder.encode(pictures)).sum(axis=1).min() > 0.99
    assert float(texts[0] @ embedder.encode_texts(["a red truck"])[0]) > 0.99


def test_weights_in_the_older_format_load_as_well(folder: Path, copy: Path, embedder: ClipEmbedder) -> None:
    torch.save(CLIPModel.from_pretrained(folder).state_dict(), copy / "pytorch_model.bin")
    (copy / WEIGHTS_FILE).unlink()
    picture = embedder.decode(png(images(1)[0]))
    np.testing.assert_allclose(opened(copy).encode([picture]), embedder.encode([picture]), atol=1e-6)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for name in (tmp_path / "none", "./no/such/folder", "~/no-such-folder"):
        assert "does not exist" in error_of(lambda name=name: opened(name))


def test_a_file_is_no_model_folder(folder: Path) -> None:
    assert "does not exist" in error_of(lambda: opened(folder / WEIGHTS_FILE))


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "has no config.json"),
        (WEIGHTS_FILE, "holds no weights"),
        ("tokenizer.json", "holds no tokenizer"),
        ("preprocessor_config.json", "no usable preprocessor_config.json"),
    ],
)
def test_a_folder_that_lacks_a_file_says_which(copy: Path, missing: str, said: str) -> None:
    (copy / missing).unlink()
    assert said in error_of(lambda: opened(copy))


@pytest.mark.parametrize("size", [0, 7, 1000, -100])
def test_truncated_weights_are_told_from_good_ones(copy: Path, size: int) -> None:
    path = copy / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:size])
    assert f"the weights in {copy} cannot be loaded" in error_of(lambda: opened(copy))


def test_weights_of_another_shape_are_refused(copy: Path, tmp_path: Path) -> None:
    other = save_random_clip(tmp_path / "other", hidden_size=64)
    shutil.copy(other / WEIGHTS_FILE, copy / WEIGHTS_FILE)
    assert f"the weights in {copy}" in error_of(lambda: opened(copy))


def test_weights_that_lack_tensors_are_refused_rather_than_filled_with_noise(copy: Path, tmp_path: Path) -> None:
    other = save_random_clip(tmp_path / "other", num_hidden_layers=1)
    shutil.copy(other / WEIGHTS_FILE, copy / WEIGHTS_FILE)
    assert "lack" in error_of(lambda: opened(copy))


def test_another_kind_of_model_is_named(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "bert"}')
    assert "is no CLIP but 'bert'" in error_of(lambda: opened(copy))
    (copy / "config.json").write_text("{")
    assert "not readable" in error_of(lambda: opened(copy))


def test_a_broken_tokenizer_is_named(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    assert "tokenizer" in error_of(lambda: opened(copy))


def test_a_preprocessor_of_another_size_is_refused(copy: Path) -> None:
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "crop_size": {"height": 48, "width": 48}}))
    assert "48 × 48 for a model of 32 × 32" in error_of(lambda: opened(copy))


def test_a_hub_id_without_a_network_says_what_to_do() -> None:
    said = error_of(lambda: opened("openai/clip-vit-base-patch32"))
    assert "neither a folder nor in the cache" in said
    assert "Give model.name a folder" in said


def test_a_hub_id_that_is_in_the_cache_loads_without_a_network(
    folder: Path, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    cached = tmp_path / "cache" / "models--someone--some-clip"
    shutil.copytree(folder, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    assert opened("someone/some-clip").fingerprint == embedder.fingerprint


def test_a_device_that_is_not_there_is_named(folder: Path) -> None:
    for device in ("nonsense", "cuda:99"):
        said = error_of(
            lambda device=device: load(settings.Model(name=str(folder), device=device), settings.Pictures())
        )
        assert f"the device {device} cannot be used here" in said


@pytest.mark.parametrize(("for_one_core", "threads"), [(10**9, 1), (0, 2)], ids=["small", "large"])
def test_a_small_model_takes_one_core_and_leaves_torch_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, for_one_core: int, threads: int
) -> None:
    monkeypatch.setattr("encoder.clip.FOR_ONE_CORE", for_one_core)
    seen: list[int] = []
    monkeypatch.setattr(
        "encoder.clip.normalised", lambda *given: (seen.append(torch.get_num_threads()), normalised(*given))[1]
    )
    model, usual = opened(folder), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model.encode([model.decode(png(image)) for image in images(2)])
        assert (seen, torch.get_num_threads()) == ([threads], 2)
    finally:
        torch.set_num_threads(usual)
