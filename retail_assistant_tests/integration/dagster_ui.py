"""The Dagster web UI (seen with 1.13.27) as a person drives it: graph, materialize, read.

Waits are on what the page shows; only whether a run has ended is asked of GraphQL, because a page
says "queued" and "started" in too many places. CSS modules end class names in a hash, so selectors
match the part before it.
"""

import time
from typing import Any
from urllib.parse import quote, urlencode

from playwright.sync_api import Locator, Page, expect

GROUP_NODES = (
    '[class*="CollapsedGroupNode_collapsedGroupNodeBox"], '
    '[class*="ExpandedGroupNode_groupNodeHeaderBox"]'
)
ASSET_NODES = '[class*="AssetNode_assetName"]'
PARTITION_ROWS = '[class*="AssetEventList_assetListRow_"]'
METADATA_ROWS = 'table[class*="AssetEventMetadataEntriesTable"] > tbody > tr:has(> td:nth-child(2))'

ENDED_BADLY = ("FAILURE", "CANCELED")
PAGE_MS = 30_000

RUNS = """
query { runsOrError(limit: 50) { ... on Runs { results {
  runId status assetSelection { path }
} } } }
"""
RUN_EVENTS = """
query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
  ... on StepEvent { stepKey }
  ... on MessageEvent { message eventType }
  ... on ErrorEvent { error { message cause { message } } }
} } } }
"""
GROUPS = "query { assetNodes { groupName } }"


class RunDidNotSucceedError(AssertionError):
    """A run that the UI launched failed, was cancelled, or did not end in time."""


def open_graph(page: Page, base_url: str, *, expanded: bool = False) -> None:
    """Show the global asset graph, groups collapsed (one node each) or `expanded` (all assets)."""
    query = {}
    if expanded:
        nodes = _ask(page, base_url, GROUPS)["assetNodes"]
        names = sorted({node["groupName"] for node in nodes})
        query["expanded"] = ",".join(f"global@global:{name}" for name in names)
    _open(page, base_url, "/asset-groups/", query)
    expect(page.locator(ASSET_NODES if expanded else GROUP_NODES).first).to_be_visible(
        timeout=PAGE_MS
    )
    # The graph zooms to fit after its first paint.
    page.wait_for_timeout(500)


def group_names(page: Page) -> list[str]:
    """Names of the asset groups drawn in the open graph, sorted.

    A graph of a single group is drawn without it, and gives an empty list.
    """
    nodes = page.locator(GROUP_NODES).all_inner_texts()
    return sorted({node.strip().splitlines()[0] for node in nodes})


def asset_names(page: Page) -> list[str]:
    """Names of the assets drawn in the open graph, sorted; none while groups are collapsed."""
    return sorted(page.locator(ASSET_NODES).all_inner_texts())


def open_asset(page: Page, base_url: str, asset: str, **query: str) -> None:
    """Show an asset's page; `asset` is its key with slashes, `query` picks view and partition."""
    path = "/".join(quote(part, safe="") for part in asset.split("/"))
    _open(page, base_url, f"/assets/{path}", query)
    expect(page.get_by_role("tab", name="Overview")).to_be_visible(timeout=PAGE_MS)


def materialize(page: Page, base_url: str, asset: str, *, timeout_s: float = 180) -> str:
    """Materialize an unpartitioned asset by its button; the id of the run, once it succeeded.

    Confirms the question that the UI asks where upstream assets were never materialized. Leaves
    the page on the asset's events, with the new materialization in sight.

    Raises:
        RunDidNotSucceedError: no run started, it failed, or it did not end within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    before = set(_runs_of(page, base_url, asset))
    open_asset(page, base_url, asset)
    _button(page, "Materialize").click(timeout=PAGE_MS)
    run_id = _launched(page, base_url, asset, before, deadline)
    _wait_for_success(page, base_url, asset, run_id, deadline)
    open_asset(page, base_url, asset, view="events")
    link = page.locator(f'a[href*="/runs/{run_id}"]').first
    expect(link).to_be_visible(timeout=PAGE_MS)
    return run_id


def open_partitions(
    page: Page, base_url: str, asset: str, partition: str | None = None
) -> list[str]:
    """Show an asset's partitions, with the details of `partition`; the names in the list.

    Long lists are drawn only as far as they are in view.
    """
    query = {"partition": partition} if partition is not None else {}
    open_asset(page, base_url, asset, view="partitions", **query)
    rows = page.locator(PARTITION_ROWS)
    expect(rows.first).to_be_visible(timeout=PAGE_MS)
    return [row.strip().splitlines()[0] for row in rows.all_inner_texts()]


def open_latest_metadata(
    page: Page, base_url: str, asset: str, partition: str | None = None
) -> dict[str, str]:
    """Show an asset's (or its `partition`'s) latest materialization; its metadata as drawn.

    Keys are the entries' labels, values their visible text.
    """
    if partition is None:
        open_asset(page, base_url, asset, view="events")
    else:
        open_partitions(page, base_url, asset, partition)
    rows = page.locator(METADATA_ROWS)
    expect(rows.first).to_be_visible(timeout=PAGE_MS)
    cells = [row.locator("> td").all_inner_texts() for row in rows.all()]
    return {texts[0].strip(): texts[1].strip() for texts in cells}


def open_markdown(page: Page, label: str) -> Locator:
    """Open a markdown entry of the metadata in sight; the dialog that shows it (Escape closes)."""
    row = page.locator(METADATA_ROWS).filter(has=page.get_by_text(label, exact=True))
    row.get_by_text("[Show Markdown]").click(timeout=PAGE_MS)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible(timeout=PAGE_MS)
    return dialog


def _open(page: Page, base_url: str, path: str, query: dict[str, str]) -> None:
    # The first visit asks to join the community, in a dialog over everything; this marks it seen.
    page.add_init_script("localStorage.setItem('communityNux', JSON.stringify('1'))")
    suffix = f"?{urlencode(query)}" if query else ""
    page.goto(f"{base_url.rstrip('/')}{path}{suffix}", wait_until="domcontentloaded")


def _button(page: Page, label: str) -> Locator:
    # By its text: a button's accessible name begins with the name of its icon.
    return page.get_by_role("button").filter(has=page.get_by_text(label, exact=True))


def _launched(page: Page, base_url: str, asset: str, before: set[str], deadline: float) -> str:
    confirm = _button(page, "Confirm")
    while time.monotonic() < deadline:
        if confirm.is_visible():
            confirm.click()
        new = [run for run in _runs_of(page, base_url, asset) if run not in before]
        if new:
            return new[0]
        page.wait_for_timeout(300)
    raise RunDidNotSucceedError(f"Clicking Materialize started no run of {asset} in time.")


def _wait_for_success(page: Page, base_url: str, asset: str, run_id: str, deadline: float) -> None:
    status = ""
    while time.monotonic() < deadline:
        status = _runs_of(page, base_url, asset).get(run_id, "")
        if status == "SUCCESS":
            return
        if status in ENDED_BADLY:
            break
        page.wait_for_timeout(500)
    reason = _failure(page, base_url, run_id) if status == "FAILURE" else "it did not end in time"
    raise RunDidNotSucceedError(f"Run {run_id} of {asset} is {status or 'unknown'}: {reason}")


def _runs_of(page: Page, base_url: str, asset: str) -> dict[str, str]:
    """Status by run id, newest first, of the runs launched for the asset."""
    runs = _ask(page, base_url, RUNS)["runsOrError"]["results"]
    key = asset.split("/")
    return {
        run["runId"]: run["status"]
        for run in runs
        if any(selected["path"] == key for selected in run["assetSelection"] or [])
    }


def _failure(page: Page, base_url: str, run_id: str) -> str:
    """Messages of the run's errors, the cause where Dagster only wraps one; each once."""
    events = _ask(page, base_url, RUN_EVENTS, {"run": run_id})["logsForRun"]["events"]
    errors = [event["error"] for event in events if event.get("error")]
    messages = [(error.get("cause") or error)["message"].strip() for error in errors]
    return " / ".join(dict.fromkeys(messages)) or "the run's log names no error"


def _ask(
    page: Page, base_url: str, query: str, variables: dict[str, Any] | None = None
) -> dict[str, Any]:
    response = page.request.post(
        f"{base_url.rstrip('/')}/graphql", data={"query": query, "variables": variables or {}}
    )
    answer: dict[str, Any] = response.json()
    assert "errors" not in answer, f"GraphQL refused the query: {answer['errors']}"
    data: dict[str, Any] = answer["data"]
    return data
