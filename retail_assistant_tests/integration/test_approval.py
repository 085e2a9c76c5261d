"""No prompts without an approved corpus: in one run, in a run of their own, and by automation.

The real graph on a real Dagster instance, heavy work in its own processes. The tests of this module
are one story, told in order on one storage folder.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from retail_assistant.corpus.approval import ApprovalRecord, short_version
from retail_assistant.definitions import defs
from retail_assistant.quickstart import failure_reason
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore

pytestmark = pytest.mark.slow

CORPUS = (
    "product_splits",
    "dialogues",
    "unwritten_dialogues",
    "screened_dialogues",
    "rejected_dialogues",
)
APPROVAL = ("corpus_sheet", "corpus_approval")
STEWARD = {"by": "Ann Doe", "reason": "I read the sheet"}


class Shop:
    """The graph on a storage folder of its own, and automation's looks at it."""

    def __init__(self, storage: Path, instance: dg.DagsterInstance) -> None:
        self.storage = storage
        self.instance = instance
        self.graph = defs()
        self._cursor: Any = None

    def configure(self, patch: pytest.MonkeyPatch, **settings: object) -> None:
        for name, value in settings.items():
            patch.setenv(f"RETAIL_{name.upper()}", str(value))
        get_settings.cache_clear()

    def run(
        self, job: str, partition: str | None = None, config: dict[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        ops = {"ops": {"corpus_approval": {"config": config}}} if config else None
        return self.graph.resolve_job_def(job).execute_in_process(
            instance=self.instance, partition_key=partition, raise_on_error=False, run_config=ops
        )

    def materialize(self, *names: str, partition: str | None = None) -> dg.ExecuteInProcessResult:
        job = dg.define_asset_job("of_this_test", dg.AssetSelection.assets(*names))
        graph = dg.Definitions.merge(self.graph, dg.Definitions(jobs=[job]))
        return graph.resolve_job_def("of_this_test").execute_in_process(
            instance=self.instance, partition_key=partition, raise_on_error=False
        )

    def render(self) -> dg.ExecuteInProcessResult:
        """Make the prompts, and nothing else, as a person may in the UI."""
        return self.run("render_prompts", "assistant")

    def look(self) -> set[str]:
        """What automation requests now."""
        found = dg.evaluate_automation_conditions(self.graph, self.instance, cursor=self._cursor)
        self._cursor = found.cursor
        return {one.key.to_user_string() for one in found.results if one.true_subset.size}

    @property
    def record(self) -> ApprovalRecord:
        return ApprovalRecord(self.storage, get_settings().approval_mode)

    @property
    def prompts(self) -> int:
        """How often prompts were made."""
        wanted = dg.AssetRecordsFilter(dg.AssetKey("prompt_corpus"))
        return len(self.instance.fetch_materializations(wanted, limit=100).records)


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def shop(
    patch: pytest.MonkeyPatch, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A shop whose steward must be asked, before its first run."""
    storage = tmp_path_factory.mktemp("approval") / "var"
    (storage / "dagster").mkdir(parents=True)
    with dg.DagsterInstance.from_config(str(storage / "dagster")) as instance:
        shop = Shop(storage, instance)
        shop.configure(
            patch, storage_uri=storage, base_model=tiny_model_folder, approval="required"
        )
        assert shop.run("observe_catalog").success
        yield shop


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    events = result.get_asset_materialization_events()
    return {event.asset_key.to_user_string() for event in events if event.asset_key}


def test_a_first_corpus_waits_and_no_prompts_are_made(shop: Shop) -> None:
    first = shop.run("prepare")
    assert not first.success
    assert "waits for the data steward" in failure_reason(first)
    assert made(first) >= {*CORPUS, *APPROVAL, "catalog_index", "base_model"}
    assert shop.look() == set()
    alone = shop.render()
    assert "waits for the data steward" in failure_reason(alone)
    together = shop.materialize("corpus_approval", "prompt_corpus", partition="assistant")
    assert made(together) == {"corpus_approval"}
    assert shop.prompts == 0


def test_once_approved_the_prompts_follow(shop: Shop) -> None:
    assert shop.run("decide_corpus", config={"decision": "approved", **STEWARD}).success
    assert shop.look() == {"prompt_corpus"}
    assert shop.render().success
    assert shop.prompts == 1
    assert TableStore(shop.storage).ref("prompt_corpus", "assistant").rows > 0
    assert shop.look() == set()


def test_approving_it_once_more_makes_nothing_run(shop: Shop) -> None:
    assert shop.run("decide_corpus", config={"decision": "approved", **STEWARD}).success
    assert len(shop.record.decisions()) == 2
    assert shop.look() == set()


def test_a_new_version_is_held_back_again(shop: Shop, patch: pytest.MonkeyPatch) -> None:
    approved = shop.record.latest.sha256
    shop.configure(patch, seed=8)
    assert shop.materialize(*CORPUS).success
    assert shop.look() == {"corpus_sheet"}
    assert shop.materialize("corpus_sheet").success
    assert shop.look() == {"corpus_approval"}
    assert "waits for the data steward" in failure_reason(shop.materialize("corpus_approval"))
    assert shop.record.latest.sha256 != approved
    assert shop.look() == set()
    assert "waits for the data steward" in failure_reason(shop.render())
    old = {"decision": "approved", "version": short_version(approved), **STEWARD}
    assert "is not the latest" in failure_reason(shop.run("decide_corpus", config=old))
    assert shop.prompts == 1


def test_a_rejected_version_is_held_back_with_the_reason(shop: Shop) -> None:
    reason = {"by": "Ann Doe", "reason": "too few dresses"}
    rejected = shop.run("decide_corpus", config={"decision": "rejected", **reason})
    assert "too few dresses" in failure_reason(rejected)
    assert shop.look() == set()
    assert "rejected by Ann Doe" in failure_reason(shop.render())
    assert "too few dresses" in failure_reason(shop.render())
    assert shop.prompts == 1


def test_the_setting_does_not_let_through_what_was_rejected(
    shop: Shop, patch: pytest.MonkeyPatch
) -> None:
    shop.configure(patch, approval="auto")
    assert "too few dresses" in failure_reason(shop.materialize("corpus_approval"))
    assert shop.look() == set()


def test_the_setting_approves_a_new_version_and_says_so(
    shop: Shop, patch: pytest.MonkeyPatch
) -> None:
    shop.configure(patch, seed=9)
    result = shop.materialize(*CORPUS, *APPROVAL)
    assert result.success
    (check,) = (
        one
        for one in result.get_asset_check_evaluations()
        if one.check_name == "corpus_is_approved"
    )
    assert check.metadata["automatic"].value is True
    assert "RETAIL_APPROVAL=required" in (check.description or "")
    assert shop.look() == {"prompt_corpus"}
    assert shop.render().success
    assert shop.prompts == 2


def test_where_a_person_must_decide_that_does_not_count(
    shop: Shop, patch: pytest.MonkeyPatch
) -> None:
    shop.configure(patch, approval="required")
    assert "waits for the data steward" in failure_reason(shop.materialize("corpus_approval"))
    assert "waits for the data steward" in failure_reason(shop.render())
    assert shop.run("decide_corpus", config={"decision": "approved", **STEWARD}).success
    # They were made from this version before.
    assert shop.look() == set()
