"""Token counts out of answers, in every shape and in every cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor.broker.usage import LONGEST_ANSWER_TOKENS, MAX_DOCUMENT_BYTES, MAX_TOKENS, Meter, RequestReader, Usage

JSON = "application/json; charset=utf-8"
SSE = "text/event-stream"


def stream(*events: dict[str, Any] | str) -> bytes:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"event: x\r\ndata: {line}\r\n\r\n" for line in lines).encode()


ANTHROPIC = {
    "model": "claude-1",
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 5,
        "service_tier": "standard",
    },
}
ANTHROPIC_STREAM = stream(
    {"type": "message_start", "message": {**ANTHROPIC, "usage": {**ANTHROPIC["usage"], "output_tokens": 1}}},
    {"type": "ping"},
    {"type": "content_block_delta", "delta": {"text": 'said "usage": {"output_tokens": 9000}'}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
)
CHAT = {
    "model": "gpt-1",
    "usage": {"prompt_tokens": 110, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 100}},
}
CHAT_STREAM = stream(
    {"model": "gpt-1", "choices": [{"delta": {"content": "a"}}], "usage": None},
    {"model": "gpt-1", "choices": [], "usage": CHAT["usage"]},
    "[DONE]",
)
RESPONSE = {
    "model": "gpt-1",
    "usage": {"input_tokens": 110, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 100}},
}
RESPONSES_STREAM = stream(
    {"type": "response.created", "response": {"model": "gpt-1", "usage": None}},
    {"type": "response.output_text.delta", "delta": "a"},
    {"type": "response.completed", "response": RESPONSE},
)
GOOGLE = {
    "modelVersion": "gemini-1",
    "usageMetadata": {
        "promptTokenCount": 110,
        "cachedContentTokenCount": 100,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": 2,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 110}],
    },
}
GOOGLE_STREAM = stream({"usageMetadata": {"promptTokenCount": 110, "candidatesTokenCount": 1}}, GOOGLE)
EMBEDDINGS = {
    "model": "emb-1",
    "data": [{"embedding": [0.1] * 100}],
    "usage": {"prompt_tokens": 10, "total_tokens": 10},
}


@pytest.mark.parametrize(
    ("kind", "answer", "model", "expected"),
    [
        (JSON, json.dumps(ANTHROPIC).encode(), "claude-1", Usage(10, 5, 100, 20)),
        (SSE, ANTHROPIC_STREAM, "claude-1", Usage(10, 5, 100, 20)),
        (JSON, json.dumps(CHAT).encode(), "gpt-1", Usage(10, 5, 100)),
        (SSE, CHAT_STREAM, "gpt-1", Usage(10, 5, 100)),
        (JSON, json.dumps(RESPONSE).encode(), "gpt-1", Usage(10, 5, 100)),
        (SSE, RESPONSES_STREAM, "gpt-1", Usage(10, 5, 100)),
        (JSON, json.dumps(GOOGLE).encode(), "gemini-1", Usage(10, 5, 100)),
        (JSON, json.dumps([{"candidates": []}, GOOGLE]).encode(), "gemini-1", Usage(10, 5, 100)),
        (SSE, GOOGLE_STREAM, "gemini-1", Usage(10, 5, 100)),
        (JSON, json.dumps(EMBEDDINGS).encode(), "emb-1", Usage(10)),
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_counts_are_read_in_every_shape_however_the_bytes_are_cut(
    kind: str, answer: bytes, model: str, expected: Usage, cut: int
) -> None:
    meter = Meter(kind)
    for at in range(0, len(answer), cut):
        meter.feed(answer[at : at + cut])
    assert meter.result(request_bytes=4000, complete=True) == expected
    assert meter.model == model


def test_a_stream_that_says_nothing_is_estimated_by_its_events_and_the_requests_size() -> None:
    meter = Meter(SSE)
    meter.feed(stream(*[{"choices": [{"delta": {"content": "word"}}]}] * 40))
    assert meter.result(request_bytes=4000, complete=True) == Usage(1000, 40, estimated=True)


def test_a_document_that_says_nothing_is_estimated_by_its_size() -> None:
    meter = Meter(JSON)
    meter.feed(b"x" * 400)
    assert meter.result(request_bytes=4000, complete=True) == Usage(1000, 100, estimated=True)


@pytest.mark.parametrize(
    ("kind", "answer", "complete"),
    [
        (JSON, b'{"id": "r", "status": "queued", "background": true, "usage": null}', True),
        (JSON, b'{"id": "r", "status": "in_progress", "usage": null}', True),
        (JSON, b'{"candidates": [{"content": {"parts": [{"text": "hidden"}]}}]}', True),
        (JSON, b'{"candidates": [{"conte', False),
        ("application/x-protobuf", b"\x0a\x01a", True),
        (SSE, stream({"choices": [{"delta": {"content": "word"}}]}, "[DONE]"), True),
        (SSE, stream({"type": "response.created", "response": {"background": True, "usage": None}}), False),
    ],
)
def test_an_answer_that_hides_what_it_cost_is_charged_as_the_longest(kind: str, answer: bytes, complete: bool) -> None:
    meter = Meter(kind, tells=True)
    meter.feed(answer)
    expected = Usage(1000, LONGEST_ANSWER_TOKENS, estimated=True)
    assert meter.result(request_bytes=4000, complete=complete) == expected


@pytest.mark.parametrize(
    ("kind", "answer", "complete", "output"),
    [
        (SSE, stream({"choices": [{"delta": {"content": "word"}}]}), False, 1),
        (JSON, b'{"status": "failed", "usage": null}', True, 8),
        (JSON, b'{"usageMetadata": {"promptTokenCount": 1000}}', True, 0),
        (SSE, RESPONSES_STREAM, True, 5),
        (JSON, json.dumps({**RESPONSE, "status": "completed", "background": True}).encode(), True, 5),
    ],
)
def test_an_answer_that_hides_nothing_is_not(kind: str, answer: bytes, complete: bool, output: int) -> None:
    meter = Meter(kind, tells=True)
    meter.feed(answer)
    assert meter.result(request_bytes=4000, complete=complete).output == output


def test_speech_is_not_taken_for_text() -> None:
    meter = Meter("audio/mpeg")
    meter.feed(b"x" * 400_000)
    assert meter.result(request_bytes=400, complete=True) == Usage(100, 0, estimated=True)


def test_a_stream_that_broke_off_is_charged_what_came() -> None:
    meter = Meter(SSE)
    meter.feed(ANTHROPIC_STREAM[: ANTHROPIC_STREAM.index(b"message_delta") - 10])
    usage = meter.result(request_bytes=4000, complete=False)
    assert usage.input == 10
    assert usage.output == 3
    assert usage.estimated


def test_of_an_answer_too_long_to_keep_the_end_is_read() -> None:
    meter = Meter(JSON)
    meter.feed(b'{"model": "emb-1", "data": [')
    for _ in range(3 * MAX_DOCUMENT_BYTES // 1000):
        meter.feed(b"0.12345678," * 91)
    meter.feed(b'0], "usage": {"prompt_tokens": 77, "total_tokens": 77}}')
    assert meter.result(request_bytes=1, complete=True) == Usage(77)
    assert meter.model == "emb-1"
    assert len(meter._piece.bytes()) < 200_000


@pytest.mark.parametrize("count", [-5, 10**30, "7", 3.5, True, None, [], {}])
def test_nonsense_for_a_count_neither_raises_nor_spends_a_budget(count: Any) -> None:
    meter = Meter(JSON)
    meter.feed(json.dumps({"usage": {"input_tokens": count, "output_tokens": 1}}).encode())
    assert 0 <= meter.result(request_bytes=8, complete=True).total <= MAX_TOKENS + 100


def test_the_model_is_found_at_either_end_of_a_request() -> None:
    for body in (b'{"model": "m-1", ' + b"x" * 100_000, b"x" * 100_000 + b', "model":"m-1"}'):
        reader = RequestReader()
        for at in range(0, len(body), 1000):
            reader.feed(body[at : at + 1000])
        assert (reader.model, reader.size) == ("m-1", len(body))
