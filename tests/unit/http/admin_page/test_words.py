import pytest

from supervisor.http.admin.words import ago, clock, count, day, dollars, iso, short, span, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("a\x00b\x1b[31m", "a\\x00b\\x1b[31m"),
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\udcff\udce4", "\\xff\\xe4"),
        ("\ud800", "\\ud800"),
        ("tag\U000e0041", "tag\\ue0041"),
        ("שלום, 你好, 🦞", "שלום, 你好, 🦞"),
    ],
)
def test_nothing_in_a_text_is_hidden_or_turns_the_line_around(text: str, shown: str) -> None:
    assert visible(text) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (1.25, "1.2 s"),
        (45, "45 s"),
        (80, "1 min 20 s"),
        (4800, "1 h 20 min"),
        (90000, "1 d 1 h"),
        (1e6, "11 d"),
    ],
)
def test_a_duration_is_told_in_its_largest_units(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_an_age_is_rough_and_never_in_the_future() -> None:
    assert ago(100.0, 101.0) == "just now"
    assert ago(100.0, 40.0) == "just now"
    assert ago(0.0, 45.9) == "45 s ago"
    assert ago(0.0, 7300.0) == "2 h ago"


def test_moments_are_written_in_utc_whatever_number_is_given() -> None:
    assert iso(1_800_000_000) == "2027-01-15T08:00:00Z"
    assert clock(1_800_000_000) == "15 Jan 08:00 UTC"
    assert day(1_800_000_000) == "Friday, 15 January 2027"
    assert iso(-5) == "1970-01-01T00:00:00Z"
    assert iso(1e300).startswith("9999-12-31")


def test_small_words() -> None:
    assert count(1, "file") == "1 file"
    assert count(2000, "file") == "2,000 files"
    assert short("abcdef", 4) == "abc…"
    assert dollars(0.001) == "< $0.01"
    assert dollars(0) == "$0.00"
