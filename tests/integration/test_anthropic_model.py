"""The real SDK against a Messages API on loopback that speaks the real wire."""

import asyncio
import subprocess
import sys
from typing import get_args

import msgspec
import pytest
import structlog
from opentelemetry import trace

from actors.anthropic_model import AnthropicModel, ModelKeyMissing
from actors.model import (
    Answer,
    Delta,
    Message,
    Model,
    ModelError,
    ModelRequest,
    Text,
    Thinking,
    ToolResult,
    ToolSchema,
    ToolUse,
)
from actors.prices import list_prices, resolve_model
from tests.fakes.messages_api import Answers, MessagesApi
from tests.fakes.messages_sse import (
    ErrorEvent,
    Events,
    Fault,
    Hold,
    Json,
    Refuse,
    Reply,
    Tokens,
    reply_events,
    say,
    use,
)

READ = ToolSchema(name="read", description="read a file", schema={"type": "object", "properties": {}})
START = Message(role="user", blocks=(Text("Build it."),))


def asking(*messages: Message, model: str = "sonnet") -> ModelRequest:
    return ModelRequest(model=model, system="You build things.", messages=messages or (START,), tools=(READ,))


def model_at(api: MessagesApi, *, idle_seconds: float = 30, total_seconds: float = 60) -> AnthropicModel:
    return AnthropicModel(api_key="k", base_url=api.url, idle_seconds=idle_seconds, total_seconds=total_seconds)


async def answer_of(model: Model, request: ModelRequest | None = None) -> Answer:
    *deltas, last = [item async for item in model.stream(request or asking())]
    assert all(isinstance(item, Delta) for item in deltas)
    assert isinstance(last, Answer)
    return last


async def error_of(answers: Answers, *, idle_seconds: float = 30, total_seconds: float = 60) -> ModelError:
    """The error of one call, which must have been one request."""
    async with MessagesApi(answers) as api:
        model = model_at(api, idle_seconds=idle_seconds, total_seconds=total_seconds)
        with pytest.raises(ModelError) as caught:
            await answer_of(model)
        await model.close()
        assert len(api.requests) == 1
    return caught.value


async def answered(reply: Reply | Events) -> Answer:
    async with MessagesApi([reply]) as api:
        model = model_at(api)
        answer = await answer_of(model)
        await model.close()
    return answer


# Answers


async def test_words_are_shown_before_the_answer_is_complete() -> None:
    rest = asyncio.Event()
    async with MessagesApi([Reply((Text("one two three"),), piece=4, fault=Hold(until=rest))]) as api:
        model = model_at(api)
        stream = model.stream(asking())
        assert await anext(stream) == Delta("one ")
        rest.set()
        *deltas, answer = [item async for item in stream]
        await model.close()
    assert deltas == [Delta("two "), Delta("thre"), Delta("e")]
    assert isinstance(answer, Answer)
    assert answer.blocks == (Text("one two three"),)
    assert answer.stop == "end_turn"


async def test_parallel_tool_calls_come_in_order_with_their_arguments() -> None:
    arguments = {"path": 'a "b"\n\\ü🎭.py', "ratio": 1.0, "big": 2**60, "deep": {"list": [None, True, {"x": []}]}}
    answer = await answered(Reply((Text("Reading."), use("t1", "read", **arguments), use("t2", "read"))))
    assert answer.stop == "tool_use"
    text, first, second = answer.blocks
    assert text == Text("Reading.")
    assert isinstance(first, ToolUse)
    assert isinstance(second, ToolUse)
    assert (first.id, second.id) == ("t1", "t2")
    assert msgspec.json.decode(first.arguments) == arguments
    assert msgspec.json.decode(second.arguments) == {}


async def test_arguments_are_on_one_line_whatever_the_model_wrote() -> None:
    pretty = ToolUse(id="t1", name="read", arguments=msgspec.Raw(b'{\n  "path": "a\\nb",\n  "n": 1.50\n}'))
    (block,) = (await answered(Reply((pretty,)))).blocks
    assert isinstance(block, ToolUse)
    assert bytes(block.arguments) == b'{"path":"a\\nb","n":1.50}'


async def test_a_conversation_goes_on_with_its_thinking_and_results() -> None:
    first = Reply((Thinking("Let me see.", "sig1"), Thinking("", "sig2"), use("t1", "read"), use("t2", "read")))
    async with MessagesApi([first, say("Done.")]) as api:
        model = model_at(api)
        answer = await answer_of(model)
        assert answer.blocks[:2] == (Thinking("Let me see.", "sig1"), Thinking("", "sig2"))
        results = Message(role="user", blocks=(ToolResult("t1", "one"), ToolResult("t2", "no such file", failed=True)))
        done = await answer_of(model, asking(START, Message(role="assistant", blocks=answer.blocks), results))
        await model.close()
    assert done.blocks == (Text("Done."),)
    sent = api.requests[1].body["messages"]
    assert [block["id"] for block in sent[1]["content"] if block["type"] == "tool_use"] == ["t1", "t2"]
    assert [(block["tool_use_id"], block.get("is_error")) for block in sent[2]["content"]] == [
        ("t1", None),
        ("t2", True),
    ]


async def test_thinking_after_an_edited_history_is_refused_for_good() -> None:
    async with MessagesApi([Reply((Thinking("Hm.", "sig1"), use("t1", "read")))]) as api:
        model = model_at(api)
        answer = await answer_of(model)
        edited = Message(role="user", blocks=(Text("Build something else."),))
        results = Message(role="user", blocks=(ToolResult("t1", "one"),))
        with pytest.raises(ModelError, match="different conversation") as caught:
            await answer_of(model, asking(edited, Message(role="assistant", blocks=answer.blocks), results))
        await model.close()
    assert caught.value.kind == "never"


async def test_arguments_as_deep_as_we_take_go_back_to_the_provider() -> None:
    deep: object = "x"
    for _ in range(63):
        deep = [deep]
    async with MessagesApi([Reply((use("t1", "read", deep=deep),)), say("Done.")]) as api:
        model = model_at(api)
        answer = await answer_of(model)
        results = Message(role="user", blocks=(ToolResult("t1", "one"),))
        await answer_of(model, asking(START, Message(role="assistant", blocks=answer.blocks), results))
        await model.close()
    assert api.requests[1].body["messages"][1]["content"][0]["input"] == {"deep": deep}


async def test_events_and_deltas_of_tomorrow_are_passed_over() -> None:
    start, begun, ping, *rest = reply_events(say("hello"), model="claude-sonnet-5-5", tokens=Tokens())
    citation: Json = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "citations_delta", "citation": {"a": 1}},
    }
    events = (start, begun, ping, {"type": "weather", "sky": {"blue": True}}, citation, *rest)
    assert (await answered(Events(events))).blocks == (Text("hello"),)


async def test_redacted_thinking_is_kept_for_the_next_turn() -> None:
    start, *_, delta, stop = reply_events(say(""), model="claude-sonnet-5-5", tokens=Tokens())
    begun: Json = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "redacted_thinking", "data": "abc="},
    }
    answer = await answered(Events((start, begun, {"type": "content_block_stop", "index": 0}, delta, stop)))
    async with MessagesApi([say("Done.")]) as api:
        model = model_at(api)
        on = Message(role="user", blocks=(Text("Go on."),))
        await answer_of(model, asking(START, Message(role="assistant", blocks=answer.blocks), on))
        await model.close()
    assert api.requests[0].body["messages"][1]["content"] == [{"type": "redacted_thinking", "data": "abc="}]


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", "end_turn"),
        ("stop_sequence", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("model_context_window_exceeded", "max_tokens"),
        ("refusal", "refusal"),
    ],
)
async def test_each_way_to_stop_is_one_of_ours(reason: str, stop: str) -> None:
    answer = await answered(Reply((Text("So far."),), stop=reason))
    assert (answer.stop, answer.blocks) == (stop, (Text("So far."),))


async def test_a_refusal_tells_its_reason_and_leaves_no_call_to_carry_out() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "That could do harm."}
    answer = await answered(Reply((use("t1", "read"),), stop="refusal", details=details))
    assert (answer.stop, answer.blocks) == ("refusal", (Text("That could do harm."),))


async def test_a_call_that_the_token_limit_cut_off_is_left_out() -> None:
    half = ToolUse(id="t2", name="read", arguments=msgspec.Raw(b'{"path": "a'))
    answer = await answered(Reply((Text("Reading."), use("t1", "read"), half), stop="max_tokens"))
    assert answer.stop == "max_tokens"
    assert [type(block) for block in answer.blocks] == [Text, ToolUse]


# Caching and cost


async def test_what_was_said_before_is_read_from_the_cache_turn_after_turn() -> None:
    calls = 15  # more blocks a turn, with their results, than the provider looks back over

    def busy(body: Json) -> Reply:
        turn = len(body["messages"])
        return Reply(tuple(use(f"t{turn}_{call}", "read", path=f"{turn}/{call}") for call in range(calls)))

    async with MessagesApi(busy) as api:
        model, messages, said = model_at(api), [START], 0
        for _ in range(5):
            answer = await answer_of(model, asking(*messages))
            assert answer.usage.cache_read_tokens == said
            assert answer.usage.input_tokens == 0
            said = answer.usage.cache_read_tokens + answer.usage.cache_write_tokens
            results = [ToolResult(block.id, "x" * 50) for block in answer.blocks if isinstance(block, ToolUse)]
            messages += [Message("assistant", answer.blocks), Message("user", tuple(results))]
        await model.close()
    assert said > 1000


async def test_tokens_and_cost_are_those_of_the_provider() -> None:
    tokens = Tokens(input=10, output=200, cache_read=3000, cache_write=400)
    usage = (await answered(Reply((Text("Done."),), tokens=tokens))).usage
    assert (usage.input_tokens, usage.output_tokens) == (10, 200)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (3000, 400)
    assert usage.cost_micros == 20 + 2000 + 300 + 1000
    assert usage.model_calls == 1


async def test_a_model_without_a_price_costs_nothing_and_is_told_of_once() -> None:
    tokens = Tokens(input=10, output=200)
    with structlog.testing.capture_logs() as logs:
        async with MessagesApi(lambda _: Reply((Text("Done."),), tokens=tokens)) as api:
            model = model_at(api)
            answers = [await answer_of(model, asking(model="claude-new-9")) for _ in range(3)]
            await model.close()
    assert {answer.usage.cost_micros for answer in answers} == {0}
    assert {answer.model for answer in answers} == {"claude-new-9"}
    assert [line["model"] for line in logs if line["event"] == "model_without_price"] == ["claude-new-9"]


def test_the_models_we_name_are_those_of_the_sdk_and_have_a_price() -> None:
    from anthropic._data import DEPRECATED_MODELS
    from anthropic.types.model_param import ModelParam

    names = set(get_args(get_args(ModelParam)[0]))
    assert {resolve_model(alias) for alias in list_prices().aliases} <= names - set(DEPRECATED_MODELS)
    assert [name for name in names - set(DEPRECATED_MODELS) if list_prices().price(name) is None] == []


# Faults


async def test_a_stream_that_is_cut_anywhere_gives_no_answer() -> None:
    reply = Reply((Thinking("Hm.", "sig"), Text("Reading."), use("t1", "read", path="a.py")))
    events = len(reply_events(reply, model="m", tokens=Tokens()))
    for after in range(events):
        error = await error_of([msgspec.structs.replace(reply, fault=Fault("cut", after))])
        assert (error.kind, error.code) == ("back_off", "cut_stream"), after


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("reset"), "disconnected"),
        (Fault("bad_chunk"), "disconnected"),
        (Fault("garbage"), "bad_stream"),
        (Fault("stall"), "idle_timeout"),
        (ErrorEvent("overloaded_error"), "overloaded"),
        (ErrorEvent("api_error"), "provider_error"),
        (ErrorEvent("rate_limit_error"), "rate_limited"),
    ],
)
async def test_a_stream_that_breaks_is_tried_again_later(fault: Fault | ErrorEvent, code: str) -> None:
    reply = Reply((Text("hello"), use("t1", "read")), fault=fault)
    error = await error_of([reply], idle_seconds=1)
    assert (error.kind, error.code) == ("back_off", code)


async def test_an_error_event_that_no_retry_mends_is_final() -> None:
    error = await error_of([Reply((Text("hello"),), fault=ErrorEvent("invalid_request_error", "prompt is too long"))])
    assert (error.kind, error.code) == ("never", "bad_request")
    assert "prompt is too long" in str(error)


async def test_a_stream_with_nothing_but_pings_ends_at_the_total_limit() -> None:
    error = await error_of([Reply((Text("hello"),), fault=Fault("pings"))], idle_seconds=30, total_seconds=0.3)
    assert (error.kind, error.code) == ("back_off", "total_timeout")


async def test_a_provider_that_never_answers_ends_at_the_idle_limit() -> None:
    async def silent(_: Json) -> Reply:
        await asyncio.Event().wait()
        return say("never")

    error = await error_of(silent, idle_seconds=0.3)
    assert (error.kind, error.code) == ("back_off", "idle_timeout")


async def test_silence_after_the_end_does_not_lose_the_answer() -> None:
    reply = say("Done.")
    after = len(reply_events(reply, model="m", tokens=Tokens()))
    answer = await answered(msgspec.structs.replace(reply, fault=Fault("stall", after)))
    assert answer.blocks == (Text("Done."),)


async def test_a_provider_out_of_reach_is_tried_again_later() -> None:
    async with MessagesApi([]) as api:
        model = model_at(api)
    with pytest.raises(ModelError) as caught:
        await answer_of(model)
    await model.close()
    assert (caught.value.kind, caught.value.code) == ("back_off", "unreachable")


@pytest.mark.parametrize(
    ("refuse", "kind", "code"),
    [
        (Refuse(429, "rate_limit_error", headers={"retry-after": "12"}), "retry_after", "rate_limited"),
        (Refuse(429, "rate_limit_error"), "back_off", "rate_limited"),
        (Refuse(429, "rate_limit_error", detail="enforced_spend_limit_reached"), "never", "spend_limit"),
        (Refuse(529, "overloaded_error"), "back_off", "overloaded"),
        (Refuse(500), "back_off", "provider_error"),
        (Refuse(503), "back_off", "provider_error"),
        (Refuse(400, "invalid_request_error"), "never", "bad_request"),
        (Refuse(400, "billing_error"), "never", "billing"),
        (Refuse(401, "authentication_error"), "never", "unauthorized"),
        (Refuse(403, "permission_error"), "never", "forbidden"),
        (Refuse(404, "not_found_error"), "never", "not_found"),
    ],
)
async def test_a_refused_call_is_one_request_and_says_what_helps(refuse: Refuse, kind: str, code: str) -> None:
    error = await error_of([refuse])
    assert (error.kind, error.code) == (kind, code)
    assert error.retry_after_seconds == (12 if kind == "retry_after" else None)
    assert "refused by the script" in str(error)


@pytest.mark.parametrize(
    "arguments", [b'{"path": "a', b"[1]", b"{'a': 1}", b'{"n": NaN}', b'{"n": 1e999}', b'{"a": 1}}']
)
async def test_arguments_that_are_no_json_object_are_no_answer(arguments: bytes) -> None:
    bad = ToolUse(id="t1", name="read", arguments=msgspec.Raw(arguments))
    error = await error_of([Reply((bad,))])
    assert (error.kind, error.code) == ("back_off", "bad_tool_json")


@pytest.mark.parametrize("depth", [64, 100_000])
async def test_arguments_that_nest_without_end_are_no_answer(depth: int) -> None:
    arguments = b'{"deep":' + b"[" * depth + b"]" * depth + b"}"
    bad = ToolUse(id="t1", name="read", arguments=msgspec.Raw(arguments))
    error = await error_of([Reply((bad,), piece=10_000)])
    assert (error.kind, error.code) == ("back_off", "bad_tool_json")


async def test_a_stop_that_fits_no_call_of_ours_is_no_answer() -> None:
    for reason in ("pause_turn", "a_reason_of_tomorrow"):
        error = await error_of([Reply((Text("hello"),), stop=reason)])
        assert (error.kind, error.code) == ("back_off", "unexpected_stop")


async def test_a_block_that_cannot_go_back_is_no_answer() -> None:
    start, _, _, _, *rest = reply_events(say("hello"), model="m", tokens=Tokens())
    begun: Json = {"type": "content_block_start", "index": 0, "content_block": {"type": "server_tool_use", "id": "s1"}}
    error = await error_of([Events((start, begun, *rest))])
    assert (error.kind, error.code) == ("back_off", "bad_stream")


@pytest.mark.parametrize("key", [None, "", "  \n"])
async def test_without_a_key_the_error_names_the_variable_and_the_way_out(key: str | None) -> None:
    model = AnthropicModel(api_key=key)
    with pytest.raises(ModelKeyMissing, match=r"ANTHROPIC_API_KEY.*--model scripted") as caught:
        await answer_of(model)
    assert caught.value.kind == "never"


# The wire


async def test_connections_are_used_again() -> None:
    async with MessagesApi(lambda _: say("Done.")) as api:
        model = model_at(api)
        for _ in range(3):
            await answer_of(model)
        await model.close()
    assert api.connections == 1


async def test_who_stops_listening_closes_the_call() -> None:
    async with MessagesApi([Reply((Text("one two three"),), fault=Fault("stall", after=4))]) as api:
        model = model_at(api)
        stream = model.stream(asking())
        await anext(stream)
        await stream.aclose()
        await api.left()
        await model.close()


async def test_a_cancelled_call_closes_its_connection() -> None:
    async with MessagesApi([Reply((Text("one two three"),), fault=Fault("stall", after=4))]) as api:
        model = model_at(api)
        heard = asyncio.Event()

        async def listen() -> None:
            async for _ in model.stream(asking()):
                heard.set()

        listening = asyncio.create_task(listen())
        await heard.wait()
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        await api.left()
        await model.close()


async def test_the_call_carries_the_key_and_no_trace_of_ours() -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1)))
    async with MessagesApi([say("Done.")]) as api:
        model = model_at(api)
        with trace.use_span(span):
            await answer_of(model)
        await model.close()
    headers = api.requests[0].headers
    assert headers["authorization"] == "Bearer k"
    assert "anthropic-version" in headers
    assert "traceparent" not in headers


async def test_calls_run_side_by_side() -> None:
    everyone = asyncio.Barrier(3)

    async def together(_: Json) -> Reply:
        await everyone.wait()
        return say("Done.")

    async with MessagesApi(together) as api:
        model = model_at(api)
        answers = await asyncio.gather(*(answer_of(model) for _ in range(3)))
        await model.close()
    assert [answer.blocks for answer in answers] == [(Text("Done."),)] * 3


async def test_a_whole_conversation_can_be_answered_by_a_function() -> None:
    def answers(body: Json) -> Reply:
        last = body["messages"][-1]["content"][-1]
        return say(f"It says {last['content']}.") if last["type"] == "tool_result" else Reply((use("t1", "read"),))

    async with MessagesApi(answers) as api:
        model = model_at(api)
        asked = await answer_of(model)
        result = Message(role="user", blocks=(ToolResult("t1", "hello"),))
        told = await answer_of(model, asking(START, Message(role="assistant", blocks=asked.blocks), result))
        await model.close()
    assert told.blocks == (Text("It says hello."),)


async def test_the_fake_counts_tokens() -> None:
    import anthropic

    async with MessagesApi([]) as api, anthropic.AsyncAnthropic(api_key="k", base_url=api.url) as client:
        counted = await client.messages.count_tokens(
            model="m", messages=[{"role": "user", "content": [{"type": "text", "text": "x" * 400}]}]
        )
    assert counted.input_tokens >= 100


def test_importing_the_model_does_not_import_the_sdk() -> None:
    script = "import sys, actors.anthropic_model; print({'anthropic', 'httpx2'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
