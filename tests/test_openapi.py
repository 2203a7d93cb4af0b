"""The OpenAPI document: valid, complete, and in agreement with the server's answers."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from litestar.serialization import encode_json
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from app.main import create_app
from app.settings import Settings
from tests.conftest import Server

_METHODS = ("get", "post", "put", "patch", "delete")
#: Routes without a key: probes, and those that were open in the replaced services.
OPEN = {"/health/live", "/health/ready", "/metrics", "/health", "/ping", "/api/v1/notifications/health"}
#: POST routes without a body.
WITHOUT_BODY = {
    "/api/v1/notifications/outbox/{notification_id}/resend",
    "/api/v1/channels/{name}/test",
}
#: Routes whose errors have the form of Influx or of a replaced service.
OWN_ERRORS = {"/api/v2/write", "/write", "/api/v1/notifications/send", "/api/temperature_reading"}


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    spec: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _document() -> dict[str, Any]:
    app = create_app(Settings(database_url="postgresql://nobody@127.0.0.1/none", api_key="k"))
    document: dict[str, Any] = json.loads(encode_json(app.openapi_schema.to_schema()))
    return document


DOCUMENT = _document()
OPERATIONS = [
    Operation(method, path, item[method])
    for path, item in DOCUMENT["paths"].items()
    for method in _METHODS
    if method in item
]
KEYED = [operation for operation in OPERATIONS if operation.path not in OPEN]


def response_schema(operation: Operation, status: int) -> dict[str, Any] | None:
    """Return the schema of an answer with the components that it refers to, or None if it has no content."""
    content = operation.spec["responses"][str(status)].get("content", {})
    for media_type in content.values():
        return {**media_type["schema"], "components": DOCUMENT["components"]}
    return None


def test_document_is_valid() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["info"]["title"] == "Tidegauge"


async def test_document_is_served_without_a_key(server: Server) -> None:
    async with server.http.get("/schema/openapi.json", headers={"X-API-Key": ""}) as response:
        assert response.status == 200
        assert json.loads(await response.text())["paths"].keys() == DOCUMENT["paths"].keys()
    async with server.http.get("/schema", headers={"X-API-Key": ""}) as response:
        assert (response.status, response.content_type) == (200, "text/html")


def test_document_has_every_route_except_those_of_the_page() -> None:
    app = create_app(Settings(database_url="postgresql://nobody@127.0.0.1/none", api_key="k"))
    routes = {
        f"{method.lower()} {route.path_format}"
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method not in ("OPTIONS", "HEAD")
    }
    hidden = {route for route in routes if route.split()[1].startswith(("/schema", "/static"))} | {"get /"}
    hidden.add("get /api/v1/gateways/{name}")  # the one with /rejected, for names with slashes
    assert {str(operation) for operation in OPERATIONS} == routes - hidden


def test_operations_have_distinct_names() -> None:
    names = [operation.spec["operationId"] for operation in OPERATIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_operation_has_a_summary_a_description_and_tags(operation: Operation) -> None:
    assert operation.spec["summary"]
    assert operation.spec["description"]
    assert operation.spec["tags"]
    for parameter in operation.spec.get("parameters", []):
        assert parameter["in"] == "path" or parameter.get("description"), parameter["name"]


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.method == "post"], ids=str)
def test_operation_has_a_valid_example_when_it_takes_a_body(operation: Operation) -> None:
    if operation.path in WITHOUT_BODY:
        return
    body = operation.spec["requestBody"]
    media_type = next(iter(body["content"].values()))
    examples = [example["value"] for example in media_type.get("examples", {}).values()]
    examples += media_type["schema"].get("examples", [])
    assert examples
    for example in examples:
        OAS31Validator({**media_type["schema"], "components": DOCUMENT["components"]}).validate(example)


@pytest.mark.parametrize("operation", KEYED, ids=str)
def test_operation_documents_its_errors(operation: Operation) -> None:
    assert {"401", "403"} <= operation.spec["responses"].keys()
    for status, answer in operation.spec["responses"].items():
        assert answer["description"]
        if int(status) >= 400 and operation.path not in OWN_ERRORS:
            assert "Problem" in json.dumps(answer["content"]), f"{status} is answered with a problem"


@pytest.mark.parametrize("path", ["/api/v1/readings", "/api/v1/trends"])
def test_operation_documents_csv_and_its_parameters_when_it_can_answer_so(path: str) -> None:
    spec = DOCUMENT["paths"][path]["get"]
    content = spec["responses"]["200"]["content"]
    assert list(content) == ["application/json", "text/csv"]
    assert content["text/csv"]["schema"] == {"type": "string"}
    described = {parameter["name"]: parameter for parameter in spec["parameters"]}
    assert "-24h" in described["from"]["description"]
    assert "csv" in described["format"]["description"]
    assert described["sensor"]["schema"].get("type", "array") == "array"


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.path in OPEN], ids=str)
def test_operation_is_documented_without_a_key_when_it_needs_none(operation: Operation) -> None:
    assert operation.spec["security"] == [{}]


# The document compared with the server


async def test_server_answers_401_when_a_required_key_is_missing(server: Server) -> None:
    answers = {}
    for operation in KEYED:
        path = fill(operation.path)
        async with server.http.request(operation.method, path, headers={"X-API-Key": ""}) as response:
            answers[str(operation)] = response.status
            await response.read()
    assert answers == dict.fromkeys(answers, 401)


async def test_server_answers_as_documented_when_asked_without_parameters(server: Server) -> None:
    readings = [{"sensor": "s", "values": {"temperature": 1.5, "humidity": 2}, "tags": {"site": "x"}}]
    assert (await server.post_readings(readings)).status == 200
    for operation in gettable():
        async with server.http.get(operation.path) as response:
            if "204" in operation.spec["responses"]:
                assert response.status == 204, operation.path
                continue
            assert response.status == 200, operation.path
            if response.content_type == "application/json":
                schema = response_schema(operation, 200)
                assert schema is not None
                OAS31Validator(schema).validate(await response.json())


async def test_server_answers_a_documented_error_when_parameters_are_nonsense(server: Server) -> None:
    undocumented = []
    for operation in KEYED:
        query = [(parameter["name"], "%00nonsense") for parameter in operation.spec.get("parameters", [])]
        path = fill(operation.path)
        async with server.http.request(operation.method, path, params=query, data=b"\xff{nonsense") as response:
            body = await response.text()
            if response.status >= 500 or str(response.status) not in operation.spec["responses"]:
                undocumented.append((str(operation), response.status, body))
            elif schema := response_schema(operation, response.status):
                OAS31Validator(schema).validate(json.loads(body))
    assert undocumented == []


def gettable() -> Iterator[Operation]:
    """Yield the GET operations that have no required parameter."""
    for operation in OPERATIONS:
        required = [parameter for parameter in operation.spec.get("parameters", []) if parameter.get("required")]
        if operation.method == "get" and not required:
            yield operation


def fill(path: str) -> str:
    """Fill in a path's parameters with ids and names that do not exist."""
    number = "7" if "/outbox/" in path else "6f1c0d5e-0000-4000-8000-000000000000"
    path = path.replace("{notification_id}", number).replace("{name}", "nothing")
    return path.replace("{alert_id}", "7").replace("{silence_id}", "7")
