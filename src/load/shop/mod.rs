//! The shop whose traffic `load` makes up: twelve services, what their spans say, and how they call each other.
//!
//! Data only. Names and attributes follow OpenTelemetry's semantic conventions, and the mix is that of a
//! real installation: few services and routes, thousands of products and users, ids that never come back.

mod flows;
mod operations;

pub use flows::FLOWS;

use Language::{DotNet, Go, Java, Node, Python, Ruby, Rust};

/// What runs in pods of its own and names itself in the resource.
#[derive(Debug)]
pub struct Service {
    pub name: &'static str,
    pub language: Language,
    /// The version of each pod.
    pub pods: &'static [&'static str],
}

#[derive(Debug, Clone, Copy)]
pub enum Language {
    DotNet,
    Go,
    Java,
    Node,
    Python,
    Ruby,
    Rust,
}

/// An instrumentation scope: name and version.
pub type Scope = (&'static str, &'static str);

/// A key and how its values come about.
pub type Attribute = (&'static str, Value);

#[derive(Debug, Clone, Copy)]
pub enum Value {
    /// `{user}`, `{order}` and the like in the text stand for a name that differs from trace to trace.
    Str(&'static str),
    Int(i64),
    Bool(bool),
    /// One of these, the first ones more often.
    OneStr(&'static [&'static str]),
    OneInt(&'static [i64]),
    /// Any number between these two, whose varints must be equally long.
    Within(u64, u64),
    Double(f64, f64),
    Strs(&'static [&'static str]),
}

/// OTLP's span kinds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// What one kind of span says.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub service: &'static str,
    pub scope: Scope,
    pub name: &'static str,
    pub kind: Kind,
    pub attributes: &'static [&'static [Attribute]],
    pub events: &'static [Event],
    pub link: Link,
    /// `None`: it never fails, and a failure below it is handled here.
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub name: &'static str,
    pub attributes: &'static [Attribute],
}

#[derive(Debug, Clone, Copy)]
pub enum Link {
    None,
    EarlierTrace(&'static [Attribute]),
}

/// How a span differs when its operation failed.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    pub message: &'static str,
    /// In place of the attributes with the same keys, or besides the others.
    pub attributes: &'static [Attribute],
    pub events: &'static [Event],
    /// True if failures start here, and not only pass through.
    pub origin: bool,
}

/// What happens for one request that enters the shop.
#[derive(Debug)]
pub struct Flow {
    /// How many of a hundred traces are such.
    pub percent: u64,
    /// Typical duration of the root span.
    pub millis: u64,
    pub root: Step,
}

/// An operation at its place in a flow.
#[derive(Debug)]
pub struct Step {
    pub operation: &'static Operation,
    pub when: When,
    /// Runs so many times, one after another.
    pub times: (u64, u64),
    /// Runs at all in so many of a hundred traces.
    pub percent: u64,
    pub children: &'static [Step],
}

#[derive(Debug, Clone, Copy)]
pub enum When {
    /// From one thousandth of the parent's duration to another.
    During(u64, u64),
    /// After the parent's end, for so many milliseconds: the other side of a queue.
    After { delay_millis: u64, millis: u64 },
}

/// The services, each with its pods. Some roll out a new version.
pub const SERVICES: &[Service] = &[
    Service { name: "gateway", language: Go, pods: &["2.14.1", "2.14.1", "2.14.1"] },
    Service { name: "storefront", language: Node, pods: &["5.3.0", "5.3.0", "5.3.1-rc.2"] },
    Service { name: "catalog", language: Go, pods: &["1.22.4", "1.22.4"] },
    Service { name: "search", language: Java, pods: &["3.8.2", "3.8.2"] },
    Service { name: "recommendation", language: Python, pods: &["0.17.5", "0.18.0"] },
    Service { name: "cart", language: DotNet, pods: &["4.0.9", "4.0.9"] },
    Service { name: "checkout", language: Go, pods: &["1.9.12", "1.9.12"] },
    Service { name: "payment", language: Java, pods: &["6.2.0"] },
    Service { name: "inventory", language: Rust, pods: &["0.41.3", "0.41.3"] },
    Service { name: "shipping", language: Ruby, pods: &["2.5.7"] },
    Service { name: "accounts", language: Ruby, pods: &["7.1.0", "7.1.0"] },
    Service { name: "notification", language: Node, pods: &["1.4.4"] },
];

impl Service {
    /// The resource attributes of one pod.
    #[must_use]
    pub fn resource(&self, pod: usize, version: &str) -> Vec<(&'static str, String)> {
        let name = self.name;
        // As Kubernetes makes them: five characters behind the replica set's hash.
        let suffix = ["x7k2p", "b9qtm", "h4wzn"].get(pod).copied().unwrap_or("r5dvc");
        let pod_name = format!("{name}-6f9c84d7b5-{suffix}");
        let node = format!("ip-10-0-{}-{}.ec2.internal", 16 + pod, 40 + name.len());
        let (language, sdk) = self.language.sdk();
        vec![
            ("service.name", name.to_owned()),
            ("service.namespace", "shop".to_owned()),
            ("service.version", version.to_owned()),
            ("service.instance.id", pod_name.clone()),
            ("deployment.environment", "production".to_owned()),
            ("cloud.region", "eu-central-1".to_owned()),
            ("k8s.cluster.name", "shop-prod-1".to_owned()),
            ("k8s.namespace.name", "shop".to_owned()),
            ("k8s.deployment.name", name.to_owned()),
            ("k8s.container.name", name.to_owned()),
            ("k8s.pod.name", pod_name),
            ("k8s.node.name", node.clone()),
            ("host.name", node),
            ("telemetry.sdk.name", "opentelemetry".to_owned()),
            ("telemetry.sdk.language", language.to_owned()),
            ("telemetry.sdk.version", sdk.to_owned()),
        ]
    }
}

impl Language {
    /// What the language's SDK says of itself: name of the language, version of the SDK.
    const fn sdk(self) -> (&'static str, &'static str) {
        match self {
            DotNet => ("dotnet", "1.14.0"),
            Go => ("go", "1.39.0"),
            Java => ("java", "1.57.0"),
            Node => ("nodejs", "2.3.0"),
            Python => ("python", "1.39.1"),
            Ruby => ("ruby", "1.10.0"),
            Rust => ("rust", "0.31.0"),
        }
    }

    /// The step of the clock that the language's SDK reads.
    #[must_use]
    pub const fn tick_nanos(self) -> u64 {
        match self {
            DotNet => 100,
            Java | Node => 1_000,
            Go | Python | Ruby | Rust => 1,
        }
    }
}
