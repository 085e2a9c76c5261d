"""Reading a folder of store knowledge; nothing outside it, nothing too large, nothing unread.

    terms.csv | terms.yaml                            term, definition
    questions.csv | questions.jsonl | questions.yaml  question, answer, choices (optional)
    documents/*.md | documents/*.txt                  policies, transcripts

In a .csv choices are parted by "|". A README.md and hidden files are ignored.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from retail_assistant.storage import fingerprint
from retail_assistant.yaml_files import parsed_yaml

TABLES = {
    "terms": ("terms.csv", "terms.yaml"),
    "questions": ("questions.csv", "questions.jsonl", "questions.yaml"),
}
FIELDS = {"terms": ("term", "definition"), "questions": ("question", "answer", "choices")}
OPTIONAL = frozenset({"choices"})
DOCUMENTS = "documents"
DOCUMENT_SUFFIXES = (".md", ".txt")
IGNORED = "README.md"

MAX_FILE_BYTES = 4 << 20
MAX_ROWS = 20_000
MAX_DOCUMENTS = 1_000

_ALLOWED = f"{', '.join(name for names in TABLES.values() for name in names)}, {DOCUMENTS}/"
# ValueError: YamlError, JSONDecodeError, and what Python says of a number of 5,000 digits.
_SYNTAX_ERRORS = (csv.Error, ValueError, RecursionError)


class KnowledgeError(ValueError):
    """The folder cannot be used; the message names file and row, and says what is allowed."""


class Entry(NamedTuple):
    """A row of a file, as it stands there: `row` counts data rows from 1."""

    file: str
    row: int
    fields: Mapping[str, Any]


def knowledge_version(folder: Path) -> str:
    """A hash of the names and contents of all files that are read.

    Raises:
        KnowledgeError: see `read_entries` and `read_documents`.
    """
    return fingerprint({name: fingerprint({"text": t}) for name, t in read_texts(folder).items()})


def read_entries(folder: Path, kind: str) -> Iterator[Entry]:
    """The rows of all files of a kind (`terms`, `questions`).

    Raises:
        KnowledgeError: a file that is not allowed, leads out of the folder, is too large, is no
            UTF-8, or cannot be parsed; columns that are missing or unknown; too many rows.
    """
    for name, text in read_texts(folder).items():
        if name not in TABLES[kind]:
            continue
        number = 0
        try:
            for number, fields in enumerate(_rows(name, text, FIELDS[kind]), start=1):
                if number > MAX_ROWS:
                    raise KnowledgeError(f"{name}: more than {MAX_ROWS} rows; allowed: {MAX_ROWS}")
                yield Entry(name, number, fields)
        except KnowledgeError:
            raise
        except _SYNTAX_ERRORS as error:
            why = " ".join(str(error).split())[:300]
            kind_of_file = name.rpartition(".")[2].upper()
            raise KnowledgeError(f"{name}: row {number + 1}: not {kind_of_file}: {why}") from error


def read_documents(folder: Path) -> dict[str, str]:
    """The documents' texts by their names in the folder, in the order of their names.

    Raises:
        KnowledgeError: as `read_entries`.
    """
    texts = read_texts(folder)
    return {name: text for name, text in texts.items() if name.startswith(f"{DOCUMENTS}/")}


def read_texts(folder: Path) -> dict[str, str]:
    """Every file's text by its name in the folder."""
    if not folder.is_dir():
        raise KnowledgeError(f"{folder} is not a folder; allowed: a folder with {_ALLOWED}")
    root = folder.resolve()
    tables = {name for names in TABLES.values() for name in names}
    found: dict[str, str] = {}
    for path in _visible(folder):
        if path.name == DOCUMENTS:
            found |= _document_texts(path, root)
        elif path.name in tables:
            found[path.name] = _text(path, root)
        else:
            raise KnowledgeError(f"{path}: allowed: {_ALLOWED}")
    return found


def _document_texts(folder: Path, root: Path) -> dict[str, str]:
    if not _inside(folder, root).is_dir():
        raise KnowledgeError(f"{folder}: allowed: a folder")
    paths = _visible(folder)
    if len(paths) > MAX_DOCUMENTS:
        raise KnowledgeError(f"{folder}: {len(paths)} documents; allowed: {MAX_DOCUMENTS}")
    for path in paths:
        if path.suffix not in DOCUMENT_SUFFIXES:
            raise KnowledgeError(f"{path}: allowed: {', '.join(DOCUMENT_SUFFIXES)}")
    return {f"{DOCUMENTS}/{path.name}": _text(path, root) for path in paths}


def _visible(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir())
    return [path for path in paths if not path.name.startswith(".") and path.name != IGNORED]


def _inside(path: Path, root: Path) -> Path:
    """Where a path leads in the end, which must be in the folder."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise KnowledgeError(f"{path} leads nowhere; allowed: files in the folder") from error
    if not real.is_relative_to(root):
        raise KnowledgeError(f"{path} leads out of the folder; allowed: files in the folder")
    return real


def _text(path: Path, root: Path) -> str:
    real = _inside(path, root)
    if not real.is_file():
        raise KnowledgeError(f"{path}: allowed: a file")
    with real.open("rb") as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise KnowledgeError(f"{path}: allowed: up to {MAX_FILE_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise KnowledgeError(f"{path}: not UTF-8 at byte {error.start}; allowed: UTF-8") from error


def _rows(name: str, text: str, fields: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    if name.endswith(".csv"):
        yield from _csv_rows(name, text, fields)
    elif name.endswith(".jsonl"):
        lines = (line for line in text.split("\n") if line.strip())
        yield from (_mapping(name, number, json.loads(line)) for number, line in _numbered(lines))
    else:
        content = parsed_yaml(text)
        if not isinstance(content, list):
            raise KnowledgeError(f"{name}: allowed: a list of entries with {', '.join(fields)}")
        yield from (_mapping(name, number, entry) for number, entry in _numbered(content))


def _numbered(entries: Any) -> Iterator[tuple[int, Any]]:
    return enumerate(entries, start=1)


def _mapping(name: str, row: int, entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise KnowledgeError(f"{name}: row {row}: allowed: fields with values, not {entry!r:.80}")
    return {str(key): value for key, value in entry.items()}


def _csv_rows(name: str, text: str, fields: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [column.strip() for column in next(reader, [])]
    needed = [field for field in fields if field not in OPTIONAL]
    if len(set(header)) < len(header) or not set(needed) <= set(header) <= set(fields):
        raise KnowledgeError(f"{name}: columns {', '.join(header)}; allowed: {', '.join(fields)}")
    for row in reader:
        if any(map(str.strip, row)):
            named = dict(zip(header, row, strict=False))
            # More fields than the header has: text with a comma that was not quoted.
            yield named if len(row) <= len(header) else {**named, "": ",".join(row[len(header) :])}
