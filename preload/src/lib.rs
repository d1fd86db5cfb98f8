//! What is hooked and what is not.
