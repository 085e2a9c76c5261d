"""The sizes in docs/production.md are those of the plan, for the real shape of the model."""

import pytest

from benchmarks.sizes import GEMMA_2_9B, MACHINES, sizes_table
from retail_assistant.training.planning.devices import Devices
from retail_assistant_tests.conftest import REPOSITORY

BEGIN, END = "<!-- sizes: begin -->\n", "\n<!-- sizes: end -->"


def test_the_documented_table_is_the_plan_s() -> None:
    page = (REPOSITORY / "docs" / "production.md").read_text()
    documented = page.partition(BEGIN)[2].partition(END)[0]
    assert documented == sizes_table(), "print it: .venv/bin/python benchmarks/sizes.py"


def test_every_machine_is_known_by_name() -> None:
    devices = [Devices.parsed(text) for text in MACHINES.values()]
    assert [(one.count, one.memory_gib, one.bf16) for one in devices] == [
        (8, 24, True),
        (2, 40, True),
        (1, 80, True),
    ]


@pytest.mark.slow
def test_the_shape_is_what_transformers_makes_of_the_published_configuration() -> None:
    from transformers import Gemma2Config

    from retail_assistant.model_shape import shape_of_config

    published = Gemma2Config(
        hidden_size=3584,
        intermediate_size=14336,
        num_hidden_layers=42,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
        vocab_size=256000,
        query_pre_attn_scalar=256,
    )
    made = shape_of_config(published)
    assert made == GEMMA_2_9B
    assert made.parameters == 9_241_705_984
