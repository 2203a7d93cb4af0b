import pytest

from tests.conftest import Server
from tests.web.browser import Tab

pytestmark = pytest.mark.xdist_group("browser")


async def test_tab_stores_errors_when_page_violates_its_policy_or_throws(server: Server, tab: Tab) -> None:
    await tab.go(server.address)
    await tab.evaluate("document.body.setAttribute('style', 'color: red')")
    await tab.evaluate("setTimeout(() => { throw new Error('thrown') })")
    await tab.evaluate("new Promise((resolve) => setTimeout(resolve, 20))")
    errors = "\n".join(tab.errors)
    assert "Content Security Policy" in errors
    assert "thrown" in errors
    tab.errors.clear()
