//! Exceptions that an administrator makes for callers who are not root.

use std::collections::BTreeSet;

/// The exceptions of a host; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Each allows something; nothing forbids.
    pub rules: Vec<Grant>,
}

/// What one rule allows to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub to: Grantee,
    /// Users that services may name; all is all but root.
    pub run_as: Allowed<String>,
    /// Groups that services may name; all is all but root's.
    pub run_as_group: Allowed<String>,
    /// Users whose processes may be adopted; all is all but root.
    pub adopt: Allowed<String>,
    /// Ports of the host below 1024 that may be published.
    pub publish_below_1024: Allowed<u16>,
    /// Projects of others, and services that others adopted, that may be changed; all is all but
    /// root's.
    pub change: Allowed<String>,
    /// Capabilities that services may keep.
    pub keep_capabilities: Allowed<String>,
    /// Whether services may gain privileges when they execute a file.
    pub new_privileges: bool,
    /// Whether the agent may be ended, and all of Sinew with it.
    pub shutdown: bool,
}

impl Grant {
    /// Nothing, yet.
    #[must_use]
    pub fn new(to: Grantee) -> Self {
        Self {
            to,
            run_as: Allowed::default(),
            run_as_group: Allowed::default(),
            adopt: Allowed::default(),
            publish_below_1024: Allowed::default(),
            change: Allowed::default(),
            keep_capabilities: Allowed::default(),
            new_privileges: false,
            shutdown: false,
        }
    }
}

/// Whom a rule is about, by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// A user.
    User(String),
    /// Everybody in a group.
    Group(String),
}

/// Some of a kind, or all but those of root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed<T> {
    /// All but those of root.
    pub all: bool,
    /// These.
    pub named: BTreeSet<T>,
}

impl<T> Default for Allowed<T> {
    fn default() -> Self {
        Self { all: false, named: BTreeSet::new() }
    }
}

impl<T: Ord> Allowed<T> {
    /// Whether `one` is allowed; `roots`, whether it is root's, so that only its name allows it.
    #[must_use]
    pub fn holds<Q>(&self, one: &Q, roots: bool) -> bool
    where
        T: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.named.contains(one) || (self.all && !roots)
    }

    /// Allows what `other` allows, too.
    pub fn extend(&mut self, other: Self) {
        self.all |= other.all;
        self.named.extend(other.named);
    }
}
