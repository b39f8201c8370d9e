//! What every layer speaks of: ids, tenants, time ranges, attribute values, and the row form of a trace.
//!
//! Leaves the wire format to `otlp`, columns to `columns`.

mod ids;
mod trace;
mod value;

pub use ids::{BlockId, IdError, SpanId, TenantError, TenantId, TimeRange, TraceId};
pub use trace::{ResourceSpans, ScopeSpans, Span, Trace};
pub use value::Value;
