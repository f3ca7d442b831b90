//! The live view: what is shown, which keys change it, and how it is drawn.

use ratatui::{
    Frame as Canvas,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Row, Table, TableState},
};

use super::{
    history::{History, LOOKS},
    plain::{EDGE_COLUMNS, ENDPOINT_COLUMNS, ERRORS, edge_cells, endpoint_cells},
    rates::{EdgeRates, EndpointRates, Frame},
};
use crate::render::style::{Tint, state_tint};

/// Column of an endpoint's state.
const STATE: usize = 1;
/// What the name columns take at least and at most.
const NAMES: (usize, usize) = (8, 28);
/// What the others take, and the gap before each.
const NUMBERS: [usize; 7] = [8, 9, 8, 8, 8, 9, 10];
const GAP: usize = 1;

/// An edge, by its ends.
type Ends = (String, String);

/// An endpoint, by its cell.
type Place = String;

/// What the view shows.
#[derive(Debug, Default)]
pub(crate) struct View {
    frame: Frame,
    edges: History<Ends>,
    endpoints: History<Place>,
    /// Widths of the names; they only grow, so that the table does not jump about.
    names: [usize; 2],
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

fn place(endpoint: &EndpointRates) -> Place {
    let [place, ..] = endpoint_cells(endpoint);
    place
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
        self.edges.take(frame.edges.iter().map(|edge| (ends(edge), edge.calls_per_s)));
        self.endpoints.take(frame.endpoints.iter().map(|e| (place(e), e.calls_per_s)));
        self.names = wider(self.names, names(&frame));
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
            #[expect(clippy::cast_precision_loss, reason = "compared only")]
            7 => edge.ejections as f64,
            8 => edge.bytes_per_s,
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
        let rows: Vec<_> = self.frame.edges.iter().map(|edge| (edge, edge_cells(edge))).collect();
        let columns = Columns::of(self.names, EDGE_COLUMNS.len(), area.width);
        let head = columns.head(&EDGE_COLUMNS, |index| {
            if index == self.sort { Modifier::REVERSED } else { Modifier::DIM }
        });
        let rows = rows.into_iter().map(|(edge, cells)| {
            let style =
                if edge.errors_per_s > 0.0 { Style::from(Color::Red) } else { Style::new() };
            columns.row(cells, &self.edges.line(&ends(edge)), |_| Style::new()).style(style)
        });
        let table = columns.table(rows, head).row_highlight_style(Modifier::REVERSED);
        let mut state = TableState::new().with_selected(self.index());
        canvas.render_stateful_widget(table, area, &mut state);
    }

    /// Those of the selected edge's service, or all.
    fn draw_endpoints(&self, canvas: &mut Canvas<'_>, area: Rect) {
        let shown = self.frame.endpoints.iter().filter(|endpoint| {
            self.selected.as_ref().is_none_or(|(_, to)| *to == endpoint.service)
        });
        let columns = Columns::of(self.names, ENDPOINT_COLUMNS.len(), area.width);
        let head = columns.head(&ENDPOINT_COLUMNS, |_| Modifier::DIM);
        let rows = shown.map(|endpoint| {
            let sick = endpoint.ejected || endpoint.suspect || endpoint.hung;
            let stands = hue(if sick { Tint::Bad } else { state_tint(endpoint.state) });
            let past = self.endpoints.line(&place(endpoint));
            columns.row(endpoint_cells(endpoint), &past, |index| match index {
                STATE => stands,
                ERRORS if endpoint.errors_per_s > 0.0 => Color::Red.into(),
                _ => Style::new(),
            })
        });
        canvas.render_widget(columns.table(rows, head), area);
    }
}

/// How much room the two names of a line take, in both tables: their numbers stand in line.
fn names(frame: &Frame) -> [usize; 2] {
    let edges = frame.edges.iter().map(|e| [e.from.len(), e.to.len()]);
    let endpoints = frame.endpoints.iter().map(|endpoint| {
        let [place, state, ..] = endpoint_cells(endpoint);
        [place.len(), state.len()]
    });
    let (least, greatest) = NAMES;
    edges.chain(endpoints).fold([least; 2], wider).map(|width| width.min(greatest))
}

fn wider(a: [usize; 2], b: [usize; 2]) -> [usize; 2] {
    [a[0].max(b[0]), a[1].max(b[1])]
}

/// The columns of a table that there is room for: the last ones give way.
struct Columns {
    widths: Vec<usize>,
    /// How many bars there is room for behind them; 0: for too few to tell something.
    bars: usize,
}

impl Columns {
    fn of(names: [usize; 2], count: usize, room: u16) -> Self {
        let room = usize::from(room);
        let mut widths: Vec<_> = names.into_iter().chain(NUMBERS).take(count).collect();
        let taken = |widths: &[usize]| widths.iter().map(|width| width + GAP).sum::<usize>();
        while widths.len() > names.len() && taken(&widths) > room + GAP {
            widths.pop();
        }
        // The bars of both tables stand in line too.
        let left = room.saturating_sub(taken(&names) + taken(&NUMBERS) + GAP);
        let bars = if left < "CALLS/S".len() { 0 } else { left.min(LOOKS) };
        Self { widths, bars }
    }

    fn head(&self, names: &[&str], style: impl Fn(usize) -> Modifier) -> Row<'static> {
        let cells = names.iter().take(self.widths.len()).enumerate();
        let cells = cells.map(|(index, name)| {
            aligned((*name).to_owned(), index < 2).style(Style::from(style(index)))
        });
        let past = Line::styled(self.behind("CALLS/S"), Modifier::DIM);
        Row::new(cells.chain([past]))
    }

    fn row<const N: usize>(
        &self,
        cells: [String; N],
        past: &str,
        style: impl Fn(usize) -> Style,
    ) -> Row<'static> {
        let cells = cells.into_iter().take(self.widths.len()).enumerate();
        let cells = cells.map(|(index, text)| aligned(text, index < 2).style(style(index)));
        let past = Line::styled(self.behind(past), Color::Cyan);
        Row::new(cells.chain([past]))
    }

    /// What stands behind the columns, after a gap, and after those that the other table has more.
    fn behind(&self, text: &str) -> String {
        if self.bars == 0 {
            return String::new();
        }
        let earlier = text.chars().count().saturating_sub(self.bars);
        let text: String = text.chars().skip(earlier).collect();
        let missing = &NUMBERS[self.widths.len() - 2..];
        let gap: usize = missing.iter().map(|width| width + GAP).sum();
        format!("{:gap$} {text}", "")
    }

    fn table<'a>(&self, rows: impl IntoIterator<Item = Row<'a>>, head: Row<'a>) -> Table<'a> {
        let width = |width: &usize| Constraint::Length(u16::try_from(*width).unwrap_or(u16::MAX));
        let widths = self.widths.iter().map(width).chain([Constraint::Fill(1)]);
        Table::new(rows, widths).header(head)
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

#[cfg(test)]
mod picture;

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
                "FROM     TO        CALLS/S IN FLIGHT CONN P50 CONN P99 ERRORS/S EJECTIONS    BYTES/S  CALLS/S",
                "web      api           100         2     4 us     4 us      1.0         0    3.9 KiB  ▅█",
                "exec     other        20.0         2     4 us     4 us        0         0      800 B  ██",
                "",
                "ENDPOINT STATE     CALLS/S IN FLIGHT CONN P50 CONN P99 ERRORS/S EJECTIONS             CALLS/S",
                "api/0:80 up            100         2    10 us    12 us        0         1             ▅█",
                "q leave   up/down select   left/right sort   p pause   esc all endpoints",
            ]
        );
    }

    #[test]
    fn with_little_room_the_last_columns_give_way() {
        let mut long = view();
        for at in 2..12 {
            long.update(between(&busy(at, 150, 40), &busy(at + 1, 250, 40)));
        }
        let bars = |width| drawn(&long, width, 8)[2].rsplit_once(' ').unwrap().1.to_owned();
        assert_eq!((bars(100), bars(94)), ("▅███████████".into(), "████████".into()));
        assert_eq!(bars(92), "KiB", "too few to tell something");
        let lines = drawn(&view(), 60, 8);
        assert_eq!(lines[1], "FROM     TO        CALLS/S IN FLIGHT CONN P50 CONN P99");
        assert_eq!(lines[2], "web      api           100         2     4 us     4 us");
        assert_eq!(lines[6], "api/0:80 up            100         2    10 us    12 us");
    }

    #[test]
    fn what_is_bad_is_red() {
        let mut frame = between(&busy(1, 0, 0), &busy(2, 100, 0));
        frame.endpoints[0].hung = true;
        let mut view = View::new();
        view.update(frame);
        let mut terminal = Terminal::new(TestBackend::new(110, 8)).unwrap();
        terminal.draw(|canvas| view.draw(canvas)).unwrap();
        let buffer = terminal.backend().buffer();
        let red = |y: u16| (0..110).any(|x| buffer[(x, y)].fg == Color::Red);
        assert!(red(2) && !red(3), "errors on the first edge alone");
        assert!(red(6), "the endpoint hangs");
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
