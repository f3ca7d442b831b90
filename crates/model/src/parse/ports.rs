//! Ports of a service and ports of the host that lead to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Position,
    context::Context,
    section::Section,
    tree::{Content, Node},
    values::{scalar, texts, whole, word},
};
use crate::{
    Expected, KeyError, Port, PortName, Problem, Protocol, Publish, Rule, ValueError, field::Field,
    port::port_number,
};

const KEYS: &[&str] = &["name", "number", "protocol"];
const PROTOCOLS: &[&str] = &["tcp", "udp"];

/// The ports that could be read.
pub(super) struct Ports {
    pub(super) list: Vec<Port>,
    /// Whether that is all of them: else what names a port may mean one that is missing here.
    complete: bool,
}

/// `port` or `ports`.
pub(super) fn ports(context: &mut Context<'_>, section: &Section<'_>) -> Ports {
    section.exclusive(context, "port", "ports");
    let key = if section.get("port").is_some() { "port" } else { "ports" };
    let Some((node, field)) = section.get(key) else {
        return Ports { list: Vec::new(), complete: true };
    };
    let items: Vec<(Field, &Node)> = match &node.content {
        Content::List(_) if key == "ports" => node.children(&field),
        // One port needs no list.
        _ => vec![(field.clone(), node)],
    };
    let list: Vec<Port> =
        items.iter().filter_map(|(field, item)| port(context, item, field)).collect();
    Ports { complete: list.len() == items.len(), list }
}

impl Ports {
    /// The first TCP port: what a check without a port asks.
    pub(super) fn first_tcp(
        &self,
        context: &mut Context<'_>,
        at: Position,
        field: &Field,
    ) -> Option<u16> {
        let port = self.list.iter().find(|port| port.protocol == Protocol::Tcp);
        if port.is_none() && self.complete {
            context.error::<()>(at, field, Rule::NoTcpPort);
        }
        port.map(|port| port.number)
    }

    /// A TCP port by name or number.
    pub(super) fn tcp(
        &self,
        context: &mut Context<'_>,
        at: Position,
        field: &Field,
        text: &str,
    ) -> Option<u16> {
        let tcp = |port: &&Port| port.protocol == Protocol::Tcp;
        let port = self.list.iter().filter(tcp).find(|port| is_called(port, text));
        if port.is_none() && self.complete {
            let known = self.list.iter().filter(tcp).map(|port| port.name.to_string()).collect();
            let rule = Rule::NoSuchPort { name: text.to_owned(), known };
            context.error::<()>(at, field, rule);
        }
        port.map(|port| port.number)
    }
}

fn is_called(port: &Port, text: &str) -> bool {
    port.name.as_str() == text || port_number(text) == Some(port.number)
}

fn port(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Port> {
    if let Content::Mapping(_) = node.content {
        return port_mapping(context, node, field);
    }
    let text = scalar(context, node, field, Expected::Port)?;
    context.take(node.at, field, text.parse())
}

fn port_mapping(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Port> {
    let section = Section::read(context, node, field, KEYS)?;
    let protocol = match section.get("protocol") {
        Some((node, field)) => {
            word(context, node, &field, PROTOCOLS, &[Protocol::Tcp, Protocol::Udp])?
        }
        None => Protocol::Tcp,
    };
    let Some((number_node, number_field)) = section.get("number") else {
        let missing = KeyError::Missing { key: "number", example: "number: 8080" };
        return context.error(section.at, field, missing);
    };
    let number = whole(context, number_node, &number_field, (1, u64::from(u16::MAX)))?;
    let name = match section.get("name") {
        Some((node, field)) => {
            let text = scalar(context, node, &field, Expected::Text)?;
            context.take(node.at, &field, PortName::new(text).map_err(Problem::Name))?
        }
        None => Port::default_name(number, protocol),
    };
    Some(Port { name, number, protocol })
}

/// `[HOST_IP:]PORT:NAME` items.
pub(super) fn publish(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    ports: &[Port],
) -> Option<Vec<Publish>> {
    let items = texts(context, node, field)?;
    let read = |(at, field, text): (Position, Field, String)| {
        let Some((host_ip, host_port, name)) = split_publish(&text) else {
            return context.error(at, &field, ValueError::new(&text, Expected::Publish));
        };
        let port = match ports.iter().find(|port| is_called(port, name)) {
            Some(port) => port.name.clone(),
            // The shared rules tell that there is no such port.
            None => context.take(at, &field, PortName::new(name).map_err(Problem::Name))?,
        };
        Some(Publish { host_ip, host_port, port })
    };
    Some(items.into_iter().filter_map(read).collect())
}

/// Without an address the port is open to this machine alone.
fn split_publish(text: &str) -> Option<(IpAddr, u16, &str)> {
    let (host, name) = text.rsplit_once(':')?;
    let (address, number) = match host.rsplit_once(':') {
        None => (IpAddr::V4(Ipv4Addr::LOCALHOST), host),
        Some((address, number)) => {
            let inner = address.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            let address = match inner {
                Some(inner) => inner.parse::<Ipv6Addr>().ok()?.into(),
                None => address.parse::<Ipv4Addr>().ok()?.into(),
            };
            (address, number)
        }
    };
    Some((address, port_number(number)?, name)).filter(|_| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_are_taken_apart() {
        for (text, address, number) in [
            ("8080:http", "127.0.0.1", 8080),
            ("0.0.0.0:80:http", "0.0.0.0", 80),
            ("[::]:80:http", "::", 80),
            ("[::1]:443:http", "::1", 443),
        ] {
            let expected = Some((address.parse().unwrap(), number, "http"));
            assert_eq!(split_publish(text), expected, "{text}");
        }
        for text in [
            "",
            "http",
            "8080",
            "8080:",
            "0:http",
            "::1:80:http",
            "[::1:80:http",
            "a:80:http",
            "[127.0.0.1]:80:http",
            "80:80:http",
            "70000:http",
        ] {
            assert_eq!(split_publish(text), None, "{text}");
        }
    }
}
