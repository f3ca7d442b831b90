//! Whether the store takes what it is told. While it does not, everything goes on by what is known,
//! and what hosts tell waits; people are told once, with what helps, and not at each attempt.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::{Error, Retry};

/// What the store said last.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<Trouble>>);

#[derive(Debug)]
struct Trouble {
    full: bool,
    words: String,
}

impl Health {
    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was written.
    pub(super) fn works(&self) {
        if self.trouble().take().is_some() {
            tracing::info!("the store takes what it is told again");
        }
    }

    /// It answers, which a full one does too.
    pub(super) fn answers(&self) {
        let away = self.trouble().as_ref().is_some_and(|trouble| !trouble.full);
        if away {
            self.works();
        }
    }

    /// Something was not, and is tried again.
    pub(super) fn fails(&self, error: &Error) {
        if error.retry() == Retry::No {
            // That one thing is at fault, which whoever wants it written sees.
            tracing::error!(%error, "the store does not take what it is told; it is tried again");
            return;
        }
        let trouble =
            Trouble { full: matches!(error, Error::NoSpace { .. }), words: error.to_string() };
        let mut known = self.trouble();
        if known.as_ref().is_none_or(|known| known.full != trouble.full) {
            tracing::warn!(%error, "the store does not take what it is told: what is known stays in force, and what hosts tell waits");
        }
        *known = Some(trouble);
    }

    /// What is wrong, in words.
    pub(super) fn words(&self) -> Option<String> {
        let trouble = self.trouble();
        let words = &trouble.as_ref()?.words;
        Some(format!(
            "the store does not take what it is told, so what is known stays in force and what hosts \
             tell waits: {words}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Applied;

    #[test]
    fn what_is_wrong_is_known_until_something_is_written() {
        let health = Health::default();
        let why = "commit: database space exceeded".to_owned();
        health.fails(&Error::NoSpace { why });
        let told = health.words().unwrap();
        assert!(told.ends_with("the store is full: commit: database space exceeded"), "{told}");
        health.answers();
        assert!(health.words().is_some(), "it is still full");
        let why = "no leader".to_owned();
        health.fails(&Error::Unavailable { why, applied: Applied::No });
        assert!(health.words().unwrap().contains("no leader"));
        health.answers();
        assert_eq!(health.words(), None);
        health.fails(&Error::NoSpace { why: String::new() });
        health.works();
        assert_eq!(health.words(), None);
        // It takes others.
        health.fails(&Error::TooLarge { bytes: 2, most_bytes: 1 });
        assert_eq!(health.words(), None);
    }
}
