//! The real program, as its users meet it: one module per story.
#![expect(clippy::unwrap_used, reason = "test helpers")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests send spans of now, and read their own environment"
)]

mod appliance;
mod bad_input;
mod durable;
mod found;
mod start;
mod tenants;
