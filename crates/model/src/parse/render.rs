//! Errors with the lines they are about, for a terminal.

use std::fmt::Write;

use super::{ParseError, ParseErrors};

const ERROR: &str = "\u{1b}[1;31m";
const FRAME: &str = "\u{1b}[1;34m";
const BOLD: &str = "\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";

impl ParseErrors {
    /// Every error with its line of `text`, the file's own, and a caret below the place.
    #[must_use]
    pub fn render(&self, text: &str, colour: bool) -> String {
        let paint = |code| if colour { code } else { "" };
        let lines: Vec<&str> = text.lines().collect();
        let mut out = String::new();
        for error in &self.errors {
            let (line, column) = (error.position.line, error.position.column);
            let _ = writeln!(
                out,
                "{bold}{file}:{line}:{column}: {red}error:{reset} {error}",
                bold = paint(BOLD),
                file = self.file.display(),
                red = paint(ERROR),
                reset = paint(RESET),
            );
            if let Some(source) = lines.get(line.saturating_sub(1)) {
                excerpt(&mut out, error, source, paint);
            }
        }
        out
    }
}

fn excerpt(
    out: &mut String,
    error: &ParseError,
    source: &str,
    paint: impl Fn(&'static str) -> &'static str,
) {
    let (frame, red, reset) = (paint(FRAME), paint(ERROR), paint(RESET));
    let number = error.position.line.to_string();
    let gutter = " ".repeat(number.len());
    // Control characters could garble the terminal; a tab would push the caret aside.
    let shown: String = source.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let indent = " ".repeat(error.position.column.saturating_sub(1));
    let _ = writeln!(out, "{frame}{number} |{reset} {}", shown.trim_end());
    let _ = writeln!(out, "{frame}{gutter} |{reset} {indent}{red}^{reset}");
}
