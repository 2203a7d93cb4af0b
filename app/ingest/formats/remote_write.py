"""Prometheus remote write 1.0: samples of series that are named by labels.

It needs two libraries, which the extra `prometheus` brings.
"""

import re
from array import array
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from math import isnan
from typing import Any, Final

from litestar.di import NamedDependency
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.status_codes import HTTP_204_NO_CONTENT

from app.auth.guard import require
from app.errors import AppError, InvalidRequestError, UnprocessableError
from app.http.requests import AnyRequest
from app.ingest.bodies.pieces import check_value_count
from app.ingest.checks import Refusal, check_tags, check_value, refuse_metric, refuse_sensor
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats._tags import Origin, find_origin
from app.ingest.intake import Ingest
from app.ingest.uploads.readings import Readings, Series
from app.ingest.uploads.receipt import Rejected
from app.ingest.uploads.route import UploadRoute
from app.model import Reading
from app.names import is_metric_name, is_sensor_name, tidy_name
from app.problems import problem_responses

#: The message of remote write 1.0, and how the Content-Type names a message.
_SUPPORTED: Final = "prometheus.WriteRequest"
_MESSAGE: Final = re.compile(r';\s*proto\s*=\s*"?([^\s;"]+)', re.IGNORECASE)
#: The fields of each message as (name, number, type, is repeated); a type with a dot is another message.
_MESSAGES: Final = {
    "Label": (("name", 1, "STRING", False), ("value", 2, "STRING", False)),
    "Sample": (("value", 1, "DOUBLE", False), ("timestamp", 2, "INT64", False)),
    "TimeSeries": (("labels", 1, ".prometheus.Label", True), ("samples", 2, ".prometheus.Sample", True)),
    "WriteRequest": (("timeseries", 1, ".prometheus.TimeSeries", True),),
}


class UnsupportedMessageError(AppError):
    """The body is a message of another version of remote write, of which nothing could be read."""

    code = "unsupported_message"
    title = "Unsupported version of remote write"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class SamplesRefusedError(UnprocessableError):
    """Some samples were refused. All others are stored."""


class _Columns:
    """The samples of a request that can be stored."""

    def __init__(self) -> None:
        self.places: dict[Series, int] = {}
        self.codes = array("q")
        self.times_us = array("q")
        self.values = array("d")
        self.indexes: list[int] = []
        self.described: list[Reading] = []

    def add(self, number: int, series: Series, origin: Origin, samples: list[tuple[int, float]]) -> None:
        """Add the samples of a series, as (microseconds since 1970, value)."""
        code = self.places.setdefault(series, len(self.places))
        for time_us, value in samples:
            self.codes.append(code)
            self.times_us.append(time_us)
            self.values.append(value)
            self.indexes.append(number)
        if origin.tags:
            self.described.append(Reading(origin.sensor, samples[-1][0], {}, origin.tags, number))

    def readings(self) -> Readings:
        return Readings(list(self.places), self.codes, self.times_us, self.values, self.indexes, self.described)


def parse(body: bytes, _media_type: str, times: ReceiptTimes) -> Parsed:
    """Return the samples of a request, decompressed, and the rejections; raise InvalidRequestError.

    NaN is no value: with it, Prometheus marks the end of a series.
    """
    columns, rejected = _Columns(), Rejected()
    sample_count = 0
    for number, given in enumerate(_decode(body).timeseries):
        labels = {label.name: label.value for label in given.labels}
        metric = tidy_name(labels.pop("__name__", ""))
        origin = find_origin(metric, labels)
        samples = [(sample.timestamp * 1_000, sample.value) for sample in given.samples if not isnan(sample.value)]
        sample_count += len(samples)
        check_value_count(sample_count)
        good = _check(number, metric, origin, samples, times, rejected)
        if good:
            columns.add(number, (origin.sensor, metric), origin, good)
    return Parsed(columns.readings(), rejected)


def _check(
    number: int,
    metric: str,
    origin: Origin,
    samples: list[tuple[int, float]],
    times: ReceiptTimes,
    rejected: Rejected,
) -> list[tuple[int, float]]:
    """Return the samples of a series that can be stored; add the rejections of the others."""
    if not samples:
        return samples
    refusal = _refuse_series(metric, origin)
    if refusal is not None:
        rejected.add(number, *refusal, count=len(samples))
        return []
    good = []
    for time_us, value in samples:
        refusal = check_value(metric, value) or times.check(time_us)
        if refusal is None:
            good.append((time_us, value))
        else:
            rejected.add(number, *refusal, metric=metric)
    return good


def _refuse_series(metric: str, origin: Origin) -> Refusal | None:
    if not is_metric_name(metric):
        return refuse_metric(metric)
    if not is_sensor_name(origin.sensor):
        return refuse_sensor(origin.sensor)
    return check_tags(origin.tags)


def _decode(body: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _write_request().FromString(body)
    except DecodeError:
        raise InvalidRequestError("The body is no write request of Prometheus remote write 1.0") from None


@cache
def _write_request() -> Any:
    """Return the class of the message, made from its description in place of generated code."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="remote_write.proto", package="prometheus", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, is_repeated in fields:
            described = message.field.add(name=field, number=number)
            described.label = kinds.LABEL_REPEATED if is_repeated else kinds.LABEL_OPTIONAL
            if kind.startswith("."):
                described.type, described.type_name = kinds.TYPE_MESSAGE, kind
            else:
                described.type = getattr(kinds, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


@dataclass
class SamplesOperation(Operation):
    """A write request of Prometheus as the body."""

    def __post_init__(self) -> None:
        """Set the body; Litestar cannot derive it."""
        schema = Schema(type=OpenAPIType.STRING, description="prometheus.WriteRequest, compressed by snappy as a block")
        example = Example(value="the bytes of a request")
        content = OpenAPIMediaType(schema=schema, examples={"example": example})
        self.request_body = RequestBody(content={"application/x-protobuf": content}, required=True)


@UploadRoute(
    "/api/v1/write",
    http_method="POST",
    guards=[require("ingest")],
    status_code=HTTP_204_NO_CONTENT,
    operation_class=SamplesOperation,
    responses=problem_responses(
        {
            400: "The body is no write request",
            413: "The body is too large",
            415: "The body is a message of remote write 2.0",
            422: "Some samples were refused; all others are stored",
            503: "Overload, or the database is away",
        }
    ),
    tags=["Prometheus"],
    summary="Take samples by Prometheus remote write",
)
async def post_samples(request: AnyRequest, ingest: NamedDependency[Ingest]) -> None:
    """Store the samples of all series. The metric is the label `__name__`; the other labels name the sensor."""
    _check_version(request.headers.get("content-type", ""))
    receipt = await ingest.take(request, parse)
    if receipt.rejected_count:
        first = receipt.rejected[0]
        raise SamplesRefusedError(
            f"{receipt.rejected_count} samples refused, all others stored; the first: series {first.index}: "
            f"{first.message}"
        )


def _check_version(content_type: str) -> None:
    """Raise UnsupportedMessageError for a message of version 2, which would be read as one without samples."""
    message = _MESSAGE.search(content_type)
    if message is not None and message[1] != _SUPPORTED:
        raise UnsupportedMessageError(
            f"The Content-Type has proto={message[1]:.60}; send {_SUPPORTED}, which is remote write 1.0 "
            "(protobuf_message in Prometheus' remote_write)"
        )


handlers = [post_samples]
