//! A frame as plain tables.

use super::rates::{EdgeRates, EndpointRates, Frame};
use crate::render::{
    style::{Style, Tint, state_word},
    table::{Align, Cell, Table},
    time,
};

/// The columns of an edge.
pub(crate) const EDGE_COLUMNS: [&str; 8] =
    ["FROM", "TO", "CALLS/S", "IN FLIGHT", "P50", "P99", "ERRORS/S", "BYTES/S"];
/// The columns of an endpoint.
pub(crate) const ENDPOINT_COLUMNS: [&str; 6] =
    ["ENDPOINT", "STATE", "ACTIVE", "CONN/S", "FAILURES", "EJECTIONS"];

/// `0`, `0.4`, `12.5`, `1250`.
fn rate(value: f64) -> String {
    if value == 0.0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time, not negative")]
fn micros(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |us| time::micros(us.round() as u32))
}

/// The cells of an edge.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes, not negative")]
pub(crate) fn edge_cells(edge: &EdgeRates) -> [String; 8] {
    [
        edge.from.clone(),
        edge.to.clone(),
        rate(edge.calls_per_s),
        edge.in_flight.to_string(),
        micros(edge.connect_p50_us),
        micros(edge.connect_p99_us),
        rate(edge.errors_per_s),
        time::bytes(edge.bytes_per_s.round() as u64),
    ]
}

/// The cells of an endpoint.
pub(crate) fn endpoint_cells(endpoint: &EndpointRates) -> [String; 6] {
    let state = state_word(endpoint.state);
    let suffix = if endpoint.protocol == sinew_model::Protocol::Udp { "/udp" } else { "" };
    [
        format!("{}:{}{suffix}", endpoint.workload, endpoint.port),
        if endpoint.ejected { format!("{state}, ejected") } else { state.to_owned() },
        endpoint.active.to_string(),
        rate(endpoint.connections_per_s),
        endpoint.failures.to_string(),
        endpoint.ejections.to_string(),
    ]
}

fn table<const N: usize>(columns: [&'static str; N], texts: usize) -> Table {
    let align = |index| if index < texts { Align::Left } else { Align::Right };
    let columns: Vec<_> =
        columns.into_iter().enumerate().map(|(index, name)| (name, align(index))).collect();
    Table::new(&columns)
}

/// Both tables.
pub(crate) fn text(frame: &Frame, style: Style, width: Option<usize>) -> String {
    let mut text = String::new();
    if frame.edges.is_empty() {
        text.push_str("no calls\n");
    } else {
        let mut edges = table(EDGE_COLUMNS, 2);
        for edge in &frame.edges {
            let bad = |index| index == 6 && edge.errors_per_s > 0.0;
            let cell = |(index, text)| {
                Cell::tinted(text, if bad(index) { Tint::Bad } else { Tint::Plain })
            };
            edges.row(edge_cells(edge).into_iter().enumerate().map(cell).collect::<Vec<_>>());
        }
        text.push_str(&edges.render(style, width));
    }
    if !frame.endpoints.is_empty() {
        let mut endpoints = table(ENDPOINT_COLUMNS, 2);
        for endpoint in &frame.endpoints {
            endpoints.row(endpoint_cells(endpoint).map(Cell::new));
        }
        text.push('\n');
        text.push_str(&endpoints.render(style, width));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::rates::{between, tests::snapshot};

    #[test]
    fn both_tables() {
        let frame = between(&snapshot(10, 1000), &snapshot(12, 3000));
        assert_eq!(
            text(&frame, Style { colour: false }, None),
            "\
FROM  TO   CALLS/S  IN FLIGHT   P50   P99  ERRORS/S   BYTES/S
web   api     1000          2  4 us  4 us      10.0  39.1 KiB

ENDPOINT  STATE  ACTIVE  CONN/S  FAILURES  EJECTIONS
api/0:80  up          2    1000         3          1
"
        );
        assert_eq!(text(&Frame::default(), Style { colour: false }, None), "no calls\n");
    }
}
