"""The log, and what never gets into it."""

from __future__ import annotations

import io
import json
import logging

import pytest

from supervisor.log import Mask, configure


def logged(**fields: object) -> dict[str, object]:
    stream = io.StringIO()
    configure(output="json", level="debug", mask=Mask(["s3cret-value"]), stream=stream).info("event", **fields)
    document: dict[str, object] = json.loads(stream.getvalue())
    return document


def test_an_event_is_one_line_of_json() -> None:
    assert logged(count=3)["count"] == 3
    assert logged(count=3)["event"] == "event"


def test_a_known_secret_is_masked_wherever_it_stands() -> None:
    entry = logged(text="x s3cret-value y", inside={"a": ["s3cret-value"]})
    assert "s3cret" not in json.dumps(entry)


def test_an_exception_is_masked_as_well() -> None:
    stream = io.StringIO()
    log = configure(output="json", level="info", mask=Mask(["s3cret-value"]), stream=stream)
    try:
        raise ValueError("it was s3cret-value")
    except ValueError as error:
        log.error("failed", exc_info=error)
    assert "ValueError" in stream.getvalue()
    assert "s3cret" not in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefghijklmnop",
        "api_key=abcdefghijklmnop",
        '"token": "abcdefghijklmnop"',
        "https://host/path?token=abcdefghijklmnop",
        "sk-abcdefghijklmnopqrstuvwx",
        "xoxb-abcdefghijklmnop",
        "123456789:abcdefghijklmnopqrstuvwxyz123456789",
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    assert "abcdefghijklmnop" not in Mask().text(text)


def test_ordinary_words_stay() -> None:
    text = "token bucket refilled; secretary called; 12:34:56 the key is under the mat"
    assert Mask().text(text) == text


def test_a_secret_that_begins_with_another_is_masked_whole() -> None:
    assert Mask(["abcdef", "abcdefghij"]).text("abcdefghij") == "***"


def test_a_librarys_warning_becomes_an_event() -> None:
    stream = io.StringIO()
    configure(output="json", level="info", mask=Mask(["s3cret-value"]), stream=stream)
    logging.getLogger("some.library").warning("look: %s", "s3cret-value")
    entry = json.loads(stream.getvalue())
    assert entry["logger"] == "some.library"
    assert entry["detail"] == "look: ***"


def test_below_the_level_nothing_is_written() -> None:
    stream = io.StringIO()
    configure(output="json", level="warning", mask=Mask(), stream=stream).info("quiet")
    assert stream.getvalue() == ""
