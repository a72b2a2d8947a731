import base64
import hashlib

import pytest

from supervisor.http import pages
from supervisor.phases import Phase


def test_the_style_is_the_one_that_the_policy_allows_and_there_is_no_other() -> None:
    digest = base64.b64encode(hashlib.sha256(pages.STYLE.encode()).digest()).decode()
    assert f"sha256-{digest}" == pages.STYLE_HASH
    policy = pages.HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    page = pages.waiting_page("launch").decode()
    assert page.count("<style>") == 1
    assert "style=" not in page
    assert "<script" not in page


@pytest.mark.parametrize("phase", [phase.value for phase in Phase])
def test_every_phase_has_words_of_its_own_and_a_usual_time(phase: str) -> None:
    page = pages.waiting_page(phase).decode()
    assert f"phase: {phase}" in page
    if phase != "exit":
        assert "usually" in page


def test_the_page_reloads_itself_and_says_so_to_programs() -> None:
    assert f'http-equiv="refresh" content="{pages.REFRESH_SECONDS}"' in pages.waiting_page("boot").decode()
    assert pages.HEADERS["Retry-After"] == str(pages.REFRESH_SECONDS)


def test_what_is_shown_is_escaped() -> None:
    assert b"<b>" not in pages.waiting_page("<b>")
