//! The program. It does nothing yet.
fn main() {}
