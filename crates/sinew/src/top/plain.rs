//! A frame as plain tables.

use super::rates::{EdgeRates, EndpointRates, Frame};
use crate::render::{
    style::{Style, Tint, state_word},
    table::{Align, Cell, Table},
    time,
};

/// The columns of an edge: first those that an endpoint has too, after its two names.
pub(crate) const EDGE_COLUMNS: [&str; 9] = [
    "FROM",
    "TO",
    "CALLS/S",
    "IN FLIGHT",
    "CONN P50",
    "CONN P99",
    "ERRORS/S",
    "EJECTIONS",
    "BYTES/S",
];
/// The columns of an endpoint.
pub(crate) const ENDPOINT_COLUMNS: [&str; 8] =
    ["ENDPOINT", "STATE", "CALLS/S", "IN FLIGHT", "CONN P50", "CONN P99", "ERRORS/S", "EJECTIONS"];
/// Column of errors a second, in both.
pub(crate) const ERRORS: usize = 6;

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
pub(crate) fn edge_cells(edge: &EdgeRates) -> [String; 9] {
    [
        edge.from.clone(),
        edge.to.clone(),
        rate(edge.calls_per_s),
        edge.in_flight.to_string(),
        micros(edge.connect_p50_us),
        micros(edge.connect_p99_us),
        rate(edge.errors_per_s),
        edge.ejections.to_string(),
        time::bytes(edge.bytes_per_s.round() as u64),
    ]
}

/// The cells of an endpoint.
pub(crate) fn endpoint_cells(endpoint: &EndpointRates) -> [String; 8] {
    let suffix = if endpoint.protocol == sinew_model::Protocol::Udp { "/udp" } else { "" };
    [
        format!("{}:{}{suffix}", endpoint.workload, endpoint.port),
        standing(endpoint),
        rate(endpoint.calls_per_s),
        endpoint.in_flight.to_string(),
        micros(endpoint.connect_p50_us),
        micros(endpoint.connect_p99_us),
        rate(endpoint.errors_per_s),
        endpoint.ejections.to_string(),
    ]
}

/// What the agent says of it, and what the kernel does.
fn standing(endpoint: &EndpointRates) -> String {
    let state = state_word(endpoint.state);
    match (endpoint.suspect, endpoint.ejected, endpoint.hung) {
        (true, ..) => format!("{state}, suspect"),
        (_, true, _) => format!("{state}, ejected"),
        (_, _, true) => format!("{state}, hung"),
        _ => state.to_owned(),
    }
}

fn table<const N: usize>(columns: [&'static str; N], texts: usize) -> Table {
    let align = |index| if index < texts { Align::Left } else { Align::Right };
    let columns: Vec<_> =
        columns.into_iter().enumerate().map(|(index, name)| (name, align(index))).collect();
    Table::new(&columns)
}

fn tinted<const N: usize>(cells: [String; N], errors: bool) -> Vec<Cell> {
    let tint = |index| if errors && index == ERRORS { Tint::Bad } else { Tint::Plain };
    cells.into_iter().enumerate().map(|(index, text)| Cell::tinted(text, tint(index))).collect()
}

/// Both tables.
pub(crate) fn text(frame: &Frame, style: Style, width: Option<usize>) -> String {
    let mut text = String::new();
    if frame.edges.is_empty() {
        text.push_str("no calls\n");
    } else {
        let mut edges = table(EDGE_COLUMNS, 2);
        for edge in &frame.edges {
            edges.row(tinted(edge_cells(edge), edge.errors_per_s > 0.0));
        }
        text.push_str(&edges.render(style, width));
    }
    if !frame.endpoints.is_empty() {
        let mut endpoints = table(ENDPOINT_COLUMNS, 2);
        for endpoint in &frame.endpoints {
            endpoints.row(tinted(endpoint_cells(endpoint), endpoint.errors_per_s > 0.0));
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
FROM  TO   CALLS/S  IN FLIGHT  CONN P50  CONN P99  ERRORS/S  EJECTIONS   BYTES/S
web   api     1000          2      4 us      4 us      10.0          3  39.1 KiB

ENDPOINT  STATE  CALLS/S  IN FLIGHT  CONN P50  CONN P99  ERRORS/S  EJECTIONS
api/0:80  up        1000          2     10 us     12 us       2.0          1
"
        );
        let mut ejected = frame.endpoints[0].clone();
        ejected.hung = true;
        assert_eq!(endpoint_cells(&ejected)[1], "up, hung");
        ejected.ejected = true;
        assert_eq!(endpoint_cells(&ejected)[1], "up, ejected");
        ejected.suspect = true;
        assert_eq!(endpoint_cells(&ejected)[1], "up, suspect");
        assert_eq!(text(&Frame::default(), Style { colour: false }, None), "no calls\n");
    }
}
