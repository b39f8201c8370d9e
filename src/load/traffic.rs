//! Realistic traffic as a pure function: seed and number of a trace in, its spans out.
//!
//! What was sent can so be named again later, span by span, without having been kept. Spans are grouped by
//! resource and scope, as a Collector batches them, and written straight as OTLP bytes.

use crate::load::random::{Random, mix};
use crate::load::shop::{FLOWS, Failure, Flow, Operation, SERVICES, Scope, Service, Step, When};
use crate::load::template::{Moment, Template, encode_resource, encode_scope};
use crate::model::{SpanId, TraceId};
use crate::otlp::wire::{BYTES, put_tag, put_varint, tag, varint_len};

/// What a trace has on average, as a round number to size requests by.
pub const SPANS_PER_TRACE: u64 = 12;

/// The starts of the traces in one request are spread over this time.
const SPREAD_NANOS: u64 = 1_000_000_000;

/// In so many of a hundred traces something fails.
const FAILING_PERCENT: u64 = 6;

/// So many of a hundred traces take ten times as long.
const SLOW_PERCENT: u64 = 2;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// `ExportTraceServiceRequest.resource_spans`.
const RESOURCE_SPANS: u32 = 1;
/// `ResourceSpans.scope_spans`.
const SCOPE_SPANS: u32 = 2;
/// `ScopeSpans.spans`.
const SPANS: u32 = 2;

/// The traffic of one seed. It keeps buffers, so each sender has its own.
#[derive(Debug)]
pub struct Traffic {
    seed: u64,
    flows: Vec<CompiledFlow>,
    pods: Vec<Pod>,
    groups: Vec<Group>,
    /// The spans of each group in the request being written.
    buffers: Vec<Vec<u8>>,
}

/// A flow whose spans are encoded in advance.
#[derive(Debug)]
struct CompiledFlow {
    percent: u64,
    millis: u64,
    root: Node,
    /// The numbers of the steps at which a failure can start.
    origins: Vec<u32>,
}

#[derive(Debug)]
struct Node {
    service: usize,
    when: When,
    times: (u64, u64),
    percent: u64,
    tick_nanos: u64,
    ok: Template,
    failed: Option<Template>,
    /// Where its spans go, for each pod of the service.
    groups: Vec<usize>,
    /// The origins inside this subtree, as bits.
    contains: u64,
    /// The origins whose failure reaches this step, as bits.
    fails: u64,
    children: Vec<Node>,
}

#[derive(Debug)]
struct Pod {
    /// The resource as a field of `ResourceSpans`.
    resource: Vec<u8>,
    groups: Vec<usize>,
}

/// The spans of one scope of one pod.
#[derive(Debug)]
struct Group {
    scope: Scope,
    /// The scope as a field of `ScopeSpans`.
    encoded: Vec<u8>,
}

/// One trace on its way through a flow.
struct Walk<'a, V> {
    trace: TraceId,
    key: u64,
    earlier: (TraceId, SpanId),
    random: Random,
    spans: u64,
    visit: &'a mut V,
}

/// The span above the next ones.
#[derive(Clone, Copy)]
struct Parent {
    id: Option<SpanId>,
    start_nanos: u64,
    end_nanos: u64,
    /// The origin of a failure, as one bit; 0 if all goes well.
    failing: u64,
}

impl Traffic {
    #[must_use]
    pub fn new(seed: u64) -> Traffic {
        let mut traffic = Traffic {
            seed,
            flows: Vec::new(),
            pods: Vec::new(),
            groups: Vec::new(),
            buffers: Vec::new(),
        };
        let mut first_pods = Vec::new();
        for service in SERVICES {
            first_pods.push(traffic.pods.len());
            for (pod, version) in service.pods.iter().enumerate() {
                let resource = encode_resource(1, &service.resource(pod, version));
                traffic.pods.push(Pod { resource, groups: Vec::new() });
            }
        }
        for flow in FLOWS {
            let mut origins = Vec::new();
            let mut number = 0;
            let root = traffic.compile(&flow.root, &first_pods, &mut number, &mut origins);
            let Flow { percent, millis, .. } = *flow;
            traffic.flows.push(CompiledFlow { percent, millis, root, origins });
        }
        traffic.buffers = traffic.groups.iter().map(|_| Vec::new()).collect();
        traffic
    }

    /// An `ExportTraceServiceRequest` with whole traces, from number `first_trace` on.
    ///
    /// The traces start within one second from `base_nanos`.
    pub fn request(&mut self, first_trace: u64, traces: u64, base_nanos: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_request(&mut out, first_trace, traces, base_nanos);
        out
    }

    /// Appends what [`Traffic::request`] returns, and returns the number of spans.
    pub fn write_request(
        &mut self,
        out: &mut Vec<u8>,
        first_trace: u64,
        traces: u64,
        base_nanos: u64,
    ) -> u64 {
        let mut buffers = std::mem::take(&mut self.buffers);
        let mut spans = 0;
        for number in first_trace..first_trace.saturating_add(traces) {
            self.walk(number, base_nanos, &mut |template: &Template, group: usize, moment| {
                if let Some(buffer) = buffers.get_mut(group) {
                    template.write(buffer, SPANS, &moment);
                    spans += 1;
                }
            });
        }
        for pod in &self.pods {
            self.write_pod(out, pod, &buffers);
        }
        buffers.iter_mut().for_each(Vec::clear);
        self.buffers = buffers;
        spans
    }

    /// The id of a trace.
    #[must_use]
    pub const fn trace_id(&self, number: u64) -> TraceId {
        let key = self.key(number);
        let (high, low) = (mix(key, 1), mix(key, 2));
        TraceId((((high as u128) << 64) | (low | 1) as u128).to_be_bytes())
    }

    /// The ids of all spans of a trace.
    #[must_use]
    pub fn span_ids(&self, number: u64) -> Vec<SpanId> {
        let mut ids = Vec::new();
        self.walk(number, 0, &mut |_: &Template, _, moment: Moment| ids.push(moment.id));
        ids
    }

    const fn key(&self, number: u64) -> u64 {
        mix(mix(self.seed, 0), number)
    }

    fn walk(&self, number: u64, base_nanos: u64, visit: &mut impl FnMut(&Template, usize, Moment)) {
        let key = self.key(number);
        let mut random = Random::new(key);
        let Some(flow) = self.flow(random.below(100)) else { return };
        let mut failing = 0;
        if random.percent(FAILING_PERCENT) {
            failing = random.choose(&flow.origins).map_or(0, |origin| 1 << origin);
        }
        let slowness = if random.percent(SLOW_PERCENT) { 10 } else { 1 };
        let share_nanos = flow.millis * NANOS_PER_MILLI / 1000 * slowness;
        let start_nanos = base_nanos.saturating_add(random.below(SPREAD_NANOS));
        let end_nanos =
            start_nanos + share_nanos * (300 + random.popular(2000)) + random.below(999);
        let before = number.wrapping_sub(1);
        let earlier = (self.trace_id(before), span_id(self.key(before), 0));
        let trace = self.trace_id(number);
        let mut walk = Walk { trace, key, earlier, random, spans: 0, visit };
        walk.step(&flow.root, Parent { id: None, start_nanos, end_nanos, failing });
    }

    fn flow(&self, mut percent: u64) -> Option<&CompiledFlow> {
        self.flows.iter().find(|flow| {
            let found = percent < flow.percent;
            percent = percent.saturating_sub(flow.percent);
            found
        })
    }

    fn write_pod(&self, out: &mut Vec<u8>, pod: &Pod, buffers: &[Vec<u8>]) {
        let scopes = || {
            let groups = pod.groups.iter().filter_map(|at| {
                Some((self.groups.get(*at)?.encoded.as_slice(), buffers.get(*at)?.as_slice()))
            });
            groups.filter(|(_, spans)| !spans.is_empty())
        };
        let lens = scopes().map(|(scope, spans)| field_len(SCOPE_SPANS, scope.len() + spans.len()));
        let len: usize = lens.sum();
        if len == 0 {
            return;
        }
        put_tag(out, RESOURCE_SPANS, BYTES);
        put_varint(out, (pod.resource.len() + len) as u64);
        out.extend_from_slice(&pod.resource);
        for (scope, spans) in scopes() {
            put_tag(out, SCOPE_SPANS, BYTES);
            put_varint(out, (scope.len() + spans.len()) as u64);
            out.extend_from_slice(scope);
            out.extend_from_slice(spans);
        }
    }

    fn compile(
        &mut self,
        step: &Step,
        first_pods: &[usize],
        number: &mut u32,
        origins: &mut Vec<u32>,
    ) -> Node {
        let own = *number;
        *number += 1;
        let (at, service) = service(step.operation);
        let first_pod = first_pods.get(at).copied().unwrap_or(0);
        let groups = (first_pod..first_pod + service.pods.len())
            .map(|pod| self.group(pod, step.operation.scope))
            .collect();
        let failure = step.operation.failure;
        let origin = failure.is_some_and(|Failure { origin, .. }| origin);
        if origin {
            origins.push(own);
        }
        let mut children = Vec::new();
        let own_bit = if origin { 1 << own } else { 0 };
        let (mut contains, mut fails) = (own_bit, own_bit);
        for child in step.children {
            let child = self.compile(child, first_pods, number, origins);
            contains |= child.contains;
            // Nobody waits for the other side of a queue.
            if failure.is_some() && matches!(child.when, When::During(..)) {
                fails |= child.fails;
            }
            children.push(child);
        }
        Node {
            service: at,
            when: step.when,
            times: step.times,
            percent: step.percent,
            tick_nanos: service.language.tick_nanos(),
            ok: Template::ok(step.operation),
            failed: Template::failed(step.operation),
            groups,
            contains,
            fails,
            children,
        }
    }

    /// The group of a pod's scope, made if it is the first time that it is asked for.
    fn group(&mut self, pod: usize, scope: Scope) -> usize {
        let Some(pod) = self.pods.get_mut(pod) else { return 0 };
        let known = |at: &&usize| self.groups.get(**at).is_some_and(|group| group.scope == scope);
        if let Some(at) = pod.groups.iter().find(known) {
            return *at;
        }
        let at = self.groups.len();
        self.groups.push(Group { scope, encoded: encode_scope(1, scope) });
        pod.groups.push(at);
        at
    }
}

impl<V: FnMut(&Template, usize, Moment)> Walk<'_, V> {
    /// Visits a step's spans and all below them.
    fn step(&mut self, node: &Node, above: Parent) {
        let met = node.contains & above.failing != 0;
        if !self.random.percent(node.percent) && !met {
            return;
        }
        let times = self.random.within(node.times.0, node.times.1);
        for turn in 1..=times {
            let (start_nanos, end_nanos) = self.place(node, above, turn, times);
            // Of several turns it is the last that fails.
            let failing = if turn == times { above.failing } else { 0 };
            let id = span_id(self.key, self.spans);
            self.spans += 1;
            let moment = Moment {
                trace: self.trace,
                trace_key: self.key,
                id,
                parent: above.id,
                start_nanos,
                end_nanos,
                earlier: self.earlier,
            };
            let failed = node.failed.as_ref().filter(|_| node.fails & failing != 0);
            let pod = mix(self.key, node.service as u64) % node.groups.len().max(1) as u64;
            let groups = node.groups.iter().zip(0..);
            let group =
                groups.into_iter().find(|(_, at)| *at == pod).map_or(0, |(group, _)| *group);
            (self.visit)(failed.unwrap_or(&node.ok), group, moment);
            let parent = Parent { id: Some(id), start_nanos, end_nanos, failing };
            node.children.iter().for_each(|child| self.step(child, parent));
        }
    }

    /// When one turn of a step starts and ends.
    fn place(&mut self, node: &Node, above: Parent, turn: u64, times: u64) -> (u64, u64) {
        let (earliest, start_nanos, end_nanos) = match node.when {
            When::During(0, 1000) => (above.start_nanos, above.start_nanos, above.end_nanos),
            When::During(from, to) => {
                let parent_nanos = above.end_nanos - above.start_nanos;
                let slot_nanos = parent_nanos * (to - from) / 1000 / times;
                let slot = above.start_nanos + parent_nanos * from / 1000 + slot_nanos * (turn - 1);
                let start_nanos = slot + self.random.below(slot_nanos / 4 + 1);
                let end_nanos = slot + slot_nanos - self.random.below(slot_nanos / 4 + 1);
                (above.start_nanos, start_nanos, end_nanos)
            }
            When::After { delay_millis, millis } => {
                let delay_nanos =
                    delay_millis * NANOS_PER_MILLI / 1000 * self.random.within(500, 1500);
                let nanos = millis * NANOS_PER_MILLI / 1000 * self.random.within(500, 1500);
                let start_nanos = above.end_nanos + delay_nanos;
                (above.end_nanos, start_nanos, start_nanos + nanos)
            }
        };
        let start_nanos = (start_nanos - start_nanos % node.tick_nanos).max(earliest);
        (start_nanos, (end_nanos - end_nanos % node.tick_nanos).max(start_nanos))
    }
}

const fn span_id(key: u64, ordinal: u64) -> SpanId {
    let id = mix(key, ordinal.wrapping_add(1 << 32));
    SpanId(if id == 0 { 1u64 } else { id }.to_be_bytes())
}

fn service(operation: &Operation) -> (usize, &'static Service) {
    let mut services = SERVICES.iter().enumerate();
    let found = services.find(|(_, service)| service.name == operation.service);
    found.expect("the operations' services are in the list, a test says so")
}

/// Length of a bytes field with its tag.
const fn field_len(field: u32, len: usize) -> usize {
    varint_len(tag(field, BYTES) as u64) + varint_len(len as u64) + len
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
    use opentelemetry_proto::tonic::trace::v1::Span;
    use prost::Message;

    use super::*;

    const BASE_NANOS: u64 = 1_780_000_000_000_000_000;

    fn decode(seed: u64, traces: u64) -> (usize, ExportTraceServiceRequest) {
        let bytes = Traffic::new(seed).request(0, traces, BASE_NANOS);
        (bytes.len(), ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap())
    }

    fn spans(request: &ExportTraceServiceRequest) -> Vec<&Span> {
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| &scope.spans).collect()
    }

    #[test]
    fn is_a_function_of_seed_and_number() {
        let mut traffic = Traffic::new(7);
        let first = traffic.request(100, 42, BASE_NANOS);
        assert_ne!(traffic.request(142, 42, BASE_NANOS), first);
        assert_eq!(traffic.request(100, 42, BASE_NANOS), first);
        assert_eq!(Traffic::new(7).request(100, 42, BASE_NANOS), first);
        assert_ne!(Traffic::new(8).request(100, 42, BASE_NANOS), first);
    }

    #[test]
    fn names_the_spans_it_writes() {
        let mut traffic = Traffic::new(3);
        let mut bytes = Vec::new();
        let written = traffic.write_request(&mut bytes, 0, 500, BASE_NANOS);
        let request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        let mut found: HashMap<Vec<u8>, HashSet<Vec<u8>>> = HashMap::new();
        for span in spans(&request) {
            let fresh =
                found.entry(span.trace_id.clone()).or_default().insert(span.span_id.clone());
            assert!(fresh, "a span id comes twice");
        }
        assert_eq!(found.values().map(HashSet::len).sum::<usize>() as u64, written);
        assert_eq!(found.len(), 500);
        for number in 0..500 {
            let ids: HashSet<_> = traffic.span_ids(number).iter().map(|id| id.0.to_vec()).collect();
            assert_eq!(found.get(traffic.trace_id(number).0.as_slice()), Some(&ids));
        }
    }

    #[test]
    fn is_of_the_promised_size() {
        let (bytes, request) = decode(1, 4200);
        let spans = spans(&request);
        let per_trace = spans.len() as f64 / 4200.0;
        assert!((11.5..12.5).contains(&per_trace), "{per_trace} spans per trace");
        // As requests of the usual size are, where resources weigh more.
        let mut traffic = Traffic::new(1);
        let batches = (0..100).map(|batch| traffic.request(batch * 42, 42, BASE_NANOS).len());
        let per_span = batches.sum::<usize>() as f64 / spans.len() as f64;
        assert!((325.0..500.0).contains(&per_span), "{per_span} bytes per span");
        assert!(bytes < spans.len() * 500);
        let attributes: usize = spans.iter().map(|span| span.attributes.len()).sum();
        let attributes = attributes as f64 / spans.len() as f64;
        assert!((11.0..13.0).contains(&attributes), "{attributes} attributes per span");
    }

    #[test]
    fn trees_are_whole_and_times_nest() {
        let (_, request) = decode(5, 1000);
        let spans = spans(&request);
        let by_id: HashMap<_, _> = spans.iter().map(|span| (&span.span_id, *span)).collect();
        let roots = spans.iter().filter(|span| span.parent_span_id.is_empty()).count();
        assert_eq!(roots, 1000);
        for span in &spans {
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
            assert!(span.start_time_unix_nano >= BASE_NANOS);
            assert!(span.end_time_unix_nano < BASE_NANOS + 60 * SPREAD_NANOS);
            let Some(parent) = by_id.get(&span.parent_span_id) else {
                assert!(span.parent_span_id.is_empty());
                continue;
            };
            assert_eq!(span.trace_id, parent.trace_id);
            if span.kind == 5 {
                assert!(span.start_time_unix_nano >= parent.end_time_unix_nano);
            } else {
                assert!(span.start_time_unix_nano >= parent.start_time_unix_nano);
                assert!(span.end_time_unix_nano <= parent.end_time_unix_nano);
            }
        }
    }

    #[test]
    fn has_errors_events_links_and_values_of_each_type() {
        let (_, request) = decode(9, 2000);
        let spans = spans(&request);
        let errors = spans.iter().filter(|span| span.status.as_ref().is_some_and(|s| s.code == 2));
        let errors = errors.count() as f64 / spans.len() as f64;
        assert!((0.005..0.05).contains(&errors), "{errors} of the spans are errors");
        let names: HashSet<_> =
            spans.iter().flat_map(|span| &span.events).map(|event| event.name.as_str()).collect();
        assert!(names.contains("exception") && names.contains("cache miss"));
        assert!(spans.iter().any(|span| span.links.iter().any(|link| link.trace_id.len() == 16)));
        let values = spans.iter().flat_map(|span| &span.attributes);
        let values: Vec<&Value> =
            values.filter_map(|kv| kv.value.as_ref().and_then(|any| any.value.as_ref())).collect();
        for found in [
            values.iter().any(|value| matches!(value, Value::DoubleValue(_))),
            values.iter().any(|value| matches!(value, Value::BoolValue(_))),
            values.iter().any(|value| matches!(value, Value::IntValue(_))),
            values.iter().any(|value| matches!(value, Value::ArrayValue(_))),
        ] {
            assert!(found);
        }
        let texts = values.iter().filter_map(|value| match value {
            Value::StringValue(text) => Some(text.as_str()),
            _ => None,
        });
        assert!(!texts.into_iter().any(|text| text.contains('{') && text.contains("sku-{")));
    }

    #[test]
    fn names_of_the_shop_are_filled_in() {
        let (_, request) = decode(2, 300);
        let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|v| v.value.clone()) {
            Some(Value::StringValue(text)) => text,
            _ => String::new(),
        };
        let values = |key: &str| -> HashSet<String> {
            let attributes = spans(&request).into_iter().flat_map(|span| &span.attributes);
            attributes.filter(|kv| kv.key == key).map(|kv| text(&kv.value)).collect()
        };
        assert!(values("session.id").len() > 200);
        assert!(values("user.id").iter().all(|id| id.len() == 7));
        assert!(values("app.product.id").len() > 100);
        for key in ["session.id", "user.id", "app.product.id", "url.path", "app.order.id"] {
            assert!(values(key).iter().all(|value| !value.contains('{')), "{key}");
        }
    }

    #[test]
    fn a_failure_reaches_the_root_of_most_flows() {
        let (_, request) = decode(4, 3000);
        let failed = |span: &&&Span| span.status.as_ref().is_some_and(|status| status.code == 2);
        let spans = spans(&request);
        let by_id: HashMap<_, _> = spans.iter().map(|span| (&span.span_id, *span)).collect();
        assert!(spans.iter().filter(failed).any(|span| span.parent_span_id.is_empty()));
        // Whoever failed either raised an exception or waited for one who failed.
        let mut blamed = HashSet::new();
        for span in spans.iter().filter(failed) {
            if let Some(parent) = by_id.get(&span.parent_span_id) {
                blamed.insert(&parent.span_id);
            }
        }
        for span in spans.iter().filter(failed) {
            let raised = span.events.iter().any(|event| event.name == "exception");
            assert!(raised || blamed.contains(&span.span_id), "{}", span.name);
        }
    }

    #[test]
    fn the_shop_is_consistent() {
        fn count(step: &Step) -> u32 {
            assert!(SERVICES.iter().any(|service| service.name == step.operation.service));
            assert!((1..=100).contains(&step.percent) && step.times.0 >= 1);
            1 + step.children.iter().map(count).sum::<u32>()
        }
        assert_eq!(FLOWS.iter().map(|flow| flow.percent).sum::<u64>(), 100);
        for flow in FLOWS {
            assert!(count(&flow.root) <= u64::BITS, "failures are kept as bits");
        }
        assert!(Traffic::new(1).pods.iter().all(|pod| !pod.groups.is_empty()));
    }
}
