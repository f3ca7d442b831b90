//! What can be wrong with what Sinew is told. Every problem says what it is and what to do about
//! it; the field and the place in the file are added by who reports it.

use std::{fmt, path::PathBuf};

use crate::NameError;

pub use self::{
    rule::{Invalid, InvalidProject, MAX_PORTS, Rule},
    value::{Expected, Found, ValueError},
};

mod rule;
mod value;

/// A problem of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file cannot be taken apart.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A key is wrong, whatever its value.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A value is of the wrong kind.
    #[error("{}", .0.what())]
    Value(#[from] ValueError),
    /// A `${…}` cannot be replaced.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// An `env_file` cannot be used.
    #[error(transparent)]
    EnvFile(#[from] EnvFileError),
    /// A name is not one.
    #[error("{} {:?} is not a DNS label", .0.what, .0.value)]
    Name(NameError),
    /// A value breaks a rule that the API enforces too.
    #[error(transparent)]
    Rule(#[from] Rule),
}

impl Problem {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Syntax(error) => error.remedy(),
            Self::Key(error) => error.remedy(),
            Self::Value(error) => error.remedy(),
            Self::Variable(error) => error.remedy(),
            Self::EnvFile(error) => error.remedy(),
            Self::Name(_) => {
                "use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends".to_owned()
            }
            Self::Rule(rule) => rule.remedy(),
        }
    }
}

/// Why a file cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// It is not YAML.
    #[error("not YAML: {0}")]
    Yaml(String),
    /// It holds nothing.
    #[error("the file is empty")]
    Empty,
    /// It is larger than any honest one.
    #[error("the file has {bytes} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that is read.
        limit: usize,
    },
    /// It is nested deeper than any field of Sinew.
    #[error("nested more than {0} levels deep")]
    TooDeep(usize),
    /// Its aliases expand to too much.
    #[error("aliases expand to more than {0} bytes")]
    TooMuch(usize),
    /// A second document follows.
    #[error("a second document begins here")]
    SecondDocument,
    /// A tag, as `!!binary`.
    #[error("tag {0:?} has no meaning here")]
    Tag(String),
    /// A key that is not text.
    #[error("{0} cannot be a key")]
    KeyKind(Found),
    /// `<<` of something else than mappings.
    #[error("only mappings can be merged by `<<`")]
    Merge,
}

impl SyntaxError {
    fn remedy(&self) -> String {
        match self {
            Self::Yaml(_) => "check indentation, quotes and brackets here and just before".into(),
            Self::Empty => "describe at least one service under services:".into(),
            Self::TooLarge { limit, .. } => format!("keep it below {limit} bytes"),
            Self::TooDeep(_) => "no field needs that; look for a stray bracket".into(),
            Self::TooMuch(_) => "write the values out or use fewer aliases".into(),
            Self::SecondDocument => "keep one document a file".into(),
            Self::Tag(_) => "remove it".into(),
            Self::KeyKind(_) => "write a word and a colon".into(),
            Self::Merge => "write << with an alias such as *defaults".into(),
        }
    }
}

/// Why a key is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Sinew does not know it.
    #[error("unknown key")]
    Unknown {
        /// The key that was probably meant.
        suggestion: Option<&'static str>,
        /// The keys that belong here.
        known: &'static [&'static str],
    },
    /// It stands twice in one mapping.
    #[error("given twice, first on line {first_line}")]
    Twice {
        /// Line of the first one.
        first_line: usize,
    },
    /// It must be there and is not.
    #[error("no {key} is given")]
    Missing {
        /// The key.
        key: &'static str,
        /// How it could look.
        example: &'static str,
    },
    /// It excludes another.
    #[error("{key} and {other} are both given")]
    Both {
        /// This key.
        key: &'static str,
        /// The other.
        other: &'static str,
    },
}

impl KeyError {
    fn remedy(&self) -> String {
        match self {
            Self::Unknown { suggestion: Some(word), .. } => format!("did you mean {word:?}?"),
            Self::Unknown { known, .. } => format!("known here: {}", known.join(", ")),
            Self::Twice { .. } => "remove one".into(),
            Self::Missing { example, .. } => format!("add it, such as {example}"),
            Self::Both { .. } => "keep one".into(),
        }
    }
}

/// Why a `${…}` cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// A `$` begins nothing known.
    #[error("{} is not a variable", quoted(.text))]
    Malformed {
        /// From the `$` on.
        text: String,
    },
    /// The variable has no value.
    #[error("variable {name} is not set")]
    Unset {
        /// Its name.
        name: String,
    },
    /// The file says that it must have a value: `${NAME:?why}`.
    #[error("variable {name} is required: {}", quoted(why))]
    Required {
        /// Its name.
        name: String,
        /// The file's words.
        why: String,
    },
}

impl VariableError {
    fn remedy(&self) -> String {
        match self {
            Self::Malformed { .. } => {
                "write ${NAME} or ${NAME:-default}, and $$ for a plain dollar sign".into()
            }
            Self::Unset { name } => format!("set it, or write ${{{name}:-}} for none"),
            Self::Required { .. } => "set it".into(),
        }
    }
}

/// Why an `env_file` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    /// It cannot be read.
    #[error("{} cannot be read: {error}", plain(&path.to_string_lossy()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// A line of it is not `KEY=VALUE`. The line itself is not shown: it may hold a secret.
    #[error("{}:{line} is not KEY=VALUE", plain(&path.to_string_lossy()))]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl EnvFileError {
    fn remedy(&self) -> String {
        match self {
            Self::Unreadable { .. } => {
                "correct the path, which is relative to this file, or its permissions".into()
            }
            Self::Line { .. } => "write KEY=VALUE lines, # comments and empty lines only".into(),
        }
    }
}

/// Text for a message: quoted, escaped, and cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Text as it stands, but for what could garble a terminal.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A word for a message: as it stands, or quoted when that could garble a terminal.
pub(crate) fn plain(text: &str) -> String {
    let harmless = |c: char| !c.is_control() && !c.is_whitespace();
    if !text.is_empty() && text.len() <= 255 && text.chars().all(harmless) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Words for a message: `a, b or c`.
pub(crate) fn alternatives<T: fmt::Display>(words: &[T]) -> String {
    match words {
        [] => String::new(),
        [one] => one.to_string(),
        [init @ .., last] => {
            let init: Vec<_> = init.iter().map(ToString::to_string).collect();
            format!("{} or {last}", init.join(", "))
        }
    }
}
