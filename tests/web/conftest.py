"""A browser for all tests of the page, and a tab of its own for each."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.web.browser import Tab, find_chromium, opened_tab, running_chromium


@pytest.fixture(scope="session")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running Chromium's DevTools. Without Chromium the tests are skipped, but fail in CI."""
    program = find_chromium()
    if program is None:
        reason = "Chromium is not installed (Debian: apt-get install chromium), so the page was not tested in a browser"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running_chromium(program, tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
async def tab(devtools: str) -> AsyncIterator[Tab]:
    """An empty tab; an error of its page fails the test."""
    async with opened_tab(devtools) as opened:
        yield opened
        assert opened.errors == []
