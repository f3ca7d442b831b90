//! Rules about ports: those of a service, and those of the host that lead to it.

use std::collections::BTreeMap;

use super::Rules;
use crate::{Protocol, Publish, Rule, Service, ServiceName, field::Field, problem::MAX_PORTS};

impl Rules {
    pub(super) fn ports(&mut self, service: &Service, field: &Field) {
        let list = field.key("ports");
        let ports = &service.ports;
        self.need(ports.len() <= MAX_PORTS, &list, || Rule::TooManyPorts(ports.len()));
        for (index, port) in ports.iter().enumerate() {
            let here = list.index(index);
            let first = |same: &dyn Fn(&crate::Port) -> bool| {
                ports[..index].iter().position(same).map(|first| list.index(first).to_string())
            };
            let name = port.name.as_str();
            self.need(port.number != 0, &here, || Rule::range(0, 1, u16::MAX));
            self.need(name.contains(|c: char| c.is_ascii_alphabetic()), &here, || {
                Rule::PortNameDigits(name.to_owned())
            });
            let twice =
                first(&|other| (other.number, other.protocol) == (port.number, port.protocol));
            if let Some(first) = twice {
                let rule = Rule::PortTwice { number: port.number, protocol: port.protocol, first };
                self.found.push((here, rule));
            } else if let Some(first) = first(&|other| other.name == port.name) {
                self.found.push((here, Rule::PortNameTwice { name: name.to_owned(), first }));
            }
        }
    }

    /// A check asks where the service listens, so that a slip in the number is not taken for a
    /// service that never comes up.
    pub(super) fn checked_port(&mut self, service: &Service, number: u16, field: &Field) {
        let tcp = || service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        self.need(tcp().any(|port| port.number == number), field, || Rule::NoSuchPort {
            name: number.to_string(),
            known: tcp().map(|port| port.number.to_string()).collect(),
        });
    }

    pub(super) fn published(
        &mut self,
        services: &BTreeMap<ServiceName, Service>,
        services_field: &Field,
    ) {
        let mut taken: Vec<(&Publish, Field)> = Vec::new();
        for (name, service) in services {
            let list = services_field.key(name).key("publish");
            for (index, publish) in service.publish.iter().enumerate() {
                let here = list.index(index);
                self.need(publish.host_port != 0, &here, || Rule::range(0, 1, u16::MAX));
                let Some(protocol) = service.port(&publish.port).map(|port| port.protocol) else {
                    let known = service.ports.iter().map(|port| port.name.to_string()).collect();
                    let name = publish.port.to_string();
                    self.found.push((here, Rule::NoSuchPort { name, known }));
                    continue;
                };
                self.need(protocol == Protocol::Tcp, &here, || {
                    Rule::PublishedUdp(publish.port.to_string())
                });
                if let Some((_, first)) = taken.iter().find(|(other, _)| other.overlaps(publish)) {
                    let (host, first) = (publish.host().to_string(), first.to_string());
                    self.found.push((here.clone(), Rule::PublishedTwice { host, first }));
                }
                taken.push((publish, here));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_when_one_takes_the_other() {
        let at = |ip: &str, host_port| Publish {
            host_ip: ip.parse().unwrap(),
            host_port,
            port: crate::PortName::new("http").unwrap(),
        };
        let overlap = |a: &str, b: &str| at(a, 80).overlaps(&at(b, 80));
        assert!(!at("::", 80).overlaps(&at("::", 81)));
        assert!(overlap("127.0.0.1", "127.0.0.1"));
        assert!(overlap("127.0.0.1", "0.0.0.0"));
        assert!(overlap("::", "127.0.0.1"));
        assert!(overlap("0.0.0.0", "::"));
        assert!(!overlap("127.0.0.1", "127.0.0.2"));
        assert!(!overlap("0.0.0.0", "::1"));
        assert!(!overlap("127.0.0.1", "::1"));
    }
}
