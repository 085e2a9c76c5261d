"""Giving what is stored another place: in a folder by its name, in a bucket by copies within it."""

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from retail_assistant.storage.bucket import MOST_AT_ONCE, bucket_of

Item = TypeVar("Item")
Found = TypeVar("Found")


def is_there(path: Path) -> bool:
    """Whether there is a file or a folder; of a bucket whether all machines have it.

    Raises:
        BucketError: the bucket cannot be read.
    """
    bucket = bucket_of(path)
    if bucket is None:
        return path.exists()
    return bool(bucket.below(path)) or bucket.has(path)


def move(source: Path, target: Path) -> bool:
    """Move a file or a folder; False where it is not there.

    Whatever ends this leaves it whole at its place, at the other one, or in a bucket at both. The
    working copies of a bucket keep what they have.

    Raises:
        BucketError: the bucket cannot be read or written.
    """
    bucket = bucket_of(source)
    if bucket is not None:
        return bucket.move(source, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    return True


def delete(path: Path) -> None:
    """Delete a folder with all that is in it, here and in a bucket.

    Raises:
        BucketError: the bucket cannot be written.
    """
    if (bucket := bucket_of(path)) is not None:
        bucket.withdraw(path)
        shutil.rmtree(path, ignore_errors=True)
        return
    shutil.rmtree(path)


def each(root: Path, function: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """The function's results in order; in a bucket, whose answers take their time, some at once."""
    if bucket_of(root) is None:
        return [function(one) for one in items]
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        return list(pool.map(function, items))
