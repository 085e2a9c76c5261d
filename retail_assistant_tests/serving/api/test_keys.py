"""Keys: how they are made and kept, and that a revoked one opens nothing."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retail_assistant.serving.api.keys import ApiKeys
from retail_assistant.settings import get_settings
from retail_assistant.storage import StorageError
from retail_assistant_tests.serving.api.shops import open_shop
from retail_assistant_tests.test_cli import Cli, assert_refused, cli

__all__ = ["cli"]


def test_a_key_is_kept_as_a_hash_that_only_its_owner_reads(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path)
    key = keys.add("web-shop")
    assert len(key) > 43
    assert keys.name_of(key) == "web-shop"
    assert keys.name_of(key[:-1]) is None
    assert keys.name_of("") is None
    assert key not in keys.path.read_text()
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_a_revoked_name_may_have_a_new_key(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path)
    old = keys.add("app")
    with pytest.raises(ValueError, match="revoke it first"):
        keys.add("app")
    keys.revoke("app")
    new = keys.add("app")
    assert (keys.name_of(old), keys.name_of(new)) == (None, "app")
    assert [one.is_active for one in keys.all()] == [False, True]
    with pytest.raises(ValueError, match="there are: app"):
        keys.revoke("ap")


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a\n", "é", "x" * 65, "../x"])
@pytest.mark.fault(
    "An id or a name is a path: product, partition, job, key, object, document, picture",
    "It is refused or only looked up; nothing outside is read or written",
)
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="allowed: 1 to 64"):
        ApiKeys(tmp_path).add(name)


@pytest.mark.fault(
    "API keys are made at once",
    "all are kept",
)
def test_keys_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    names = [f"app-{number}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda name: ApiKeys(tmp_path).add(name), names))
    keys = ApiKeys(tmp_path)
    assert [keys.name_of(key) for key in made] == names


@pytest.mark.fault(
    "The file of API keys is damaged",
    "Nobody is let in, and who runs it is told",
)
def test_a_damaged_file_opens_nothing(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path)
    key = keys.add("app")
    with open_shop(tmp_path) as shop:
        assert shop.ask("blue", key=key).status_code == 200
        keys.path.write_text("[]]")
        refused = shop.ask("blue", key=key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "keys_unavailable")
        assert str(tmp_path) not in refused.text
        assert shop.ask("blue").status_code == 503
    with pytest.raises(StorageError, match=r"keys\.json cannot be read"):
        keys.add("other")


def test_keys_open_until_they_are_revoked_while_the_server_runs(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        assert shop.ask("blue").status_code == 200, "no key was made, on the loopback address"
        # Another process would do the same.
        ann, bob = (ApiKeys(tmp_path).add(name) for name in ("ann", "bob"))
        refused = shop.ask("blue")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert shop.ask("blue", key="ra-none").status_code == 401
        for key in (ann, bob):
            assert shop.ask("blue", key=key).status_code == 200
        ApiKeys(tmp_path).revoke("ann")
        assert shop.ask("blue", key=ann).status_code == 401
        assert shop.ask("blue", key=bob).status_code == 200
        ApiKeys(tmp_path).revoke("bob")
        assert shop.ask("blue").status_code == 401, "without keys that open, nobody gets in"


@pytest.mark.fault(
    "Somebody asks without a key, by another host name, or from another site's page",
    "It is refused before its body is read",
)
def test_what_needs_a_key(tmp_path: Path) -> None:
    with open_shop(tmp_path, require_keys=True) as shop:
        for path, status in {
            "/health": 200,
            "/ready": 200,
            "/openapi.json": 200,
            "/metrics": 401,
            "/v1/models": 401,
            "/nothing": 404,
        }.items():
            assert shop.get(path).status_code == status, path
        key = shop.keys.add("prometheus")
        assert shop.get("/metrics", Authorization=f"Bearer {key}").status_code == 200
        assert shop.get("/metrics", Authorization=f"bearer {key}").status_code == 200
        assert shop.get("/metrics", Authorization=f"Basic {key}").status_code == 401
        assert shop.get(f"/metrics?key={key}").status_code == 401


@pytest.mark.parametrize(
    ("host", "require", "status"),
    [("0.0.0.0", None, 401), ("127.0.0.1", None, 200), ("0.0.0.0", False, 200)],
)
@pytest.mark.fault(
    "Somebody asks without a key, by another host name, or from another site's page",
    "It is refused before its body is read",
)
def test_other_addresses_than_the_loopback_need_keys(
    tmp_path: Path, host: str, require: bool | None, status: int
) -> None:
    with open_shop(tmp_path, host=host, require_keys=require) as shop:
        assert shop.ask("blue").status_code == status


@pytest.mark.fault(
    "Somebody asks without a key, by another host name, or from another site's page",
    "It is refused before its body is read",
)
def test_the_body_of_a_stranger_is_not_read(tmp_path: Path) -> None:
    with open_shop(tmp_path, require_keys=True) as shop:
        assert shop.ask("x", messages="no conversation at all").status_code == 401


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> Path:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    return get_settings().storage


def test_keys_in_a_terminal(cli: Cli, storage: Path) -> None:
    made = cli("keys", "add", "web-shop")
    assert made.code == 0
    key = made.out.strip()
    assert ApiKeys(storage).name_of(key) == "web-shop"
    assert "not shown again" in made.err
    assert_refused(cli("keys", "add", "web-shop"), "web-shop", "revoke")
    assert_refused(cli("keys", "add", "web shop"), "allowed")
    assert_refused(cli("keys", "revoke", "app"), "web-shop")
    assert cli("keys", "revoke", "web-shop").code == 0
    assert ApiKeys(storage).name_of(key) is None
    (listed,) = json.loads(cli("keys", "list", "--json").out)
    assert set(listed) == {"name", "created", "revoked"}
    table = cli("keys", "list").out
    assert "web-shop" in table
    assert key not in table
