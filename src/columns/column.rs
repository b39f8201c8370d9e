//! The one table of what can be asked about a span.

use std::sync::Arc;

/// A column: an intrinsic of a trace or span, or an attribute in one of its scopes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    // One value a trace.
    TraceId,
    TraceStart,
    TraceEnd,
    RootService,
    RootName,
    // One value a span.
    SpanId,
    ParentId,
    Start,
    Duration,
    Name,
    Kind,
    Status,
    StatusMessage,
    NestedLeft,
    NestedRight,
    NestedParent,
    ChildCount,
    ScopeName,
    ScopeVersion,
    /// The resource's `service.name`, empty where it is missing.
    Service,
    Attr(AttrScope, Arc<str>),
    // One value an event or link.
    EventName,
    EventTimeSinceStart,
    EventAttr(Arc<str>),
    LinkTraceId,
    LinkSpanId,
    LinkAttr(Arc<str>),
}

/// Where an attribute with one value a span is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttrScope {
    Span,
    Resource,
    Instrumentation,
    /// The span's attribute, which shadows the resource's.
    Any,
}

/// What a span may have several of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    Event,
    Link,
}

impl Column {
    /// The list whose items this column describes, if it is not one value a span.
    pub fn list(&self) -> Option<List> {
        match self {
            Column::EventName | Column::EventTimeSinceStart | Column::EventAttr(_) => {
                Some(List::Event)
            }
            Column::LinkTraceId | Column::LinkSpanId | Column::LinkAttr(_) => Some(List::Link),
            _ => None,
        }
    }

    /// Whether the column has one value a trace.
    pub fn is_trace(&self) -> bool {
        use Column::{RootName, RootService, TraceEnd, TraceId, TraceStart};
        matches!(self, TraceId | TraceStart | TraceEnd | RootService | RootName)
    }
}
