//! The picture of the README: what the view draws of `examples/shop` under load with `api/1` frozen,
//! by the figures of a run. `SINEW_BLESS=1 cargo test -p sinew picture` draws it anew.

use std::fmt::Write as _;

use ratatui::{Terminal, backend::TestBackend, buffer::Cell};
use sinew_api::WorkloadState;
use sinew_model::Protocol;

use super::*;
use crate::top::history::BARS;

const WIDTH: u16 = 113;
const HEIGHT: u16 = 15;
/// Pixels of a cell, and around all of them.
const CELL: (u16, u16) = (8, 18);
const MARGIN: u16 = 14;
/// From the top of a line to that of its text's box, and to where its letters stand.
const BASELINE: u16 = 13;

const PAPER: &str = "#14171d";
const INK: &str = "#d4d7dd";
const DIM: &str = "#8f96a3";

/// From, to, calls and connections, connect times, bytes, and the past.
type Calls = (&'static str, &'static str, f64, u64, Option<[f64; 2]>, f64, &'static str);

const EDGES: [Calls; 4] = [
    ("web", "api", 1380.0, 2, Some([5.0, 8.0]), 304.0, "█▇▇▇▆▆▇▆▇▇▇▇▇▆▆▇▅▅▅▅"),
    ("exec", "web", 1366.0, 4, Some([5.0, 7.0]), 313.4, "█▇▇▇▆▆▇▆▇▇▇▇▇▆▆▇▅▅▅▅"),
    ("shoppers", "web", 17.0, 1, Some([6.0, 7.0]), 3.9, "▇▆▅▄▆▅█▆▆▅▆▅▇▅▆▆▄▅▅▅"),
    ("api", "redis", 0.0, 9, None, 0.0, "▁▁█▁█▁█▁▁▁▁▁▁▁▁▁▁▁▁▁"),
];

/// Service, replica, port, calls and connections, connect times, and the past.
type Taken = (&'static str, u32, u16, f64, u32, Option<[f64; 2]>, &'static str);

const ENDPOINTS: [Taken; 6] = [
    ("api", 0, 8000, 693.0, 1, Some([5.0, 8.0]), "█▇▇▇▆▆▇▇▇▇▇▇▇▆▇▇▇▇▇█"),
    ("api", 1, 8000, 0.0, 2, None, "█▇▆▆▅▆▆▆▇▆▆▆▆▅▆▇▁▁▁▁"),
    ("api", 2, 8000, 707.0, 0, Some([5.0, 8.0]), "█▆▆▇▆▆▆▇▆▆▇▇▇▅▆▇▇▇▆▇"),
    ("postgres", 0, 5432, 0.0, 0, None, "▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁"),
    ("redis", 0, 6379, 0.0, 9, None, "▁▁█▁█▁█▁▁▁▁▁▁▁▁▁▁▁▁▁"),
    ("web", 0, 8080, 1399.0, 5, Some([5.0, 8.0]), "█▇▇▇▆▆▆▆▇▆▇▇▇▆▆▇▅▅▅▅"),
];

fn level(bar: char) -> f64 {
    BARS.iter().position(|other| *other == bar).unwrap() as f64
}

/// What a line of bars was drawn of, when the last one stands for `now`.
fn rates(now: f64, past: &str) -> Vec<f64> {
    let last = past.chars().last().map_or(0.0, level);
    let one = if last > 0.0 { now / last } else { 1.0 };
    past.chars().map(|bar| level(bar) * one).collect()
}

fn frame(look: usize) -> Frame {
    let edges = EDGES.iter().map(|&(from, to, calls, in_flight, times, kib, past)| EdgeRates {
        from: from.to_owned(),
        to: to.to_owned(),
        calls_per_s: rates(calls, past)[look],
        in_flight,
        connect_p50_us: times.map(|[p50, _]| p50),
        connect_p99_us: times.map(|[_, p99]| p99),
        errors_per_s: 0.0,
        ejections: 0,
        bytes_per_s: kib * 1024.0,
    });
    let endpoints =
        ENDPOINTS.iter().map(|&(service, replica, port, calls, in_flight, times, past)| {
            EndpointRates {
                service: service.to_owned(),
                workload: format!("{service}/{replica}"),
                port,
                protocol: Protocol::Tcp,
                state: WorkloadState::Up,
                ejected: false,
                suspect: false,
                hung: (service, replica) == ("api", 1),
                calls_per_s: rates(calls, past)[look],
                in_flight,
                connect_p50_us: times.map(|[p50, _]| p50),
                connect_p99_us: times.map(|[_, p99]| p99),
                errors_per_s: 0.0,
                failures: 0,
                ejections: 0,
            }
        });
    Frame { seconds: 1.0, edges: edges.collect(), endpoints: endpoints.collect() }
}

fn colour(cell: &Cell) -> &'static str {
    match cell.fg {
        Color::Red => "#e06c75",
        Color::Green => "#8fc37a",
        Color::Yellow => "#d9b25f",
        Color::Cyan => "#6cbfbf",
        _ if cell.modifier.contains(Modifier::DIM) => DIM,
        _ => INK,
    }
}

/// A line as pieces of one style each, with their columns; two blanks end a piece.
fn pieces(row: &[&Cell]) -> Vec<(usize, String)> {
    let mut pieces: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, cell) in row.iter().enumerate() {
        let same = at > 0 && row[at - 1].style() == cell.style();
        let blank = |at: usize| row.get(at).is_none_or(|cell| cell.symbol() == " ");
        match pieces.last_mut() {
            Some((_, text)) if open && same && !(blank(at) && blank(at + 1)) => {
                text.push_str(cell.symbol());
            }
            _ if blank(at) => open = false,
            _ => {
                pieces.push((at, cell.symbol().to_owned()));
                open = true;
            }
        }
    }
    pieces
}

fn line(svg: &mut String, row: &[&Cell], top: u16) {
    let (wide, high) = CELL;
    let left = |column: usize| usize::from(MARGIN) + column * usize::from(wide);
    let base = top + BASELINE;
    for (column, cell) in row.iter().enumerate() {
        let x = left(column);
        let fill = colour(cell);
        let bar = BARS.iter().position(|bar| cell.symbol() == bar.to_string());
        if let Some(height) = bar.map(|index| 2 * (index as u16 + 1)) {
            let y = base + 3 - height;
            writeln!(
                svg,
                r#"<rect x="{x}" y="{y}" width="{wide}" height="{height}" fill="{fill}"/>"#
            )
            .unwrap();
        } else if cell.modifier.contains(Modifier::REVERSED) {
            writeln!(
                svg,
                r#"<rect x="{x}" y="{top}" width="{wide}" height="{high}" fill="{fill}"/>"#
            )
            .unwrap();
        }
    }
    for (column, text) in pieces(row) {
        let cell = row[column];
        if text.contains(BARS) {
            continue;
        }
        let fill = if cell.modifier.contains(Modifier::REVERSED) { PAPER } else { colour(cell) };
        let weight =
            if cell.modifier.contains(Modifier::BOLD) { r#" font-weight="bold""# } else { "" };
        let text = text.trim_end();
        let (x, length) = (left(column), text.chars().count() * usize::from(wide));
        writeln!(
            svg,
            r#"<text x="{x}" y="{base}" fill="{fill}"{weight} lengthAdjust="spacingAndGlyphs" textLength="{length}">{text}</text>"#
        )
        .unwrap();
    }
}

fn picture() -> String {
    let mut view = View::new();
    (0..LOOKS).for_each(|look| view.update(frame(look)));
    let mut terminal = Terminal::new(TestBackend::new(WIDTH, HEIGHT)).unwrap();
    terminal.draw(|canvas| view.draw(canvas)).unwrap();
    let buffer = terminal.backend().buffer();
    let (w, h) = (2 * MARGIN + WIDTH * CELL.0, 2 * MARGIN + HEIGHT * CELL.1);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" font-size="13" role="img" aria-label="sinew top: calls between the services of a shop, one instance of api frozen">
<rect width="{w}" height="{h}" rx="8" fill="{PAPER}"/>
"##
    );
    for y in 0..HEIGHT {
        let row: Vec<&Cell> = (0..WIDTH).map(|x| &buffer[(x, y)]).collect();
        line(&mut svg, &row, MARGIN + y * CELL.1);
    }
    svg + "</svg>\n"
}

#[test]
fn the_readmes_picture_is_what_the_view_draws() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/top.svg");
    let drawn = picture();
    if std::env::var_os("SINEW_BLESS").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == drawn, "docs/top.svg: draw it anew with SINEW_BLESS=1");
}
