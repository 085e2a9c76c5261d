"""The workload: tables in, dialogues, what could not be written, and what it took."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.corpus.dialogues import DialogueSchema
from retail_assistant.corpus.generate import (
    UNWRITTEN_SCHEMA,
    GenerateConfig,
    generation_spec,
    is_worth_another_run,
)
from retail_assistant.corpus.generators.policy import API_KEY_VARIABLE
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchError, LaunchSpec, Manifest
from retail_assistant.storage import TableStore
from retail_assistant_tests.chat_server import ChatServer
from retail_assistant_tests.corpora import template_dialogues

SECRET = "sk-very-secret-0123456789"
MakeSpec = Callable[..., LaunchSpec]


@pytest.fixture
def spec(
    embedded_assortment: pl.DataFrame, embedded_splits: pl.DataFrame, tmp_path: Path
) -> MakeSpec:
    """The work on the embedded catalog; its storage is the test's folder."""
    store = TableStore(tmp_path)

    def make(*, catalog: pl.DataFrame | None = None, **fields: Any) -> LaunchSpec:
        given = {"train_products": 20, "evaluation_products": 10, "seed": 7}
        around = {name: fields.pop(name) for name in ("knowledge", "again") if name in fields}
        products = embedded_assortment if catalog is None else catalog
        return generation_spec(
            GenerateConfig.model_validate(given | fields),
            store.write(products, "assortment"),
            store.write(embedded_splits, "product_splits"),
            tmp_path,
            **around,
        )

    return make


def openai(server: ChatServer) -> dict[str, Any]:
    return {"generator": {"kind": "openai", "model": "test", "url": server.url}}


def tables(spec: LaunchSpec, manifest: Manifest) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(dialogues, unwritten)."""
    dialogues, unwritten = (
        pl.read_parquet(manifest.path(spec.folder, name)) for name in ("dialogues", "unwritten")
    )
    assert unwritten.schema == UNWRITTEN_SCHEMA
    return DialogueSchema.validate(dialogues), unwritten


def test_templates_write_what_they_write_in_process(
    spec: MakeSpec, embedded_assortment: pl.DataFrame, embedded_splits: pl.DataFrame
) -> None:
    work = spec(train_products=None, evaluation_products=None)
    manifest = run_local(work)
    dialogues, unwritten = tables(work, manifest)
    expected = template_dialogues(embedded_assortment, embedded_splits, embedded_assortment, seed=7)
    assert dialogues.equals(expected)
    assert unwritten.is_empty()
    assert (manifest.metrics["dialogues"], manifest.metrics["cost"]) == (expected.height, 0)


@pytest.mark.fault(
    "An endpoint, a database, a webhook or MLflow refuses, and its error repeats the secret",
    "It is in no error text, log, artefact, MLflow entry or alert",
)
def test_a_model_writes_about_the_same_products(
    spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, SECRET)
    template_work = spec()
    by_template, _ = tables(template_work, run_local(template_work))

    def fault(subject: str, _number: int) -> str:
        return "malformed" if len(subject) % 7 == 0 else ""

    with ChatServer(fault=fault).running() as server:
        work = spec(**openai(server))
        manifest = run_local(work)
    dialogues, unwritten = tables(work, manifest)
    assert server.tokens[0] == f"Bearer {SECRET}"
    # Each planned question is written or has its reason; facts are the plan's, not the model's.
    missing = by_template.join(dialogues, on=["product_name", "intent", "subset"], how="anti")
    lost = set(unwritten["product_name"])
    assert lost
    assert set(missing["product_name"]) <= lost
    assert set(by_template["product_name"]) == set(dialogues["product_name"]) | lost
    facts = ["product_id", "asked_attribute", "gold_value"]
    assert dialogues.join(by_template, on=facts, how="anti", nulls_equal=True).is_empty()
    assert set(unwritten["reason"]) == {"malformed"}
    assert not is_worth_another_run(unwritten)
    metrics = manifest.metrics
    assert metrics["requests"] == server.requests.total()
    assert metrics["asked"] == len(server.requests)
    assert metrics["unwritten"] == {"malformed": unwritten.height}
    held = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in held)


@pytest.mark.fault(
    "An endpoint, a database, a webhook or MLflow refuses, and its error repeats the secret",
    "It is in no error text, log, artefact, MLflow entry or alert",
)
def test_a_failure_is_one_line_without_the_key(
    spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, SECRET)
    with ChatServer(fault=lambda *_: "http 401").running() as server:
        work = spec(**openai(server))
        with pytest.raises(LaunchError, match=r"HTTP 401.*0 of \d+ responses are") as failed:
            run_local(work)
    assert "Traceback" not in str(failed.value)
    assert SECRET not in str(failed.value)
    assert SECRET not in (work.folder / "log.txt").read_text()


def test_products_without_an_answer_are_worth_another_run(spec: MakeSpec) -> None:
    policy = {"generation": {"max_failed_share": 0.9, "retries": 0}}
    failing = {"on": True}

    def fault(subject: str, _number: int) -> str:
        return "http 400" if failing["on"] and len(subject) % 2 else ""

    with ChatServer(fault=fault).running() as server:
        work = spec(**openai(server), **policy)
        dialogues, unwritten = tables(work, run_local(work))
        assert set(unwritten["reason"]) == {"no_reply"}
        assert is_worth_another_run(unwritten)
        failing["on"] = False
        answered = server.answers.total()
        more = spec(**openai(server), **policy, again="second run")
        assert more.fingerprint != work.fingerprint
        whole, rest = tables(more, run_local(more))
    assert rest.is_empty()
    assert whole.height > dialogues.height
    assert server.answers.total() == answered + unwritten["product_name"].n_unique()


def test_a_refreshed_catalog_asks_about_changed_products_only(
    spec: MakeSpec, embedded_assortment: pl.DataFrame
) -> None:
    with ChatServer().running() as server:
        work = spec(**openai(server))
        before, _ = tables(work, run_local(work))
        server.requests.clear()
        changed = before.filter(pl.col("subset") == "unseen")["product_id"][0]
        edited = embedded_assortment.with_columns(
            pl.when(pl.col("product_id") == changed)
            .then(pl.lit("f" * 32))
            .otherwise("content_hash")
            .alias("content_hash")
        )
        refreshed = spec(**openai(server), catalog=edited)
        manifest = run_local(refreshed)
    after, _ = tables(refreshed, manifest)
    assert server.requests.total() == manifest.metrics["asked"] == 1
    assert manifest.metrics["reused"] == len(references(before)) - 1
    assert references(after) == references(before)


def references(dialogues: pl.DataFrame) -> set[str]:
    return set(dialogues["reference"])


def test_store_knowledge_is_asked_about_too(spec: MakeSpec, tmp_path: Path) -> None:
    folder = tmp_path / "knowledge"
    (folder / "documents").mkdir(parents=True)
    (folder / "terms.csv").write_text("term,definition\nkurta,a long loose shirt\nlehenga,\n")
    (folder / "documents" / "returns.md").write_text("Returns are free for 30 days.")
    plain = spec(knowledge=folder)
    by_template, unused = tables(plain, run_local(plain))
    with ChatServer().running() as server:
        work = spec(**openai(server), knowledge=folder)
        by_model, unwritten = tables(work, run_local(work))
    for rejected in (unused, unwritten):
        assert rejected.select("document", "reason").rows() == [("terms.csv", "missing_field")]
        assert rejected["detail"][0].startswith("row 2: definition")
    terms = {("terms.csv",)}
    for dialogues, files in ((by_template, terms), (by_model, terms | {("documents/returns.md",)})):
        about_store = dialogues.filter(pl.col("intent") == "knowledge")
        named = about_store["evidence"].struct.field("documents").to_list()
        assert {tuple(documents) for documents in named} == files


def test_the_spec_names_all_that_the_result_depends_on(spec: MakeSpec) -> None:
    usual = spec()
    assert spec().fingerprint == usual.fingerprint
    others = [
        spec(seed=8),
        spec(train_products=21),
        spec(dialogues={"facts_per_product": 3}),
        spec(generator={"kind": "openai", "model": "m"}),
        spec(generation={"temperature": 0.1}),
        spec(again="x"),
    ]
    assert len({work.fingerprint for work in [usual, *others]}) == len(others) + 1
    assert json.loads(usual.model_dump_json())["config"]["seed"] == 7


@pytest.mark.slow
def test_a_local_model_is_asked_without_a_server(
    spec: MakeSpec, tiny_model_folder: Path, tmp_path: Path
) -> None:
    """A model of random weights says nothing usable, but in JSON, and each response is kept."""
    given = {
        "generator": {"kind": "vllm", "model": str(tiny_model_folder)},
        "generation": {"max_tokens": 96, "max_length": 2048, "max_rejected_share": 1.0},
        "train_products": 4,
        "evaluation_products": 2,
    }
    work = spec(**given)
    manifest = run_local(work)
    _, unwritten = tables(work, manifest)
    asked = manifest.metrics["asked"]
    assert asked > 6
    assert unwritten["product_name"].n_unique() + manifest.metrics["dialogues"] >= asked
    assert set(unwritten["reason"]) <= {"cut_off", "malformed", "missing", "bad_questions"}
    kept = [json.loads(path.read_text()) for path in (tmp_path / "responses").rglob("*/*/*.json")]
    assert len(kept) == asked
    texts = [reply["text"] for one in kept for reply in one["replies"]]
    assert len(texts) == manifest.metrics["requests"] == manifest.metrics["replies"]
    assert all(text.lstrip().startswith("{") for text in texts)
    assert manifest.metrics["completion_tokens"] > 0
    again = run_local(spec(**given, again="again"))
    assert (again.metrics["asked"], again.metrics["requests"]) == (0, 0)
