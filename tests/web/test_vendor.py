"""Files of uPlot and Swagger UI, served from the packages that ship them."""

import pytest

from app.web import vendor
from tests.conftest import Server

TYPES = {
    "uplot/uPlot.js": "text/javascript; charset=utf-8",
    "uplot/uPlot.css": "text/css; charset=utf-8",
    "swagger-ui/swagger-ui.js": "text/javascript; charset=utf-8",
    "swagger-ui/swagger-ui.css": "text/css; charset=utf-8",
}


async def test_vendor_files_are_served_with_type_and_policy(server: Server) -> None:
    assert vendor.find_vendor_files().keys() == TYPES.keys()
    for name, media_type in TYPES.items():
        async with server.http.get(f"/static/vendor/{name}") as response:
            assert response.status == 200, name
            assert response.headers["Content-Type"] == media_type
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Content-Security-Policy"].startswith("default-src 'self'; ")


def test_vendor_files_are_left_out_when_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor, "_FILES", {"x.js": ("no_such_package", "x.js"), "y.js": ("uplot", "no/such/file.js")})
    assert vendor.find_vendor_files() == {}
