"""Is it an image? Decided by decoding it, not by its name or its declared type."""

import io
from contextlib import suppress
from typing import NamedTuple

from PIL import Image, ImageOps, UnidentifiedImageError

from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.images.receipts import Status

FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/avif": "AVIF",
}
# Pillow calls a JPEG that holds several pictures (many cameras make them) MPO.
TYPES = {name: kind for kind, name in FORMATS.items()} | {"MPO": "image/jpeg"}
THUMBNAIL_QUALITY = 80
OPENINGS = {b"<!doctype html": "HTML", b"<html": "HTML", b"<svg": "SVG", b"<?xml": "XML"}


class NotAnImageError(ValueError):
    """Content that is not taken; `status` says in which way."""

    def __init__(self, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.status: Status = status


class DecodedImage(NamedTuple):
    """What is known of an image after decoding it."""

    type: str
    width: int
    height: int
    thumbnail: bytes


def decode_image(content: bytes, policy: ImagePolicy) -> DecodedImage:
    """Decode all of an image (of an animation the first frame) and shrink it to a JPEG.

    The size in pixels is read from the header and refused before any pixel is decoded. A large
    JPEG is decoded at a half, a quarter or an eighth of its size: its compressed data is read to
    the end all the same, so that what is cut off or cannot be decoded is found as at full size.

    Raises:
        NotAnImageError: wrong_type, too_many_pixels or undecodable.
    """
    try:
        # The named formats only: decoders that nobody needs are doors that nobody watches.
        with Image.open(io.BytesIO(content), formats=_formats(policy)) as image:
            kind, width, height = TYPES[str(image.format)], image.width, image.height
            _check_pixels(width * height, policy)
            if image.format == "PNG":
                _check_sums(content)
            return DecodedImage(kind, width, height, _thumbnail(image, policy))
    except NotAnImageError:
        raise
    except UnidentifiedImageError as error:
        raise NotAnImageError("wrong_type", _looks_like(content)) from error
    except Image.DecompressionBombError as error:
        raise NotAnImageError("too_many_pixels", str(error)) from error
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more
        # on hostile content; what they have in common is that the image is not usable.
        raise NotAnImageError("undecodable", f"{type(error).__name__}: {error}"[:200]) from error


def _formats(policy: ImagePolicy) -> list[str]:
    return [FORMATS[kind] for kind in policy.types]


def _check_pixels(pixels: int, policy: ImagePolicy) -> None:
    if pixels > policy.max_pixels:
        raise NotAnImageError("too_many_pixels", f"{pixels} pixels; allowed: {policy.max_pixels}")


def _check_sums(content: bytes) -> None:
    """Decoding looks at some of a PNG's checksums only."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        image.verify()  # the image cannot be used after it


def _thumbnail(image: Image.Image, policy: ImagePolicy) -> bytes:
    # Shrinking a palette image would take the nearest pixel instead of a mean.
    small = image.convert("RGBA") if image.mode in ("P", "PA", "LA") else image
    box = (policy.thumbnail_side, policy.thumbnail_side)
    # Half the time of Pillow's defaults; what it changes is less than what the JPEG below loses.
    small.thumbnail(box, Image.Resampling.HAMMING, reducing_gap=1.0)
    small.load()  # thumbnail() leaves what is small already undecoded
    # A damaged orientation tag does not make a good picture unusable.
    with suppress(Exception):
        small = ImageOps.exif_transpose(small)
    if small.mode == "RGBA":
        page = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(page, small)
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def _looks_like(content: bytes) -> str:
    if not content:
        return "the body is empty"
    start = content[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for opening, kind in OPENINGS.items():
        if start.startswith(opening):
            return f"the content is {kind}, not an image"
    return f"the content is no image of an allowed type; it begins with {content[:8].hex(' ')}"
