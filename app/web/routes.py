"""The built-in page: hand-written HTML, CSS and ES modules, served as they are."""

from pathlib import Path

from litestar import Response, get
from litestar.exceptions import NotFoundException

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def _file(name: str) -> Response[bytes]:
    path = _FOLDER / name
    if path.parent != _FOLDER or path.suffix not in _TYPES or not path.is_file():
        raise NotFoundException(detail=f"There is no page /{name}")
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=_HEADERS)


@get("/", include_in_schema=False, sync_to_thread=False)
def page() -> Response[bytes]:
    """Show the page; it asks for a key, and everything on it comes over the live feed."""
    return _file("page.html")


@get("/static/{name:str}", include_in_schema=False, sync_to_thread=False)
def static_file(name: str) -> Response[bytes]:
    """Give the page's style, script or icon."""
    return _file(name)


handlers = [page, static_file]
