"""Specs of the sample workload."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.launch.spec import LaunchSpec

MakeSpec = Callable[..., LaunchSpec]


@pytest.fixture
def sample_spec(tmp_path: Path) -> MakeSpec:
    """sample_spec(orders="", **fields): orders misbehaviour without changing the fingerprint."""

    def make(orders: str = "", **fields: Any) -> LaunchSpec:
        order_file = tmp_path / "orders.txt"
        order_file.write_text(orders)
        given: dict[str, Any] = {
            "name": "sample",
            "module": "retail_assistant_tests.launch.sample_workload",
            "config": {"text": "a good text"},
            "inputs": {"source": "v1"},
            "paths": {"orders": order_file},
            "code_version": "1",
            "root": tmp_path / "storage",
        }
        return LaunchSpec(**(given | fields))

    return make


@pytest.fixture
def environment() -> dict[str, str]:
    """What the sample's process needs to find this tests package from any working folder."""
    return {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
