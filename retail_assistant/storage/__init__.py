"""Where things lie, and how they get there whole: files, tables, and a bucket that all share."""

from retail_assistant.storage.files import (
    StorageError,
    file_sha256,
    files_below,
    fingerprint,
    known_sha256,
    require_name,
    temporary_folder,
    write_atomically,
    written,
)
from retail_assistant.storage.tables import LATEST, TableRef, TableStore

__all__ = [
    "LATEST",
    "StorageError",
    "TableRef",
    "TableStore",
    "file_sha256",
    "files_below",
    "fingerprint",
    "known_sha256",
    "require_name",
    "temporary_folder",
    "write_atomically",
    "written",
]
