//! OTLP's trace messages as bytes: checking what senders bring, reading JSON, writing what clients
//! get.
//!
//! The encoded request is the form in which spans travel through the program, so nothing here
//! builds an object tree: [`check()`] walks a request once, [`render`] prints straight from the
//! bytes.

pub mod check;
pub mod json;
mod json_reader;
pub mod llm;
pub mod refusal;
pub mod render;
mod repair;
pub mod wire;

pub use check::{Checked, DecodeError, check};
pub use refusal::{Reason, Refusals, Warning, Warnings};
