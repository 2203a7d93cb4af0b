"""The built-in page: hand-written HTML, CSS and ES modules, served as they are."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from litestar import HttpMethod, Request, Response, route
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.status_codes import HTTP_304_NOT_MODIFIED

from app.web.vendor import find_vendor_files

FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
#: Headers of every file.
HEADERS = {
    # Scripts send all forms; a form that the browser sent by itself could put the key into an address.
    # The icon that carries the count of open alerts is a data: address.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # The browser may keep files but must revalidate them each time, so that modules of two versions never mix.
    "Cache-Control": "no-cache",
}
_METHODS = [HttpMethod.GET, HttpMethod.HEAD]


class _File(msgspec.Struct, frozen=True):
    body: bytes
    media_type: str
    headers: dict[str, str]


def _load(path: Path) -> _File:
    body = path.read_bytes()
    return _File(body, _TYPES[path.suffix], {**HEADERS, "ETag": f'"{sha256(body).hexdigest()[:32]}"'})


#: All files, read once; a requested name is looked up here and never becomes a path.
_FILES = {path.relative_to(FOLDER).as_posix(): _load(path) for path in FOLDER.rglob("*") if path.suffix in _TYPES}
_FILES |= {f"vendor/{name}": _load(path) for name, path in find_vendor_files().items()}


@route("/", http_method=_METHODS, include_in_schema=False, sync_to_thread=False)
def page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the page, which asks for an API key and gets its data with it."""
    return _respond(_FILES["page.html"], request)


@route("/static/{name:path}", http_method=_METHODS, include_in_schema=False, sync_to_thread=False)
def static_file(name: FromPath[str], request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the page's style sheet, one of its scripts, or its icon."""
    file = _FILES.get(name.removeprefix("/"))
    if file is None:
        raise NotFoundException(detail=f"There is no file /static{name}")
    return _respond(file, request)


def _respond(file: _File, request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer with the file, or with 304 when the browser's copy is current (RFC 9110, 13.1.2)."""
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {file.headers["ETag"], "*"}:
        return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers=file.headers)
    return Response(file.body, media_type=file.media_type, headers=file.headers)


handlers = [page, static_file]
