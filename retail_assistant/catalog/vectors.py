"""The vectors of a catalog, each computed once: taken over, resumed, or embedded.

Vectors lie in a file as wide as the catalog has distinct embedding texts, so that a million of
them need no memory, and a build that is killed finds there what it had embedded before.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from retail_assistant.catalog.embedding import DIMENSIONS, embed

Progress = Callable[[float, float, str], None]
"""Called with done, total and a note; `Workload.progress` is one."""

KEY = "embedding_key"
KEY_TYPE = "S32"
# A killed build loses at most one chunk: a few seconds of embedding on two cores.
CHUNK_TEXTS = 1024
_MISSING, _REUSED, _EMBEDDED = 0, 1, 2


class KnownVectors(NamedTuple):
    """Some vectors that exist already: `keys` (n,) as KEY_TYPE, `vectors` (n, 384) as float32."""

    keys: np.ndarray
    vectors: np.ndarray


class VectorFile:
    """One vector a distinct embedding text, in a folder; open it with the same texts to go on."""

    def __init__(self, texts: pl.DataFrame, folder: Path) -> None:
        """`texts`: embedding_key and text, keys unique."""
        texts = texts.sort(KEY)
        self._texts = texts["text"]
        self._keys = texts[KEY].to_numpy().astype(KEY_TYPE)
        name = hashlib.blake2b(self._keys.tobytes(), digest_size=8).hexdigest()
        self.folder = folder / name
        if not self.folder.is_dir():
            # What another catalog left here helps nobody.
            shutil.rmtree(folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        self._vectors = self._mapped("vectors.f32", np.dtype(np.float32), DIMENSIONS)
        self._state = self._mapped("state.u8", np.dtype(np.uint8), 1)

    def _mapped(self, name: str, dtype: np.dtype, width: int) -> np.memmap:
        path, size = self.folder / name, len(self._keys) * width * dtype.itemsize
        # A file of another size was cut short; one that grows to its size is full of zeros.
        if path.exists() and path.stat().st_size != size:
            path.unlink()
            (self.folder / "state.u8").unlink(missing_ok=True)
        shape = (len(self._keys), width)
        if path.exists():
            return np.memmap(path, dtype=dtype, mode="r+", shape=shape)
        return np.memmap(path, dtype=dtype, mode="w+", shape=shape)

    def fill(self, known: Iterable[KnownVectors], progress: Progress) -> None:
        """Take over what is known and embed the rest, in chunks that outlive a killed process."""
        for some in known:
            self._take(some)
        missing = np.flatnonzero(self._state[:, 0] == _MISSING)
        done, total = len(self._keys) - len(missing), len(self._keys)
        for start in range(0, len(missing), CHUNK_TEXTS):
            progress(done + start, total, "product texts have a vector")
            rows = missing[start : start + CHUNK_TEXTS]
            self._put(rows, embed(self._texts.gather(rows).to_list()), _EMBEDDED)
        progress(total, total, "product texts have a vector")

    def _take(self, known: KnownVectors) -> None:
        rows = np.searchsorted(self._keys, known.keys)
        rows[rows == len(self._keys)] = 0
        wanted = (self._keys[rows] == known.keys) & (self._state[rows, 0] == _MISSING)
        self._put(rows[wanted], known.vectors[wanted], _REUSED)

    def _put(self, rows: np.ndarray, vectors: np.ndarray, state: int) -> None:
        self._vectors[rows] = vectors
        self._vectors.flush()
        # Only now: a state that says so must not be ahead of its vector.
        self._state[rows] = state
        self._state.flush()

    def vectors(self, keys: pl.Series) -> np.ndarray:
        """The vectors of some keys, float32 of shape (len(keys), 384), in the order given."""
        found: np.ndarray = np.asarray(self._vectors[self._rows(keys)])
        return found

    def reused(self, keys: pl.Series) -> np.ndarray:
        """Whether each key's vector was taken over, bool of shape (len(keys),)."""
        reused: np.ndarray = np.asarray(self._state[self._rows(keys), 0] == _REUSED)
        return reused

    def _rows(self, keys: pl.Series) -> np.ndarray:
        return np.searchsorted(self._keys, keys.to_numpy().astype(KEY_TYPE))
