//! The resolver of sinew.internal.
