import pytest

from tests.conftest import Server
from tests.web.browser import Tab

pytestmark = pytest.mark.xdist_group("browser")


async def test_tab_notes_complaint_when_page_breaks_its_policy_or_throws(server: Server, tab: Tab) -> None:
    await tab.go(server.address)
    await tab.evaluate("document.body.setAttribute('style', 'color: red')")
    await tab.evaluate("setTimeout(() => { throw new Error('thrown') })")
    await tab.evaluate("new Promise((resolve) => setTimeout(resolve, 20))")
    noted = "\n".join(tab.complaints)
    assert "Content Security Policy" in noted
    assert "thrown" in noted
    tab.complaints.clear()
