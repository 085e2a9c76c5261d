"""What generating costs, and that the cap holds."""

import pytest

from retail_assistant.corpus.generators.model import GenerationError
from retail_assistant_tests.chat_server import ChatServer
from retail_assistant_tests.corpus.generators.conftest import MakeBrief, Write

PRICES = {"prompt_price": 1000.0, "completion_price": 4000.0, "currency": "EUR"}


def test_cost_is_what_the_endpoint_counted_at_the_policys_prices(
    brief: MakeBrief, write: Write
) -> None:
    briefs = [brief(f"Top {number}") for number in range(10)]
    with ChatServer(fault=lambda subject, n: "malformed" if n == 1 else "").running() as server:
        usage = write(server, briefs, **PRICES).usage
        again = write(server, briefs, **PRICES).usage
    assert usage.requests == usage.replies == 20
    expected = (usage.prompt_tokens * 1000 + usage.completion_tokens * 4000) / 1e6
    assert usage.cost == pytest.approx(expected)
    assert usage.cost_of_corpus == pytest.approx(expected)
    assert usage.currency == "EUR"
    assert (again.cost, again.requests, again.prompt_tokens) == (0, 0, 0)
    assert again.cost_of_corpus == pytest.approx(expected)


def test_tokens_are_estimated_where_the_endpoint_states_none(
    brief: MakeBrief, write: Write
) -> None:
    with ChatServer().running() as server:
        stated = write(server, [brief("A")]).usage
        server.fault = lambda *_: "no usage"
        estimated = write(server, [brief("B")]).usage
    assert estimated.prompt_tokens == pytest.approx(stated.prompt_tokens, rel=0.1)
    assert estimated.completion_tokens == pytest.approx(stated.completion_tokens, rel=0.1)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_the_cap_is_never_exceeded_and_nothing_paid_for_is_lost(
    brief: MakeBrief, write: Write, concurrency: int
) -> None:
    briefs = [brief(f"Top {number}") for number in range(40)]
    policy = {**PRICES, "concurrency": concurrency, "max_tokens": 400}
    with ChatServer(latency=0.01).running() as server:
        whole = write(server, [brief("other")], **policy).usage.cost
        cap = 20 * whole
        with pytest.raises(GenerationError, match="exceed max_cost") as stopped:
            write(server, briefs, **policy, max_cost=cap)
        asked = server.requests.total() - 1
        assert 10 <= asked <= 20
        assert f"{asked} of 40 responses are written and kept" in str(stopped.value)
        assert "raise max_cost" in str(stopped.value)
        # The cap is on the corpus: another run does not spend as much again.
        with pytest.raises(GenerationError, match="exceed max_cost"):
            write(server, briefs, **policy, max_cost=cap)
        assert server.requests.total() - 1 == asked
        written = write(server, briefs, **policy, max_cost=100 * whole)
    assert server.requests.total() - 1 == 40
    assert (written.usage.asked, written.usage.reused) == (40 - asked, asked)
    assert len(written.dialogues) == 120
