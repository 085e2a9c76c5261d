"""Whatever the description allows or forbids, the server never fails over it."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from retail_assistant_tests.serving.api.shops import Shop

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


@pytest.mark.parametrize(
    ("mode", "examples"), [(GenerationMode.POSITIVE, 30), (GenerationMode.NEGATIVE, 30)]
)
@pytest.mark.fault(
    "Any request that the API's description allows or forbids, and bodies that are none",
    "An answer that the description names, never a server error",
)
def test_no_request_breaks_the_server(shop: Shop, mode: GenerationMode, examples: int) -> None:
    described = schemathesis.openapi.from_dict(shop.get("/openapi.json").json())
    called = set()
    for found in described.get_all_operations():
        operation = found.ok()
        is_simple = operation.method.upper() == "GET"
        if is_simple and mode is GenerationMode.NEGATIVE:
            # Nothing of them can be wrong.
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=2 if is_simple else examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def holds(case: Case) -> None:
            called.add(case.path)
            case.call_and_validate(base_url=shop.url, checks=CHECKS)

        holds()
    assert len(called) == (5 if mode is GenerationMode.POSITIVE else 1)
    assert shop.records.running == 0
