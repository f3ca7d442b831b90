//! What holds for a value whoever sent or kept it: types alone do not say it.

use std::{collections::BTreeSet, fmt::Display, net::IpAddr, time::Duration};

use crate::{Balance, MAX_DURATION, MAX_PORTS, Outlier};

use super::{Endpoint, ServicePort, ServiceRecord};

/// The most that an endpoint weighs: 256 times what is usual.
pub const MAX_WEIGHT: u32 = 65_536;

/// A field that holds what it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: {rule}")]
pub struct OutOfBounds {
    /// Where it is, as `ports[1].number`.
    pub field: String,
    /// What it holds.
    pub value: String,
    /// What it may hold.
    pub rule: String,
}

impl OutOfBounds {
    /// Says that `field` may not hold `value`.
    pub fn new(field: impl Into<String>, value: impl Display, rule: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), rule: rule.into() }
    }

    /// The same, told of what holds the field.
    #[must_use]
    pub fn within(self, parent: impl Display) -> Self {
        Self { field: format!("{parent}.{}", self.field), ..self }
    }
}

/// Refuses what `holds` is false for.
fn need(
    holds: bool,
    field: impl Into<String>,
    value: impl Display,
    rule: impl Into<String>,
) -> Result<(), OutOfBounds> {
    if holds { Ok(()) } else { Err(OutOfBounds::new(field, value, rule)) }
}

impl Endpoint {
    /// Checks what its types do not hold.
    ///
    /// # Errors
    /// With the first field at fault.
    pub fn validate(&self) -> Result<(), OutOfBounds> {
        let addresses = [
            ("address4", self.address4.map(IpAddr::from)),
            ("address6", self.address6.map(IpAddr::from)),
        ];
        for (field, address) in addresses {
            if let Some(address) = address {
                need(is_one_host(address), field, address, "is the address of one host")?;
            }
        }
        let reached = self.address4.is_some() || self.address6.is_some();
        need(reached, "address4", "none", "is there unless address6 is")?;
        let (ports, most) = (self.ports.len(), format!("at most {MAX_PORTS}"));
        need(ports <= MAX_PORTS, "ports", ports, most)?;
        for (name, number) in &self.ports {
            need(*number > 0, format!("ports.{name}"), number, "is from 1 to 65535")?;
        }
        need(self.weight <= MAX_WEIGHT, "weight", self.weight, format!("is at most {MAX_WEIGHT}"))
    }
}

/// Whether other hosts can meet a host at it, and no other host: neither everybody's own (loopback),
/// nor of one link alone, nor an IPv4 address in the clothes of IPv6.
#[must_use]
pub fn is_hosts_own(address: IpAddr) -> bool {
    let elsewhere = match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local() || six.to_ipv4_mapped().is_some(),
    };
    is_one_host(address) && !address.is_loopback() && !elsewhere
}

/// Whether a connection to it meets one host and no other.
fn is_one_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

impl ServiceRecord {
    /// Checks what its types do not hold.
    ///
    /// # Errors
    /// With the first field at fault.
    pub fn validate(&self) -> Result<(), OutOfBounds> {
        validate_ports(&self.ports)?;
        if let Balance::Source { timeout } = self.balance {
            duration("balance.timeout", timeout)?;
        }
        let Outlier { base, max, max_ejected_percent, consecutive_failures: _ } = self.outlier;
        duration("outlier.base", base)?;
        duration("outlier.max", max)?;
        let percent = max_ejected_percent;
        need(percent <= 100, "outlier.max_ejected_percent", percent, "is from 0 to 100")
    }
}

fn validate_ports(ports: &[ServicePort]) -> Result<(), OutOfBounds> {
    need(ports.len() <= MAX_PORTS, "ports", ports.len(), format!("at most {MAX_PORTS}"))?;
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, ServicePort { name, number, protocol }) in ports.iter().enumerate() {
        let field = |field| format!("ports[{index}].{field}");
        need(*number > 0, field("number"), number, "is from 1 to 65535")?;
        need(names.insert(name), field("name"), name, "is that of one port")?;
        let once = numbers.insert((number, protocol));
        need(once, field("number"), format_args!("{number}/{protocol}"), "is that of one port")?;
    }
    Ok(())
}

fn duration(field: &str, value: Duration) -> Result<(), OutOfBounds> {
    need(
        value <= MAX_DURATION,
        field,
        format_args!("{value:?}"),
        format!("is at most {MAX_DURATION:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Protocol, fleet::EndpointStatus};

    fn endpoint() -> Endpoint {
        Endpoint {
            address4: Some([10, 1, 0, 1].into()),
            address6: None,
            ports: [("http".parse().unwrap(), 8080)].into(),
            zone: "a".parse().unwrap(),
            weight: 256,
            status: EndpointStatus::Up,
        }
    }

    fn refused(change: impl FnOnce(&mut Endpoint)) -> String {
        let mut endpoint = endpoint();
        endpoint.validate().unwrap();
        change(&mut endpoint);
        endpoint.validate().unwrap_err().to_string()
    }

    #[test]
    fn an_endpoint_is_somewhere_and_has_ports() {
        let any = refused(|it| it.address4 = Some([0, 0, 0, 0].into()));
        assert_eq!(any, "address4 is 0.0.0.0: is the address of one host");
        let all = refused(|it| it.address6 = Some("ff02::1".parse().unwrap()));
        assert_eq!(all, "address6 is ff02::1: is the address of one host");
        let none = refused(|it| it.address4 = None);
        assert_eq!(none, "address4 is none: is there unless address6 is");
        let zero = refused(|it| it.ports = [("http".parse().unwrap(), 0)].into());
        assert_eq!(zero, "ports.http is 0: is from 1 to 65535");
        assert_eq!(refused(|it| it.weight = 65_537), "weight is 65537: is at most 65536");
    }

    #[test]
    fn a_port_is_there_once() {
        let port = |name: &str, number, protocol| ServicePort {
            name: name.parse().unwrap(),
            number,
            protocol,
        };
        let check = |ports: &[ServicePort]| {
            let (balance, outlier) = (Balance::default(), Outlier::default());
            let record = ServiceRecord { ports: ports.to_vec(), balance, outlier };
            record.validate().map_err(|error| error.to_string())
        };
        let (http, dns) = (port("http", 80, Protocol::Tcp), port("dns", 80, Protocol::Udp));
        check(&[http.clone(), dns]).unwrap();
        let twice = check(&[http.clone(), port("web", 80, Protocol::Tcp)]).unwrap_err();
        assert_eq!(twice, "ports[1].number is 80/tcp: is that of one port");
        let named = check(&[http, port("http", 81, Protocol::Tcp)]).unwrap_err();
        assert_eq!(named, "ports[1].name is http: is that of one port");
    }
}
