//! Services as a table, and one service with its endpoints.

use std::{collections::BTreeSet, fmt::Write as _};

use sinew_api::{EndpointStatus, ServiceStatus, Shadowed, WorkloadState};
use sinew_model::{Port, Protocol};

use super::{
    style::{Style, Tint, state_tint, state_word},
    table::{Align, Cell, Table},
    time,
};

/// The table of `sinew services`.
pub(crate) fn table(services: &[ServiceStatus], style: Style, width: Option<usize>) -> String {
    if services.is_empty() {
        return "no services\n".to_owned();
    }
    // Of many hosts only: others have no use for it.
    let others = services.iter().any(is_elsewhere);
    let column = others.then_some(("ELSEWHERE", Align::Right));
    let columns = [("SERVICE", Align::Left), ("UP", Align::Right)].into_iter().chain(column);
    let columns =
        columns.chain([("ADDRESS", Align::Left), ("PROJECT", Align::Left), ("PORTS", Align::Left)]);
    let mut table = Table::new(&columns.collect::<Vec<_>>());
    for service in services {
        let elsewhere = others.then(|| Cell::new(up_elsewhere(service).to_string()));
        let up = service.up;
        let tint = if up >= service.replicas { Tint::Good } else { Tint::Busy };
        let row = [
            Cell::new(service.name.to_string()),
            Cell::tinted(format!("{up}/{}", service.replicas), tint),
        ];
        let row = row.into_iter().chain(elsewhere).chain([
            Cell::new(service.address4.to_string()),
            Cell::or_dash(service.project.as_ref().map(ToString::to_string)),
            Cell::new(ports(service)),
        ]);
        table.row(row.collect::<Vec<_>>());
    }
    table.render(style, width)
}

fn is_elsewhere(service: &ServiceStatus) -> bool {
    service.endpoints.iter().any(|endpoint| endpoint.node.is_some())
}

/// Instances on other hosts of which a port is up.
fn up_elsewhere(service: &ServiceStatus) -> usize {
    let endpoints = service.endpoints.iter();
    let up = endpoints.filter(|it| it.node.is_some() && it.state == WorkloadState::Up);
    up.map(|endpoint| &endpoint.workload).collect::<BTreeSet<_>>().len()
}

/// The text of `sinew services NAME`.
pub(crate) fn detail(service: &ServiceStatus, style: Style, width: Option<usize>) -> String {
    let mut text = String::new();
    let project = service.project.as_ref().map_or("-", |project| project.as_str());
    // Writing to a `String` does not fail.
    let _ = writeln!(text, "{}", style.paint(Tint::Bold, service.name.as_str()));
    let _ = writeln!(text, "  name       {}.sinew.internal", service.name);
    let _ = writeln!(text, "  addresses  {}, {}", service.address4, service.address6);
    let _ = writeln!(text, "  ports      {}", list(&service.ports));
    if !service.published.is_empty() {
        let _ = writeln!(text, "  published  {}", list(&service.published));
    }
    for shadowed in &service.shadowed {
        let told = style.paint(Tint::Busy, &self::shadowed(shadowed));
        let _ = writeln!(text, "             {told}");
    }
    let _ = writeln!(text, "  project    {project}");
    let elsewhere = match is_elsewhere(service) {
        true => format!(", {} on other hosts", up_elsewhere(service)),
        false => String::new(),
    };
    let _ = writeln!(text, "  instances  {} of {} up{elsewhere}\n", service.up, service.replicas);
    if service.endpoints.is_empty() {
        text.push_str("no endpoints\n");
    } else {
        text.push_str(&endpoints(&service.endpoints).render(style, width));
    }
    text
}

/// That a program gets no connections where a port is published.
pub(crate) fn shadowed(shadowed: &Shadowed) -> String {
    let Shadowed { service, published, listens_at, program } = shadowed;
    let program = program.as_deref().unwrap_or("a program");
    format!("{program} listens on {listens_at}; what comes to {published} goes to {service}")
}

fn endpoints(endpoints: &[EndpointStatus]) -> Table {
    // Of many hosts only: others have no use for it.
    let zones = endpoints.iter().any(|endpoint| endpoint.zone.is_some());
    let zone = zones.then_some(("ZONE", Align::Left));
    let columns = [("ENDPOINT", Align::Left)].into_iter().chain(zone);
    let columns = columns.chain([
        ("STATE", Align::Left),
        ("ADDRESS", Align::Left),
        ("ACTIVE", Align::Right),
        ("CONNECTIONS", Align::Right),
        ("FAILURES", Align::Right),
        ("CONNECT", Align::Right),
        ("SENT", Align::Right),
        ("RECEIVED", Align::Right),
    ]);
    let mut table = Table::new(&columns.collect::<Vec<_>>());
    for endpoint in endpoints {
        let held =
            |what| Cell::tinted(format!("{}, {what}", state_word(endpoint.state)), Tint::Bad);
        let state = match (endpoint.suspect, endpoint.ejected) {
            (true, _) => held("suspect"),
            (_, true) => held("ejected"),
            _ => Cell::tinted(state_word(endpoint.state), state_tint(endpoint.state)),
        };
        let failures = if endpoint.failures > 0 { Tint::Bad } else { Tint::Plain };
        let suffix = if endpoint.protocol == Protocol::Udp { "/udp" } else { "" };
        let zone = endpoint.zone.as_ref().map(ToString::to_string);
        let zone = zones.then(|| Cell::or_dash(zone));
        let row = [Cell::new(endpoint.workload.clone())].into_iter().chain(zone).chain([
            state,
            Cell::new(format!("{}:{}{suffix}", endpoint.address, endpoint.port)),
            Cell::new(endpoint.active.to_string()),
            Cell::new(endpoint.connections.to_string()),
            Cell::tinted(endpoint.failures.to_string(), failures),
            Cell::new(time::micros(endpoint.connect_us)),
            Cell::new(time::bytes(endpoint.sent_bytes)),
            Cell::new(time::bytes(endpoint.received_bytes)),
        ]);
        table.row(row.collect::<Vec<_>>());
    }
    table
}

/// `http:8080, dns:53/udp`.
fn list(entries: &[impl ToString]) -> String {
    if entries.is_empty() {
        return "-".to_owned();
    }
    entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `127.0.0.1:80->http:8080, dns:53/udp`: a port of the host stands before the one it leads to.
fn ports(service: &ServiceStatus) -> String {
    let mut entries = Vec::new();
    for port in &service.ports {
        let hosts = service.published.iter().filter(|p| p.port == port.name);
        let before = entries.len();
        entries.extend(hosts.map(|p| format!("{}->{port}", p.host())));
        if entries.len() == before {
            entries.push(port.to_string());
        }
    }
    list(&entries)
}

/// How a program calls the service: `http://web/`, `http://api:8080/`, `db:5432`.
pub(crate) fn call(name: &str, port: &Port) -> String {
    let http = port.name.as_str().starts_with("http") || [80, 8000, 8080].contains(&port.number);
    match (http, port.protocol, port.number) {
        (_, Protocol::Udp, number) => format!("{name}:{number}/udp"),
        (_, Protocol::Tcp, 443) => format!("https://{name}/"),
        (true, Protocol::Tcp, 80) => format!("http://{name}/"),
        (true, Protocol::Tcp, number) if port.name.as_str().starts_with("https") => {
            format!("https://{name}:{number}/")
        }
        (true, Protocol::Tcp, number) => format!("http://{name}:{number}/"),
        (false, Protocol::Tcp, number) => format!("{name}:{number}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use sinew_model::{PortName, ServiceName};

    use super::*;

    fn port(name: &str, number: u16, protocol: Protocol) -> Port {
        Port { name: PortName::new(name).unwrap(), number, protocol }
    }

    fn endpoint(workload: &str, port: u16, state: WorkloadState) -> EndpointStatus {
        EndpointStatus {
            node: None,
            zone: None,
            workload: workload.to_owned(),
            address: Ipv4Addr::new(127, 80, 0, 1).into(),
            port,
            protocol: Protocol::Tcp,
            state,
            active: 3,
            connections: 1200,
            failures: 0,
            refused: 0,
            reset: 0,
            timed_out: 0,
            hung: 0,
            ejected: false,
            suspect: false,
            ejections: 0,
            connect_us: 42,
            connect_histogram: Vec::new(),
            duration_histogram: Vec::new(),
            sent_bytes: 2048,
            received_bytes: 5,
        }
    }

    fn service() -> ServiceStatus {
        ServiceStatus {
            name: ServiceName::new("orders").unwrap(),
            project: None,
            address4: Ipv4Addr::new(127, 64, 0, 1),
            address6: Ipv6Addr::LOCALHOST,
            ports: vec![port("http", 80, Protocol::Tcp), port("dns", 53, Protocol::Udp)],
            published: Vec::new(),
            shadowed: Vec::new(),
            replicas: 2,
            up: 1,
            endpoints: vec![
                endpoint("orders/0", 80, WorkloadState::Up),
                endpoint("orders/0", 81, WorkloadState::Up),
                endpoint("orders/1", 80, WorkloadState::Up),
                endpoint("orders/1", 81, WorkloadState::Starting),
            ],
        }
    }

    const PLAIN: Style = Style { colour: false };

    #[test]
    fn instances_are_counted_with_ports_or_without() {
        assert_eq!(
            table(&[service()], PLAIN, None),
            "SERVICE   UP  ADDRESS     PROJECT  PORTS\n\
             orders   1/2  127.64.0.1  -        http:80, dns:53/udp\n"
        );
        let published = ["0.0.0.0:8000", "[::1]:8001"].map(|host| {
            let host: std::net::SocketAddr = host.parse().unwrap();
            let port = PortName::new("http").unwrap();
            sinew_model::Publish { host_ip: host.ip(), host_port: host.port(), port }
        });
        let web = ServiceStatus { published: published.into(), ..service() };
        let text = table(std::slice::from_ref(&web), PLAIN, None);
        assert!(
            text.ends_with("0.0.0.0:8000->http:80, [::1]:8001->http:80, dns:53/udp\n"),
            "{text}"
        );
        let text = detail(&web, PLAIN, None);
        assert!(text.contains("\n  published  0.0.0.0:8000:http, [::1]:8001:http\n"), "{text}");
        let mut spread = service();
        for endpoint in &mut spread.endpoints[1..] {
            endpoint.node = Some("h2".parse().unwrap());
            endpoint.workload += "@h2";
        }
        assert_eq!(
            table(&[spread.clone()], PLAIN, None),
            "SERVICE   UP  ELSEWHERE  ADDRESS     PROJECT  PORTS\n\
             orders   1/2          2  127.64.0.1  -        http:80, dns:53/udp\n"
        );
        assert!(
            detail(&spread, PLAIN, None).contains("  instances  1 of 2 up, 2 on other hosts\n")
        );
        let worker = ServiceStatus { ports: Vec::new(), endpoints: Vec::new(), ..service() };
        assert!(table(&[worker], PLAIN, None).contains("orders   1/2  "));
        assert_eq!(table(&[], PLAIN, None), "no services\n");
    }

    #[test]
    fn a_service_in_detail() {
        let mut service = service();
        service.endpoints.truncate(1);
        service.endpoints[0].ejected = true;
        service.endpoints[0].failures = 7;
        assert_eq!(
            detail(&service, PLAIN, None),
            "\
orders
  name       orders.sinew.internal
  addresses  127.64.0.1, ::1
  ports      http:80, dns:53/udp
  project    -
  instances  1 of 2 up

ENDPOINT  STATE        ADDRESS        ACTIVE  CONNECTIONS  FAILURES  CONNECT     SENT  RECEIVED
orders/0  up, ejected  127.80.0.1:80       3         1200         7    42 us  2.0 KiB       5 B
"
        );
    }

    #[test]
    fn how_to_call_a_port() {
        for (name, number, protocol, text) in [
            ("http", 80, Protocol::Tcp, "http://web/"),
            ("http", 3000, Protocol::Tcp, "http://web:3000/"),
            ("tcp-8080", 8080, Protocol::Tcp, "http://web:8080/"),
            ("https", 443, Protocol::Tcp, "https://web/"),
            ("tcp-5432", 5432, Protocol::Tcp, "web:5432"),
            ("dns", 53, Protocol::Udp, "web:53/udp"),
        ] {
            assert_eq!(call("web", &port(name, number, protocol)), text);
        }
    }
}
