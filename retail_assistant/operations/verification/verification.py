"""Walk a storage: compare every file with what is claimed of it; say what to do where it differs.

Not looked at: what is compared whenever it is read and can be had again (responses of language
models), Dagster's and MLflow's databases, and what shoppers said.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from retail_assistant.evaluation.champion_history import require_trusted
from retail_assistant.evaluation.registry import champion_if_any
from retail_assistant.evaluation.signatures import SignatureError
from retail_assistant.operations.garbage.collection import garbage
from retail_assistant.operations.verification.claims import all_claims
from retail_assistant.operations.verification.findings import Claim, Finding, Verified
from retail_assistant.operations.verification.images import image_findings
from retail_assistant.operations.verification.store import Files, GoneError, stored_files
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError

READ_AT_ONCE = 4
UNREFERENCED_DAYS = 30.0
CHAMPIONS = 5
Progress = Callable[[int, int], None]
"""Told of bytes: compared so far, and all."""


def verify(
    settings: Settings, *, quick: bool = False, progress: Progress = lambda _done, _all: None
) -> Verified:
    """What is missing, altered, unreadable, not signed as is asked for, or orphaned.

    Args:
        settings: where the storage is: a folder or a bucket.
        quick: files are not read: they are there, and of their size.
        progress: told from several threads, one after the other.

    Raises:
        StorageError: the storage cannot be listed.
    """
    with stored_files(settings) as files:
        claims, findings = _told(files)
        compared = _Comparison(files, claims, progress, quick=quick)
        findings += compared.findings()
        findings += image_findings(settings, quick=quick)
        findings += _untrusted(settings)
        if not files.in_bucket:
            findings += _orphans(files)
        return Verified(
            place=files.place,
            files=len(compared.claims),
            bytes=compared.bytes,
            findings=sorted(
                set(findings), key=lambda one: (not one.is_damage, one.path, one.problem)
            ),
        )


def _told(files: Files) -> tuple[list[Claim], list[Finding]]:
    claims: list[Claim] = []
    findings: list[Finding] = []
    for one in all_claims(files):
        if isinstance(one, Claim):
            claims.append(one)
        else:
            findings.append(one)
    return claims, findings


class _Comparison:
    """Claims compared with the files, each file read once."""

    def __init__(
        self, files: Files, claims: Sequence[Claim], progress: Progress, *, quick: bool
    ) -> None:
        self._files, self._progress, self._quick = files, progress, quick
        self.claims: dict[str, list[Claim]] = defaultdict(list)
        for claim in claims:
            self.claims[claim.path].append(claim)
        self._all = sum(files.sizes.get(path, 0) for path in self.claims)
        self._done, self._lock = 0, Lock()
        self.bytes = 0

    def findings(self) -> list[Finding]:
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            found = list(pool.map(self._of_path, self.claims))
        return [one for ones in found for one in ones]

    def _of_path(self, path: str) -> list[Finding]:
        claims = self.claims[path]
        size = self._files.sizes.get(path)
        try:
            if size is None:
                # Listed before it was written, perhaps.
                with self._files.opened(path):
                    return []
            return self._wrong(path, claims, size)
        except GoneError:
            return [_finding(claims[0], "missing", f"{claims[0].by} names it")]
        except StorageError as error:
            return [_finding(claims[0], "unreadable", str(error))]
        finally:
            self._count(size or 0)

    def _wrong(self, path: str, claims: Sequence[Claim], size: int) -> list[Finding]:
        for claim in claims:
            if claim.size not in (None, size):
                return [_finding(claim, "altered", f"{size} bytes; {claim.by}: {claim.size}")]
        if self._quick or all(claim.sha256 is None for claim in claims):
            return []
        digest = self._files.sha256(path)
        with self._lock:
            self.bytes += size
        for claim in claims:
            if claim.sha256 is not None and not digest.startswith(claim.sha256):
                told = f"sha256 {digest[:12]}…; {claim.by}: {claim.sha256[:12]}…"
                return [_finding(claim, "altered", told)]
        return []

    def _count(self, size: int) -> None:
        with self._lock:
            self._done += size
            self._progress(self._done, self._all)


def _finding(claim: Claim, problem: str, detail: str) -> Finding:
    return Finding.model_validate(
        {"path": claim.path, "problem": problem, "detail": detail, "remedy": claim.remedy}
    )


def _untrusted(settings: Settings) -> Iterator[Finding]:
    """The champion, where it is not signed as is asked for."""
    try:
        champion = champion_if_any(settings)
        if champion is not None:
            require_trusted(champion, settings)
    except SignatureError as error:
        remedy = (
            "retail-assistant champion sign, where the signing key is, if it is the one that was"
            " promoted; else retail-assistant champion rollback"
        )
        yield Finding(path="champion.json", problem="untrusted", detail=str(error), remedy=remedy)
    except (StorageError, ValueError):
        # Told already: it, or an event, cannot be read.
        return


def _orphans(files: Files) -> Iterator[Finding]:
    """What nothing refers to, as garbage collection sees it."""
    found = garbage(files.root, older_than=UNREFERENCED_DAYS, champions=CHAMPIONS, now=time.time())
    for one in found.candidates:
        yield Finding(
            path=one.path,
            problem="orphaned",
            detail=f"{one.kind}: {one.reason}",
            remedy="retail-assistant gc --delete moves it to the trash",
        )
