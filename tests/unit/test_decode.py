"""Bytes to pixels: exactly CLIP's own for ordinary pictures, one policy for the odd ones, a typed reason for the rest."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageFilter, PngImagePlugin
from PIL.ExifTags import Base

from encoder.decode import decode, sha256, thumbnail
from encoder.policy import FORMATS, open_picture
from encoder.preprocessing import Preprocessing, pixels
from pixtail.core.errors import PictureError, Reason

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP_224 = Preprocessing(224, 224, 224, Image.Resampling.BICUBIC, 1 / 255, MEAN, STD)
WHITE, RED, GREY = (255, 255, 255), (255, 0, 0), (128, 128, 128)


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Noise and edges: what a sloppy resize would get wrong."""
    rng = np.random.default_rng(width * 10_007 + height)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill="yellow", outline="black")
    return image.convert(mode)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def colour(data: bytes, x: int = 0, y: int = 0) -> Any:
    return open_picture(data).image.getpixel((x, y))


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(PictureError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    "size", [(224, 224), (640, 480), (481, 1023), (224, 223), (3, 5), (100, 3000), (1, 30), (500, 225), (7168, 224)]
)
@pytest.mark.parametrize("target", [224, 96, 97])
def test_pixels_are_those_of_the_clip_processor_to_the_last_bit(size: tuple[int, int], target: int) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": target}, crop_size={"height": target, "width": target})
    image = photo(*size)
    theirs = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    wanted = Preprocessing(target, target, target, Image.Resampling.BICUBIC, 1 / 255, MEAN, STD)
    np.testing.assert_array_equal(pixels(image, wanted), theirs.transpose(1, 2, 0))


@pytest.mark.parametrize(("shortest_edge", "crop"), [(224, 256), (None, 224), (256, 224)])
def test_other_preprocessor_settings_give_the_processors_pixels_too(shortest_edge: int | None, crop: int) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    size = {"shortest_edge": shortest_edge} if shortest_edge else {"height": crop, "width": crop}
    processor = CLIPImageProcessorPil(size=size, crop_size={"height": crop, "width": crop})
    image = photo(300, 401)
    theirs = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    wanted = Preprocessing(crop, crop, shortest_edge, Image.Resampling.BICUBIC, 1 / 255, MEAN, STD)
    np.testing.assert_array_equal(pixels(image, wanted), theirs.transpose(1, 2, 0))


def test_a_long_thin_strip_is_not_blown_up_to_gigabytes() -> None:
    """Whole, it would be scaled to 224 × 448,000 pixels, 301 MB; what is kept is the middle."""
    strip = Image.new("RGB", (10, 20_000), WHITE)
    strip.paste(RED, (0, 9_990, 10, 10_010))
    seen = pixels(strip, CLIP_224)
    assert seen.shape == (224, 224, 3)
    np.testing.assert_array_equal(seen[112, 112], RED)


def test_a_strip_is_all_but_what_the_whole_scaled_and_cropped_would_be() -> None:
    strip = photo(30, 2000).filter(ImageFilter.GaussianBlur(3))
    whole = np.asarray(strip.resize((224, int(224 * 2000 / 30)), Image.Resampling.BICUBIC)).astype(int)
    top = (whole.shape[0] - 224) // 2
    assert np.abs(pixels(strip, CLIP_224) - whole[top : top + 224]).max() <= 2


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"PPM", "GIF"}))
def test_every_format_that_is_read_is_read(kind: str) -> None:
    data = saved(photo(50, 40), kind)
    picture = decode(data, CLIP_224)
    assert picture.pixels.shape == (224, 224, 3)
    assert picture.pixels.dtype == np.uint8
    assert (picture.facts.format, picture.facts.width, picture.facts.height) == (kind, 50, 40)
    assert (picture.facts.bytes, picture.facts.sha256) == (len(data), sha256(data))


def test_a_jpeg_with_a_second_picture_behind_it_is_a_jpeg() -> None:
    data = saved(photo(20, 20), "MPO", save_all=True, append_images=[photo(10, 10)])
    assert decode(data, CLIP_224).facts.format == "JPEG"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_seen_upright(orientation: int, kind: str) -> None:
    """Each orientation of the EXIF standard, made by the inverse turn: red must come back to the upper left corner."""
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    upright = Image.new("RGB", (32, 16), WHITE)
    upright.paste(RED, (0, 0, 8, 8))
    stored = upright.transpose(Image.Transpose(inverse[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    seen = open_picture(saved(stored, kind, exif=exif)).image
    assert seen.size == (32, 16)
    red, green, _ = seen.getpixel((2, 2))
    assert (red > 200, green < 60) == (True, True), seen.getpixel((2, 2))
    assert min(seen.getpixel((30, 14))) > 200


def transparent_palette() -> bytes:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    return saved(image, transparency=1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(Image.new("RGBA", (4, 4), (255, 0, 0, 0))), WHITE),
        (saved(Image.new("RGBA", (4, 4), (255, 0, 0, 255))), RED),
        (saved(Image.new("RGBA", (4, 4), (0, 0, 0, 127))), GREY),
        (saved(Image.new("LA", (4, 4), (0, 0))), WHITE),
        (saved(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "WEBP", lossless=True), WHITE),
        (saved(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "TIFF"), WHITE),
        (transparent_palette(), WHITE),
        (saved(Image.new("L", (4, 4), 7), transparency=7), WHITE),
        (saved(Image.new("RGB", (4, 4), RED), transparency=RED), WHITE),
        (saved(Image.new("P", (4, 4), 0), "GIF", transparency=0), WHITE),
    ],
    ids=["RGBA", "opaque", "half", "LA", "WebP", "TIFF", "palette", "grey with one clear value", "RGB with one", "GIF"],
)
def test_transparency_lies_on_white(data: bytes, expected: tuple[int, int, int]) -> None:
    assert colour(data) == expected


def grey(values: list[float], dtype: str) -> Image.Image:
    return Image.fromarray(np.array([values], dtype))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(grey([0, 32896, 65535], "uint16")), [0, 128, 255]),
        (saved(grey([0, 32896, 65535], "uint16"), "TIFF"), [0, 128, 255]),
        (saved(grey([0, 32896, 65535], "int32"), "TIFF"), [0, 128, 255]),
        (saved(grey([0, 128, 255], "int32"), "TIFF"), [0, 128, 255]),
        (saved(grey([-1000, 0, 1000], "int32"), "TIFF"), [0, 128, 255]),
        (saved(grey([0, 0.5, 1], "float32"), "TIFF"), [0, 128, 255]),
        (saved(grey([0, 128, 255], "float32"), "TIFF"), [0, 128, 255]),
        (saved(grey([-5, 0, 5], "float32"), "TIFF"), [0, 128, 255]),
        (saved(grey([0, float("nan"), 1], "float32"), "TIFF"), [0, 0, 255]),
        (b"P5 3 1 65535\n" + np.array([0, 32896, 65535], ">u2").tobytes(), [0, 128, 255]),
        (saved(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")), [0, 255]),
    ],
    ids=[
        "PNG 16",
        "TIFF 16",
        "int32",
        "small int32",
        "signed",
        "unit float",
        "byte float",
        "signed float",
        "NaN",
        "PPM",
        "1",
    ],
)
def test_deep_channels_are_scaled_to_8_bits(data: bytes, expected: list[int]) -> None:
    assert [colour(data, x)[0] for x in range(len(expected))] == pytest.approx(expected, abs=1)


def test_cmyk_is_read() -> None:
    red, green, blue = colour(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95), 8, 8)
    assert (red > 240, green < 20, blue < 20) == (True, True, True)


def test_lab_is_read() -> None:
    assert colour(saved(Image.new("LAB", (4, 4), (136, 208, 195)), "TIFF")) == pytest.approx((250, 3, 11), abs=8)


def test_a_palette_is_resolved() -> None:
    assert colour(saved(Image.new("RGB", (4, 4), RED).convert("P"), "GIF")) == pytest.approx(RED, abs=5)


def test_an_animation_is_seen_by_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        seen = colour(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert seen == pytest.approx(RED, abs=8), kind


JPEG = saved(photo(200, 100), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.NOT_AN_IMAGE),
        (b"Hello, world\n" * 100, Reason.NOT_AN_IMAGE),
        (b"<!doctype html><html><body>404</body></html>", Reason.NOT_AN_IMAGE),
        (JPEG[: len(JPEG) // 2], Reason.CORRUPT),
        (JPEG[:20], Reason.CORRUPT),
        (saved(photo(99, 99))[:-2000], Reason.CORRUPT),
        (saved(photo(99, 99))[:12], Reason.CORRUPT),
        (saved(photo(99, 99), "WEBP")[:-500], Reason.CORRUPT),
        (saved(photo(99, 99), "AVIF")[:-500], Reason.CORRUPT),
        (saved(photo(9, 9), "GIF")[:20], Reason.CORRUPT),
        (b"8BPS\x00\x01" + bytes(100), Reason.UNSUPPORTED),
        (b"\x00\x00\x00\x18ftypheic" + bytes(100), Reason.UNSUPPORTED),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', Reason.UNSUPPORTED),
        (b"%PDF-1.7\n", Reason.UNSUPPORTED),
        (saved(photo(9, 9), "ICO"), Reason.UNSUPPORTED),
    ],
    ids=[
        "empty", "text", "HTML", "half a JPEG", "a JPEG's head", "a cut PNG", "a PNG's head", "a cut WebP", "a cut AVIF", "a GIF's head",
        "PSD", "HEIC", "SVG", "PDF", "ICO",
    ],
)  # fmt: skip
def test_what_is_no_good_picture_says_why(data: bytes, reason: Reason) -> None:
    assert reason_of(lambda: decode(data, CLIP_224)) is reason


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = saved(Image.new("1", (20_000, 10_000)))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    assert reason_of(lambda: decode(bomb, CLIP_224)) is Reason.TOO_LARGE
    assert reason_of(lambda: decode(saved(photo(20, 20)), CLIP_224, max_pixels=399)) is Reason.TOO_LARGE


def test_a_large_picture_that_the_settings_allow_raises_no_warning() -> None:
    """Pillow itself would warn from 89 million pixels on."""
    assert open_picture(saved(Image.new("1", (9_500, 9_500))), max_pixels=100_000_000).image.size == (9_500, 9_500)


def odd_metadata() -> bytes:
    """Pillow remarks on the EXIF block that is cut short."""
    return saved(photo(20, 20), "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00\x12\x01\x03\x00")


def test_odd_metadata_neither_fails_the_picture_nor_speaks() -> None:
    with warnings.catch_warnings(record=True) as spoken:
        warnings.simplefilter("always")
        assert decode(odd_metadata(), CLIP_224).pixels.any()
    assert spoken == []


def test_decoding_in_many_threads_gives_what_decoding_alone_gives() -> None:
    files = [saved(photo(60 + n, 80)) for n in range(4)] + [odd_metadata()]
    alone = [decode(data, CLIP_224).pixels for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode(data, CLIP_224).pixels, files * 5))
    for index, seen in enumerate(together):
        np.testing.assert_array_equal(seen, alone[index % len(files)])


def test_a_thumbnail_fits_its_side_and_is_never_enlarged() -> None:
    def size(data: bytes, side: int) -> tuple[int, int]:
        image = Image.open(io.BytesIO(thumbnail(data, side)))
        assert image.format == "JPEG"
        return image.size

    assert size(saved(photo(400, 200)), 100) == (100, 50)
    assert size(saved(photo(20, 10)), 100) == (20, 10)


def test_a_thumbnail_shows_what_the_index_sees() -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    clear = saved(Image.new("RGBA", (40, 20), (0, 0, 0, 0)), exif=exif)
    image = Image.open(io.BytesIO(thumbnail(clear, 40)))
    assert (image.size, image.getpixel((5, 5)), image.getexif().get(Base.Orientation)) == ((20, 40), WHITE, None)


def test_a_thumbnail_of_no_picture_says_why() -> None:
    assert reason_of(lambda: thumbnail(b"text", 100)) is Reason.NOT_AN_IMAGE


def test_colour_profiles_are_left_aside_as_clip_leaves_them() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert colour(saved(Image.new("RGB", (4, 4), RED), icc_profile=profile)) == RED
