//! What the data path gets of what is known: who is put into the choice.

use std::collections::BTreeMap;

use sinew_model::fleet::{Endpoint, EndpointKey, EndpointStatus, Generation, ServiceRecord};

use super::known::{Doubt, Held, Known};

/// What is known of a service for its callers on this host.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    /// Of the newest change.
    pub generation: Generation,
    /// Its ports and policies; `None`: not known, so nothing can be routed.
    pub record: Option<&'a ServiceRecord>,
    /// Whether so many are out that all are routed to.
    pub panic: bool,
    endpoints: &'a BTreeMap<EndpointKey, Held>,
}

/// An endpoint on another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend<'a> {
    /// Which.
    pub key: &'a EndpointKey,
    /// What is known of it.
    pub endpoint: &'a Endpoint,
    /// Whether new connections may go to it.
    pub in_choice: bool,
}

impl<'a> Remote<'a> {
    /// Every endpoint, those out of the choice too.
    pub fn backends(self) -> impl Iterator<Item = Backend<'a>> {
        self.endpoints.iter().map(move |(key, held)| Backend {
            key,
            endpoint: &held.endpoint,
            in_choice: match held.endpoint.status {
                EndpointStatus::Up => true,
                EndpointStatus::Unhealthy => self.panic,
                // Facts that their hosts told of single endpoints: no doubt makes them serve.
                EndpointStatus::Starting | EndpointStatus::Draining => false,
            },
        })
    }
}

/// How many of those that should serve are out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) out: usize,
    pub(super) of: usize,
}

impl Census {
    pub(super) fn is_panic(self) -> bool {
        self.out * 2 > self.of
    }
}

impl Known {
    pub(super) fn remote(&self) -> Remote<'_> {
        Remote {
            generation: self.generation,
            record: self.record.as_ref(),
            panic: self.panic,
            endpoints: &self.endpoints,
        }
    }

    pub(super) fn census(&self) -> Census {
        let mut census = Census::default();
        for held in self.endpoints.values() {
            let dead = held.doubt == Some(Doubt::NodeDead);
            match held.endpoint.status {
                EndpointStatus::Up => census.out += usize::from(dead),
                EndpointStatus::Unhealthy => census.out += 1,
                EndpointStatus::Starting | EndpointStatus::Draining => continue,
            }
            census.of += 1;
        }
        census
    }
}
