//! A plan as people read it.

use std::fmt::{self, Write};

use super::{Action, Effect, FieldChange, Plan, Step};
use crate::problem::escaped;

const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const RED: &str = "\u{1b}[31m";
const DIM: &str = "\u{1b}[2m";
const BOLD: &str = "\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";

impl Plan {
    /// A line a service, `+` new, `~` changed, `=` kept, `-` removed, with the fields of a change
    /// below it.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        let title = match &self.project {
            Some(name) => format!("project {name}: {}", self.summary()),
            None => self.summary(),
        };
        line(&mut out, BOLD, &title, colour);
        let width =
            self.steps.iter().map(|step| step.service.as_str().len()).max().unwrap_or_default();
        for step in &self.steps {
            render_step(&mut out, step, width, colour);
        }
        out
    }

    /// How many services are in for what: `1 to create, 2 unchanged`.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut counts = [(0, "to create"), (0, "to change"), (0, "to remove"), (0, "unchanged")];
        for step in &self.steps {
            let index = match step.action {
                Action::Create { .. } => 0,
                Action::Change { .. } => 1,
                Action::Remove { .. } => 2,
                Action::Keep => 3,
            };
            counts[index].0 += 1;
        }
        let told: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if told.is_empty() { "nothing to do".to_owned() } else { told.join(", ") }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LiveOnly => f.write_str("live, no restart"),
            Self::Scale { from, to } => write!(f, "scale {from} -> {to}, no restart"),
            Self::RollingRestart => f.write_str("rolling restart"),
        }
    }
}

fn render_step(out: &mut String, step: &Step, width: usize, colour: bool) {
    let (paint, sign, words) = match &step.action {
        Action::Create { replicas } => (GREEN, '+', instances("start", *replicas)),
        Action::Change { effect, .. } => (YELLOW, '~', effect.to_string()),
        Action::Keep => (DIM, '=', String::new()),
        Action::Remove { replicas } => (RED, '-', instances("stop", *replicas)),
    };
    let text = format!("  {sign} {:width$}  {words}", step.service);
    line(out, paint, text.trim_end(), colour);
    if let Action::Change { fields, .. } = &step.action {
        for change in fields {
            line(out, "", &format!("      {}", ShownChange(change)), colour);
        }
    }
}

fn instances(verb: &str, replicas: u16) -> String {
    let plural = if replicas == 1 { "" } else { "s" };
    format!("{verb} {replicas} instance{plural}")
}

fn line(out: &mut String, paint: &str, text: &str, colour: bool) {
    let (paint, reset) = if colour && !paint.is_empty() { (paint, RESET) } else { ("", "") };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{paint}{text}{reset}");
}

struct ShownChange<'a>(&'a FieldChange);

impl fmt::Display for ShownChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FieldChange { field, from, to } = self.0;
        let shown = |value: &Option<String>| match value {
            Some(text) => one_line(text),
            None => "(none)".to_owned(),
        };
        write!(f, "{}: {} -> {}", one_line(field), shown(from), shown(to))
    }
}

fn one_line(text: &str) -> String {
    if text.is_empty() { "\"\"".to_owned() } else { escaped(text) }
}
