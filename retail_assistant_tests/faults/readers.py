"""What readers of a storage folder see: every pointer, and that what it names is there whole."""

from pathlib import Path
from typing import Any

from retail_assistant.corpus.approval import ApprovalRecord
from retail_assistant.evaluation.archive import JSON_REPORT, read_answers, read_comparison
from retail_assistant.evaluation.champion_history import ChampionHistory
from retail_assistant.evaluation.registry import champion_if_any
from retail_assistant.launch.spec import ArtefactRef, read_manifest
from retail_assistant.settings import Settings
from retail_assistant.storage import LATEST, TableStore

DIFFER = ("README.md", "history", "adapter_config.json")
"""Outputs of a training that hold seconds, or the path of the base model."""

Seen = dict[str, Any]


def seen(storage: Path) -> Seen:
    """What there is to see, by where it is, without what two runs of the same may differ in.

    Raises:
        AssertionError: a pointer leads to half a thing.
        StorageError: a table is not what its pointer says.
    """
    return {
        **_tables(storage),
        **_artefacts(storage),
        **_manifests(storage),
        **_approvals(storage),
        **_champions(storage),
    }


def _tables(storage: Path) -> Seen:
    store, found = TableStore(storage), Seen()
    for pointer in sorted(store.root.rglob("[!.]*.json")):
        name, *partition = pointer.relative_to(store.root).parent.parts
        ref = store.ref(name, partition[0] if partition else None, label=pointer.stem)
        assert ref.read().height == ref.rows, pointer
        found[str(pointer.relative_to(storage))] = ref.sha256
    return found


def _artefacts(storage: Path) -> Seen:
    found = Seen()
    for pointer in sorted((storage / "artefacts").glob(f"*/{LATEST}*.json")):
        ref = ArtefactRef.model_validate_json(pointer.read_text())
        name = pointer.parent.name
        if name == "model_comparison":
            assert read_comparison(ref.folder).variants
            assert read_answers(ref.folder).height
        elif name == "corpus_sheet":
            (sheet,) = ref.folder.glob("*.html")
            assert sheet.read_text().rstrip().endswith("</html>")
        else:
            assert read_manifest(ref.folder) is not None, pointer
        found[str(pointer.relative_to(storage))] = ref.fingerprint
    return found


def _manifests(storage: Path) -> Seen:
    """Finished work: where there is a manifest, all that it names is there as it was made."""
    found = Seen()
    for path in sorted((storage / "artefacts").glob("*/*/manifest.json")):
        manifest = read_manifest(path.parent)
        assert manifest is not None, path
        # Those of an index have random names.
        named = path.parent.parent.name != "catalog_index"
        found[str(path.relative_to(storage))] = {
            (name if named else "files"): (output.sha256 if named else len(manifest.outputs))
            for name, output in manifest.outputs.items()
            if name not in DIFFER
        }
    for path in sorted((storage / "artefacts").glob(f"model_comparison/*/{JSON_REPORT}")):
        assert read_comparison(path.parent).variants
    return found


def _approvals(storage: Path) -> Seen:
    decisions = ApprovalRecord(storage, "auto").decisions()
    told = [(one.version, one.decision, one.by) for one in decisions]
    return {"approvals": told} if told else {}


def _champions(storage: Path) -> Seen:
    settings = Settings(storage_uri=str(storage))
    events = [(one.number, one.kind, one.job) for one in ChampionHistory(settings).events()]
    champion = champion_if_any(settings)
    found: Seen = {"events": events} if events else {}
    if champion is not None:
        assert read_manifest(champion.adapter.folder) is not None
        found["champion"] = (champion.event, champion.job, champion.adapter.fingerprint)
    return found
