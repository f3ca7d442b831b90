//! What `sinew doctor` found.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// All is well.
    Ok,
    /// Sinew works, but not for everything.
    Warns,
    /// Sinew cannot work.
    Blocks,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) check: &'static str,
    /// How bad it is.
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// What that means for Sinew; nothing when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) means: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), means: None, remedy: None }
    }

    pub(super) fn warns(
        check: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Warns, means: Some(means.into()), ..Self::ok(check, found) }
    }

    pub(super) fn blocks(
        check: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Blocks, means: Some(means.into()), ..Self::ok(check, found) }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}
