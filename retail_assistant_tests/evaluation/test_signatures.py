"""Signed champions: what a trusted key vouches for serves, and nothing else."""

import json
from pathlib import Path

import pytest

from retail_assistant.evaluation.champion_history import PromotionError, require_trusted
from retail_assistant.evaluation.champions import Champions
from retail_assistant.evaluation.registry import champion_path, read_champion
from retail_assistant.evaluation.signatures import (
    SignatureError,
    require_signed,
    sign_file,
    signature_of,
)
from retail_assistant.launch.spec import MANIFEST_NAME
from retail_assistant.serving.served import served_model
from retail_assistant.settings import Settings, SettingsError, get_settings
from retail_assistant.storage import file_sha256
from retail_assistant_tests.evaluation.contests import Shop, answers_of
from retail_assistant_tests.evaluation.keys import key_pair
from retail_assistant_tests.test_cli import Cli, assert_refused, cli

__all__ = ["cli"]

pytest.importorskip("model_signing")

ANN = {"by": "Ann Doe", "reason": "it is ours"}
REFUSED = "it does not serve; the error says what is wrong"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A storage whose champions are signed, and serve only so."""
    private, public = key_pair(tmp_path, "ours")
    return Settings(storage_uri=str(tmp_path / "var"), signing_key=private, trusted_keys=public)


@pytest.fixture
def unsigned(settings: Settings) -> Settings:
    """The same, before there were keys."""
    return settings.model_copy(update={"signing_key": None, "trusted_keys": None})


def promoted(settings: Settings) -> Shop:
    """`old` was promoted, then `new`, which is better."""
    shop = Shop(settings)
    shop.job("old", answers_of("old", range(20)))
    shop.contest()
    shop.job("new", answers_of("new"))
    shop.contest()
    return shop


def trusted(settings: Settings) -> None:
    require_trusted(read_champion(settings), settings)


def test_a_signed_champion_serves(settings: Settings) -> None:
    shop = promoted(settings)
    trusted(settings)
    event = shop.champions.events()[-1]
    assert shop.champions.is_intact(event) is None
    assert event.base_manifest_sha256 == file_sha256(
        settings.storage / "artefacts/base_model/base" / MANIFEST_NAME
    )
    shop.champions.roll_back(**ANN)
    assert read_champion(settings).job == "old"
    trusted(settings)


def test_without_trusted_keys_nobody_asks(unsigned: Settings) -> None:
    promoted(unsigned)
    trusted(unsigned)
    assert not (unsigned.storage / "champions" / "signatures").exists()


@pytest.mark.fault("the champion was signed by nobody, or by a key that is not trusted", REFUSED)
def test_an_unsigned_champion_does_not_serve(
    settings: Settings, unsigned: Settings, tmp_path: Path
) -> None:
    shop = promoted(unsigned)
    with pytest.raises(SignatureError, match=r"event 2 .new. is not signed"):
        served_model(read_champion(settings), settings)
    champions = Champions(settings)
    with pytest.raises(PromotionError, match=r"no rollback to 1 .old.: event 1 .* is not signed"):
        champions.roll_back(**ANN)
    # A person vouches for it.
    serves = champions.sign(**ANN)
    assert (serves.job, serves.event) == ("new", 3)
    trusted(settings)
    assert champions.promoted_with() == shop.champions.events()[1].numbers
    _, other = key_pair(tmp_path, "other")
    with pytest.raises(SignatureError, match="not signed by a trusted key"):
        trusted(settings.model_copy(update={"trusted_keys": other}))


def test_any_of_several_keys_will_do(settings: Settings, tmp_path: Path) -> None:
    promoted(settings)
    folder = tmp_path / "keys"
    folder.mkdir()
    given = settings.model_copy(update={"trusted_keys": folder})
    with pytest.raises(SignatureError, match="holds no key; allowed"):
        trusted(given)
    for name in ("before", "ours"):
        _, public = key_pair(tmp_path, name)
        (folder / public.name).write_bytes(public.read_bytes())
    trusted(given)


@pytest.mark.fault(
    "who can write to the storage puts other weights in the champion's place", REFUSED
)
def test_other_weights_with_a_manifest_that_fits_do_not_serve(settings: Settings) -> None:
    shop = promoted(settings)
    folder = shop.root / "artefacts/adapter/new-1"
    weights = folder / "adapter/adapter_model.safetensors"
    weights.write_text("evil1")
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    for one in manifest["outputs"].values():
        path = folder / one["path"]
        one |= {"sha256": file_sha256(path), "size": path.stat().st_size}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(SignatureError, match=r"may not serve: .*manifest\.json was altered"):
        served_model(read_champion(settings), settings)


@pytest.mark.fault("champion.json is made to name another model", REFUSED)
@pytest.mark.parametrize("field", ["job", "grounding", "adapter", "base_model", "event"])
def test_a_pointer_that_was_altered_is_refused(settings: Settings, field: str) -> None:
    shop = promoted(settings)
    path = champion_path(settings)
    told = json.loads(path.read_text())
    other = {
        "adapter": {"folder": str(shop.root / "artefacts/adapter/old-1"), "fingerprint": "old-1"},
        "event": 9,
    }
    path.write_text(json.dumps(told | {field: other.get(field, "another")}))
    with pytest.raises(SignatureError):
        trusted(settings)


@pytest.mark.fault("champion.json is put back to a champion that was rolled back", REFUSED)
def test_a_barred_champion_does_not_come_back(settings: Settings) -> None:
    shop = promoted(settings)
    before = champion_path(settings).read_text()
    shop.champions.roll_back(**ANN)
    champion_path(settings).write_text(before)
    with pytest.raises(SignatureError, match="rolled back by Ann Doe"):
        trusted(settings)


@pytest.mark.fault("an event of the champions' history is altered", REFUSED)
def test_an_altered_event_is_refused(settings: Settings) -> None:
    shop = promoted(settings)
    path = shop.champions.path_of(shop.champions.events()[-1])
    signature = shop.champions.signature_path(path.read_bytes()).read_text()
    path.write_text(path.read_text().replace('"by": "the promotion policy"', '"by": "Eve"'))
    with pytest.raises(SignatureError, match="is not signed"):
        trusted(settings)
    # With the signature of what it was.
    shop.champions.signature_path(path.read_bytes()).write_text(signature)
    with pytest.raises(SignatureError, match="not signed by a trusted key"):
        trusted(settings)


def test_where_no_key_signs_nobody_is_promoted_who_would_not_serve(
    settings: Settings, unsigned: Settings
) -> None:
    shop = promoted(settings)
    without = Champions(settings.model_copy(update={"signing_key": None}))
    with pytest.raises(PromotionError, match="RETAIL_SIGNING_KEY is not; do this where"):
        without.roll_back(**ANN)
    assert len(shop.champions.events()) == 2
    assert read_champion(settings).job == "new"
    with pytest.raises(SignatureError, match="RETAIL_SIGNING_KEY is not set"):
        Champions(unsigned).sign(**ANN)


def test_a_key_may_have_a_password(settings: Settings, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "locked", password="open sesame")
    given = {"signing_key": private, "signing_key_password": "open sesame"}
    locked = Settings(storage_uri=str(tmp_path / "var"), trusted_keys=public, **given)
    path = tmp_path / "SHA256SUMS"
    path.write_text("00  weights\n")
    sign_file(path, locked)
    signature = (tmp_path / "SHA256SUMS.sig").read_text()
    require_signed(path.read_bytes(), path.name, signature, locked)
    with pytest.raises(SignatureError, match="not signed by a trusted key"):
        require_signed(b"01  weights\n", path.name, signature, locked)
    wrong = locked.model_copy(update={"signing_key_password": None})
    with pytest.raises(SignatureError, match="cannot sign"):
        signature_of(b"", "x", wrong)
    with pytest.raises(SignatureError, match="not signed by a trusted key"):
        require_signed(path.read_bytes(), path.name, "no signature", settings)


@pytest.mark.usefixtures("fresh_settings")
@pytest.mark.parametrize("name", ["SIGNING_KEY", "TRUSTED_KEYS"])
def test_a_key_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"RETAIL_{name}", "/no/such/key.pem")
    with pytest.raises(SettingsError, match=rf"RETAIL_{name}=/no/such/key\.pem: .*allowed"):
        get_settings()


def test_the_present_champion_is_signed_in_a_terminal(
    cli: Cli, settings: Settings, unsigned: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(unsigned)
    monkeypatch.setenv("RETAIL_STORAGE_URI", settings.storage_uri)
    assert "signature none" in cli("champion", "show").out
    monkeypatch.setenv("RETAIL_SIGNING_KEY", str(settings.signing_key))
    monkeypatch.setenv("RETAIL_TRUSTED_KEYS", str(settings.trusted_keys))
    get_settings.cache_clear()
    assert "event 2 (new) is not signed" in cli("champion", "show").out
    told = cli("champion", "sign", "--by", "Ann Doe", "--reason", "it is ours")
    assert told.code == 0, told
    assert "new is signed, by event 3" in told.out
    assert "by a trusted key" in cli("champion", "show").out
    monkeypatch.delenv("RETAIL_SIGNING_KEY")
    get_settings.cache_clear()
    assert_refused(cli("champion", "sign", "--by", "A", "--reason", "b"), "RETAIL_SIGNING_KEY")
