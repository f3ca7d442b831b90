//! Colour, where somebody sees it.

use std::io::IsTerminal;

use sinew_api::WorkloadState;

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tint {
    Plain,
    Bold,
    Dim,
    Good,
    Busy,
    Bad,
    /// One of the colours of services.
    Service(u8),
}

/// Whether colours are written at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) colour: bool,
}

impl Style {
    /// Colour when `stream` is a terminal, unless the user or NO_COLOR forbids it.
    pub(crate) fn of(stream: &impl IsTerminal, forbidden: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: stream.is_terminal() && !forbidden && !no_color && !dumb }
    }

    /// `text` in the colour of `tint`.
    pub(crate) fn paint(self, tint: Tint, text: &str) -> String {
        let code = match tint {
            _ if !self.colour || text.is_empty() => return text.to_owned(),
            Tint::Plain => return text.to_owned(),
            Tint::Bold => "1",
            Tint::Dim => "2",
            Tint::Good => "32",
            Tint::Busy => "33",
            Tint::Bad => "31",
            Tint::Service(index) => return format!("\x1b[38;5;{index}m{text}\x1b[0m"),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The word for a state.
pub(crate) fn state_word(state: WorkloadState) -> &'static str {
    match state {
        WorkloadState::Waiting => "waiting",
        WorkloadState::Starting => "starting",
        WorkloadState::Up => "up",
        WorkloadState::Unhealthy => "unhealthy",
        WorkloadState::Draining => "draining",
        WorkloadState::BackingOff => "backing off",
        WorkloadState::Exited => "exited",
        WorkloadState::Stopped => "stopped",
    }
}

/// The colour of a state.
pub(crate) fn state_tint(state: WorkloadState) -> Tint {
    match state {
        WorkloadState::Up => Tint::Good,
        WorkloadState::Waiting | WorkloadState::Starting | WorkloadState::Draining => Tint::Busy,
        WorkloadState::Unhealthy | WorkloadState::BackingOff | WorkloadState::Exited => Tint::Bad,
        WorkloadState::Stopped => Tint::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_written_only_when_wanted() {
        let plain = Style { colour: false };
        assert_eq!(plain.paint(Tint::Bad, "no"), "no");
        let colour = Style { colour: true };
        assert_eq!(colour.paint(Tint::Bad, "no"), "\x1b[31mno\x1b[0m");
        assert_eq!(colour.paint(Tint::Service(45), "a/0"), "\x1b[38;5;45ma/0\x1b[0m");
        assert_eq!(colour.paint(Tint::Plain, "no"), "no");
        assert_eq!(colour.paint(Tint::Bad, ""), "");
    }
}
