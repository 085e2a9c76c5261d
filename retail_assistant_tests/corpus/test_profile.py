"""The corpus profile, and who writes."""

from pathlib import Path

import pytest
import yaml

from retail_assistant.corpus.profile import CorpusProfile, generator_choice, get_corpus_profile
from retail_assistant.profiles import ProfileError
from retail_assistant.settings import SHIPPED_CORPUS_PROFILE, SettingsError


def test_the_shipped_profile_spells_out_every_default() -> None:
    written = yaml.safe_load(SHIPPED_CORPUS_PROFILE.read_text())
    assert written == CorpusProfile().model_dump(mode="json")


def test_an_edit_is_seen_and_a_mistake_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    path = tmp_path / "corpus.yaml"
    path.write_text("dialogues: {facts_per_product: 3}")
    monkeypatch.setenv("RETAIL_CORPUS_PROFILE", str(path))
    assert get_corpus_profile().dialogues.facts_per_product == 3
    path.write_text("generation: {max_cost: 5}")
    with pytest.raises(ProfileError, match=r"generation: .*max_cost needs prompt_price") as raised:
        get_corpus_profile()
    assert str(path) in str(raised.value)


def test_a_generator_that_lacks_something_is_refused(
    monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("RETAIL_GENERATOR", "openai")
    with pytest.raises(SettingsError, match=r"RETAIL_GENERATOR.*needs the name of a model"):
        generator_choice()


def test_an_address_with_a_password_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("RETAIL_GENERATOR", "openai")
    monkeypatch.setenv("RETAIL_GENERATOR_MODEL", "m")
    monkeypatch.setenv("RETAIL_GENERATOR_URL", "http://me:hidden@host/v1")
    with pytest.raises(SettingsError, match="RETAIL_GENERATOR_URL") as raised:
        generator_choice()
    assert "hidden" not in str(raised.value)
