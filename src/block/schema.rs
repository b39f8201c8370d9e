//! The columns of a block, leaf by leaf, in the order that Tempo requires.
//!
//! One tree describes a format version; levels, paths and the footer's schema elements follow from it.

use super::meta::{Dedicated, DedicatedScope, DedicatedType, Version};

/// Parquet's physical types, with their numbers in the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Physical {
    Bool = 0,
    I32 = 1,
    I64 = 2,
    F64 = 5,
    Bytes = 6,
}

/// What a leaf means beyond its physical type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    None,
    String,
    Int { bits: u8, signed: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repetition {
    Required = 0,
    Optional = 1,
    Repeated = 2,
}

/// How the writer encodes a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Dictionary,
    Delta,
    DeltaLength,
}

/// A node of the schema tree.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub repetition: Repetition,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Leaf {
        physical: Physical,
        logical: Logical,
        encoding: Encoding,
    },
    /// `annotation` is LIST or MAP in vParquet4.
    Group {
        annotation: Option<Annotation>,
        children: Vec<Node>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotation {
    List,
    Map,
}

/// A leaf with its levels.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub path: Vec<String>,
    pub physical: Physical,
    pub encoding: Encoding,
    pub max_rep: u16,
    pub max_def: u16,
}

/// The schema of one block.
#[derive(Clone, Debug)]
pub struct Schema {
    pub root: Node,
    pub leaves: Vec<Leaf>,
}

use Encoding::{Delta, DeltaLength, Dictionary, Plain};
use Repetition::{Optional, Repeated, Required};

const UINT64: Logical = Logical::Int { bits: 64, signed: false };
const UINT32: Logical = Logical::Int { bits: 32, signed: false };
const INT64: Logical = Logical::Int { bits: 64, signed: true };
const INT32: Logical = Logical::Int { bits: 32, signed: true };

fn leaf(
    name: &str,
    repetition: Repetition,
    physical: Physical,
    logical: Logical,
    encoding: Encoding,
) -> Node {
    Node { name: name.to_owned(), repetition, kind: Kind::Leaf { physical, logical, encoding } }
}

fn string(name: &str, encoding: Encoding) -> Node {
    leaf(name, Required, Physical::Bytes, Logical::String, encoding)
}

fn optional_string(name: &str) -> Node {
    leaf(name, Optional, Physical::Bytes, Logical::String, Dictionary)
}

fn bytes(name: &str) -> Node {
    leaf(name, Required, Physical::Bytes, Logical::None, DeltaLength)
}

fn uint64(name: &str) -> Node {
    leaf(name, Required, Physical::I64, UINT64, Delta)
}

fn uint32(name: &str) -> Node {
    leaf(name, Required, Physical::I32, UINT32, Delta)
}

fn int64(name: &str) -> Node {
    leaf(name, Required, Physical::I64, INT64, Delta)
}

fn int32(name: &str) -> Node {
    leaf(name, Required, Physical::I32, INT32, Delta)
}

fn group(name: &str, children: Vec<Node>) -> Node {
    Node {
        name: name.to_owned(),
        repetition: Required,
        kind: Kind::Group { annotation: None, children },
    }
}

/// A list: a bare repeated field in vParquet5, three levels in vParquet4.
fn list(version: Version, name: &str, element: Node) -> Node {
    match version {
        Version::V5 => Node { name: name.to_owned(), repetition: Repeated, ..element },
        Version::V4 => {
            let element = Node { name: "element".to_owned(), ..element };
            let items = Node { repetition: Repeated, ..group("list", vec![element]) };
            Node {
                name: name.to_owned(),
                repetition: Required,
                kind: Kind::Group { annotation: Some(Annotation::List), children: vec![items] },
            }
        }
    }
}

fn attributes(version: Version) -> Node {
    let value = |name, physical, logical, encoding| {
        list(version, name, leaf(name, Required, physical, logical, encoding))
    };
    let children = vec![
        string("Key", Dictionary),
        leaf("IsArray", Required, Physical::Bool, Logical::None, Plain),
        value("Value", Physical::Bytes, Logical::String, Dictionary),
        value("ValueInt", Physical::I64, INT64, Plain),
        value("ValueDouble", Physical::F64, Logical::None, Plain),
        value("ValueBool", Physical::Bool, Logical::None, Plain),
        leaf("ValueUnsupported", Optional, Physical::Bytes, Logical::String, DeltaLength),
    ];
    list(version, "Attrs", group("Attrs", children))
}

/// Names of attributes that have a fixed column in vParquet4, in the order of the columns.
pub const FIXED_RESOURCE: [(&str, &str); 8] = [
    ("Cluster", "cluster"),
    ("Namespace", "namespace"),
    ("Pod", "pod"),
    ("Container", "container"),
    ("K8sClusterName", "k8s.cluster.name"),
    ("K8sNamespaceName", "k8s.namespace.name"),
    ("K8sPodName", "k8s.pod.name"),
    ("K8sContainerName", "k8s.container.name"),
];

/// The group of dedicated columns of a scope, if the version has one.
fn dedicated(version: Version, columns: &[Dedicated], scope: DedicatedScope) -> Option<Node> {
    let count = |kind| columns.iter().filter(|c| c.scope == scope && c.kind == kind).count();
    let name = |prefix: &str, at: usize| format!("{prefix}{at:02}");
    let mut children = Vec::new();
    if version == Version::V4 {
        children.extend((1..=10).map(|at| optional_string(&name("String", at))));
    } else {
        let strings = count(DedicatedType::String).min(version.max_strings());
        let ints = count(DedicatedType::Int).min(version.max_ints());
        children.extend((1..=strings).map(|at| {
            let name = name("String", at);
            leaf(&name, Repeated, Physical::Bytes, Logical::String, Dictionary)
        }));
        children.extend(
            (1..=ints).map(|at| leaf(&name("Int", at), Repeated, Physical::I64, INT64, Plain)),
        );
    }
    (!children.is_empty()).then(|| group("DedicatedAttributes", children))
}

fn resource(version: Version, columns: &[Dedicated]) -> Node {
    let mut children = Vec::new();
    if version == Version::V5 {
        children.push(string("ServiceName", Dictionary));
    }
    children.push(attributes(version));
    children.push(int32("DroppedAttributesCount"));
    if version == Version::V4 {
        children.push(string("ServiceName", Dictionary));
        children.extend(FIXED_RESOURCE.iter().map(|(column, _)| optional_string(column)));
    }
    children.extend(dedicated(version, columns, DedicatedScope::Resource));
    group("Resource", children)
}

fn span(version: Version, columns: &[Dedicated]) -> Node {
    let mut children = vec![bytes("SpanID"), bytes("ParentSpanID")];
    children.extend(["ParentID", "NestedSetLeft", "NestedSetRight"].map(int32));
    if version == Version::V5 {
        children.push(int32("ChildCount"));
    }
    children.extend([
        string("Name", Dictionary),
        int64("Kind"),
        string("TraceState", DeltaLength),
        uint64("StartTimeUnixNano"),
        uint64("DurationNano"),
        int64("StatusCode"),
        string("StatusMessage", DeltaLength),
        attributes(version),
        int32("DroppedAttributesCount"),
        list(version, "Events", event(version, columns)),
        leaf("DroppedEventsCount", Required, Physical::I32, INT32, Plain),
        list(version, "Links", link(version)),
        leaf("DroppedLinksCount", Required, Physical::I32, INT32, Plain),
    ]);
    if version == Version::V4 {
        children.extend([optional_string("HttpMethod"), optional_string("HttpUrl")]);
        children.push(leaf("HttpStatusCode", Optional, Physical::I64, INT64, Plain));
    }
    children.extend(dedicated(version, columns, DedicatedScope::Span));
    if version == Version::V5 {
        children.extend([15, 60, 300, 3600].map(|secs| uint32(&format!("StartTimeRounded{secs}"))));
    }
    group("Spans", children)
}

fn event(version: Version, columns: &[Dedicated]) -> Node {
    let mut children = vec![
        uint64("TimeSinceStartNano"),
        string("Name", Dictionary),
        attributes(version),
        int32("DroppedAttributesCount"),
    ];
    if version == Version::V5 {
        children.extend(dedicated(version, columns, DedicatedScope::Event));
    }
    group("Events", children)
}

fn link(version: Version) -> Node {
    let children = vec![
        bytes("TraceID"),
        bytes("SpanID"),
        string("TraceState", DeltaLength),
        attributes(version),
        int32("DroppedAttributesCount"),
    ];
    group("Links", children)
}

fn service_stats(version: Version) -> Node {
    match version {
        Version::V5 => {
            let name = string("ServiceName", Dictionary);
            let children = vec![name, uint32("SpanCount"), uint32("ErrorCount")];
            Node { repetition: Repeated, ..group("ServiceStats", children) }
        }
        Version::V4 => {
            let value = group("value", vec![uint32("SpanCount"), uint32("ErrorCount")]);
            let pair = vec![string("key", DeltaLength), value];
            let pair = Node { repetition: Repeated, ..group("key_value", pair) };
            Node {
                name: "ServiceStats".to_owned(),
                repetition: Required,
                kind: Kind::Group { annotation: Some(Annotation::Map), children: vec![pair] },
            }
        }
    }
}

impl Schema {
    /// The schema of a version with its dedicated columns.
    pub fn new(version: Version, columns: &[Dedicated]) -> Schema {
        let scope = vec![
            string("Name", Dictionary),
            string("Version", Dictionary),
            attributes(version),
            int32("DroppedAttributesCount"),
        ];
        let mut scope_spans =
            vec![group("Scope", scope), list(version, "Spans", span(version, columns))];
        if version == Version::V5 {
            scope_spans.push(int32("SpanCount"));
        }
        let scope_spans = list(version, "ss", group("ss", scope_spans));
        let resource_spans = group("rs", vec![resource(version, columns), scope_spans]);
        let root = group(
            "Trace",
            vec![
                bytes("TraceID"),
                string("TraceIDText", DeltaLength),
                uint64("StartTimeUnixNano"),
                uint64("EndTimeUnixNano"),
                uint64("DurationNano"),
                string("RootServiceName", Dictionary),
                string("RootSpanName", Dictionary),
                service_stats(version),
                list(version, "rs", resource_spans),
            ],
        );
        let mut leaves = Vec::new();
        flatten(&root, &mut Vec::new(), (0, 0), &mut leaves);
        Schema { root, leaves }
    }

    /// The position of a leaf. The path is that of vParquet5, without `list.element`.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.leaves.iter().position(|leaf| leaf.plain_path() == path)
    }
}

impl Leaf {
    /// The path without the wrappers of vParquet4's lists.
    pub fn plain_path(&self) -> String {
        plain_path(&self.path)
    }
}

/// A path without the wrappers of vParquet4's lists and maps.
pub fn plain_path(path: &[String]) -> String {
    let wrapper =
        |part: &&String| !["list", "element", "key_value", "value"].contains(&part.as_str());
    let parts: Vec<&str> = path.iter().filter(wrapper).map(String::as_str).collect();
    parts.join(".")
}

fn flatten(node: &Node, path: &mut Vec<String>, (rep, def): (u16, u16), out: &mut Vec<Leaf>) {
    let Kind::Group { children, .. } = &node.kind else { return };
    for child in children {
        let rep = rep + u16::from(child.repetition == Repeated);
        let def = def + u16::from(child.repetition != Required);
        path.push(child.name.clone());
        match child.kind {
            Kind::Leaf { physical, encoding, .. } => {
                out.push(Leaf {
                    path: path.clone(),
                    physical,
                    encoding,
                    max_rep: rep,
                    max_def: def,
                });
            }
            Kind::Group { .. } => flatten(child, path, (rep, def), out),
        }
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_as_many_as_tempo_has() {
        assert_eq!(Schema::new(Version::V4, &[]).leaves.len(), 103);
        assert_eq!(Schema::new(Version::V5, &[]).leaves.len(), 78);
        let schema = Schema::new(Version::V5, &Dedicated::defaults());
        assert_eq!(schema.leaves.len(), 92);
    }

    #[test]
    fn levels_are_those_of_the_contract() {
        let schema = Schema::new(Version::V5, &Dedicated::defaults());
        let levels = |path: &str| {
            let leaf = &schema.leaves[schema.find(path).unwrap()];
            (leaf.max_def, leaf.max_rep)
        };
        assert_eq!(levels("TraceID"), (0, 0));
        assert_eq!(levels("rs.Resource.ServiceName"), (1, 1));
        assert_eq!(levels("rs.ss.Spans.Name"), (3, 3));
        assert_eq!(levels("rs.ss.Spans.Attrs.Key"), (4, 4));
        assert_eq!(levels("rs.ss.Spans.Attrs.Value"), (5, 5));
        assert_eq!(levels("rs.ss.Spans.Attrs.ValueUnsupported"), (5, 4));
        assert_eq!(levels("rs.ss.Spans.Events.Attrs.Value"), (6, 6));
        assert_eq!(levels("rs.ss.Spans.DedicatedAttributes.String01"), (4, 4));
        let v4 = Schema::new(Version::V4, &[]);
        let at = v4.find("rs.ss.Spans.HttpStatusCode").unwrap();
        assert_eq!(at, 92);
        assert_eq!((v4.leaves[at].max_def, v4.leaves[at].max_rep), (4, 3));
    }
}
