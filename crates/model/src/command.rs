//! From a command as it is written to the program that runs.

use std::fmt;

use crate::Command;

/// First words that the shell itself understands: `exec` would look for a program of that name.
const SHELL_WORDS: &[&str] = &[
    ".", ":", "alias", "bg", "break", "case", "cd", "command", "continue", "declare", "do", "done",
    "elif", "else", "esac", "eval", "exec", "exit", "export", "fg", "fi", "for", "function",
    "getopts", "hash", "if", "in", "jobs", "local", "read", "readonly", "return", "select", "set",
    "shift", "source", "then", "time", "times", "trap", "type", "typeset", "ulimit", "umask",
    "unalias", "unset", "until", "wait", "while",
];

impl Command {
    /// Program and arguments. A shell line that is one simple command replaces its shell (`exec`),
    /// so that signals and exit status are the program's own; any other line runs as it stands.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Argv(argv) => argv.clone(),
            Self::Shell(line) => {
                let line =
                    if is_simple(line) { format!("exec {}", line.trim()) } else { line.clone() };
                vec!["/bin/sh".to_owned(), "-c".to_owned(), line]
            }
        }
    }

    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Shell(line) => line.trim().is_empty(),
            Self::Argv(argv) => argv.first().is_none_or(String::is_empty),
        }
    }
}

/// Whether a line is one command for sure. Quoted operators make it say no too: the answer costs
/// a waiting shell then, never a wrong command.
fn is_simple(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    let is_program = first.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._".contains(c))
        && first.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c))
        && !SHELL_WORDS.contains(&first);
    is_program && !line.trim().contains([';', '&', '|', '(', ')', '`', '\n', '\r'])
}

/// As a line that a shell would take for the same.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(line) => f.write_str(line),
            Self::Argv(argv) => {
                for (index, word) in argv.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " " };
                    write!(f, "{separator}{}", ShellWord(word))?;
                }
                Ok(())
            }
        }
    }
}

struct ShellWord<'a>(&'a str);

impl fmt::Display for ShellWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
        if !self.0.is_empty() && self.0.chars().all(bare) {
            f.write_str(self.0)
        } else {
            write!(f, "'{}'", self.0.replace('\'', "'\\''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> String {
        let argv = Command::Shell(line.to_owned()).argv();
        assert_eq!(argv[..2], ["/bin/sh", "-c"]);
        argv[2].clone()
    }

    #[test]
    fn a_simple_command_replaces_its_shell() {
        for line in [
            "sleep 5",
            "./server --port $PORT",
            "python3 -m http.server 8080",
            "nginx -c \"$PWD/nginx.conf\" > /dev/null",
            "/usr/bin/redis-server --save ''",
        ] {
            assert_eq!(shell(line), format!("exec {line}"));
        }
        assert_eq!(shell("  sleep 5 \n"), "exec sleep 5");
    }

    #[test]
    fn any_other_line_runs_as_it_stands() {
        for line in [
            "cd /srv && ./server",
            "a; b",
            "a | b",
            "a &",
            "MODE=fast ./server",
            "exec ./server",
            "cd /tmp",
            "export A=1",
            "while true\ndo sleep 1\ndone",
            "(a)",
            "{ a\n}",
            "! a",
            "$PROGRAM --flag",
            "\"my program\" x",
            "echo `date`",
            "echo $(date)",
            "[ -e x ]",
            "-x",
            "",
        ] {
            assert_eq!(shell(line), line);
        }
    }

    #[test]
    fn a_list_is_taken_word_by_word() {
        let command = Command::Argv(vec!["a b".into(), "$X".into(), String::new(), "it's".into()]);
        assert_eq!(command.argv(), ["a b", "$X", "", "it's"]);
        assert_eq!(command.to_string(), r"'a b' '$X' '' 'it'\''s'");
    }

    #[test]
    fn emptiness_is_seen() {
        for command in [
            Command::Shell("  ".into()),
            Command::Argv(vec![]),
            Command::Argv(vec![String::new(), "x".into()]),
        ] {
            assert!(command.is_empty(), "{command:?}");
        }
    }
}
