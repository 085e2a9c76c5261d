"""The store's knowledge is observed: its version is that of what the folder holds."""

from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.defs.knowledge import NO_KNOWLEDGE, observed_knowledge
from retail_assistant.settings import get_settings

KEY = dg.AssetKey("store_knowledge")


def observed(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> dg.AssetObservation:
    """What an observation says with `RETAIL_KNOWLEDGE` set to a folder."""
    monkeypatch.delenv("RETAIL_KNOWLEDGE", raising=False)
    if folder is not None:
        monkeypatch.setenv("RETAIL_KNOWLEDGE", str(folder))
    get_settings.cache_clear()
    look = dg.Definitions(
        [observed_knowledge], jobs=[dg.define_asset_job("look", "store_knowledge")]
    ).resolve_job_def("look")
    with dg.DagsterInstance.ephemeral() as instance:
        assert look.execute_in_process(instance=instance).success
        (record,) = instance.fetch_observations(KEY, limit=1).records
    assert record.asset_observation is not None
    return record.asset_observation


@pytest.mark.usefixtures("fresh_settings")
def test_its_version_follows_what_the_folder_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = "dagster/data_version"
    terms = tmp_path / "terms.csv"
    terms.write_text("term,definition\nGSM,Grams.\n")
    first = observed(monkeypatch, tmp_path)
    again = observed(monkeypatch, tmp_path)
    terms.write_text("term,definition\nGSM,Grams for each square metre.\n")
    changed = observed(monkeypatch, tmp_path)
    assert first.tags[tag] == again.tags[tag]
    assert len({first.tags[tag], changed.tags[tag], NO_KNOWLEDGE}) == 3
    assert observed(monkeypatch, None).tags[tag] == NO_KNOWLEDGE


@pytest.mark.usefixtures("fresh_settings")
def test_a_folder_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wages.xlsx").write_text("x")
    with pytest.raises(dg.Failure, match=r"RETAIL_KNOWLEDGE: .*wages\.xlsx"):
        observed(monkeypatch, tmp_path)
