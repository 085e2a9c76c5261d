"""An index at a URI: published file by file, opened through a checked copy on this machine.

LanceDB can read an object store directly, but a search scans a column of vectors: each question
would fetch it over the network. A copy is fetched once, named by what the index contains, and
answers from the local disk. Any fsspec URI will do: gs://, s3://, file://.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from retail_assistant.objects import file_system
from retail_assistant.settings import get_settings
from retail_assistant.storage import file_sha256, temporary_folder, write_atomically
from retail_assistant.storage.crash_points import crossing
from retail_assistant.storage.files import explained

MANIFEST = "index.json"


class CatalogIndexError(ValueError):
    """The index, or what it is to be built from, cannot be used."""


class PublishedFile(BaseModel):
    """One file of a published index."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="Relative to the index, with forward slashes.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="Bytes.")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or not path.parts:
            raise ValueError(f"{value!r} leads out of the index")
        return value


class PublishedIndex(BaseModel):
    """The manifest at a published index's URI, written last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: list[PublishedFile] = Field(min_length=1)

    @property
    def digest(self) -> str:
        """Names the content: the same files, the same digest."""
        text = json.dumps([[file.path, file.sha256] for file in self.files])
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def is_published(place: str) -> bool:
    """Whether a place is a URI, not a folder."""
    return "://" in place


def publish_index(folder: Path, uri: str) -> PublishedIndex:
    """Copy the index in `folder` to a URI, where it takes the place of the one before.

    Files lie under `<uri>/<digest>/`; the manifest names them and is replaced in one piece, so
    readers see the old index or the new one. The files of older ones stay: somebody may be
    fetching them, and a bucket's lifecycle rule knows better when to let them go.

    Raises:
        CatalogIndexError: the folder holds no files, or the URI cannot be written to.

    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise CatalogIndexError(f"{folder} holds no catalog index: build catalog_index first.")
    published = PublishedIndex(
        files=[
            PublishedFile(
                path=path.relative_to(folder).as_posix(),
                sha256=file_sha256(path),
                size=path.stat().st_size,
            )
            for path in paths
        ]
    )
    system, root = _file_system(uri)
    with _reported(f"{uri} cannot be written to"), crossing("publication"):
        for path, file in zip(paths, published.files, strict=True):
            target = f"{root}/{published.digest}/{file.path}"
            system.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            system.put_file(str(path), target)
        _put_whole(system, f"{root}/{MANIFEST}", published.model_dump_json().encode())
    return published


def _put_whole(system: Any, path: str, data: bytes) -> None:
    """Replace a small file in one piece, as object stores do by themselves."""
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(system, LocalFileSystem):
        write_atomically(Path(path), data)
    else:
        system.pipe_file(path, data)


def fetch_index(uri: str, cache: Path | None = None) -> Path:
    """The folder of a local copy of the index at a URI, fetched unless it is there already.

    Every file is checked for its size and SHA-256 before the copy is moved into place.

    Raises:
        CatalogIndexError: nothing is published there, it cannot be reached, or it is damaged.

    """
    cache = cache or get_settings().storage / "cache" / "catalog_index"
    system, root = _file_system(uri)
    published = _manifest(system, root, uri)
    folder = cache / published.digest
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with temporary_folder(cache, ".fetching-") as inside:
        copy = inside / "index"
        for file in published.files:
            _fetch(system, f"{root}/{published.digest}/{file.path}", copy / file.path, file, uri)
        _settle(copy, folder)
    return folder


def _file_system(uri: str) -> tuple[Any, str]:
    """The file system of a URI and the path in it; listings are never from a cache."""
    with _reported(f"{uri} cannot be opened"):
        system, root = file_system(uri)
    return system, root.rstrip("/")


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Say in one line what failed, why, and what to do about it."""
    try:
        yield
    except (CatalogIndexError, AssertionError, AttributeError, LookupError, TypeError):
        raise  # said already, or a mistake of ours
    except Exception as error:  # each remote file system has errors of its own, none shared
        raise CatalogIndexError(f"{what}: {explained(error)}") from error


def _manifest(system: Any, root: str, uri: str) -> PublishedIndex:
    with _reported(f"{uri} cannot be read"):
        try:
            return PublishedIndex.model_validate_json(system.cat_file(f"{root}/{MANIFEST}"))
        except FileNotFoundError as error:
            raise CatalogIndexError(
                f"{uri} holds no catalog index: publish catalog_index there."
            ) from error
        except ValidationError as error:
            raise CatalogIndexError(
                f"{uri}/{MANIFEST} is damaged: publish the index again."
            ) from error


def _fetch(system: Any, source: str, target: Path, file: PublishedFile, uri: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _reported(f"{uri}: {file.path} cannot be fetched"):
        system.get_file(source, str(target))
    if target.stat().st_size != file.size or file_sha256(target) != file.sha256:
        raise CatalogIndexError(f"{uri}: {file.path} is damaged: publish the index again.")


def _settle(copy: Path, folder: Path) -> None:
    """Move a whole copy into place; another process may have been faster."""
    try:
        copy.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(copy, ignore_errors=True)
