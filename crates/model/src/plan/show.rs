//! Values of fields in a few words, spelled as the file spells them.

use std::{fmt::Display, path::PathBuf};

use crate::{
    Balance, Check, Command, Health, Limits, Outlier, Port, Privileges, Publish, Restart,
    ServiceName, Stop, format_cpu, format_duration, format_size,
};

/// `None` for what a file would leave out.
pub(super) trait Show {
    fn show(&self) -> Option<String>;
}

impl Show for u16 {
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Show for Command {
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Show for PathBuf {
    fn show(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

impl Show for Option<String> {
    fn show(&self) -> Option<String> {
        self.clone()
    }
}

impl Show for Vec<Port> {
    fn show(&self) -> Option<String> {
        list(self)
    }
}

impl Show for Vec<Publish> {
    fn show(&self) -> Option<String> {
        list(self)
    }
}

impl Show for Vec<ServiceName> {
    fn show(&self) -> Option<String> {
        list(self)
    }
}

impl Show for Limits {
    fn show(&self) -> Option<String> {
        words([
            self.memory_bytes.map(|bytes| format!("memory {}", format_size(bytes))),
            self.cpu_millis.map(|millis| format!("cpu {}", format_cpu(millis))),
            self.pids.map(|pids| format!("pids {pids}")),
        ])
    }
}

impl Show for Health {
    fn show(&self) -> Option<String> {
        let check = match &self.check {
            Check::None => "none".to_owned(),
            Check::Tcp { port } => format!("tcp {port}"),
            Check::Http { port, path } => format!("http {port}{path}"),
            Check::Exec { command } => format!("exec {command}"),
        };
        Some(format!(
            "{check}, every {}, timeout {}, thresholds {}/{}, start period {}",
            format_duration(self.interval),
            format_duration(self.timeout),
            self.healthy_threshold,
            self.unhealthy_threshold,
            format_duration(self.start_period),
        ))
    }
}

impl Show for Restart {
    fn show(&self) -> Option<String> {
        let word = match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::Never => "never",
        };
        Some(word.to_owned())
    }
}

impl Show for Stop {
    fn show(&self) -> Option<String> {
        Some(format!("{}, grace {}", self.signal, format_duration(self.grace)))
    }
}

impl Show for Balance {
    fn show(&self) -> Option<String> {
        Some(match self {
            Self::LeastLoad => "least-load".to_owned(),
            Self::RoundRobin => "round-robin".to_owned(),
            Self::Random => "random".to_owned(),
            Self::Source { timeout } => format!("source, timeout {}", format_duration(*timeout)),
        })
    }
}

impl Show for Outlier {
    fn show(&self) -> Option<String> {
        Some(format!(
            "after {} failures for {} to {}, at most {} %",
            self.consecutive_failures,
            format_duration(self.base),
            format_duration(self.max),
            self.max_ejected_percent,
        ))
    }
}

impl Show for Privileges {
    fn show(&self) -> Option<String> {
        words([
            list(&self.keep_capabilities).map(|kept| format!("keep {kept}")),
            (!self.no_new_privileges).then(|| "may gain new privileges".to_owned()),
        ])
    }
}

fn list<T: Display>(items: &[T]) -> Option<String> {
    words(items.iter().map(|item| Some(item.to_string())))
}

fn words(words: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let words: Vec<String> = words.into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(", "))
}
