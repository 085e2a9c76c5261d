"""What came of a URL, kept beside the images so that no run asks for it twice.

While a run lasts, each URL leaves one small object as soon as its image is stored: whatever is
killed, what was finished is known. A table that is written once in a while would lose the last
minutes, and one object for each URL is slow to list and read. So at the start and at the end of a
run the small objects are merged into one parquet segment; a start reads a handful of segments and
the few small objects that a killed run left.

A receipt says nothing of where the store is: addresses follow from the hash of the content.
"""

import hashlib
import io
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.objects import ObjectStore
from retail_assistant.storage.crash_points import crossing

LOOSE = "receipts/loose"
SEGMENTS = "receipts/segments"
MAX_SEGMENTS = 16
READERS = 32

Status = Literal[
    "stored",
    "skipped",
    "invalid_url",
    "refused_address",
    "not_found",
    "http_error",
    "timeout",
    "connection_error",
    "too_large",
    "too_many_pixels",
    "wrong_type",
    "undecodable",
    "worker_died",
]
"""`skipped`: not needed, because the product has an image already (mode `first`)."""

STATUSES: tuple[str, ...] = get_args(Status)

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
}

RECEIPT_SCHEMA = pl.Schema(
    {
        "url": pl.String,
        "status": pl.String,
        "detail": pl.String,
        "may_pass": pl.Boolean,
        "sha256": pl.String,
        "type": pl.String,
        "declared_type": pl.String,
        "size": pl.Int64,
        "width": pl.Int64,
        "height": pl.Int64,
        "attempts": pl.Int64,
        "run": pl.String,
        "limits": pl.String,
    }
)


class Receipt(BaseModel):
    """What came of one URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    status: Status
    detail: str = ""
    may_pass: bool = False
    """The failure may be gone next time: no answer, no connection, an overloaded server."""
    sha256: str | None = None
    type: str | None = None
    declared_type: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    attempts: int = 0
    run: str
    """Fingerprint of the run that asked."""
    limits: str
    """`ImagePolicy.limits` of that run."""


def image_name(sha256: str, kind: str) -> str:
    """The object of an image with this content."""
    return f"images/{sha256[:2]}/{sha256}.{EXTENSIONS[kind]}"


def thumbnail_name(sha256: str, side: int) -> str:
    """The object of the thumbnail of the image with this content; always a JPEG."""
    return f"thumbnails/{side}px/{sha256[:2]}/{sha256}.jpg"


def loose_name(url: str) -> str:
    """The object that holds the receipt of a URL until receipts are merged."""
    return f"{LOOSE}/{hashlib.sha256(url.encode()).hexdigest()}.json"


def write_receipt(store: ObjectStore, receipt: Receipt) -> None:
    """Keep a receipt: from here on its URL is finished."""
    store.put(loose_name(receipt.url), receipt.model_dump_json().encode())


def read_receipts(store: ObjectStore, urls: Sequence[str]) -> list[Receipt]:
    """The receipts that these URLs left since receipts were merged last."""
    return _read_loose(store, [loose_name(url) for url in urls])


def merge_receipts(store: ObjectStore) -> None:
    """Merge loose receipts into a segment, and segments into one where they are many.

    Deletes exactly what was merged, after it was written: two runs at once lose nothing.
    """
    loose = list(store.sizes(LOOSE))
    if loose:
        receipts = _read_loose(store, loose)
        with crossing("merged receipts"):
            _write_segment(store, receipt_frame(receipts))
        store.delete(loose)
    segments = list(store.sizes(SEGMENTS))
    if len(segments) > MAX_SEGMENTS:
        _write_segment(store, _newest(_read_segments(store, segments)))
        store.delete(segments)


def known_receipts(store: ObjectStore) -> pl.DataFrame:
    """One row a URL of `RECEIPT_SCHEMA`: what is known of it. Merges loose receipts first."""
    merge_receipts(store)
    return _newest(_read_segments(store, list(store.sizes(SEGMENTS))))


def good_receipts(
    known: pl.DataFrame, store: ObjectStore, policy: ImagePolicy, run: str
) -> pl.DataFrame:
    """The receipts that spare a request.

    Stored images whose object and thumbnail are there in full and which the policy still takes;
    failures that looked final, under the same limits, if the policy does not ask again or if it
    was this very run (continued after it was killed) that found them.
    """
    images = _object_sizes(store, "images")
    thumbnails = _object_sizes(store, f"thumbnails/{policy.thumbnail_side}px")
    stored = (
        known.filter(
            pl.col("status") == "stored",
            pl.col("size") <= policy.max_bytes,
            pl.col("width") * pl.col("height") <= policy.max_pixels,
            pl.col("type").is_in(policy.types),
        )
        .join(images, on=["sha256", "size"], how="semi")
        .join(thumbnails.filter(pl.col("size") > 0), on="sha256", how="semi")
    )
    final = (pl.col("status") != "stored") & ~pl.col("may_pass")
    kept = pl.lit(value=not policy.retry_failed) | (pl.col("run") == run)
    failed = known.filter(final & kept, pl.col("limits") == policy.limits)
    return pl.concat([stored, failed])


def receipt_frame(receipts: Sequence[Receipt]) -> pl.DataFrame:
    """Receipts as rows of `RECEIPT_SCHEMA`."""
    return pl.DataFrame([receipt.model_dump() for receipt in receipts], schema=RECEIPT_SCHEMA)


def _object_sizes(store: ObjectStore, prefix: str) -> pl.DataFrame:
    sizes = store.sizes(prefix)
    names = pl.Series("sha256", list(sizes), dtype=pl.String)
    return pl.DataFrame(
        [names.str.extract(r"([0-9a-f]{64})\.\w+$"), pl.Series("size", sizes.values(), pl.Int64)]
    )


def _newest(receipts: pl.DataFrame) -> pl.DataFrame:
    """One receipt a URL: the one of its image if it has any, else the last one written."""
    return receipts.sort(pl.col("status") == "stored", maintain_order=True).unique(
        "url", keep="last", maintain_order=True
    )


def _read_loose(store: ObjectStore, names: Sequence[str]) -> list[Receipt]:
    if not names:
        return []
    with ThreadPoolExecutor(READERS) as pool:
        contents = list(pool.map(store.get, names))
    return [receipt for content in contents if (receipt := _parsed(content)) is not None]


def _parsed(content: bytes | None) -> Receipt | None:
    """A receipt, or None for one that is gone, cut off or of another version: it is asked again."""
    if content is None:
        return None
    try:
        return Receipt.model_validate_json(content)
    except ValidationError:
        return None


def _write_segment(store: ObjectStore, receipts: pl.DataFrame) -> None:
    # Numbers only grow: the order of names is the order of writing.
    numbers = [int(name.rsplit("/")[-1][:6]) for name in store.sizes(SEGMENTS)]
    number = max(numbers, default=0) + 1
    buffer = io.BytesIO()
    receipts.write_parquet(buffer, compression="zstd")
    store.put(f"{SEGMENTS}/{number:06d}-{uuid.uuid4().hex}.parquet", buffer.getvalue())


def _read_segments(store: ObjectStore, names: Sequence[str]) -> pl.DataFrame:
    frames = [RECEIPT_SCHEMA.to_frame()]
    for name in sorted(names):
        content = store.get(name)
        if content is None:
            continue
        try:
            frames.append(pl.read_parquet(io.BytesIO(content)).select(RECEIPT_SCHEMA.names()))
        except pl.exceptions.PolarsError:
            # Cut off when the machine lost power, or of another version: asked again.
            continue
    return pl.concat(frames, how="vertical")
