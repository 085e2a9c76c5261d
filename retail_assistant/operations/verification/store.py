"""The files of a storage folder, or of a bucket, by name: listed once, read one by one."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError, file_sha256, files_below, temporary_folder
from retail_assistant.storage.bucket import GCS, fetch, shared_sizes, working_copy

TOPS = ("artefacts", "tables", "champions", "approvals")
"""The folders that hold what is verified."""

CHAMPION = "champion.json"
_GROUPED_BY = 3


class GoneError(StorageError):
    """A file that was listed, or named, is not there."""


@dataclass(frozen=True)
class Files:
    """What a storage has.

    root: the folder; of a bucket a working copy for this purpose only, empty but for what is read.
    place: of the storage, for people.
    sizes: bytes by name, with forward slashes, of all files below `TOPS`, and the champion's.
    in_bucket: whether what is read has to come from there, and does not stay here.
    """

    root: Path
    place: str
    sizes: dict[str, int]
    in_bucket: bool

    def below(self, folder: str) -> list[str]:
        """The names below a folder."""
        key = "/".join(folder.split("/")[:_GROUPED_BY])
        names = self._groups.get(key, []) if folder.count("/") >= _GROUPED_BY - 1 else self.sizes
        return [name for name in names if name.startswith(f"{folder}/")]

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        """Names by their first parts: looking through all of them for each artefact takes long."""
        groups: dict[str, list[str]] = defaultdict(list)
        for name in self.sizes:
            groups["/".join(name.split("/")[:_GROUPED_BY])].append(name)
        return groups

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """A file, here as long as the context lasts.

        Raises:
            GoneError: it is not there.
            StorageError: it cannot be read.
        """
        path = self.root / name
        fetch(path)
        if not path.is_file():
            raise GoneError(f"{self.place}/{name} is gone")
        try:
            yield path
        except OSError as error:
            raise StorageError(f"{self.place}/{name}: {error.strerror or error}") from error
        finally:
            if self.in_bucket:
                path.unlink(missing_ok=True)

    def text(self, name: str) -> str:
        """The content of a small file."""
        with self.opened(name) as path:
            return path.read_text(encoding="utf-8", errors="replace")

    def sha256(self, name: str) -> str:
        """The hash of a file as it is now, wherever it is."""
        with self.opened(name) as path:
            return file_sha256(path)


@contextmanager
def stored_files(settings: Settings) -> Iterator[Files]:
    """The files of the storage that the settings name.

    Raises:
        BucketError: it cannot be listed.
    """
    if not settings.storage_uri.startswith(GCS):
        root = settings.storage
        yield Files(root, str(root), _here(root), in_bucket=False)
        return
    folder = settings.work_folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # Not the working copy that others read from: what is read here is thrown away at once.
    with temporary_folder(folder, ".verifying-") as own:
        root = working_copy(settings.storage_uri, own, settings.storage_retry_seconds)
        yield Files(root, settings.storage_uri.rstrip("/"), _there(root), in_bucket=True)


def _here(root: Path) -> dict[str, int]:
    paths = [path for top in TOPS for path in files_below(root / top)]
    paths += [root / CHAMPION] if (root / CHAMPION).is_file() else []
    found = {}
    for path in paths:
        try:
            found[path.relative_to(root).as_posix()] = path.stat().st_size
        except FileNotFoundError:
            # A run is at work here.
            continue
    return found


def _there(root: Path) -> dict[str, int]:
    found = {
        f"{top}/{name}": size for top in TOPS for name, size in shared_sizes(root / top).items()
    }
    fetch(root / CHAMPION)
    if (root / CHAMPION).is_file():
        found[CHAMPION] = (root / CHAMPION).stat().st_size
    return found
