//! What was counted, as Prometheus text.

use std::{collections::HashMap, fmt::Write as _};

use sinew_abi::histogram;
use sinew_api::{EndpointStatus, FleetStatus, ServiceStatus, WorkloadState, WorkloadStatus};
use sinew_datapath::{EdgeStats, Totals};
use sinew_model::Protocol;

use crate::{capacity::Filled, flows::OUTSIDE};

/// Of the answer.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Callers that are of no service: `sinew exec` sessions.
const NO_SERVICE: &str = "none";

const SECONDS_PER_US: f64 = 1e-6;

/// What was counted.
pub(crate) struct Counted {
    /// Names of the services by number.
    pub(crate) names: HashMap<u32, String>,
    pub(crate) services: Vec<ServiceStatus>,
    pub(crate) edges: Vec<EdgeStats>,
    pub(crate) totals: Totals,
    /// Connections that had ended unseen.
    pub(crate) ended_unseen: u64,
    pub(crate) workloads: Vec<WorkloadStatus>,
    /// How full the kernel's maps are.
    pub(crate) maps: Vec<Filled>,
    pub(crate) started_at_ms: u64,
    /// This host among others; `None`: it is alone.
    pub(crate) fleet: Option<FleetStatus>,
}

/// The text of a page.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a `String` does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", escape(text));
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.0, "{value}");
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// The whole page.
pub(crate) fn render(counted: &Counted) -> String {
    let mut page = Page(String::new());
    agent(&mut page, counted);
    services(&mut page, &counted.services);
    workloads(&mut page, &counted.workloads);
    backends(&mut page, &counted.services);
    edges(&mut page, counted);
    totals(&mut page, &counted.totals, counted.ended_unseen);
    capacities(&mut page, &counted.maps);
    if let Some(status) = &counted.fleet {
        fleet(&mut page, status);
    }
    page.0
}

fn fleet(page: &mut Page, status: &FleetStatus) {
    let name = "sinew_fleet_info";
    page.family(name, "gauge", "This host among others.");
    page.sample(name, &[("node", status.node.as_str()), ("zone", status.zone.as_str())], 1);
    let count = |count: usize| count as f64;
    let gauges = [
        (
            "sinew_fleet_session_open",
            "Whether this host hears of changes: a session with control is open.",
            f64::from(u8::from(status.session.is_some())),
        ),
        (
            "sinew_fleet_session_open_seconds",
            "For how long the session has been open.",
            status.session.as_ref().map_or(0.0, |session| session.open_s as f64),
        ),
        (
            "sinew_fleet_revision",
            "Revision of the newest change that is known.",
            status.revision.0 as f64,
        ),
        ("sinew_fleet_hosts", "Other hosts.", count(status.hosts.len())),
        ("sinew_fleet_names", "Names of services of all hosts.", count(status.names)),
        (
            "sinew_fleet_subscriptions",
            "Services whose changes this host hears of.",
            count(status.subscribed.len()),
        ),
        (
            "sinew_fleet_endpoints_in_doubt",
            "Endpoints that may be gone and are kept in use.",
            count(status.doubts.len()),
        ),
        (
            "sinew_fleet_services_refused",
            "Services of which control said what could not be followed.",
            count(status.refused.len()),
        ),
        (
            "sinew_fleet_certificate_end_time_seconds",
            "Until when this host's certificate holds, since 1970; 0: it has none.",
            status.certificate.as_ref().map_or(0.0, |certificate| certificate.until_s as f64),
        ),
        (
            "sinew_fleet_certificate_alarm",
            "Whether something is wrong with the certificate or its renewal.",
            f64::from(u8::from(status.certificate.as_ref().is_none_or(|c| c.alarm.is_some()))),
        ),
    ];
    for (name, help, value) in gauges {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
}

fn agent(page: &mut Page, counted: &Counted) {
    let name = "sinew_agent_info";
    page.family(name, "gauge", "The agent that answers.");
    page.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let name = "sinew_agent_start_time_seconds";
    page.family(name, "gauge", "When it started, since 1970.");
    page.sample(name, &[], counted.started_at_ms as f64 / 1e3);
}

fn workloads(page: &mut Page, workloads: &[WorkloadStatus]) {
    let of_service = || workloads.iter().filter_map(|w| Some((w.service.as_ref()?.as_str(), w)));
    let name = "sinew_workload_restarts_total";
    page.family(name, "counter", "Times that an instance was started again.");
    for (service, workload) in of_service() {
        let replica = workload.replica.to_string();
        page.sample(name, &[("service", service), ("replica", &replica)], workload.restarts);
    }
    let name = "sinew_workload_up";
    page.family(name, "gauge", "Whether an instance takes connections.");
    for (service, workload) in of_service() {
        let replica = workload.replica.to_string();
        let up = u8::from(workload.state == WorkloadState::Up);
        page.sample(name, &[("service", service), ("replica", &replica)], up);
    }
}

fn capacities(page: &mut Page, maps: &[Filled]) {
    let name = "sinew_datapath_capacity_used";
    page.family(name, "gauge", "Entries in use of what the kernel's maps hold.");
    for map in maps {
        page.sample(name, &[("of", map.what)], map.used);
    }
    let name = "sinew_datapath_capacity";
    page.family(name, "gauge", "Entries that the kernel's maps hold.");
    for map in maps {
        page.sample(name, &[("of", map.what)], map.holds);
    }
}

fn services(page: &mut Page, services: &[ServiceStatus]) {
    let name = "sinew_service_replicas_wanted";
    page.family(name, "gauge", "Instances that a service should have.");
    for service in services {
        page.sample(name, &[("service", service.name.as_str())], service.replicas);
    }
    let name = "sinew_service_endpoints_up";
    page.family(name, "gauge", "Endpoints that take connections.");
    for service in services {
        let up = service.endpoints.iter().filter(|e| e.state == WorkloadState::Up).count();
        page.sample(name, &[("service", service.name.as_str())], up);
    }
}

type Reading = (&'static str, &'static str, &'static str, fn(&EndpointStatus) -> f64);

const BACKENDS: [Reading; 8] = [
    ("sinew_backend_connections_active", "gauge", "Open connections.", |e| f64::from(e.active)),
    ("sinew_backend_connections_total", "counter", "Connections given to a backend.", |e| {
        e.connections as f64
    }),
    ("sinew_backend_ejections_total", "counter", "Times that a backend was ejected.", |e| {
        e.ejections as f64
    }),
    (
        "sinew_backend_hung_total",
        "counter",
        "Times that a backend was passed over because it did not accept what waited.",
        |e| f64::from(e.hung),
    ),
    ("sinew_backend_ejected", "gauge", "Whether a backend is held ejected.", |e| {
        f64::from(u8::from(e.ejected))
    }),
    ("sinew_backend_connect_smoothed_seconds", "gauge", "Smoothed connect time.", |e| {
        f64::from(e.connect_us) * SECONDS_PER_US
    }),
    ("sinew_backend_sent_bytes_total", "counter", "Bytes sent to a backend.", |e| {
        e.sent_bytes as f64
    }),
    ("sinew_backend_received_bytes_total", "counter", "Bytes received from a backend.", |e| {
        e.received_bytes as f64
    }),
];

type Histogram = (&'static str, &'static str, fn(&EndpointStatus) -> &[u64]);

const BACKEND_HISTOGRAMS: [Histogram; 2] = [
    ("sinew_backend_connect_seconds", "Time that a connect took.", |e| &e.connect_histogram),
    ("sinew_backend_connection_duration_seconds", "Life of a connection.", |e| {
        &e.duration_histogram
    }),
];

fn backends(page: &mut Page, services: &[ServiceStatus]) {
    for (name, kind, help, value) in BACKENDS {
        page.family(name, kind, help);
        each_endpoint(services, |endpoint, labels| page.sample(name, labels, value(endpoint)));
    }
    for (name, help, counts) in BACKEND_HISTOGRAMS {
        page.family(name, "histogram", help);
        each_endpoint(services, |endpoint, labels| {
            buckets(page, name, labels, counts(endpoint), OF_BACKENDS);
        });
    }
    let name = "sinew_backend_failures_total";
    page.family(name, "counter", "Connects that a backend refused, reset or did not answer.");
    each_endpoint(services, |endpoint, labels| {
        let reasons = [
            ("refused", endpoint.refused),
            ("reset", endpoint.reset),
            ("timed-out", endpoint.timed_out),
        ];
        for (reason, count) in reasons {
            page.sample(name, &[labels, &[("reason", reason)]].concat(), count);
        }
    });
}

fn each_endpoint(
    services: &[ServiceStatus],
    mut show: impl FnMut(&EndpointStatus, &[(&str, &str)]),
) {
    for service in services {
        for endpoint in &service.endpoints {
            let port = endpoint.port.to_string();
            let labels = [
                ("service", service.name.as_str()),
                ("workload", &endpoint.workload),
                ("port", &port),
                ("protocol", protocol(endpoint.protocol)),
            ];
            show(endpoint, &labels);
        }
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

type EdgeReading = (&'static str, &'static str, fn(&sinew_abi::Edge) -> u64);

const EDGES: [EdgeReading; 9] = [
    ("sinew_edge_connects_total", "Connects from one service to another.", |e| e.connects()),
    ("sinew_edge_refused_total", "Connects that a backend refused.", |e| e.refused),
    ("sinew_edge_reset_total", "Connections that a backend reset.", |e| e.reset),
    ("sinew_edge_timed_out_total", "Connects without an answer.", |e| e.timed_out),
    ("sinew_edge_cancelled_total", "Connects that the caller gave up.", |e| e.cancelled),
    ("sinew_edge_no_backend_total", "Connects that found no backend.", |e| e.no_backend),
    ("sinew_edge_ejections_total", "Times that a connection had a backend ejected.", |e| e.ejected),
    ("sinew_edge_sent_bytes_total", "Bytes sent by the caller.", |e| e.sent_bytes),
    ("sinew_edge_received_bytes_total", "Bytes received by the caller.", |e| e.received_bytes),
];

fn edges(page: &mut Page, counted: &Counted) {
    let named = |number: u32| match counted.names.get(&number) {
        Some(name) => name.clone(),
        None if number == 0 => NO_SERVICE.to_owned(),
        None if number == sinew_abi::OUTSIDE => OUTSIDE.to_owned(),
        None => number.to_string(),
    };
    let edges: Vec<_> = counted
        .edges
        .iter()
        .map(|edge| (named(edge.source), named(edge.destination), &edge.counters))
        .collect();
    for (name, help, value) in EDGES {
        page.family(name, "counter", help);
        for (source, destination, counters) in &edges {
            page.sample(name, &ends(source, destination), value(counters));
        }
    }
    let name = "sinew_edge_connections_active";
    page.family(name, "gauge", "Open connections.");
    for (source, destination, counters) in &edges {
        page.sample(name, &ends(source, destination), counters.active);
    }
    let name = "sinew_edge_connect_seconds";
    page.family(name, "histogram", "Time that a connect took.");
    for (source, destination, counters) in &edges {
        buckets(page, name, &ends(source, destination), &counters.connect_us, OF_EDGES);
    }
    let name = "sinew_edge_connection_duration_seconds";
    page.family(name, "histogram", "Life of a connection.");
    for (source, destination, counters) in &edges {
        buckets(page, name, &ends(source, destination), &counters.duration_us, OF_EDGES);
    }
}

fn ends<'a>(source: &'a str, destination: &'a str) -> [(&'a str, &'a str); 2] {
    [("source", source), ("destination", destination)]
}

/// How wide buckets are, in quarters of an octave.
#[derive(Clone, Copy)]
struct Width {
    counted: usize,
    /// A multiple of it.
    told: usize,
}

/// Told as they are counted.
const OF_EDGES: Width = Width { counted: 1, told: 1 };
/// There are many: an octave each.
const OF_BACKENDS: Width = Width { counted: 2, told: 4 };

/// Those at the far end that nothing fell into are left out. The sum is the sum of the kernel's
/// buckets' middles: the kernel keeps none.
fn buckets(page: &mut Page, name: &str, ends: &[(&str, &str)], counts: &[u64], width: Width) {
    let bound = |index: usize| histogram::lower_bound(index * width.counted);
    let group = width.told / width.counted;
    let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    let (bucket, mut below, mut sum) = (format!("{name}_bucket"), 0u64, 0.0);
    for index in 0..used.next_multiple_of(group) {
        let count = counts.get(index).copied().unwrap_or(0);
        let (low, high) = (bound(index), bound(index + 1));
        below += count;
        sum += count as f64 * ((low + high) as f64 / 2.0) * SECONDS_PER_US;
        if (index + 1) % group == 0 {
            let limit = seconds(high);
            page.sample(&bucket, &[ends, &[("le", limit.as_str())]].concat(), below);
        }
    }
    page.sample(&bucket, &[ends, &[("le", "+Inf")]].concat(), below);
    page.sample(&format!("{name}_sum"), ends, sum);
    page.sample(&format!("{name}_count"), ends, below);
}

/// Microseconds as seconds, exactly.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

type TotalReading = (&'static str, &'static str, fn(&Totals) -> u64);

const TOTALS: [TotalReading; 13] = [
    ("sinew_datapath_flows_lost_total", "Flow samples that found the ring full.", |t| t.flows_lost),
    ("sinew_datapath_notices_lost_total", "Notices that found the ring full.", |t| t.notices_lost),
    ("sinew_datapath_sockets_lost_total", "Sockets that could not be counted.", |t| t.sockets_lost),
    ("sinew_datapath_edges_lost_total", "Edges that found no room.", |t| t.edges_lost),
    ("sinew_dns_queries_total", "Queries led to the resolver.", |t| t.queries),
    (
        "sinew_dns_queries_bypassed_total",
        "Queries left to the host because the resolver was not alive.",
        |t| t.queries_bypassed,
    ),
    ("sinew_datapath_binds_denied_total", "Binds to an address of somebody else.", |t| {
        t.binds_denied
    }),
    ("sinew_datapath_sources_unset_total", "Sockets whose own source could not be set.", |t| {
        t.sources_unset
    }),
    (
        "sinew_datapath_hosts_accepted_total",
        "Connections and datagrams of other hosts that an instance was handed.",
        |t| t.fleet_accepted,
    ),
    (
        "sinew_datapath_hosts_strangers_total",
        "Packets to instances that came from no host of the network: refused.",
        |t| t.fleet_strangers,
    ),
    (
        "sinew_datapath_hosts_unheard_total",
        "Packets of other hosts to what no instance listens on: refused.",
        |t| t.fleet_unheard,
    ),
    ("sinew_datapath_hosts_suspected_total", "Times another host came under suspicion.", |t| {
        t.suspicions
    }),
    (
        "sinew_datapath_hosts_passed_over_total",
        "Choices that passed over an endpoint because its host was under suspicion.",
        |t| t.suspects_passed,
    ),
];

fn totals(page: &mut Page, totals: &Totals, ended_unseen: u64) {
    for (name, help, value) in TOTALS {
        page.family(name, "counter", help);
        page.sample(name, &[], value(totals));
    }
    let name = "sinew_datapath_connections_reclaimed_total";
    page.family(name, "counter", "Connections that ended unseen and no longer count as open.");
    page.sample(name, &[], ended_unseen);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn page() -> String {
        let mut counters = sinew_abi::Edge::ZERO;
        counters.closed = 6;
        for us in [0, 1, 5, 5, 1_500_000] {
            counters.connect_us[histogram::bucket(us)] += 1;
        }
        render(&Counted {
            names: HashMap::from([(7, "web".to_owned()), (9, "api".to_owned())]),
            services: Vec::new(),
            edges: vec![
                EdgeStats { source: 7, destination: 9, counters },
                EdgeStats { source: 0, destination: 9, counters: sinew_abi::Edge::ZERO },
                EdgeStats {
                    source: sinew_abi::OUTSIDE,
                    destination: 9,
                    counters: sinew_abi::Edge::ZERO,
                },
            ],
            totals: Totals::ZERO,
            ended_unseen: 0,
            workloads: Vec::new(),
            maps: crate::capacity::Usage::default().maps().into(),
            started_at_ms: 1_500,
            fleet: None,
        })
    }

    #[test]
    fn a_host_among_others_tells_its_session() {
        assert!(!page().contains("sinew_fleet"), "a host that is alone has none");
        let json = r#"{"node":"h1","zone":"a","control":[],"addresses":[],"slices":[],"session":null,
            "lost":null,"revision":17,"hosts":{"h2":"b"},"names":3,"subscribed":{},"doubts":[],
            "refused":[],"limited_zones":{},"certificate":null,"notices":[]}"#;
        let mut page = Page(String::new());
        fleet(&mut page, &serde_json::from_str(json).unwrap());
        for line in [
            "sinew_fleet_info{node=\"h1\",zone=\"a\"} 1\n",
            "sinew_fleet_session_open 0\n",
            "sinew_fleet_revision 17\n",
            "sinew_fleet_hosts 1\n",
            "sinew_fleet_certificate_alarm 1\n",
        ] {
            assert!(page.0.contains(line), "{line}{}", page.0);
        }
    }

    #[test]
    fn edges_bear_the_names_of_services() {
        let page = page();
        let line = "sinew_edge_connects_total{source=\"web\",destination=\"api\"} 6\n";
        assert!(page.contains(line), "{page}");
        assert!(
            page.contains("sinew_edge_connects_total{source=\"none\",destination=\"api\"} 0\n")
        );
        let outside = "sinew_edge_connects_total{source=\"outside\",destination=\"api\"} 0\n";
        assert!(page.contains(outside), "{page}");
    }

    #[test]
    fn histograms_are_cumulative_and_complete() {
        let page = page();
        let prefix = "sinew_edge_connect_seconds_bucket{source=\"web\",destination=\"api\",le=\"";
        let buckets: Vec<(&str, u64)> = page
            .lines()
            .filter_map(|line| line.strip_prefix(prefix)?.split_once("\"} "))
            .map(|(le, count)| (le, count.parse().unwrap()))
            .collect();
        assert_eq!(buckets.first(), Some(&("0.000001", 1)));
        assert_eq!(buckets.last(), Some(&("+Inf", 5)));
        assert!(buckets.is_sorted_by_key(|(_, count)| *count));
        let limits: Vec<f64> =
            buckets[..buckets.len() - 1].iter().map(|(le, _)| le.parse().unwrap()).collect();
        assert!(limits.is_sorted() && *limits.last().unwrap() > 1.5);
        assert!(
            page.contains("sinew_edge_connect_seconds_count{source=\"web\",destination=\"api\"} 5")
        );
    }

    #[test]
    fn those_of_backends_are_coarser() {
        let mut kernel = [0; histogram::COARSE];
        // The last value of an octave, the first of the next, and one further on.
        for us in [7, 8, 100] {
            kernel[histogram::coarse(histogram::bucket(us))] += 1;
        }
        let mut page = Page(String::new());
        buckets(&mut page, "x", &[("port", "80")], &kernel, OF_BACKENDS);
        assert_eq!(
            page.0,
            "x_bucket{port=\"80\",le=\"0.000004\"} 0
x_bucket{port=\"80\",le=\"0.000008\"} 1
x_bucket{port=\"80\",le=\"0.000016\"} 2
x_bucket{port=\"80\",le=\"0.000032\"} 2
x_bucket{port=\"80\",le=\"0.000064\"} 2
x_bucket{port=\"80\",le=\"0.000128\"} 3
x_bucket{port=\"80\",le=\"+Inf\"} 3
x_sum{port=\"80\"} 0.000129
x_count{port=\"80\"} 3
"
        );
    }

    #[test]
    fn every_family_is_declared_once_and_named_by_the_rule() {
        let page = page();
        let mut kinds = BTreeMap::new();
        for line in page.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
            {
                assert!(name.starts_with("sinew_"), "{name}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                assert_eq!(kinds.insert(name, kind), None, "{name} is declared twice");
            }
        }
        assert!(kinds.len() > 20);
    }

    /// `SINEW_BLESS=1 cargo test -p sinew-agent` rewrites the page.
    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");
        let mut written = String::from(REFERENCE);
        let page = page();
        let mut lines = page.lines().filter_map(|line| line.strip_prefix("# "));
        while let (Some(help), Some(kind)) = (lines.next(), lines.next()) {
            let (name, help) = help.strip_prefix("HELP ").unwrap().split_once(' ').unwrap();
            let (_, kind) = kind.strip_prefix("TYPE ").unwrap().split_once(' ').unwrap();
            written += &format!("| `{name}` | {kind} | {help} |\n");
        }
        if std::env::var_os("SINEW_BLESS").is_some() {
            std::fs::write(path, &written).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == written, "docs/reference/metrics.md: rewrite it with SINEW_BLESS=1");
    }

    const REFERENCE: &str = "# Metrics\n\n\
        Prometheus text, from the kernel's own counters: `GET /v1/metrics` of the \
        [API](api.md), and `GET /metrics` over TCP when the agent runs with \
        `--metrics IP:PORT`.\n\n\
        | labels of | are |\n|---|---|\n\
        | `sinew_service_*` | `service` |\n\
        | `sinew_workload_*` | `service`, `replica` |\n\
        | `sinew_backend_*` | `service`, `workload`, `port`, `protocol`; of failures also \
        `reason` |\n\
        | `sinew_edge_*` | `source` (`none`: callers of no service; `outside`: who comes by a \
        published port), `destination` |\n\n\
        Histograms of edges have four buckets an octave, those of backends one, since there are \
        many; buckets beyond the last one in use are left out. Their sum is that of the kernel's \
        buckets' middles, since it keeps none. Where there are too many endpoints, drop \
        `sinew_backend_.*_bucket` when scraping: the edges tell the same by service.\n\n\
        | metric | kind | is |\n|---|---|---|\n";

    #[test]
    fn labels_are_escaped() {
        let mut page = Page(String::new());
        page.sample("x", &[("a", "q\"b\\\n")], 1);
        assert_eq!(page.0, "x{a=\"q\\\"b\\\\\\n\"} 1\n");
    }
}
