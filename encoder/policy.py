"""One policy of what a picture looks like, for index, query and thumbnails.

First frame; EXIF orientation applied; transparency on white; 16-bit, 32-bit and float channels scaled to 8 bits. Colour profiles are left
aside, as CLIP's own processor leaves them. Nothing is decoded before its size is known to be allowed.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from pixtail.core.errors import PictureError, Reason

# Named one by one: each decoder is a door for whoever can upload.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "PPM")
MAX_PIXELS: Final = 100_000_000

Image.MAX_IMAGE_PIXELS = (
    None  # its check only warns below twice the limit; ours is in `_open`, before anything is decoded
)

_REMARKS: Final = ("ignore", None, Warning, re.compile(r"PIL\.|encoder\.policy"), 0)
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF", b"P5", b"P6")
_FOREIGN = re.compile(
    rb"8BPS|%PDF|%!PS|\x00\x00\x00\x0cjP  |\xff\x0a|\x00\x00\x00\x0cJXL |\x00\x00\x01\x00"  # PSD PDF EPS JPEG-2000 JPEG-XL ICO
    rb"|....ftyp(heic|heix|hevc|mif1|msf1)|\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg",
    re.DOTALL,
)
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture as it is seen: mode RGB, upright. `format` is Pillow's name of the file format."""

    image: Image.Image
    format: str


def open_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Opened:
    """The picture in `data`. Thread-safe.

    Raises `PictureError`: `not_an_image`, `unsupported` (a format or colour mode we do not read), `too_large`, `corrupt`.
    """
    _quieten()
    image = _open(data, max_pixels)
    try:
        image.load()
        return Opened(_upright(_rgb(image), _orientation(image)), _format(image))
    except PictureError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise PictureError(
            Reason.CORRUPT, f"the {image.format} file is damaged ({type(error).__name__}: {error})"
        ) from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # mostly UnidentifiedImageError, but a broken header can raise anything
        raise _unidentified(data) from error
    if image.width * image.height > max_pixels:
        raise PictureError(
            Reason.TOO_LARGE,
            f"the picture has {image.width} × {image.height} pixels, more than {max_pixels} in all",
            "Raise pictures.max_pixels",
        )
    return image


def _unidentified(data: bytes) -> PictureError:
    if not data:
        return PictureError(Reason.NOT_AN_IMAGE, "the file is empty")
    if data.startswith(_SIGNATURES) or data[4:12] == b"ftypavif":
        return PictureError(Reason.CORRUPT, "the file begins like a picture, but its header is damaged")
    if _FOREIGN.match(data[:1024]):
        return PictureError(
            Reason.UNSUPPORTED, "the file has a format that is not read", f"Read are {', '.join(FORMATS)}"
        )
    return PictureError(Reason.NOT_AN_IMAGE, "the file is no picture")


def _format(image: Image.Image) -> str:
    name = image.format or ""
    return "JPEG" if name == "MPO" else name  # a JPEG with a second picture behind it, as phones write them


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _eight_bits(image, ladder=(65535,))
    if image.mode in ("I", "F"):
        return _eight_bits(image, ladder=(1, 255, 65535) if image.mode == "F" else (255, 65535))
    if image.has_transparency_data:
        return _on_white(image)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise PictureError(Reason.UNSUPPORTED, f"the colour mode {image.mode} is not read") from error


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, "RGBA")).convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _eight_bits(image: Image.Image, ladder: tuple[int, ...]) -> Image.Image:
    """Grey values from 0 to the lowest step of the ladder that holds them all, or else from the darkest to the brightest, become 0 … 255.

    `convert("RGB")` would clip them at 255 instead: a 16-bit picture would turn all white.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    step = next((s for s in ladder if low >= 0 and high <= s), None)
    if step is not None:
        low, high = 0.0, float(step)
    scaled = (values - low) * (255.0 / ((high - low) or 1.0))
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """Read after loading: PNG may keep its EXIF behind the pixels, and the TIFF reader has turned the picture by then."""
    try:
        return _ORIENTATIONS.get(image.getexif().get(Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block says nothing about the pixels
        return None


def _upright(image: Image.Image, orientation: Image.Transpose | None) -> Image.Image:
    return image if orientation is None else image.transpose(orientation)


def _quieten() -> None:
    """Keeps Pillow's remarks about odd metadata to itself, from here on.

    Not `warnings.catch_warnings`: it is not thread-safe, of two that overlap one restores the other's filters.
    """
    if _REMARKS not in warnings.filters:
        warnings.filterwarnings("ignore", module=_REMARKS[3].pattern)
