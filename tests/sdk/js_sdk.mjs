// Sends one small trace with the real OpenTelemetry JS SDK as OTLP/HTTP JSON and prints its id.
// Where to is said by OTEL_EXPORTER_OTLP_ENDPOINT alone.

import { context, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

const service = "js-sdk-http-json";
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": service }),
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
});
const tracer = provider.getTracer("sdk.check", "1.2.3");

const earlier = tracer.startSpan("earlier", {}, ROOT_CONTEXT);
earlier.end();

const root = tracer.startSpan("GET /cart", { kind: SpanKind.SERVER }, ROOT_CONTEXT);
root.setAttributes({
  text: "grün & <b>",
  whole: 4503599627370497,
  real: 2.5,
  truth: true,
  texts: ["a", "b"],
  wholes: [1, 2, 3],
});
root.addEvent("cache miss", { "cache.key": "cart:7" });
const links = [{ context: earlier.spanContext(), attributes: { "link.reason": "retry" } }];
const child = tracer.startSpan(
  "SELECT carts",
  { kind: SpanKind.CLIENT, links },
  trace.setSpan(context.active(), root),
);
child.recordException(new RangeError("no such cart"));
child.setStatus({ code: SpanStatusCode.ERROR, message: "no such cart" });
child.end();
root.end();

await provider.forceFlush();
console.log(
  JSON.stringify({
    service,
    trace: root.spanContext().traceId,
    root: root.spanContext().spanId,
    child: child.spanContext().spanId,
    linked: earlier.spanContext().traceId,
    whole: "4503599627370497",
  }),
);
await provider.shutdown();
