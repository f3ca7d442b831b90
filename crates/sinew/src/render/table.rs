//! Tables with aligned columns, cut to the width of the terminal.

use super::style::{Style, Tint};

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// One field of a row.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tint: Tint,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), tint: Tint::Plain }
    }

    pub(crate) fn tinted(text: impl Into<String>, tint: Tint) -> Self {
        Self { text: text.into(), tint }
    }

    /// The value, or a dim dash.
    pub(crate) fn or_dash(text: Option<impl Into<String>>) -> Self {
        text.map_or_else(|| Self::tinted("-", Tint::Dim), Self::new)
    }
}

/// Rows under a head.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

const GAP: usize = 2;
/// What is left of a last column that does not fit.
const LEAST: usize = 8;

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// The table, no line longer than `width`: the last column gives way.
    pub(crate) fn render(&self, style: Style, width: Option<usize>) -> String {
        let widths = self.widths();
        let head = self.columns.iter().map(|&(name, _)| Cell::tinted(name, Tint::Dim)).collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            text.push_str(&self.line(row, &widths, style, width));
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(index, &(name, _)): (usize, &(&str, Align))| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells.map(|cell| columns(&cell.text)).max().unwrap_or(0).max(columns(name))
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    fn line(&self, row: &[Cell], widths: &[usize], style: Style, limit: Option<usize>) -> String {
        let mut line = String::new();
        let mut used = 0;
        let last = row.len().saturating_sub(1);
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            let mut text = cell.text.clone();
            if index == last
                && let Some(limit) = limit
            {
                text = shortened(&text, limit.saturating_sub(used).max(LEAST));
            }
            let padding = " ".repeat(width.saturating_sub(columns(&text)));
            let painted = style.paint(cell.tint, &text);
            match self.columns[index].1 {
                Align::Right => line.extend([padding.as_str(), painted.as_str()]),
                Align::Left if index == last => line.push_str(&painted),
                Align::Left => line.extend([painted.as_str(), padding.as_str()]),
            }
            if index < last {
                line.push_str(&" ".repeat(GAP));
            }
            used += width + GAP;
        }
        line
    }
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

/// At most `width` columns; what was cut off shows as `…`.
fn shortened(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("WHAT", Align::Left)]);
        table.row([Cell::tinted("orders/0", Tint::Good), Cell::new("7"), Cell::new("node api.js")]);
        table.row([Cell::new("web/10"), Cell::new("1024"), Cell::or_dash(None::<String>)]);
        table
    }

    const PLAIN: Style = Style { colour: false };

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            table().render(PLAIN, None),
            "NAME         N  WHAT\norders/0     7  node api.js\nweb/10    1024  -\n"
        );
    }

    #[test]
    fn colour_does_not_disturb_the_alignment() {
        let coloured = table().render(Style { colour: true }, None);
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        plain.push_str(rest);
        assert_eq!(plain, table().render(PLAIN, None));
        assert!(coloured.contains("\x1b[32morders/0\x1b[0m"));
    }

    #[test]
    fn the_last_column_gives_way() {
        let text = table().render(PLAIN, Some(26));
        assert_eq!(text.lines().nth(1), Some("orders/0     7  node api.…"));
        assert!(text.lines().all(|line| columns(line) <= 26));
    }
}
