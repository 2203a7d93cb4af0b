"""Request ids and durations of requests, with and without a route."""

import asyncio

from tests.conftest import Server


async def test_request_gets_an_id_when_it_has_none(server: Server) -> None:
    ids = set()
    for _ in range(3):
        async with server.http.get("/health/live") as response:
            ids.add(response.headers["X-Request-ID"])
    assert len(ids) == 3


async def test_request_keeps_its_id_when_the_id_is_valid(server: Server) -> None:
    for request_id in ("a", "3f2c:gateway-1.retry_2", "x" * 64):
        async with server.http.get("/health/live", headers={"X-Request-ID": request_id}) as response:
            assert response.headers["X-Request-ID"] == request_id


async def test_request_gets_a_new_id_when_its_own_is_invalid(server: Server) -> None:
    for request_id in ("", "x" * 65, "two words", '"quoted"', "<b>", "idé", "a,b"):
        async with server.http.get("/health/live", headers={"X-Request-ID": request_id}) as response:
            assert response.headers["X-Request-ID"] != request_id
            assert len(response.headers["X-Request-ID"]) == 16


FAILURES = [
    ("GET", "/nothing/here", 404),
    ("DELETE", "/health/live", 405),
    ("GET", "/api/v1/sensors/unknown", 404),
    ("GET", "/api/v1/trends", 400),
    ("POST", "/api/v1/readings", 400),
]


async def test_request_id_is_in_header_and_problem_when_the_request_fails(server: Server) -> None:
    for method, path, status in FAILURES:
        async with server.http.request(method, path, data=b"{", headers={"X-Request-ID": "mine"}) as response:
            assert response.status == status
            assert response.headers["X-Request-ID"] == "mine"
            assert response.content_type == "application/problem+json"
            assert (await response.json())["request_id"] == "mine"


async def test_request_id_is_in_header_and_problem_when_the_key_is_missing(server: Server) -> None:
    async with server.http.get("/api/v1/sensors", headers={"X-API-Key": ""}) as response:
        assert response.status == 401
        assert (await response.json())["request_id"] == response.headers["X-Request-ID"]


async def test_requests_have_their_own_ids_when_they_run_at_the_same_time(server: Server) -> None:
    async def ask(number: int) -> tuple[str, str]:
        async with server.http.get("/api/v1/sensors/none", headers={"X-Request-ID": f"n{number}"}) as response:
            return response.headers["X-Request-ID"], (await response.json())["request_id"]

    assert await asyncio.gather(*(ask(number) for number in range(20))) == [(f"n{n}", f"n{n}") for n in range(20)]


async def test_request_is_measured_under_its_route_when_paths_differ(server: Server) -> None:
    for number in range(20):
        for path in (f"/api/v1/sensors/s{number}", f"/scan/{number}.php", f"/api/v1/sensors/s/{number}"):
            async with server.http.get(path) as response:
                assert response.status == 404
    assert measured(server) == {
        ("GET", "/api/v1/sensors/{name}", "404"): 40.0,
        ("GET", "unknown", "404"): 20.0,
    }


async def test_request_is_measured_under_no_route_when_the_method_is_wrong(server: Server) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        async with server.http.request(method, "/health/live") as response:
            assert response.status == 405
    assert {key[1] for key in measured(server)} == {"unknown"}


def measured(server: Server) -> dict[tuple[str, str, str], float]:
    """Return the number of measured requests by (method, path, status)."""
    return {
        (sample.labels["method"], sample.labels["path"], sample.labels["status"]): sample.value
        for family in server.services.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "tidegauge_request_seconds_count"
    }
