"""Ray actors that share the work; one that dies takes no finished image with it."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.images.receipts import Receipt, read_receipts
from retail_assistant.catalog.images.worker import ImageWorker
from retail_assistant.launch.ray_cluster import RayClusterError
from retail_assistant.objects import ObjectStore, ObjectStoreError

BATCHES_AHEAD = 3
MIN_BATCH, MAX_BATCH = 8, 64
CPUS_AN_ACTOR = 0.5
"""An actor mostly waits; a cluster that does other work too still finds room for it."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class _Batch:
    urls: tuple[str, ...]
    worker: int
    actor: Any
    again: bool = False
    """It was with a worker that died."""


def shares(total: int, parts: int) -> list[int]:
    """`total` in `parts` nearly equal whole numbers that add up to it."""
    return [total // parts + (part < total % parts) for part in range(parts)]


class WorkerPool:
    """`ImageWorker`s as Ray actors, whose shares add up to the policy's concurrency.

    Args:
        policy: limits and concurrency.
        store_uri: where images and receipts are.
        run: the run's fingerprint.
        cpus: the cluster's cores.
    """

    def __init__(self, policy: ImagePolicy, store_uri: str, run: str, cpus: int) -> None:
        wanted = policy.workers or cpus
        self._size = min(wanted, policy.concurrency, policy.concurrency_per_host)
        self._given = (policy, store_uri, run)
        self._totals = shares(policy.concurrency, self._size)
        self._per_host = shares(policy.concurrency_per_host, self._size)
        self._store = ObjectStore(store_uri)
        self._batch = max(MIN_BATCH, min(MAX_BATCH, max(self._totals)))
        self._actors = [self._actor(number) for number in range(self._size)]
        self._check_actors()

    def _actor(self, number: int) -> Any:
        import ray

        actor = ray.remote(num_cpus=CPUS_AN_ACTOR, max_concurrency=2 * BATCHES_AHEAD)(ImageWorker)
        return actor.remote(*self._given, self._totals[number], self._per_host[number])

    def _check_actors(self) -> None:
        import ray

        try:
            ray.get([actor.ready.remote() for actor in self._actors])
        except ray.exceptions.RayError as error:
            last_line = str(error).strip().splitlines()[-1]
            raise RayClusterError(f"image workers do not start on Ray: {last_line}") from error

    def fetch(
        self, urls: Sequence[str], earlier: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[Rows]:
        """Receipts of all the URLs, some at a time, as they come.

        A worker that dies is replaced; what it had finished is read from its receipts, the rest is
        given out again. What was twice with a worker that died is then asked one by one: a URL
        that still takes its worker with it becomes `worker_died`.

        Raises:
            ObjectStoreError: the store does not take images.
            RayClusterError: the cluster is gone.
        """
        waiting = deque(
            tuple(urls[start : start + self._batch]) for start in range(0, len(urls), self._batch)
        )
        again: deque[tuple[str, ...]] = deque()
        suspects: list[str] = []
        flying: dict[Any, _Batch] = {}
        while waiting or again or flying:
            self._give_out(waiting, again, flying, earlier)
            reference, batch = self._next_done(flying)
            rows, unfinished = self._outcome(reference, batch)
            yield rows
            if unfinished and batch.again:
                suspects += unfinished
            elif unfinished:
                again.append(tuple(unfinished))
        for url in suspects:
            yield self._alone(url, earlier)

    def _give_out(
        self,
        waiting: deque[tuple[str, ...]],
        again: deque[tuple[str, ...]],
        flying: dict[Any, _Batch],
        earlier: Mapping[str, Mapping[str, Any]],
    ) -> None:
        held = [batch.worker for batch in flying.values()]
        for worker in range(self._size):
            for _ in range(BATCHES_AHEAD - held.count(worker)):
                source = again or waiting
                if not source:
                    return
                actor = self._actors[worker]
                batch = _Batch(source.popleft(), worker, actor, again=source is again)
                flying[self._ask(batch, earlier)] = batch

    def _ask(self, batch: _Batch, earlier: Mapping[str, Mapping[str, Any]]) -> Any:
        kept = {url: earlier[url] for url in batch.urls if url in earlier}
        return batch.actor.fetch.remote(batch.urls, kept)

    @staticmethod
    def _next_done(flying: dict[Any, _Batch]) -> tuple[Any, _Batch]:
        import ray

        (done,), _ = ray.wait(list(flying), num_returns=1)
        return done, flying.pop(done)

    def _outcome(self, reference: Any, batch: _Batch) -> tuple[Rows, list[str]]:
        """Receipts, and the URLs that got none because the worker died."""
        import ray

        try:
            return ray.get(reference), []
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ObjectStoreError):
                raise ObjectStoreError(str(error.cause)) from error
            raise RayClusterError(f"an image worker failed: {error.cause!r}") from error
        except ray.exceptions.RayActorError:
            self._replace(batch)
        rows = [receipt.model_dump() for receipt in read_receipts(self._store, batch.urls)]
        finished = {row["url"] for row in rows}
        return rows, [url for url in batch.urls if url not in finished]

    def _replace(self, batch: _Batch) -> None:
        """Start a worker for one that died; the dead one's other batches tell of the same death."""
        if self._actors[batch.worker] is batch.actor:
            self._actors[batch.worker] = self._actor(batch.worker)

    def _alone(self, url: str, earlier: Mapping[str, Mapping[str, Any]]) -> Rows:
        batch = _Batch((url,), 0, self._actors[0], again=True)
        rows, unfinished = self._outcome(self._ask(batch, earlier), batch)
        if not unfinished:
            return rows
        policy, _, run = self._given
        died = Receipt(
            url=url,
            status="worker_died",
            detail="the worker died while it had this image, three times",
            may_pass=True,
            run=run,
            limits=policy.limits,
        )
        return [died.model_dump()]
