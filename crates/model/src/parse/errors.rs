//! What is wrong with a file, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{Problem, field::Field};

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Default for Position {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where.
    pub position: Position,
    /// What.
    pub problem: Problem,
    pub(super) path: Field,
}

impl ParseError {
    pub(super) fn new(position: Position, path: &Field, problem: Problem) -> Self {
        Self { position, path: path.clone(), problem }
    }

    /// Path of the field, as `services.api.replicas`; empty for the file as a whole.
    #[must_use]
    pub fn field(&self) -> String {
        self.path.to_string()
    }
}

/// The field, the problem and the remedy.
impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path != Field::root() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.problem, self.problem.remedy())
    }
}

impl std::error::Error for ParseError {}

/// Everything that is wrong with a file; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseErrors {
    /// The file.
    pub file: PathBuf,
    /// The errors, in the order of their places.
    pub errors: Vec<ParseError>,
}

impl ParseErrors {
    pub(super) fn new(file: &Path, mut errors: Vec<ParseError>) -> Self {
        errors.sort_by_key(|error| error.position);
        Self { file: file.to_owned(), errors }
    }
}

/// A line an error: `sinew.yaml:12:5: services.api.replica: unknown key; did you mean "replicas"?`
impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let Position { line, column } = error.position;
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}:{column}: {error}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseErrors {}
