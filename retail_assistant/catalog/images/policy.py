"""How product images are fetched, and which are taken."""

from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.storage import fingerprint

ImageType = Literal["image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"]

PIXELS_PILLOW_ALLOWS = 89_478_485
"""Pillow's own limit (`Image.MAX_IMAGE_PIXELS`), above which it warns of a decompression bomb."""

LIMITS = (
    "max_bytes",
    "max_pixels",
    "types",
    "max_redirects",
    "ports",
    "allowed_private_networks",
)


class ImagePolicy(BaseModel):
    """Limits on what is fetched, how fast, and what counts as an image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["all", "first"] = Field(
        default="all",
        description="`all`: every URL of a product. `first`: in order, until one is stored.",
    )
    concurrency: int = Field(
        default=64, ge=1, le=4096, description="Downloads at a time, over all workers."
    )
    concurrency_per_host: int = Field(
        default=16, ge=1, le=4096, description="Downloads at a time from one host name and port."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Ray actors; null: one a core. Never more than `concurrency_per_host`.",
    )
    connect_timeout: float = Field(
        default=10.0, gt=0, le=300, description="Seconds until a connection stands."
    )
    read_timeout: float = Field(
        default=15.0, gt=0, le=300, description="Seconds without a byte arriving."
    )
    total_timeout: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds for one request, its body included."
    )
    attempts: int = Field(
        default=3, ge=1, le=10, description="Requests for a URL that fails in a way that may pass."
    )
    backoff: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="Seconds before the second attempt; doubles, with jitter.",
    )
    max_backoff: float = Field(
        default=30.0,
        ge=0,
        le=600,
        description="The longest wait between attempts in seconds, also if Retry-After asks for"
        " more.",
    )
    give_up_host_after: int = Field(
        default=32,
        ge=1,
        description="Requests to a host in a row (a worker) that got no connection or no answer"
        " in time, after which the worker fails the host's other URLs without asking.",
    )
    max_redirects: int = Field(default=5, ge=0, le=20, description="Redirects followed for a URL.")
    max_bytes: int = Field(
        default=20_000_000, ge=1, le=200_000_000, description="The largest body in bytes."
    )
    max_pixels: int = Field(
        default=50_000_000,
        ge=1,
        le=PIXELS_PILLOW_ALLOWS,
        description="The largest image, width x height.",
    )
    types: tuple[ImageType, ...] = Field(
        default=("image/jpeg", "image/png", "image/webp", "image/gif"),
        min_length=1,
        description="Kinds of images that are taken, by content.",
    )
    thumbnail_side: int = Field(
        default=256, ge=16, le=1024, description="The longer side of thumbnails in pixels."
    )
    ports: tuple[int, ...] = Field(
        default=(80, 443), min_length=1, description="Ports that a URL may name or imply."
    )
    allowed_private_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Networks that are not public and may be asked all the same, for example a"
        " retailer's own image server. Empty: none.",
    )
    retry_failed: bool = Field(
        default=True,
        description="Ask again, on a later run, for URLs whose failure looked final (no such"
        " image, not an image). Failures that may pass are always asked for again.",
    )
    warn_failed_share: float = Field(
        default=0.2, ge=0, le=1, description="The failed share of URLs that raises a warning."
    )

    @property
    def limits(self) -> str:
        """A hash of what decides whether an image is taken, not of how fast it is fetched."""
        dumped = self.model_dump(mode="json")
        return fingerprint({name: dumped[name] for name in LIMITS})
