"""Sends one small trace with the real OpenTelemetry Python SDK and prints its id.

Where to is said by OTEL_EXPORTER_OTLP_ENDPOINT alone, and how by OTEL_EXPORTER_OTLP_PROTOCOL:
grpc or http/protobuf.
"""

import json
import os
import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

SERVICE = "python-sdk"


def exporter(protocol):
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    elif protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    else:
        sys.exit(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is neither grpc nor http/protobuf")
    return OTLPSpanExporter()


def main():
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    service = f"{SERVICE}-{protocol.replace('/', '-')}"
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter(protocol)))
    tracer = provider.get_tracer("sdk.check", "1.2.3")

    with tracer.start_as_current_span("earlier") as earlier:
        link = Link(earlier.get_span_context(), {"link.reason": "retry"})
    with tracer.start_as_current_span("GET /cart", kind=SpanKind.SERVER) as root:
        root.set_attribute("text", "grün & <b>")
        root.set_attribute("whole", 9007199254740993)
        root.set_attribute("real", 2.5)
        root.set_attribute("truth", True)
        root.set_attribute("texts", ["a", "b"])
        root.set_attribute("wholes", [1, 2, 3])
        root.add_event("cache miss", {"cache.key": "cart:7"})
        with tracer.start_as_current_span("SELECT carts", kind=SpanKind.CLIENT, links=[link]) as child:
            child.record_exception(ValueError("no such cart"))
            child.set_status(Status(StatusCode.ERROR, "no such cart"))

    if not provider.force_flush():
        sys.exit("the flush did not end in time")
    context = root.get_span_context()
    print(
        json.dumps(
            {
                "service": service,
                "trace": trace.format_trace_id(context.trace_id),
                "root": trace.format_span_id(context.span_id),
                "child": trace.format_span_id(child.get_span_context().span_id),
                "linked": trace.format_trace_id(earlier.get_span_context().trace_id),
                "whole": "9007199254740993",
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
