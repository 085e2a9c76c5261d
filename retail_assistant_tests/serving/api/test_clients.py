"""The clients that people have: OpenAI's own, and curl."""

import asyncio
import json
import subprocess

import openai  # noqa: TID253 (no code location is loaded here)
import pytest

from retail_assistant_tests.serving.api.shops import MODEL, Shop, events_of

ALIAS = "retail-assistant"
BLUE = "What does the blue shirt cost?"
SAID = "Well: Blue Shirt costs 499. "


def client(shop: Shop) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{shop.url}/v1", api_key="none", max_retries=0)


def asked(question: str) -> list[openai.types.chat.ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": question}]


def test_the_official_client_gets_an_answer_and_what_it_is_from(shop: Shop) -> None:
    found = client(shop).chat.completions.create(
        model=ALIAS, messages=asked(BLUE), temperature=0.7, seed=1, user="u1", top_p=0.9
    )
    assert found.choices[0].message.content == SAID
    assert found.choices[0].finish_reason == "stop"
    assert found.model == MODEL
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (20, 21)
    extension = (found.model_extra or {})["retail_assistant"]
    assert extension["citations"] == ["shirt-1"]
    assert extension["products"][0]["list_price"] == 999
    assert extension["versions"]["adapter"] == "3f2a9c"


def test_the_official_client_streams(shop: Shop) -> None:
    stream = client(shop).chat.completions.create(
        model=MODEL, messages=asked(BLUE), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == SAID
    assert len([text for text in texts if text]) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == "stop"
    assert (last.model_extra or {})["retail_assistant"]["citations"] == ["shirt-1"]
    assert usage.usage is not None
    assert usage.usage.total_tokens == 21
    with_extension = [c for c in chunks if "retail_assistant" in (c.model_extra or {})]
    assert with_extension == [last]


def test_a_stream_ends_with_done_and_has_usage_only_where_asked(shop: Shop) -> None:
    events = events_of(shop.ask(BLUE, stream=True).text)
    assert events[-1] == "[DONE]"
    assert all("usage" not in event for event in events[:-1])


def test_the_models_are_listed(shop: Shop) -> None:
    (model,) = client(shop).models.list().data
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", ALIAS)


@pytest.mark.fault(
    "The model is away when a client asks",
    "503 with a code that says so",
)
def test_a_model_that_is_away_is_told_as_such(shop: Shop) -> None:
    with pytest.raises(openai.InternalServerError) as told:
        client(shop).chat.completions.create(model=ALIAS, messages=asked("away"))
    assert (told.value.status_code, told.value.code) == (503, "model_away")
    with pytest.raises(openai.InternalServerError):
        # Not begun yet, so a stream has its status too.
        client(shop).chat.completions.create(model=ALIAS, messages=asked("away"), stream=True)


@pytest.mark.parametrize(("question", "code"), [("leaves", "model_away"), ("breaks", "internal")])
@pytest.mark.fault(
    "The model goes away in the middle of an answer",
    "The stream ends with one error event",
)
def test_a_stream_that_breaks_off_says_so_once(shop: Shop, question: str, code: str) -> None:
    stream = client(shop).chat.completions.create(
        model=ALIAS, messages=asked(question), stream=True
    )
    texts: list[str] = []
    with pytest.raises(openai.APIError) as told:
        texts.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert code in str(told.value.code)
    events = events_of(shop.ask(question, stream=True).text)
    assert [set(event) == {"error"} for event in events] == [False, False, True]


def test_thirty_two_clients_at_once_lose_nothing(shop: Shop) -> None:
    async def talk(shopper: openai.AsyncOpenAI, number: int) -> str:
        texts: list[str] = []
        for turn in range(4):
            stream = await shopper.chat.completions.create(
                model=ALIAS,
                messages=asked(f"{BLUE} {number} {turn}"),
                stream=True,
            )
            texts.extend([c.choices[0].delta.content or "" async for c in stream])
        return "".join(texts)

    async def everybody() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=f"{shop.url}/v1", api_key="none", max_retries=0
        ) as shopper:
            return await asyncio.gather(*(talk(shopper, number) for number in range(32)))

    before = len(shop.records.asked)
    assert asyncio.run(everybody()) == [SAID * 4] * 32
    assert len(shop.records.asked) - before == 128
    assert shop.records.running == 0
    shop.until(lambda: shop.metric("retail_turns_running") == 0)


def curl(*arguments: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "30", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_curl_works(shop: Shop) -> None:
    address = f"{shop.url}/v1/chat/completions"
    kind = ("-H", "Content-Type: application/json")
    body = {"messages": asked(BLUE)}
    whole = json.loads(curl(address, *kind, "-d", json.dumps(body)))
    assert whole["choices"][0]["message"]["content"] == SAID
    events = events_of(
        curl("--no-buffer", address, *kind, "-d", json.dumps({**body, "stream": True}))
    )
    assert events[-1] == "[DONE]"
    assert events[-2]["retail_assistant"]["products"][0]["price"] == 499
    assert json.loads(curl(f"{shop.url}/health")) == {"status": "ok"}
