//! The live view: what is shown, which keys change it, and how it is drawn.

use std::collections::{BTreeMap, VecDeque};

use ratatui::{
    Frame as Canvas,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Row, Table, TableState},
};

use super::{
    plain::{EDGE_COLUMNS, ENDPOINT_COLUMNS, edge_cells, endpoint_cells},
    rates::{EdgeRates, Frame},
};
use crate::render::style::{Tint, state_tint};

/// Column of an endpoint's state.
const STATE: usize = 1;
/// Looks that a sparkline reaches back.
const HISTORY: usize = 20;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// An edge, by its ends.
type Ends = (String, String);

/// What the view shows.
#[derive(Debug, Default)]
pub(crate) struct View {
    frame: Frame,
    history: BTreeMap<Ends, VecDeque<f64>>,
    selected: Option<Ends>,
    /// Column that edges are sorted by; names ascend, numbers descend.
    sort: usize,
    paused: bool,
    /// Why there is nothing newer.
    trouble: Option<String>,
}

fn ends(edge: &EdgeRates) -> Ends {
    (edge.from.clone(), edge.to.clone())
}

impl View {
    /// Busiest edges first.
    pub(crate) fn new() -> Self {
        Self { sort: 2, ..Self::default() }
    }

    /// Takes what is new, unless it is paused.
    pub(crate) fn update(&mut self, frame: Frame) {
        self.trouble = None;
        if self.paused {
            return;
        }
        self.history.retain(|key, _| frame.edges.iter().any(|edge| ends(edge) == *key));
        for edge in &frame.edges {
            let past = self.history.entry(ends(edge)).or_default();
            if past.len() == HISTORY {
                past.pop_front();
            }
            past.push_back(edge.calls_per_s);
        }
        self.frame = frame;
        self.arrange();
    }

    /// Says why there is nothing newer.
    pub(crate) fn say(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    fn arrange(&mut self) {
        let column = self.sort;
        let number = |edge: &EdgeRates| match column {
            2 => edge.calls_per_s,
            #[expect(clippy::cast_precision_loss, reason = "compared only")]
            3 => edge.in_flight as f64,
            4 => edge.connect_p50_us.unwrap_or(-1.0),
            5 => edge.connect_p99_us.unwrap_or(-1.0),
            6 => edge.errors_per_s,
            7 => edge.bytes_per_s,
            _ => 0.0,
        };
        self.frame.edges.sort_by(|a, b| {
            let by_name = if column == 1 {
                (&a.to, &a.from).cmp(&(&b.to, &b.from))
            } else {
                (&a.from, &a.to).cmp(&(&b.from, &b.to))
            };
            number(b).total_cmp(&number(a)).then(by_name)
        });
    }

    fn index(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.frame.edges.iter().position(|edge| ends(edge) == *selected)
    }

    fn select(&mut self, step: impl FnOnce(usize) -> usize) {
        let Some(last) = self.frame.edges.len().checked_sub(1) else { return };
        let index = self.index().map_or(0, step).min(last);
        self.selected = self.frame.edges.get(index).map(ends);
    }

    /// Does what a key says; true: leave.
    pub(crate) fn press(&mut self, key: KeyEvent) -> bool {
        let columns = EDGE_COLUMNS.len();
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Down => self.select(|index| index + 1),
            KeyCode::Up => self.select(|index| index.saturating_sub(1)),
            KeyCode::Esc => self.selected = None,
            KeyCode::Right => self.sort = (self.sort + 1) % columns,
            KeyCode::Left => self.sort = (self.sort + columns - 1) % columns,
            _ => {}
        }
        self.arrange();
        false
    }

    /// Draws everything.
    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>) {
        let edges = u16::try_from(self.frame.edges.len()).unwrap_or(u16::MAX).saturating_add(1);
        let [head, top, _, bottom, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Max(edges),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(canvas.area());
        canvas.render_widget(self.title(), head);
        self.draw_edges(canvas, top);
        self.draw_endpoints(canvas, bottom);
        let keys = "q leave   up/down select   left/right sort   p pause   esc all endpoints";
        canvas.render_widget(Line::styled(keys, Modifier::DIM), foot);
    }

    fn title(&self) -> Line<'_> {
        let calls: f64 = self.frame.edges.iter().map(|edge| edge.calls_per_s).sum();
        let text = format!("sinew top   {calls:.0} calls/s over {} edges", self.frame.edges.len());
        match (&self.trouble, self.paused) {
            (Some(trouble), _) => Line::styled(format!("{text}   {trouble}"), Color::Red),
            (None, true) => Line::styled(format!("{text}   paused"), Color::Yellow),
            (None, false) => Line::styled(text, Modifier::BOLD),
        }
    }

    fn draw_edges(&self, canvas: &mut Canvas<'_>, area: Rect) {
        let head = EDGE_COLUMNS.iter().enumerate().map(|(index, name)| {
            let style = if index == self.sort { Modifier::REVERSED } else { Modifier::DIM };
            aligned((*name).to_owned(), index < 2).style(style)
        });
        let head = Row::new(head.chain([Line::styled("  CALLS/S", Modifier::DIM)]));
        let rows = self.frame.edges.iter().map(|edge| {
            let cells = edge_cells(edge).into_iter().enumerate();
            let cells = cells.map(|(index, text)| aligned(text, index < 2));
            let past = self.history.get(&ends(edge)).map(sparkline).unwrap_or_default();
            let style =
                if edge.errors_per_s > 0.0 { Style::from(Color::Red) } else { Style::new() };
            let past = Line::styled(format!("  {past}"), Color::Cyan);
            Row::new(cells.chain([past])).style(style)
        });
        let widths = [14, 14, 9, 9, 9, 9, 9, 10].map(Constraint::Length);
        let widths = widths.into_iter().chain([Constraint::Fill(1)]);
        let table = Table::new(rows, widths).header(head).row_highlight_style(Modifier::REVERSED);
        let mut state = TableState::new().with_selected(self.index());
        canvas.render_stateful_widget(table, area, &mut state);
    }

    /// Those of the selected edge's service, or all.
    fn draw_endpoints(&self, canvas: &mut Canvas<'_>, area: Rect) {
        let shown = self.frame.endpoints.iter().filter(|endpoint| {
            self.selected.as_ref().is_none_or(|(_, to)| *to == endpoint.service)
        });
        let head = ENDPOINT_COLUMNS.iter().enumerate();
        let head = head.map(|(index, name)| aligned((*name).to_owned(), index < 2));
        let rows = shown.map(|endpoint| {
            let cells = endpoint_cells(endpoint).into_iter().enumerate();
            let stands = if endpoint.ejected { Tint::Bad } else { state_tint(endpoint.state) };
            Row::new(cells.map(|(index, text)| {
                let cell = aligned(text, index < 2);
                if index == STATE { cell.style(hue(stands)) } else { cell }
            }))
        });
        let widths = [24, 20, 9, 9, 9, 9].map(Constraint::Length);
        let head = Row::new(head).style(Modifier::DIM);
        canvas.render_widget(Table::new(rows, widths).header(head), area);
    }
}

fn hue(tint: Tint) -> Style {
    match tint {
        Tint::Good => Color::Green.into(),
        Tint::Busy => Color::Yellow.into(),
        Tint::Bad => Color::Red.into(),
        Tint::Dim => Modifier::DIM.into(),
        Tint::Bold => Modifier::BOLD.into(),
        Tint::Service(index) => Color::Indexed(index).into(),
        Tint::Plain => Style::new(),
    }
}

fn aligned(text: String, left: bool) -> Line<'static> {
    if left { Line::from(text) } else { Line::from(text).right_aligned() }
}

/// A bar a look, the largest as high as the line.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
fn sparkline(past: &VecDeque<f64>) -> String {
    let most = past.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| {
        let height = if most > 0.0 { value / most * 7.0 } else { 0.0 };
        BARS[(height.round() as usize).min(7)]
    };
    past.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::top::rates::{
        Snapshot, between,
        tests::{edge, snapshot},
    };

    fn busy(at: u64, api: u64, other: u64) -> Snapshot {
        let mut taken = snapshot(at, api);
        taken.edges.push(edge("exec", Some("other"), other));
        taken
    }

    fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|canvas| view.draw(canvas)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    fn press(view: &mut View, code: KeyCode) -> bool {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn view() -> View {
        let mut view = View::new();
        view.update(between(&busy(0, 0, 0), &busy(1, 50, 20)));
        view.update(between(&busy(1, 50, 20), &busy(2, 150, 40)));
        view
    }

    #[test]
    fn the_picture() {
        assert_eq!(
            drawn(&view(), 110, 8),
            [
                "sinew top   120 calls/s over 2 edges",
                "FROM           TO               CALLS/S IN FLIGHT       P50       P99  ERRORS/S    BYTES/S   CALLS/S",
                "web            api                  100         2      4 us      4 us       1.0    3.9 KiB   ▅█",
                "exec           other               20.0         2      4 us      4 us         0      800 B   ██",
                "",
                "ENDPOINT                 STATE                   ACTIVE    CONN/S  FAILURES EJECTIONS",
                "api/0:80                 up                           2       100         3         1",
                "q leave   up/down select   left/right sort   p pause   esc all endpoints",
            ]
        );
    }

    #[test]
    fn a_small_terminal_is_no_fault() {
        for (width, height) in [(1, 1), (20, 3), (40, 5)] {
            assert_eq!(drawn(&view(), width, height).len(), usize::from(height));
        }
    }

    #[test]
    fn keys_select_sort_and_pause() {
        let mut view = view();
        assert!(!press(&mut view, KeyCode::Down));
        assert_eq!(view.selected, Some(("web".into(), "api".into())));
        press(&mut view, KeyCode::Down);
        press(&mut view, KeyCode::Down);
        assert_eq!(view.selected, Some(("exec".into(), "other".into())));
        assert!(!drawn(&view, 110, 8).join("\n").contains("api/0"), "of another service");
        press(&mut view, KeyCode::Left);
        press(&mut view, KeyCode::Left);
        assert_eq!(view.frame.edges[0].from, "exec", "sorted by name");
        assert_eq!(view.index(), Some(0), "the same edge stays selected");

        press(&mut view, KeyCode::Char('p'));
        let before = view.frame.clone();
        view.update(between(&busy(2, 150, 40), &busy(3, 900, 900)));
        assert_eq!(view.frame.seconds, before.seconds);
        assert_eq!(view.frame.edges, before.edges);
        assert!(drawn(&view, 80, 6)[0].ends_with("paused"));
        assert!(press(&mut view, KeyCode::Char('q')));
        assert!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }
}
