"""Garbage collection: nothing that is referred to is ever listed, and what went comes back."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_assistant.launch.spec import ArtefactRef, write_artefact_ref
from retail_assistant.operations.costs import all_work
from retail_assistant.operations.garbage.collection import Found, garbage
from retail_assistant.operations.garbage.references import References, Window
from retail_assistant.operations.garbage.trash import collections, empty, restore, throw_away
from retail_assistant.storage import StorageError, TableRef, TableStore, write_atomically
from retail_assistant_tests.operations.works import aged, finished_work, pointed

OLD = 60.0


def found_in(root: Path, older_than: float = 30, champions: int = 1) -> Found:
    return garbage(root, older_than=older_than, champions=champions)


def listed(root: Path, **how: int) -> set[str]:
    return {one.path for one in found_in(root, **how).candidates}


def place(root: Path, one: ArtefactRef | TableRef) -> str:
    path = one.folder if isinstance(one, ArtefactRef) else one.path
    return str(path.relative_to(root))


def table(root: Path, name: str, content: str, partition: str | None = None) -> TableRef:
    return TableStore(root).write(pl.DataFrame({"text": [content]}), name, partition)


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "trash" not in path.relative_to(root).parts
    }


def test_what_pointers_name_stays_with_all_that_it_was_made_from(tmp_path: Path) -> None:
    corpus = table(tmp_path, "prompt_corpus", "old", "assistant")
    table(tmp_path, "prompt_corpus", "new", "assistant")
    unused = table(tmp_path, "products", "first")
    table(tmp_path, "products", "second")
    base = finished_work(tmp_path, "base_model", {"source": "v1"})
    # `adapter` has a pointer to what was made of a corpus that has none any more.
    made_from = {"prompt_corpus": corpus.sha256, "base_model": base.fingerprint}
    now = pointed(tmp_path, "adapter", finished_work(tmp_path, "adapter", made_from), "mine")
    before = finished_work(tmp_path, "adapter", made_from, config={"lora_r": 8})
    broken_off = finished_work(tmp_path, "adapter", {}, config={"lora_r": 4})
    (broken_off.folder / "manifest.json").unlink()
    aged(tmp_path, OLD)
    found = found_in(tmp_path)
    reasons = {one.path: one.reason for one in found.candidates}
    assert reasons == {
        place(tmp_path, unused): "nothing refers to it",
        place(tmp_path, before): "nothing refers to it",
        place(tmp_path, broken_off): "was never finished, and nobody is at it",
    }
    assert {one.path for one in found.references.reasons} >= {now.folder, base.folder, corpus.path}


def test_answers_that_no_pointer_names_stay_with_what_they_are_of(tmp_path: Path) -> None:
    adapter = pointed(tmp_path, "adapter", finished_work(tmp_path, "adapter", {"a": "1"}), "mine")
    gone = finished_work(tmp_path, "adapter", {"a": "2"})
    of_gone = finished_work(tmp_path, "predictions", {"adapter": gone.fingerprint})
    inputs = {"adapter": adapter.fingerprint}
    old_code = finished_work(tmp_path, "predictions", inputs, code_version="1")
    of_now = finished_work(tmp_path, "predictions", inputs, code_version="2")
    aged(tmp_path, OLD)
    aged(old_code.folder, OLD + 1)
    assert listed(tmp_path) == {place(tmp_path, one) for one in (gone, of_gone, old_code)}
    assert of_now.folder.is_dir()


def test_what_one_engine_answered_beside_it_is_no_reference(tmp_path: Path) -> None:
    now, gone = (finished_work(tmp_path, "adapter", {"a": str(number)}) for number in range(2))
    pointed(tmp_path, "adapter", now, "mine")
    answers = finished_work(tmp_path, "predictions", {"adapter": now.fingerprint})
    path = answers.folder / "spec.json"
    beside = {"beside": [{"inputs": {"adapter": gone.fingerprint}}]}
    write_atomically(path, json.dumps(json.loads(path.read_text()) | {"execution": beside}))
    aged(tmp_path, OLD)
    assert listed(tmp_path) == {place(tmp_path, gone)}


def champion_event(root: Path, number: int, adapter: str, kind: str = "promotion") -> None:
    event = {
        "number": number,
        "kind": kind,
        "adapter": adapter,
        "at": f"2020-01-{number:02}T00:00:00+00:00",
    }
    write_atomically(root / "champions" / f"{number:06d}-{kind}.json", json.dumps(event))


def test_champions_stay_as_far_as_a_rollback_reaches(tmp_path: Path) -> None:
    adapters = [finished_work(tmp_path, "adapter", {"n": str(number)}) for number in range(4)]
    merged = [
        finished_work(tmp_path, "served_model", {"adapter": one.fingerprint}) for one in adapters
    ]
    for number, one in enumerate(adapters[:3], start=1):
        champion_event(tmp_path, number, one.fingerprint)
    # One that is served is not in the history alone; one that never was is the job's latest.
    write_atomically(tmp_path / "champion.json", json.dumps({"adapter": adapters[2].fingerprint}))
    pointed(tmp_path, "adapter", adapters[3], "mine")
    write_atomically(
        tmp_path / "champions" / "registrations.json",
        json.dumps({"versions": {one.fingerprint: "m/1" for one in adapters}}),
    )
    aged(tmp_path, OLD)
    gone = {place(tmp_path, one) for one in (adapters[0], merged[0], merged[3])}
    assert listed(tmp_path, champions=2) == gone
    assert listed(tmp_path, champions=1) == gone | {
        place(tmp_path, one) for one in (adapters[1], merged[1])
    }


def test_approved_corpora_stay_and_rejected_ones_do_not(tmp_path: Path) -> None:
    versions = [table(tmp_path, "screened_dialogues", str(number)) for number in range(3)]
    for one, decision in zip(versions, ("approved", "rejected", "approved"), strict=True):
        write_atomically(
            tmp_path / "approvals" / f"{one.sha256[:12]}.json",
            json.dumps({"version": one.sha256, "decision": decision}),
        )
    aged(tmp_path, OLD)
    assert listed(tmp_path) == {place(tmp_path, versions[1])}


def test_what_a_run_is_at_stays_with_what_it_reads(tmp_path: Path) -> None:
    corpus = table(tmp_path, "prompt_corpus", "old")
    table(tmp_path, "prompt_corpus", "new")
    at_work = finished_work(tmp_path, "adapter", {"prompt_corpus": corpus.sha256})
    (at_work.folder / "manifest.json").unlink()
    aged(tmp_path, OLD)
    with FileLock(at_work.folder / ".lock"):
        aged(tmp_path, OLD)
        assert listed(tmp_path) == set()
    aged(tmp_path, OLD)
    assert listed(tmp_path) == {place(tmp_path, one) for one in (corpus, at_work)}
    # Looking makes nothing younger.
    assert listed(tmp_path) == {place(tmp_path, one) for one in (corpus, at_work)}


def test_images_that_no_table_names_may_go(tmp_path: Path) -> None:
    keep, lose = "a" * 64, "b" * 64
    for digest in (keep, lose):
        for path in (f"images/{digest[:2]}/{digest}.png", f"thumbnails/96px/bb/{digest}.jpg"):
            write_atomically(tmp_path / "objects" / path, b"picture")
    aged(tmp_path, OLD)
    # Without a table of images nothing is known of them.
    assert listed(tmp_path) == set()
    TableStore(tmp_path).write(pl.DataFrame({"sha256": [keep, None]}), "product_images")
    assert listed(tmp_path) == {
        f"objects/images/bb/{lose}.png",
        f"objects/thumbnails/96px/bb/{lose}.jpg",
    }


def test_what_killed_processes_were_writing_may_go(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    dead = int(ended.stdout)
    folder = tmp_path / "tables" / "products"
    for process in (dead, os.getpid()):
        (folder / f".writing-{process}-x1").mkdir(parents=True)
        write_atomically(folder / f".writing-{process}-x1" / "table.parquet", b"half")
        write_atomically(tmp_path / "serving" / f"vllm-{process}-1.txt", "log")
    write_atomically(tmp_path / "serving" / "keys.json", "{}")
    (folder / ".latest.json.abcd1234").write_text("{")
    young = listed(tmp_path)
    aged(tmp_path, OLD)
    assert young == set()
    assert listed(tmp_path) == {
        f"tables/products/.writing-{dead}-x1",
        "tables/products/.latest.json.abcd1234",
        f"serving/vllm-{dead}-1.txt",
    }


def test_what_is_thrown_away_comes_back_as_it_was(tmp_path: Path) -> None:
    pointed(tmp_path, "adapter", finished_work(tmp_path, "adapter", {"n": "1"}), "mine")
    finished_work(tmp_path, "adapter", {"n": "2"}, metrics={"train_seconds": 60.0})
    table(tmp_path, "products", "first")
    table(tmp_path, "products", "second")
    aged(tmp_path, OLD)
    before, work = files(tmp_path), all_work(tmp_path)
    wanted = found_in(tmp_path).candidates
    thrown = throw_away(tmp_path, older_than=30, champions=1)
    assert [one.path for one in thrown.moved] == [one.path for one in wanted]
    assert len(wanted) == 2
    assert not thrown.kept
    assert all(not (tmp_path / one.path).exists() for one in wanted)
    # What it cost is not forgotten.
    assert all_work(tmp_path) == work
    back, taken = restore(tmp_path)
    assert (len(back), taken, collections(tmp_path)) == (2, [], [])
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    with pytest.raises(StorageError, match="the trash is empty"):
        restore(tmp_path)


def test_the_trash_is_emptied_by_age(tmp_path: Path) -> None:
    finished_work(tmp_path, "adapter", {"n": "1"})
    aged(tmp_path, OLD)
    throw_away(tmp_path, older_than=30, champions=1)
    assert empty(tmp_path, older_than=1) == 0
    assert len(collections(tmp_path)) == 1
    assert empty(tmp_path) > 0
    assert collections(tmp_path) == []


def test_a_place_that_is_taken_again_is_left_alone(tmp_path: Path) -> None:
    ref = finished_work(tmp_path, "adapter", {"n": "1"})
    aged(tmp_path, OLD)
    throw_away(tmp_path, older_than=30, champions=1)
    finished_work(tmp_path, "adapter", {"n": "1"}, minutes=1)
    back, taken = restore(tmp_path)
    assert (back, [one.path for one in taken]) == ([], [place(tmp_path, ref)])
    assert len(collections(tmp_path)) == 1


@pytest.mark.fault(
    "garbage is collected twice at once",
    "the second is refused",
)
def test_two_collections_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trash").mkdir()
    with (
        FileLock(tmp_path / "trash" / ".lock"),
        pytest.raises(StorageError, match="another collection"),
    ):
        throw_away(tmp_path, older_than=30, champions=1)


def test_a_lost_storage_folder_has_no_garbage(tmp_path: Path) -> None:
    assert found_in(tmp_path / "nowhere").candidates == []


graphs = st.integers(1, 9).flatmap(
    lambda size: st.fixed_dictionaries(
        {
            # Inputs have smaller numbers, as in any store: what is made later is made from earlier.
            "inputs": st.tuples(
                *(st.sets(st.integers(0, max(number - 1, 0)), max_size=3) for number in range(size))
            ),
            "is_table": st.tuples(*(st.booleans() for _ in range(size))),
            "pointed": st.sets(st.integers(0, size - 1), max_size=3),
            "champion": st.none() | st.integers(0, size - 1),
            "approved": st.sets(st.integers(0, size - 1), max_size=2),
        }
    )
)


def build(root: Path, graph: Mapping) -> tuple[list[ArtefactRef | TableRef], set[int]]:
    """The store of a graph; its things by number, and those that must stay (found by search)."""
    things: list[ArtefactRef | TableRef] = []
    for number, is_table in enumerate(graph["is_table"]):
        if is_table:
            things.append(table(root, f"table_{number}", str(number)))
            (root / "tables" / f"table_{number}" / "latest.json").unlink()
            continue
        versions = {
            f"i{one}": getattr(things[one], "sha256", None) or things[one].fingerprint
            for one in graph["inputs"][number]
            if one < number
        }
        # Beside it another of the same asset, which a pointer names: so nothing is kept as derived.
        name = f"asset_{'abcdefghi'[number]}"
        things.append(finished_work(root, name, {**versions, "n": str(number)}))
        pointed(root, name, finished_work(root, name, {"other": "1"}))
    keep: set[int] = set()
    for number in graph["pointed"]:
        point(root, things[number], f"also{number}")
        keep.add(number)
    if graph["champion"] is not None:
        write_atomically(
            root / "champion.json", json.dumps({"adapter": name_of(things[graph["champion"]])})
        )
        keep.add(graph["champion"])
    for number in graph["approved"]:
        document = json.dumps({"decision": "approved", "version": name_of(things[number])})
        write_atomically(root / "approvals" / f"{number}.json", document)
        keep.add(number)
    waiting = list(keep)
    while waiting:
        one = waiting.pop()
        if graph["is_table"][one]:
            continue
        new = {other for other in graph["inputs"][one] if other < one} - keep
        keep |= new
        waiting += new
    return things, keep


def name_of(one: ArtefactRef | TableRef) -> str:
    return one.fingerprint if isinstance(one, ArtefactRef) else one.sha256


def point(root: Path, one: ArtefactRef | TableRef, label: str) -> None:
    if isinstance(one, ArtefactRef):
        write_artefact_ref(one, root, one.folder.parent.name, label)
    else:
        TableStore(root).point(one, one.path.parent.name, label=label)


@settings(max_examples=30)
@given(graphs)
def test_just_what_is_not_reachable_is_listed(graph: Mapping) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        things, keep = build(root, graph)
        aged(root, OLD)
        expected = {place(root, one) for number, one in enumerate(things) if number not in keep}
        assert listed(root) == expected
        # Thrown away, all that is in force is whole.
        in_force = References(root, Window(since=time.time() - 86_400, champions=1)).reasons
        throw_away(root, older_than=30, champions=1)
        assert all(one.path.exists() for one in in_force)
        assert listed(root) == set()
        restore(root) if collections(root) else None
        assert listed(root) == expected
