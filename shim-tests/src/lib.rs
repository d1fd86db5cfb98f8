//! The same behaviour, everywhere it can run.
