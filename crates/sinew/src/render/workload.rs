//! Workloads as a table.

use sinew_api::WorkloadStatus;

use super::{
    style::{Style, state_tint, state_word},
    table::{Align, Cell, Table},
    time,
};

/// `orders/2`; a session of `sinew exec` is `exec-7`.
pub(crate) fn name(workload: &WorkloadStatus) -> String {
    match &workload.service {
        Some(service) => format!("{service}/{}", workload.replica),
        None => format!("exec-{}", workload.replica),
    }
}

/// The table of `sinew ps`.
pub(crate) fn table(
    workloads: &[WorkloadStatus],
    now_ms: u64,
    style: Style,
    width: Option<usize>,
) -> String {
    if workloads.is_empty() {
        return "nothing runs\n".to_owned();
    }
    let mut table = Table::new(&[
        ("WORKLOAD", Align::Left),
        ("STATE", Align::Left),
        ("PID", Align::Right),
        ("ADDRESS", Align::Left),
        ("STARTED", Align::Left),
        ("RESTARTS", Align::Right),
        ("COMMAND", Align::Left),
    ]);
    for workload in workloads {
        let mut what = workload.command.clone();
        if let Some(adopted) = &workload.adopted {
            what = format!("{what} [adopted {adopted}]");
        }
        if let Some(reason) = &workload.reason {
            what = format!("{what} ({reason})");
        }
        table.row([
            Cell::new(name(workload)),
            Cell::tinted(state_word(workload.state), state_tint(workload.state)),
            Cell::or_dash(workload.pid.map(|pid| pid.to_string())),
            Cell::new(workload.address.to_string()),
            Cell::or_dash(workload.started_at_ms.map(|at_ms| time::ago(at_ms, now_ms))),
            Cell::new(workload.restarts.to_string()),
            Cell::new(what),
        ]);
    }
    table.render(style, width)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use sinew_api::WorkloadState;
    use sinew_model::ServiceName;

    use super::*;

    #[test]
    fn a_table_of_workloads() {
        let up = WorkloadStatus {
            service: Some(ServiceName::new("orders").unwrap()),
            replica: 0,
            state: WorkloadState::Up,
            pid: Some(4711),
            address: Ipv4Addr::new(127, 80, 0, 1),
            started_at_ms: Some(40_000),
            restarts: 0,
            reason: None,
            command: "node api.js".to_owned(),
            adopted: None,
        };
        let failing = WorkloadStatus {
            replica: 1,
            state: WorkloadState::BackingOff,
            pid: None,
            started_at_ms: None,
            restarts: 12,
            reason: Some("exited with 1".to_owned()),
            ..up.clone()
        };
        let session = WorkloadStatus { service: None, command: "bash".to_owned(), ..up.clone() };
        let adopted = WorkloadStatus {
            service: Some(ServiceName::new("web").unwrap()),
            command: "nginx".to_owned(),
            adopted: Some("unit nginx.service".to_owned()),
            ..up.clone()
        };
        let text = table(&[up, failing, session, adopted], 220_000, Style { colour: false }, None);
        assert_eq!(
            text,
            "\
WORKLOAD  STATE         PID  ADDRESS     STARTED  RESTARTS  COMMAND
orders/0  up           4711  127.80.0.1  3m ago          0  node api.js
orders/1  backing off     -  127.80.0.1  -              12  node api.js (exited with 1)
exec-0    up           4711  127.80.0.1  3m ago          0  bash
web/0     up           4711  127.80.0.1  3m ago          0  nginx [adopted unit nginx.service]
"
        );
        assert_eq!(table(&[], 0, Style { colour: false }, None), "nothing runs\n");
    }
}
