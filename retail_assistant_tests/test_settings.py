"""Settings: what the environment says is taken, and what it may not say is refused clearly."""

from pathlib import Path

import pytest

from retail_assistant.settings import (
    EMBEDDED_CATALOG,
    SHIPPED_STUDIES,
    Settings,
    SettingsError,
    get_settings,
)

pytestmark = pytest.mark.usefixtures("fresh_settings", "no_settings")


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RETAIL_{name.upper()}", raising=False)


def test_without_variables_the_local_defaults_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = get_settings()
    assert settings.catalog_uri == str(EMBEDDED_CATALOG)
    assert settings.studies == SHIPPED_STUDIES
    assert settings.storage == tmp_path / "var"
    assert settings.mlflow_tracking_uri == f"sqlite:///{tmp_path}/var/mlflow/mlflow.db"


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_variables_need_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "11")
    monkeypatch.setenv("RETAIL_TRAIN_PRODUCTS", "12")
    settings = get_settings()
    assert (settings.seed, settings.train_products) == (7, 12)


@pytest.mark.parametrize("value", ["all", "ALL", " all "])
def test_all_means_no_limit(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RETAIL_TRAIN_PRODUCTS", value)
    monkeypatch.setenv("RETAIL_EVALUATION_PRODUCTS", value)
    settings = get_settings()
    assert settings.train_products is None
    assert settings.evaluation_products is None


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("RETAIL_ENVIRONMENT", "moon", "'local' or 'cluster'"),
        ("RETAIL_GENERATOR", "oracle", "'template'"),
        ("RETAIL_APPROVAL", "never", "'auto' or 'required'"),
        ("RETAIL_LOG_FORMAT", "xml", "'text' or 'json'"),
        ("RETAIL_BUDGET", "100", "allowed with RETAIL_PRICE_PER_DEVICE_HOUR"),
        ("RETAIL_ALERTS_PER_HOUR", "0", "greater than or equal to 1"),
        ("RETAIL_LAUNCHER", "rocket", "'local'"),
        ("RETAIL_KUBERAY_NODES", "gpu", "label=value"),
        ("RETAIL_CATALOG_URI", "", "at least 1 character"),
        ("RETAIL_BUDGET", "nan", "finite number"),
        ("RETAIL_STORAGE_RETRY_SECONDS", "inf", "finite number"),
        ("RETAIL_STORAGE_URI", "", "at least 1 character"),
        ("RETAIL_OBJECT_URI", "s3://bucket/prefix", "gs://bucket/prefix"),
        ("RETAIL_OBJECT_URI", "gs:///prefix", "gs://bucket/prefix"),
        ("RETAIL_STUDIES", "/no/such/folder", "allowed: a folder of study files"),
        ("RETAIL_TRAIN_PRODUCTS", "1", "greater than or equal to 2"),
        ("RETAIL_TRAIN_PRODUCTS", "many", "valid integer"),
        ("RETAIL_EVALUATION_PRODUCTS", "0", "greater than or equal to 2"),
        ("RETAIL_SEED", "-1", "greater than or equal to 0"),
        ("RETAIL_SEED", "1.5", "valid integer"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        get_settings()
    message = str(caught.value)
    assert message.startswith(f"{variable}={value}: ")
    assert allowed in message
    assert "\n" not in message


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_SEED", "-1")
    monkeypatch.setenv("RETAIL_LAUNCHER", "rocket")
    with pytest.raises(SettingsError, match=r"RETAIL_LAUNCHER=rocket: .*; RETAIL_SEED=-1: "):
        get_settings()


def test_storage_of_another_cloud_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", "s3://bucket/folder")
    with pytest.raises(SettingsError, match=r"RETAIL_STORAGE_URI=s3://.*allowed: a folder, or gs:"):
        _ = get_settings().storage


def test_a_bucket_has_a_working_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", "gs://bucket/folder")
    monkeypatch.setenv("RETAIL_WORK_FOLDER", str(tmp_path))
    assert get_settings().storage == tmp_path / "bucket" / "folder"
    assert get_settings().object_store_uri == "gs://bucket/folder/objects"


@pytest.mark.parametrize(
    ("environment", "approval", "mode"),
    [
        ("local", None, "auto"),
        ("cluster", None, "required"),
        ("local", "required", "required"),
        ("cluster", "auto", "auto"),
    ],
)
def test_who_approves_depends_on_the_environment_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch, environment: str, approval: str | None, mode: str
) -> None:
    monkeypatch.setenv("RETAIL_ENVIRONMENT", environment)
    if approval:
        monkeypatch.setenv("RETAIL_APPROVAL", approval)
    assert get_settings().approval_mode == mode


def test_a_given_tracking_server_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_MLFLOW_URI", "http://127.0.0.1:5001")
    assert get_settings().mlflow_tracking_uri == "http://127.0.0.1:5001"


@pytest.mark.parametrize("address", ["http://ann:secret@mlflow:5000", "postgresql://a:secret@db/m"])
def test_a_password_in_an_address_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RETAIL_MLFLOW_URI", address)
    with pytest.raises(SettingsError, match=r"RETAIL_MLFLOW_URI=.*:\*\*\*@.*PGPASSWORD") as refused:
        get_settings()
    assert "secret" not in str(refused.value)


def test_the_installed_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_MLFLOW_URI", "postgresql://mlflow@db:5432/mlflow")
    assert get_settings().mlflow_tracking_uri == "postgresql+psycopg2://mlflow@db:5432/mlflow"


def test_kubernetes_needs_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_LAUNCHER", "kuberay")
    with pytest.raises(SettingsError, match=r"RETAIL_KUBERAY_IMAGE=None: .*the name of an image"):
        get_settings()
    get_settings.cache_clear()
    monkeypatch.setenv("RETAIL_KUBERAY_IMAGE", "registry.example.com/retail:1")
    monkeypatch.setenv("RETAIL_KUBERAY_NODES", "gpu=h100, zone = a")
    assert get_settings().kuberay_nodes == {"gpu": "h100", "zone": "a"}


@pytest.mark.fault(
    "A secret stands where everybody reads: an address in the settings",
    "It is refused, and the error does not hold it",
)
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RETAIL_CATALOG_URI", "https://me:hunter22@shop.example/catalog.csv"),
        ("RETAIL_CATALOG_URI", "https://hunter22@shop.example/catalog.csv"),
        ("RETAIL_MLFLOW_URI", "https://me:hunter22@mlflow.example"),
        ("RETAIL_MLFLOW_URI", "postgresql://me:hunter22@db/mlflow"),
        ("RETAIL_ALERT_WEBHOOK", "http://hooks.example/hunter22"),
    ],
)
def test_an_address_with_a_secret_is_refused_without_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as refused:
        get_settings()
    assert "hunter22" not in str(refused.value)
