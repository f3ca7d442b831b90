//! Prints log lines, events and words of Sinew's own as they come: behind names of one width and in
//! a colour a service, or as JSON.

use serde::Serialize;
use sinew_api::{Event, LogLine};
use sinew_model::{Plan, ServiceName};

use crate::{
    context::Context,
    error::Error,
    render::{palette::Palette, style::Tint},
};

/// Who Sinew's own words come from.
const SELF: &str = "sinew";

/// Prints what comes.
pub(super) struct Printer<'a> {
    context: &'a Context,
    palette: Palette,
    width: usize,
}

/// One line of JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Item<'a> {
    Event(&'a Event),
    Log(&'a LogLine),
    Message { text: &'a str },
    Plan(&'a Plan),
}

impl<'a> Printer<'a> {
    /// With names as wide as the longest of `services` with its replicas.
    pub(super) fn new<'s>(
        context: &'a Context,
        services: impl IntoIterator<Item = (&'s ServiceName, u16)> + Clone,
    ) -> Self {
        let name = |(service, replicas): (&ServiceName, u16)| {
            source(service, u32::from(replicas.saturating_sub(1))).len()
        };
        let width = services.clone().into_iter().map(name).max().unwrap_or(0).max(SELF.len());
        let palette = Palette::of(services.into_iter().map(|(service, _)| service));
        Self { context, palette, width }
    }

    /// What a workload wrote.
    pub(super) fn log(&mut self, line: &LogLine) -> Result<(), Error> {
        if self.context.json {
            return self.context.print_json_line(&Item::Log(line));
        }
        let name = source(&line.service, line.replica);
        // A replica more than was known makes the names wider from here on.
        self.width = self.width.max(name.len());
        let tint = self.palette.tint(&line.service);
        let prefix = self.prefix(&name, tint);
        self.context.print_line(&format!("{prefix} {}", line.text))
    }

    /// For programs alone; people get words.
    pub(super) fn event(&self, event: &Event) -> Result<(), Error> {
        if self.context.json { self.context.print_json_line(&Item::Event(event)) } else { Ok(()) }
    }

    /// What is going to change.
    pub(super) fn plan(&self, plan: &Plan) -> Result<(), Error> {
        if self.context.json {
            return self.context.print_json_line(&Item::Plan(plan));
        }
        let text = plan.render(self.context.style.colour);
        text.lines().try_for_each(|line| self.own_line(line))
    }

    /// Words of Sinew's own.
    pub(super) fn say(&self, tint: Tint, text: &str) -> Result<(), Error> {
        if self.context.json {
            return self.context.print_json_line(&Item::Message { text });
        }
        self.own_line(&self.context.style.paint(tint, text))
    }

    /// As [`Printer::say`], about something that a program learns from events.
    pub(super) fn tell(&self, tint: Tint, text: &str) -> Result<(), Error> {
        if self.context.json { Ok(()) } else { self.say(tint, text) }
    }

    fn own_line(&self, painted: &str) -> Result<(), Error> {
        self.context.print_line(&format!("{} {painted}", self.prefix(SELF, Tint::Bold)))
    }

    fn prefix(&self, name: &str, tint: Tint) -> String {
        self.context.style.paint(tint, &format!("{name:width$} |", width = self.width))
    }
}

/// `orders/2`.
pub(super) fn source(service: &ServiceName, replica: u32) -> String {
    format!("{service}/{replica}")
}
