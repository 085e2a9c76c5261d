"""A process that ends at a named place, in every way: what readers see, and what the next one does.

The whole graph is broken off in `test_crashed_graph`; here are the pieces that publish something.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.images.receipts import good_receipts, known_receipts
from retail_assistant.catalog.publication import fetch_index
from retail_assistant.objects import ObjectStore
from retail_assistant.storage.crash_points import crash_point, crossing
from retail_assistant_tests.catalog.images.conftest import ImageServer, image_server, local_policy
from retail_assistant_tests.faults.forked import ForkingProcess
from retail_assistant_tests.faults.readers import Seen, seen

__all__ = ["image_server", "local_policy"]

KILLED, TOLD, INTERRUPTED = "SIGKILL", "SIGTERM", "SIGINT"
OUTCOME = (
    "readers see what was before or what comes after, never half of it, and the next run ends as if"
    " nothing had happened"
)

Look = Callable[[Path], Seen]


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkingProcess]:
    folder = tmp_path_factory.mktemp("children")
    with ForkingProcess("retail_assistant_tests.faults.scenes", folder) as process:
        yield process


def end_everywhere(
    children: ForkingProcess,
    storage: Path,
    scene: str,
    hows: Sequence[str],
    look: Look = seen,
    arguments: Sequence[str] = (),
) -> set[str]:
    """End a scene at each of its places in each way; the places.

    Every time readers see one of two things, and the next run leaves what an unbroken one leaves.
    """
    before = storage.with_name("before")
    assert children.run(f"before_{scene}", str(storage)) == 0, children.said()
    storage.mkdir(exist_ok=True)
    shutil.copytree(storage, before)
    old, known = look(storage), len(children.places())
    assert children.run(scene, str(storage), *arguments) == 0, children.said()
    new, places = look(storage), list(dict.fromkeys(children.places()[known:]))
    assert old != new
    assert len(places) >= 3
    for place in places:
        for how in hows:
            _put_back(before, storage)
            passed = len(children.places())
            ended = children.run(scene, str(storage), *arguments, at=place, how=how)
            assert place in children.places()[passed:]
            assert ended != 0, f"{how} at {place} did not end the process"
            found = look(storage)
            assert all(found[name] in (old.get(name), new.get(name)) for name in found), place
            assert children.run(scene, str(storage), *arguments) == 0, children.said()
            assert look(storage) == new, place
    return set(places)


def _put_back(kept: Path, storage: Path) -> None:
    shutil.rmtree(storage)
    shutil.copytree(kept, storage)


@pytest.mark.fault("a process ends anywhere while it stores a table", OUTCOME)
def test_a_table(children: ForkingProcess, tmp_path: Path) -> None:
    places = end_everywhere(children, tmp_path / "var", "table", [KILLED, TOLD, INTERRUPTED])

    assert {"before table products", "within pointer products", "after pointer products"} <= places


@pytest.mark.fault("a process ends anywhere while it records a decision on the corpus", OUTCOME)
def test_an_approval(children: ForkingProcess, tmp_path: Path) -> None:
    places = end_everywhere(children, tmp_path / "var", "approval", [KILLED, TOLD, INTERRUPTED])

    assert places == {"before approval", "within approval", "after approval"}


@pytest.mark.long_fault
@pytest.mark.fault("a process ends anywhere while it promotes a model", OUTCOME)
def test_a_promotion(children: ForkingProcess, tmp_path: Path) -> None:
    places = end_everywhere(children, tmp_path / "var", "promotion", [KILLED])

    assert {"before event promotion", "after event promotion", "after pointer champion"} <= places


@pytest.mark.long_fault
@pytest.mark.fault("a process ends anywhere while it rolls a model back", OUTCOME)
def test_a_rollback(children: ForkingProcess, tmp_path: Path) -> None:
    places = end_everywhere(children, tmp_path / "var", "rollback", [KILLED])

    assert {"before event rollback", "after event rollback", "after pointer champion"} <= places


def published(storage: Path) -> Seen:
    folder = fetch_index(f"file://{storage}/published", storage.with_name("cache"))
    return {"index": [path.read_text() for path in sorted(folder.iterdir())]}


@pytest.mark.fault("a process ends anywhere while it publishes a search index", OUTCOME)
def test_a_publication(children: ForkingProcess, tmp_path: Path) -> None:
    places = end_everywhere(children, tmp_path / "var", "publication", [KILLED, TOLD], published)

    assert places == {"before publication", "within publication", "after publication"}


@pytest.mark.fault(
    "a process ends anywhere while it stores images",
    "an image is there whole or not at all, and what is known to be stored is not asked for again",
)
def test_images(
    children: ForkingProcess,
    tmp_path: Path,
    image_server: ImageServer,
    local_policy: Callable[..., ImagePolicy],
) -> None:
    policy = local_policy()
    urls = [image_server.url(f"good/{number}.jpg") for number in range(2)]

    def stored(storage: Path) -> Seen:
        store = ObjectStore(str(storage / "objects"))
        rows = good_receipts(known_receipts(store), store, policy, "run")
        found = {row["url"]: row["sha256"] for row in rows.iter_rows(named=True)}
        return {**found, "images": sorted(set(found.values())) if len(found) == 2 else None}

    arguments = [policy.model_dump_json(), *urls]
    places = end_everywhere(children, tmp_path / "var", "images", [KILLED], stored, arguments)

    assert {f"after object {kind}" for kind in ("images", "thumbnails", "receipts")} <= places
    assert "after merged receipts" in places
    asked = image_server.hits()
    assert children.run("images", str(tmp_path / "var"), *arguments) == 0, children.said()
    assert image_server.hits() == asked


def test_a_place_costs_nothing_and_does_nothing_unless_a_test_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crash_point("before", "anything")
    trace = tmp_path / "places.txt"
    monkeypatch.setenv("RETAIL_CRASH_TRACE", str(trace))
    with crossing("table", "products", None):
        pass
    with pytest.raises(ValueError, match="not stored"), crossing("pointer", "products"):
        raise ValueError("not stored")

    assert trace.read_text().splitlines() == [
        "before table products",
        "after table products",
        "before pointer products",
    ]
