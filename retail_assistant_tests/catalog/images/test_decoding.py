"""What counts as an image."""

import io
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retail_assistant.catalog.images.decoding import NotAnImageError, decode_image
from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant_tests.catalog.images.server import jpeg, png_bomb

POLICY = ImagePolicy(types=("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"))


def encoded(mode: str, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (300, 200)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "media_type"),
    [
        ("RGB", "JPEG", "image/jpeg"),
        ("L", "JPEG", "image/jpeg"),
        ("CMYK", "JPEG", "image/jpeg"),
        ("RGBA", "PNG", "image/png"),
        ("P", "PNG", "image/png"),
        ("LA", "PNG", "image/png"),
        ("I;16", "PNG", "image/png"),
        ("1", "PNG", "image/png"),
        ("RGBA", "WEBP", "image/webp"),
        ("P", "GIF", "image/gif"),
        ("RGB", "AVIF", "image/avif"),
        ("RGB", "MPO", "image/jpeg"),
    ],
)
def test_every_allowed_kind_gets_a_thumbnail(mode: str, kind: str, media_type: str) -> None:
    image = decode_image(encoded(mode, kind), POLICY)
    assert (image.type, image.width, image.height) == (media_type, 300, 200)
    thumbnail = Image.open(io.BytesIO(image.thumbnail))
    assert (thumbnail.format, thumbnail.mode, thumbnail.size) == ("JPEG", "RGB", (256, 171))


def test_a_picture_taken_sideways_has_an_upright_thumbnail() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(encoded("RGB", "JPEG", exif=exif), POLICY)
    assert (image.width, image.height) == (300, 200)
    assert Image.open(io.BytesIO(image.thumbnail)).size == (171, 256)


def test_what_is_transparent_is_white_in_the_thumbnail() -> None:
    thumbnail = Image.open(io.BytesIO(decode_image(encoded("RGBA", "PNG"), POLICY).thumbnail))
    assert thumbnail.getpixel((10, 10)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", "wrong_type"),
        (b"\xef\xbb\xbf  <HTML>", "wrong_type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "wrong_type"),
        (encoded("RGB", "BMP"), "wrong_type"),
        (encoded("RGB", "TIFF"), "wrong_type"),
        (jpeg(1)[:200], "undecodable"),
        (png_bomb(50_000), "too_many_pixels"),
        (png_bomb(20_000), "too_many_pixels"),
        (png_bomb(7_072), "too_many_pixels"),
    ],
)
@pytest.mark.fault(
    "An image is a decompression bomb: pixels, text, colour profile, frames, a body in gzip",
    "It is refused before it is unpacked, with its own status",
)
def test_what_is_not_taken(content: bytes, status: str) -> None:
    with pytest.raises(NotAnImageError) as refusal:
        decode_image(content, POLICY)
    assert refusal.value.status == status
    assert str(refusal.value)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def _with_chunk(kind: bytes, data: bytes) -> bytes:
    """A good PNG with another chunk before its pixels."""
    content = encoded("RGB", "PNG")
    place = content.index(b"IDAT") - 4
    return content[:place] + _chunk(kind, data) + content[place:]


def _packed(megabytes: int = 50) -> bytes:
    """So much of nothing, a thousand times smaller."""
    packer = zlib.compressobj()
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(megabytes)), packer.flush()])


PACKED = _packed()


def _gif(canvas: int, frame: int) -> bytes:
    """A picture that announces a canvas and a frame of so many pixels a side."""
    header = b"GIF89a" + struct.pack("<HHBBB", canvas, canvas, 0x80, 0, 0) + bytes(6)
    return header + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\2\2\x4c\1\0;"


@pytest.mark.fault(
    "An image is a decompression bomb: pixels, text, colour profile, frames, a body in gzip",
    "It is refused before it is unpacked, with its own status",
)
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (_with_chunk(b"zTXt", b"Comment\0\0" + PACKED), "undecodable"),
        (_with_chunk(b"iTXt", b"Comment\0\1\0\0\0" + PACKED), "undecodable"),
        (_with_chunk(b"iCCP", b"profile\0\0" + PACKED), "undecodable"),
        (_gif(65_535, 1), "too_many_pixels"),
        (_gif(1, 65_535), "too_many_pixels"),
    ],
    ids=["text", "international text", "profile", "canvas", "frame"],
)
def test_bombs_are_not_unpacked(content: bytes, status: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(NotAnImageError) as refusal:
            decode_image(content, POLICY)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refusal.value.status == status
    assert most < 20_000_000


@pytest.fixture(scope="module", params=[False, True], ids=["baseline", "progressive"])
def photo(request: pytest.FixtureRequest) -> bytes:
    """A JPEG so large that it is decoded at a quarter of its size."""
    buffer = io.BytesIO()
    picture = Image.effect_noise((1100, 1300), 60)
    picture.save(buffer, "JPEG", progressive=request.param)
    return buffer.getvalue()


@given(share=st.floats(0.001, 0.99999))
def test_a_large_photo_is_refused_wherever_it_is_cut_off(photo: bytes, share: float) -> None:
    assert decode_image(photo, POLICY).width == 1100
    with pytest.raises(NotAnImageError) as refusal:
        decode_image(photo[: int(len(photo) * share)], POLICY)
    assert refusal.value.status == "undecodable"


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    content = bytearray(encoded("RGB", "PNG"))
    content[content.index(b"IEND") - 5] ^= 1
    with pytest.raises(NotAnImageError) as refusal:
        decode_image(bytes(content), POLICY)
    assert refusal.value.status == "undecodable"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_detail_too_fine_for_a_thumbnail_becomes_its_mean(kind: str) -> None:
    checks = Image.frombytes("L", (2, 2), bytes([0, 255, 255, 0]))
    picture = Image.new("L", (600, 800))
    for x in range(0, 600, 2):
        picture.paste(checks, (x, 0))
    for y in range(2, 800, 2):
        picture.paste(picture.crop((0, 0, 600, 2)), (0, y))
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    thumbnail = Image.open(io.BytesIO(decode_image(buffer.getvalue(), POLICY).thumbnail))
    darkest, lightest = thumbnail.convert("L").getextrema()
    assert (darkest, lightest) == (pytest.approx(127, abs=30), pytest.approx(127, abs=30))


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=40), st.booleans())
def test_damaged_images_are_judged_and_never_break_anything(
    place: int, damage: bytes, png: bool
) -> None:
    content = encoded("RGB", "PNG" if png else "JPEG")
    content = content[:place] + damage + content[place + len(damage) :]
    try:
        image = decode_image(content, POLICY)
    except NotAnImageError as refusal:
        assert refusal.status in ("wrong_type", "undecodable", "too_many_pixels")
    else:
        assert image.thumbnail
