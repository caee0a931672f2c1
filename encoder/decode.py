"""Bytes of a picture file to what the model, and what a browser, is shown."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from encoder.policy import MAX_PIXELS, open_picture
from encoder.preprocessing import Preprocessing, pixels
from pixtail.core.points import PictureFacts
from pixtail.core.ports import Picture

JPEG_QUALITY = 85


def decode(data: bytes, wanted: Preprocessing, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture in the model's size, and the facts of its file. Thread-safe. Raises `PictureError` as `open_picture` does."""
    opened = open_picture(data, max_pixels)
    facts = PictureFacts(sha256(data), opened.image.width, opened.image.height, opened.format, len(data))
    return Picture(pixels(opened.image, wanted), facts)


def sha256(data: bytes) -> str:
    """Hexadecimal, as it stands in `_sync.sha256`."""
    return hashlib.sha256(data).hexdigest()


def thumbnail(data: bytes, max_side: int, max_pixels: int = MAX_PIXELS) -> bytes:
    """A JPEG no larger than `max_side` on either side, never enlarged; seen exactly as the index sees it. Raises as `decode` does."""
    image = open_picture(data, max_pixels).image
    image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True, exif=b"")
    return out.getvalue()
