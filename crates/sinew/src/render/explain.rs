//! What would become of a call, and each endpoint's part in it.

use std::fmt::Write as _;

use sinew_api::{Explanation, Fitness};
use sinew_model::Protocol;

use super::{
    style::{Style, Tint, state_tint, state_word},
    table::{Align, Cell, Table},
    time,
};

/// The text of `sinew explain`.
pub(crate) fn text(explanation: &Explanation, style: Style, width: Option<usize>) -> String {
    let mut text = String::new();
    let suffix = if explanation.protocol == Protocol::Udp { "/udp" } else { "" };
    let call = format!("{} -> {}:{}{suffix}", explanation.from, explanation.to, explanation.port);
    // Writing to a `String` does not fail.
    let _ = writeln!(text, "{}", style.paint(Tint::Bold, &call));
    let _ = writeln!(text, "  takes   {}", explanation.outcome);
    let _ = writeln!(text, "  policy  {}", explanation.policy);
    for kept in &explanation.kept {
        let left = kept.left_ms / 1000;
        let _ = writeln!(text, "  keeps   {} has {} for {left} s", kept.caller, kept.backend);
    }
    text.push('\n');
    if explanation.endpoints.is_empty() {
        text.push_str("no endpoints\n");
    } else {
        text.push_str(&endpoints(explanation).render(style, width));
    }
    text
}

fn endpoints(explanation: &Explanation) -> Table {
    // Of many hosts only: others have no use for them.
    let many = explanation.endpoints.iter().any(|endpoint| endpoint.zone.is_some());
    let place = many.then_some([("HOST", Align::Left), ("ZONE", Align::Left)]);
    let columns = [("ENDPOINT", Align::Left)].into_iter().chain(place.into_iter().flatten());
    let columns = columns.chain([
        ("VERDICT", Align::Left),
        ("STATE", Align::Left),
        ("ACTIVE", Align::Right),
        ("WEIGHT", Align::Right),
        ("CONNECT", Align::Right),
        ("QUEUE", Align::Right),
        ("WHY", Align::Left),
    ]);
    let mut table = Table::new(&columns.collect::<Vec<_>>());
    let mut sorted: Vec<_> = explanation.endpoints.iter().collect();
    sorted.sort_by_key(|endpoint| (endpoint.fitness, endpoint.code));
    for endpoint in sorted {
        let tint = match endpoint.fitness {
            Fitness::Fit => Tint::Good,
            Fitness::Sick | Fitness::Gone => Tint::Bad,
            Fitness::Out => Tint::Busy,
        };
        let host = endpoint.node.as_ref().map_or_else(|| "this".to_owned(), ToString::to_string);
        let zone = Cell::or_dash(endpoint.zone.as_ref().map(ToString::to_string));
        let place = many.then_some([Cell::new(host), zone]);
        let row = [Cell::new(endpoint.workload.clone())].into_iter();
        let row = row.chain(place.into_iter().flatten()).chain([
            Cell::tinted(endpoint.code.word(), tint),
            Cell::tinted(state_word(endpoint.state), state_tint(endpoint.state)),
            Cell::new(endpoint.active.to_string()),
            Cell::new(endpoint.weight.to_string()),
            Cell::new(time::micros(endpoint.connect_us)),
            Cell::or_dash(endpoint.queue.map(|queue| queue.to_string())),
            Cell::new(endpoint.reason.clone()),
        ]);
        table.row(row.collect::<Vec<_>>());
    }
    table
}

#[cfg(test)]
mod tests {
    use sinew_api::{Decision, ExplainedEndpoint, Finding, KeptBackend, WorkloadState};
    use sinew_model::ServiceName;

    use super::*;

    #[test]
    fn those_that_would_be_taken_come_first() {
        let fit = ExplainedEndpoint {
            workload: "web/1".to_owned(),
            node: None,
            zone: None,
            address: [127, 80, 0, 1].into(),
            port: 80,
            state: WorkloadState::Up,
            fitness: Fitness::Fit,
            code: Finding::Fit,
            reason: "listens, keeps up, not ejected".to_owned(),
            active: 3,
            weight: 256,
            connect_us: 42,
            failures_in_a_row: 0,
            queue: Some(0),
            ejected_for_ms: None,
        };
        let out = ExplainedEndpoint {
            workload: "web/0".to_owned(),
            state: WorkloadState::Draining,
            fitness: Fitness::Out,
            code: Finding::Draining,
            reason: "not in the choice: it is draining".to_owned(),
            queue: None,
            ..fit.clone()
        };
        let explanation = Explanation {
            from: "exec".to_owned(),
            to: ServiceName::new("web").unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
            policy: "random: one is drawn".to_owned(),
            decision: Decision::Fit,
            takes: vec!["web/1".to_owned()],
            outcome: "web/1, the only fit one".to_owned(),
            kept: vec![KeptBackend {
                caller: "exec/0".to_owned(),
                backend: "web/1".to_owned(),
                left_ms: 5000,
            }],
            endpoints: vec![out, fit],
        };
        assert_eq!(
            text(&explanation, Style { colour: false }, None),
            "\
exec -> web:80
  takes   web/1, the only fit one
  policy  random: one is drawn
  keeps   exec/0 has web/1 for 5 s

ENDPOINT  VERDICT   STATE     ACTIVE  WEIGHT  CONNECT  QUEUE  WHY
web/1     fit       up             3     256    42 us      0  listens, keeps up, not ejected
web/0     draining  draining       3     256    42 us      -  not in the choice: it is draining
"
        );
    }

    #[test]
    fn hosts_and_zones_have_columns_where_there_are_many() {
        let here = ExplainedEndpoint {
            workload: "web/1".to_owned(),
            node: None,
            zone: Some("a".parse().unwrap()),
            address: [127, 80, 0, 1].into(),
            port: 80,
            state: WorkloadState::Up,
            fitness: Fitness::Fit,
            code: Finding::Fit,
            reason: "keeps up".to_owned(),
            active: 0,
            weight: 256,
            connect_us: 0,
            failures_in_a_row: 0,
            queue: None,
            ejected_for_ms: None,
        };
        let there = ExplainedEndpoint {
            workload: "web/0@h2".to_owned(),
            node: Some("h2".parse().unwrap()),
            zone: Some("b".parse().unwrap()),
            ..here.clone()
        };
        let explanation = Explanation {
            from: "exec".to_owned(),
            to: ServiceName::new("web").unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
            policy: "random: one is drawn".to_owned(),
            decision: Decision::Fit,
            takes: Vec::new(),
            outcome: "one of both".to_owned(),
            kept: Vec::new(),
            endpoints: vec![here, there],
        };
        let text = text(&explanation, Style { colour: false }, None);
        let rows: Vec<Vec<&str>> =
            text.lines().skip(4).map(|line| line.split_whitespace().take(3).collect()).collect();
        assert_eq!(
            rows,
            [["ENDPOINT", "HOST", "ZONE"], ["web/1", "this", "a"], ["web/0@h2", "h2", "b"]]
        );
    }
}
