//! Declared capacities of the kernel's maps: nearing one warns, reaching it refuses.

use sinew_abi::capacity;
use sinew_model::Publish;

use crate::refusal::Refusal;

/// From this share of a capacity on, an operator is warned.
const WARN_PERCENT: usize = 80;

/// How many entries are taken of each map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    instances: usize,
    service_ports: usize,
    backends: usize,
    published_ports: usize,
}

impl Usage {
    /// Counts a service with `ports` ports and `replicas` instances.
    pub(crate) fn add(&mut self, ports: usize, replicas: usize) {
        self.instances += replicas;
        self.service_ports += ports;
        self.backends += ports * replicas;
    }

    /// Counts published ports: one on all addresses of both families is two.
    pub(crate) fn publish(&mut self, published: &[Publish]) {
        let both = |p: &&Publish| p.host_ip.is_ipv6() && p.host_ip.is_unspecified();
        self.published_ports += published.len() + published.iter().filter(both).count();
    }

    /// Name, entries taken and entries there can be, of each map.
    pub(crate) fn entries(&self) -> [(&'static str, usize, usize); 4] {
        [
            ("instances", self.instances, capacity::INSTANCES as usize),
            ("service ports", self.service_ports, capacity::SERVICES as usize),
            ("backends", self.backends, capacity::BACKENDS as usize),
            ("published ports", self.published_ports, capacity::PUBLISHED as usize),
        ]
    }

    /// # Errors
    /// When more is wanted than a map holds.
    pub(crate) fn refuse_when_full(&self) -> Result<(), Refusal> {
        match self.entries().into_iter().find(|(_, wanted, holds)| wanted > holds) {
            Some((what, wanted, holds)) => Err(Refusal::Full { what, wanted, holds }),
            None => Ok(()),
        }
    }

    /// A warning for each map that is nearly full.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.entries()
            .into_iter()
            .filter(|(_, wanted, holds)| wanted * 100 >= holds * WARN_PERCENT)
            .map(|(what, wanted, holds)| format!("{wanted} of at most {holds} {what} are in use"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_then_refuses() {
        let mut usage = Usage::default();
        usage.add(1, 13_000);
        assert_eq!(usage.warnings(), Vec::<String>::new());
        usage.add(1, 200);
        assert_eq!(usage.warnings(), ["13200 of at most 16384 instances are in use"]);
        assert!(usage.refuse_when_full().is_ok());
        usage.add(0, 3_184);
        assert!(usage.refuse_when_full().is_ok(), "exactly full is not too much");
        usage.add(0, 1);
        assert!(matches!(usage.refuse_when_full(), Err(Refusal::Full { what: "instances", .. })));
    }
}
