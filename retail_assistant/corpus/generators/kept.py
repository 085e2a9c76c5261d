"""Model responses on disk, each as soon as it is there, so that nothing is paid for twice.

One small object a response, under the generator (kind, model, sampling, prompt version, seed) and
the digest of what was asked, which covers the product's content. They are listed once and read by
several threads: 15 seconds for 100,000, so they are not merged as image receipts are. What is
damaged counts as absent.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from retail_assistant.corpus.generators.model import Reply
from retail_assistant.objects import ObjectStore
from retail_assistant.storage import fingerprint

READERS = 16


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    digest: str
    replies: tuple[Reply, ...]


class KeptResponses:
    """The responses of one generator; `identity` is all that they depend on but the question."""

    def __init__(self, store: ObjectStore, identity: dict[str, JsonValue]) -> None:
        self._store = store
        self.folder = f"{identity['generator']}-{fingerprint(identity)}"

    def load(self, digests: Iterable[str]) -> dict[str, tuple[Reply, ...]]:
        """What is kept of these questions: the replies to each, at least one."""
        there = self._store.sizes(self.folder)
        wanted = [digest for digest in digests if self._name(digest) in there]
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(self._read, wanted)
            return {
                digest: replies for digest, replies in zip(wanted, found, strict=True) if replies
            }

    def keep(self, digest: str, replies: Sequence[Reply]) -> None:
        """Write the replies to a question; those kept before are replaced."""
        content = _Kept(digest=digest, replies=tuple(replies)).model_dump_json()
        self._store.put(self._name(digest), content.encode())

    def _name(self, digest: str) -> str:
        return f"{self.folder}/{digest[:2]}/{digest}.json"

    def _read(self, digest: str) -> tuple[Reply, ...]:
        content = self._store.get(self._name(digest))
        try:
            kept = _Kept.model_validate_json(content or b"")
        except ValidationError:
            return ()
        return kept.replies if kept.digest == digest else ()
