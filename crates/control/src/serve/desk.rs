//! What people have this replica do: planned from what the store holds now, shown or done.

use std::time::Duration;

use sinew_model::fleet::Generation;

use super::{Handle, shared::Shared};
use crate::{
    duty::{
        history::{self, Action, Entry},
        people::Refused,
        plan::Plan,
    },
    records::Key,
    registry::Registry,
    session::Now,
    store::{self, Range, Span},
};

/// How often a plan is made anew when what it was computed from has changed.
const ATTEMPTS: u32 = 16;
/// How far behind the store this replica may be.
const STALE: Duration = Duration::from_secs(5);
/// Entries of one answer of the store: each may have a megabyte, as a transaction has.
const PAGE: u64 = 16;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// It is not to be done.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Nothing is decided by what is stale.
    #[error("this replica does not know yet what the store holds: nothing was done")]
    Stale,
    /// Something else changed the same all the time.
    #[error("what this goes by changed {ATTEMPTS} times while it was decided: nothing was done")]
    Contended,
}

/// What was done, or would be.
#[derive(Clone, Debug)]
pub struct Done {
    /// The revision that did it; `None`: it was only shown.
    pub generation: Option<Generation>,
    /// What.
    pub action: Action,
}

impl Handle {
    /// Does what a plan says, or only shows it. `plan` is asked again when what it was computed from
    /// has changed meanwhile.
    ///
    /// # Errors
    /// When it is refused, or the store does not do it.
    pub async fn act(
        &self,
        who: &str,
        dry_run: bool,
        mut plan: impl FnMut(Now, &Registry) -> Result<Plan, Refused>,
    ) -> Result<Done, NotDone> {
        let shared = &self.shared;
        shared.refresh().await?;
        for _ in 0..ATTEMPTS {
            let now = shared.clock.now();
            let planned = plan(now, &shared.registry())?;
            let action = Action::of(&planned, who, now, None);
            if dry_run {
                return Ok(Done { generation: None, action });
            }
            let recorded = history::recorded(&planned, who, now, None);
            let committed = shared.store.commit(recorded).await?;
            let known = shared.caught_up(committed.revision, STALE).await;
            if committed.succeeded {
                tracing::warn!(who, revision = %committed.revision, rule = ?planned.rule, "{}", planned.words);
                return Ok(Done { generation: Some(Generation(committed.revision.0)), action });
            }
            if !known {
                return Err(NotDone::Stale);
            }
        }
        Err(NotDone::Contended)
    }

    /// The history after a generation, oldest first; the newest `limit` of it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn history(&self, after: Generation, limit: usize) -> Result<Vec<Entry>, NotDone> {
        let shared = &self.shared;
        shared.refresh().await?;
        let (first, all) = {
            let registry = shared.registry();
            let history = registry.config().history();
            let later = history.iter().filter(|(_, it)| it.revision.0 > after.0);
            let later: Vec<u64> = later.map(|(id, _)| *id).collect();
            (
                later.iter().rev().nth(limit.saturating_sub(1)).or(later.first()).copied(),
                later.len(),
            )
        };
        let Some(first) = first.filter(|_| limit > 0) else { return Ok(Vec::new()) };
        let mut span = Span::range(Key::History(first).bytes(), Key::History(u64::MAX).bytes());
        let mut entries = Vec::with_capacity(limit.min(all));
        loop {
            let page = shared.store.range(Range::of(span.clone()).limit(PAGE)).await?;
            let last = page.entries.last().map(|entry| entry.key.clone());
            for stored in &page.entries {
                match history::read(stored) {
                    Ok(entry) => entries.push(entry),
                    Err(poison) => {
                        tracing::warn!(key = %stored.key.escape_ascii(), %poison, "an entry of the history is of no use");
                    }
                }
            }
            match last.filter(|_| page.more) {
                Some(last) => span = span.after(&last),
                None => break,
            }
        }
        entries.retain(|entry| entry.generation > after);
        Ok(entries)
    }
}

impl Shared {
    /// Waits until what the store holds now is known here.
    pub(super) async fn refresh(&self) -> Result<(), NotDone> {
        let any = Range::of(Span::key(Key::Lead.bytes()));
        let newest = self.store.range(any).await?.revision;
        if self.caught_up(newest, STALE).await { Ok(()) } else { Err(NotDone::Stale) }
    }
}
