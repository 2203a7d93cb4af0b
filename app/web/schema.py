"""The API's documentation at /schema: Swagger UI, whose files come from where pip has put them."""

from typing import Any

from litestar import MediaType, Request, Router
from litestar.openapi.plugins import OpenAPIRenderPlugin

from app.web.routes import FOLDER, HEADERS

_PAGE = (FOLDER / "schema.html").read_bytes()
#: Addresses on the page are relative to the folder that /schema is in; /schema/ is one folder deeper.
_PAGE_IN_FOLDER = _PAGE.replace(b'="static/', b'="../static/').replace(b'="schema/', b'="')


class SchemaPage(OpenAPIRenderPlugin):
    """Renders the page; the document itself stays at /schema/openapi.json."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], _schema: dict[str, Any]) -> bytes:
        """Return the page, whose script fetches the document."""
        return _PAGE_IN_FOLDER if request.scope["raw_path"].endswith(b"/") else _PAGE


def schema_router() -> Router:
    """Make the router of /schema, whose answers carry the headers of the page."""
    return Router("/schema", route_handlers=[], include_in_schema=False, response_headers=HEADERS)
