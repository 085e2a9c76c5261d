"""The promotion policy's file."""

from pathlib import Path

import pytest
import yaml

from retail_assistant.evaluation.promotion_policy import PromotionPolicy, get_promotion_policy
from retail_assistant.profiles import ProfileError
from retail_assistant.settings import SHIPPED_PROMOTION_POLICY, SettingsError, get_settings


def test_the_shipped_policy_spells_out_every_default() -> None:
    written = yaml.safe_load(SHIPPED_PROMOTION_POLICY.read_text())
    assert written == PromotionPolicy().model_dump(mode="json")


def test_an_edit_is_seen_and_gives_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    path = tmp_path / "promotion.yaml"
    path.write_text("limits: {min_strict_accuracy: 0.8}")
    monkeypatch.setenv("RETAIL_PROMOTION_POLICY", str(path))
    policy = get_promotion_policy()
    assert policy.limits.min_strict_accuracy == 0.8
    assert policy.limits.min_questions == PromotionPolicy().limits.min_questions
    assert policy.version != PromotionPolicy().version
    path.write_text("# nothing but defaults")
    assert get_promotion_policy().version == PromotionPolicy().version


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits: {min_accuracy: 0.5}", ("limits.min_accuracy", "(given: 0.5)")),
        ("challenge: {margin: 1.5}", ("challenge.margin", "less than 1", "(given: 1.5)")),
        ("challenge: {cost: euros}", ("challenge.cost", "'answer_seconds'", "(given: euros)")),
        ("drift: {severity: fatal}", ("drift.severity", "'warn' or 'error'")),
        ("limits: {blocking: [min_luck]}", ("limits.blocking.0", "min_luck")),
        ("rules: {}", ("rules", "sections: limits, baseline, challenge, drift")),
        ("limits: [", ("cannot be read", "allowed: YAML")),
    ],
)
def test_a_mistake_is_named(
    text: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh_settings: None,
) -> None:
    path = tmp_path / "promotion.yaml"
    path.write_text(text)
    monkeypatch.setenv("RETAIL_PROMOTION_POLICY", str(path))
    with pytest.raises(ProfileError) as refused:
        get_promotion_policy()
    for word in (str(path), *words):
        assert word in str(refused.value)


def test_a_file_that_is_not_there_is_refused_at_load(
    monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("RETAIL_PROMOTION_POLICY", "nowhere.yaml")
    with pytest.raises(SettingsError, match=r"RETAIL_PROMOTION_POLICY=nowhere.yaml"):
        get_settings()
