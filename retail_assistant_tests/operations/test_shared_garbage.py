"""Garbage and costs with a bucket: what all machines have counts, and what went comes back."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from retail_assistant.evaluation.candidates import answered_by
from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref, read_manifest
from retail_assistant.operations.costs import all_work
from retail_assistant.operations.garbage import trash
from retail_assistant.operations.garbage.collection import Found, garbage
from retail_assistant.operations.garbage.trash import collections, empty, restore, throw_away
from retail_assistant.serving.feedback.store import remove_earlier_tables
from retail_assistant.settings import get_settings
from retail_assistant.storage import StorageError, TableRef, TableStore, write_atomically
from retail_assistant.storage.bucket import (
    bucket_of,
    fetch_folder,
    names_in,
    publish,
    shared_sizes,
    withdraw,
)
from retail_assistant.storage.lease import leased
from retail_assistant_tests.evaluation.manifests import finished
from retail_assistant_tests.operations.test_garbage import build, graphs, place, table
from retail_assistant_tests.operations.works import finished_work, pointed
from retail_assistant_tests.shared_storage import cloud, front, machines
from retail_assistant_tests.test_cli import Cli, cli

__all__ = ["cli", "cloud", "front"]

WEIGHTS = bytes(range(256)) * 4_000


def found_in(root: Path) -> Found:
    return garbage(root, older_than=0, champions=1)


def listed(root: Path) -> set[str]:
    return {one.path for one in found_in(root).candidates}


def made(root: Path, number: int) -> ArtefactRef:
    """A finished adapter that the bucket has."""
    ref = finished_work(root, "adapter", {"n": str(number)}, metrics={"train_seconds": 60.0})
    (ref.folder / "weights.bin").write_bytes(WEIGHTS)
    publish(ref.folder)
    return ref


def planted(root: Path) -> tuple[ArtefactRef, ArtefactRef, TableRef]:
    """An adapter that is in force, one that is not, and a table of before."""
    now, before = made(root, 1), made(root, 2)
    pointed(root, "adapter", now, "mine")
    unused = table(root, "products", "first")
    table(root, "products", "second")
    return now, before, unused


def test_what_any_machine_has_pointed_at_stays(tmp_path: Path) -> None:
    one, other, third = machines(tmp_path, count=3)
    _, before, unused = planted(one)
    found = found_in(other)
    assert {(c.path, c.kind) for c in found.candidates} == {
        (place(one, before), "artefact"),
        (place(one, unused), "table"),
    }
    assert found.candidates[0].bytes > len(WEIGHTS)
    # This machine has never had any of it, and has nothing of it now.
    assert not (other / "artefacts").exists()
    # Work that is not finished, on the third.
    half = finished_work(third, "adapter", {"n": "3"})
    (half.folder / "manifest.json").unlink()
    assert place(third, half) in listed(other)
    with leased(half.folder):
        assert place(third, half) not in listed(other)


def test_what_is_thrown_away_is_gone_for_all_and_comes_back(tmp_path: Path) -> None:
    one, other, third = machines(tmp_path, count=3)
    now, before, unused = planted(one)
    work = all_work(other)
    assert {w.fingerprint for w in work} == {now.fingerprint, before.fingerprint}
    thrown = throw_away(other, older_than=0, champions=1)
    assert {c.path for c in thrown.moved} == {place(one, before), place(one, unused)}
    assert (thrown.kept, listed(one)) == ([], set())
    assert read_manifest(third / before.folder.relative_to(one)) is None
    assert shared_sizes(before.folder) == {}
    assert read_artefact_ref(third, "adapter", "mine").fingerprint == now.fingerprint
    # What it cost is not forgotten, wherever one asks.
    assert all_work(third) == work
    assert [name for name, _ in collections(third)] == [thrown.trash]

    back, taken = restore(third)
    assert (len(back), taken, collections(other)) == (2, [], [])
    there = ArtefactRef(
        folder=third / before.folder.relative_to(one), fingerprint=before.fingerprint
    )
    assert (there.local / "weights.bin").read_bytes() == WEIGHTS
    assert read_manifest(there.folder) is not None
    assert names_in(one / "trash", "*/contents.json") == []

    throw_away(one, older_than=0, champions=1)
    assert empty(other, older_than=1) == 0
    assert empty(other) > len(WEIGHTS)
    assert shared_sizes(one / "trash") == {}
    with pytest.raises(StorageError, match="the trash is empty"):
        restore(other)


@pytest.mark.fault(
    "An artefact that is being thrown away is pointed at meanwhile", "It is back at its place"
)
def test_what_is_begun_to_be_used_meanwhile_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machines(tmp_path)
    _, before, unused = planted(one)
    moved = trash.move

    def used(source: Path, target: Path) -> bool:
        # Just before it goes another machine makes it a job's own.
        if source.name == before.fingerprint and "trash" not in source.parts:
            pointed(one, "adapter", before, "yours")
        return moved(source, target)

    monkeypatch.setattr(trash, "move", used)
    thrown = throw_away(other, older_than=0, champions=1)
    assert [c.path for c in thrown.moved] == [place(one, unused)]
    assert [c.path for c in thrown.kept] == [place(one, before)]
    assert shared_sizes(before.folder)["weights.bin"] == len(WEIGHTS)


@pytest.mark.fault("Two machines collect garbage at once", "The second is refused")
def test_one_machine_collects_at_a_time(tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    with (
        leased(one / "trash" / "collection"),
        pytest.raises(StorageError, match="another collection"),
    ):
        throw_away(other, older_than=0, champions=1)
    assert throw_away(other, older_than=0, champions=1).moved == []


def test_images_that_no_table_of_any_machine_names_may_go(tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    keep, lose = "a" * 64, "b" * 64
    for digest in (keep, lose):
        for path in (f"images/{digest[:2]}/{digest}.png", f"thumbnails/96px/bb/{digest}.jpg"):
            write_atomically(one / "objects" / path, b"picture")
    publish(one / "objects")
    assert listed(other) == set()
    TableStore(one).write(pl.DataFrame({"sha256": [keep, None]}), "product_images")
    gone = {f"objects/images/bb/{lose}.png", f"objects/thumbnails/96px/bb/{lose}.jpg"}
    assert listed(other) == gone
    throw_away(other, older_than=0, champions=1)
    assert len(names_in(one / "trash", "*.???")) == 2
    assert all(lose not in name for name in shared_sizes(one / "objects"))


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(graphs)
def test_a_bucket_s_garbage_is_that_of_a_folder(tmp_path: Path, graph: Mapping) -> None:
    folder = tmp_path / str(time.monotonic_ns())
    one, other = machines(folder / "machines")
    build(folder / "plain", graph)
    shutil.copytree(folder / "plain", one, dirs_exist_ok=True)
    for name in ("artefacts", "tables", "approvals", "champion.json"):
        publish(one / name)

    def told(found: Found) -> list[tuple[str, str, int, str]]:
        return [(c.path, c.kind, c.bytes, c.reason) for c in found.candidates]

    assert told(found_in(other)) == told(found_in(folder / "plain"))


def test_of_what_shoppers_said_no_earlier_table_stays(tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    for text in ("before", "now"):
        TableStore(one).write(pl.DataFrame({"answer_id": [text]}), "shopper_feedback")
    remove_earlier_tables(TableStore(one), "shopper_feedback")
    tables = [name for name in shared_sizes(one / "tables") if name.endswith(".parquet")]
    assert len(tables) == 1
    assert TableStore(other).ref("shopper_feedback").read()["answer_id"].to_list() == ["now"]


@pytest.mark.usefixtures("fresh_settings")
def test_the_commands_know_the_bucket(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = machines(tmp_path, count=1)
    _, before, _ = planted(one)
    bucket = bucket_of(one)
    assert bucket is not None
    monkeypatch.setenv("RETAIL_STORAGE_URI", bucket.uri)
    monkeypatch.setenv("RETAIL_WORK_FOLDER", str(tmp_path / "elsewhere"))
    get_settings.cache_clear()
    told = json.loads(cli("gc", "--older-than", "0", "--json").out)
    assert place(one, before) in [c["path"] for c in told["candidates"]]
    assert len(json.loads(cli("costs", "--json").out)["work"]) == 2
    assert "in the trash" in cli("gc", "--older-than", "0", "--delete").out
    assert "2 things are back" in cli("gc", "restore").out


def test_answers_that_another_machine_has_thrown_away_are_not_used(tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    adapter = pointed(one, "adapter", made(one, 1), "mine")
    folder = one / "artefacts" / "predictions" / "print"
    answers = pl.DataFrame({"answer": ["it is"]})
    finished(folder, {"predictions": answers}, {}, {"adapter": adapter.fingerprint})
    config = {"variants": [{"name": "mine", "grounding": "none"}], "max_tokens": 8}
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"config": config}))
    publish(folder)
    assert answered_by(one, "mine", adapter.fingerprint) is not None
    # The other one has seen that they are there, and not read them.
    fetch_folder(other / "artefacts" / "predictions", "*/manifest.json")
    withdraw(folder)
    assert answered_by(other, "mine", adapter.fingerprint) is None
