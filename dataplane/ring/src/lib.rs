//! Placeholder while the first version is written.
