//! A start needs more memory than what follows: the kernel's types, the programs, records as text.

/// Gives back to the system what is not used any more; the allocator keeps it otherwise.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
