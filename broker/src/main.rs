//! The key service as a program.

fn main() {}
