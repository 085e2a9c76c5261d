"""`retail-assistant verify`: every kind of damage is found, named, and nothing else is."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from retail_assistant.launch.spec import MANIFEST_NAME, write_artefact_ref
from retail_assistant.objects import ObjectStore
from retail_assistant.operations.verification.verification import verify
from retail_assistant.settings import Settings
from retail_assistant.storage import TableStore
from retail_assistant.storage.bucket import publish
from retail_assistant.storage.contents import seal, write_hashed
from retail_assistant_tests.emulator import BUCKET, CloudStorage, cloud_storage
from retail_assistant_tests.evaluation.contests import Shop, answers_of
from retail_assistant_tests.evaluation.keys import key_pair
from retail_assistant_tests.evaluation.manifests import finished
from retail_assistant_tests.operations.works import aged, finished_work
from retail_assistant_tests.test_cli import Cli, assert_refused, cli

__all__ = ["cli"]

NUMBERS = itertools.count()
FRAME = pl.DataFrame({"product_id": ["a", "b"]})
WEIGHTS = "artefacts/adapter/new-1/adapter/adapter_model.safetensors"
CHECKPOINT = "artefacts/adapter/begun/checkpoints/instruction/checkpoint-5"
SHARD = "artefacts/predictions/begun/shards/new/000000.parquet"


def filled(settings: Settings) -> Settings:
    """A storage with some of everything."""
    root = settings.storage
    shop = Shop(settings)
    shop.job("old", answers_of("old", range(20)))
    shop.contest()
    shop.job("new", answers_of("new"))
    shop.contest()
    seal(root / "artefacts" / "model_comparison" / "new-old")
    tables = TableStore(root)
    tables.write(FRAME, "products")
    tables.write(FRAME, "evaluation_report", "new")
    (root / CHECKPOINT).mkdir(parents=True)
    (root / CHECKPOINT / "optimizer.pt").write_text("moments")
    seal(root / CHECKPOINT)
    (root / SHARD).parent.mkdir(parents=True)
    write_hashed(root / SHARD, b"answers")
    images(settings)
    (root / "approvals").mkdir()
    (root / "approvals" / "first.json").write_text('{"decision": "approved"}')
    return settings


def images(settings: Settings) -> None:
    """An image with its thumbnail, and the table that names them."""
    store = ObjectStore(settings.object_store_uri)
    digest = hashlib.sha256(b"picture").hexdigest()
    picture = f"images/{digest[:2]}/{digest}.png"
    thumbnail = f"thumbnails/64px/{digest[:2]}/{digest}.jpg"
    store.put(picture, b"picture")
    small = settings.storage / "small.jpg"
    Image.new("RGB", (8, 8)).save(small)
    store.put(thumbnail, small.read_bytes())
    small.unlink()
    row = {"object_uri": store.uri_of(picture), "thumbnail_uri": store.uri_of(thumbnail)}
    TableStore(settings.storage).write(pl.DataFrame([row]), "product_images")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder that is intact; tests work on copies."""
    folder = tmp_path_factory.mktemp("whole") / "var"
    filled(Settings(storage_uri=str(folder)))
    return folder


@pytest.fixture
def settings(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    shutil.copytree(whole, tmp_path / "var")
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    return Settings(storage_uri=str(tmp_path / "var"))


def found(settings: Settings, *, quick: bool = False) -> dict[str, str]:
    """Path -> problem."""
    return {one.path: one.problem for one in verify(settings, quick=quick).findings}


def flip(path: Path) -> None:
    """Turn one bit, and nothing else."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def only(settings: Settings, pattern: str) -> Path:
    (path,) = settings.storage.glob(pattern)
    return path


def test_what_is_whole_is_found_whole(settings: Settings) -> None:
    looked: list[tuple[int, int]] = []
    verified = verify(settings, progress=lambda done, all_: looked.append((done, all_)))
    assert verified.findings == []
    assert verified.is_intact
    assert verified.files > 20
    assert looked[-1][0] == looked[-1][1] >= verified.bytes > 1000
    assert verify(settings, quick=True).bytes == 0


@pytest.mark.fault(
    "a file of the storage is altered, cut off or gone", "retail-assistant verify names it"
)
@pytest.mark.parametrize(
    "pattern",
    [
        WEIGHTS,
        "artefacts/predictions/new-1-*/predictions.parquet",
        "artefacts/model_comparison/new-old/comparison.json",
        "artefacts/base_model/base/model.safetensors",
        "tables/products/*.parquet",
        "tables/evaluation_report/new/*.parquet",
        f"{CHECKPOINT}/optimizer.pt",
        SHARD,
        "objects/images/*/*",
        "objects/thumbnails/*/*/*",
    ],
)
def test_every_damaged_file_is_named(settings: Settings, pattern: str) -> None:
    path = only(settings, pattern)
    name = path.relative_to(settings.storage).as_posix()
    content = path.read_bytes()
    if "thumbnails" not in name:  # named by the image that it is of
        flip(path)
        assert found(settings) == {name: "altered"}
        assert found(settings, quick=True) == {}
    path.write_bytes(content)
    cut(path)
    assert found(settings) == {name: "altered"}
    path.unlink()
    gone = {} if name == SHARD else {name: "missing"}
    assert found(settings) == gone, "a shard that is gone is answered again"
    assert found(settings, quick=True) == gone


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (f"artefacts/adapter/new-1/{MANIFEST_NAME}", "unreadable"),
        ("artefacts/model_comparison/new-old/contents.json", "unreadable"),
        ("artefacts/adapter/latest-new.json", "unreadable"),
        ("tables/products/latest.json", "unreadable"),
        ("champion.json", "unreadable"),
        ("champions/000001-promotion.json", "unreadable"),
        ("approvals/first.json", "unreadable"),
    ],
)
def test_what_cannot_be_read_is_named(settings: Settings, pattern: str, problem: str) -> None:
    path = only(settings, pattern)
    path.write_text("{")
    assert found(settings)[path.relative_to(settings.storage).as_posix()] == problem


def test_a_manifest_that_is_not_the_promoted_one_is_named(settings: Settings) -> None:
    path = settings.storage / "artefacts/adapter/new-1" / MANIFEST_NAME
    path.write_text(path.read_text() + " ")
    assert found(settings) == {"artefacts/adapter/new-1/manifest.json": "altered"}


def test_a_file_that_is_not_listed_is_named(settings: Settings) -> None:
    (settings.storage / WEIGHTS).with_name("adapter_model.bin").write_text("pickled")
    assert found(settings) == {"artefacts/adapter/new-1/adapter/adapter_model.bin": "altered"}


def test_pointers_to_what_is_gone_are_named(settings: Settings) -> None:
    root = settings.storage
    shutil.rmtree(root / "artefacts/adapter/new-1")
    unfinished = finished_work(root, "adapter", {"n": "1"})
    write_artefact_ref(unfinished, root, "adapter", "other")
    (unfinished.folder / MANIFEST_NAME).unlink()
    inside = unfinished.folder.relative_to(root).as_posix()
    told = {one.path: one for one in verify(settings).findings}
    assert told["artefacts/adapter/new-1"].problem == "missing"
    assert told[f"{inside}/{MANIFEST_NAME}"].problem == "missing"
    assert told[f"{inside}/{MANIFEST_NAME}"].remedy == "materialize adapter again"


def test_a_pointer_may_not_lead_out(settings: Settings) -> None:
    path = settings.storage / "tables" / "products" / "latest.json"
    path.write_text(json.dumps({"file": "../../../secret", "sha256": "00"}))
    assert found(settings) == {"tables/products/secret": "missing"}


def test_what_nothing_refers_to_is_orphaned_and_no_damage(settings: Settings) -> None:
    folder = settings.storage / "artefacts" / "adapter" / "forgotten"
    finished(folder, {"adapter/weights": b"1"}, {}, {})
    aged(settings.storage, 60)
    verified = verify(settings)
    orphaned = {one.path: one for one in verified.findings}["artefacts/adapter/forgotten"]
    assert (orphaned.problem, orphaned.is_damage) == ("orphaned", False)
    assert "gc --delete" in orphaned.remedy
    assert verified.is_intact


def test_a_champion_that_nobody_vouches_for_is_named(settings: Settings, tmp_path: Path) -> None:
    _, public = key_pair(tmp_path, "ours")
    asked = settings.model_copy(update={"trusted_keys": public})
    told = {one.path: one for one in verify(asked).findings}
    assert told["champion.json"].problem == "untrusted"
    assert "champion sign" in told["champion.json"].remedy


def test_the_command_says_it_and_fails(cli: Cli, settings: Settings) -> None:
    assert cli("verify").code == 0
    assert "nothing damaged, nothing orphaned" in cli("verify").out
    flip(settings.storage / WEIGHTS)
    told = cli("verify")
    assert told.code == 1
    assert "adapter_model.safetensors" in told.out
    assert "materialize adapter again" in told.out
    assert cli("verify", "--quick").code == 0
    document = cli("verify", "--json")
    assert document.code == 1
    (one,) = json.loads(document.out)["findings"]
    assert (one["path"], one["problem"]) == (WEIGHTS, "altered")


def test_a_storage_that_cannot_be_looked_at_is_said(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", "s3://bucket/prefix")
    assert_refused(cli("verify"), "gs://bucket/prefix")


@pytest.fixture
def cloud(gcs_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudStorage]:
    with cloud_storage(gcs_emulator) as storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        yield storage


def test_a_bucket_is_verified_without_touching_the_working_copy(
    cloud: CloudStorage, tmp_path: Path
) -> None:
    settings = Settings(
        storage_uri=f"gs://{BUCKET}/verified/{next(NUMBERS)}", work_folder=tmp_path / "machine"
    )
    root = settings.storage
    ref = Shop(settings).job("new", answers_of("new"))
    write_artefact_ref(ref, root, "adapter", "new")
    TableStore(root).write(FRAME, "products")
    verified = verify(settings)
    assert verified.findings == []
    assert verified.place == settings.storage_uri
    assert verified.files == 3
    flip(root / WEIGHTS)
    assert found(settings) == {}, "of the bucket, not of this machine's copy"
    publish(root / WEIGHTS)
    (one,) = verify(settings).findings
    assert (one.path, one.problem) == (WEIGHTS, "altered")
    assert one.remedy.startswith(f"remove {settings.storage_uri}/artefacts/adapter/new-1/manifest")
    assert found(settings, quick=True) == {}
    assert not list((tmp_path / "machine").glob(".verifying-*"))
