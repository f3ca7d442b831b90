//! What all readers share: the outside world as functions, and the errors found so far.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{ParseError, Position, interpolate::interpolate, tree::Node};
use crate::{Expected, Problem, ValueError, field::Field};

pub(super) struct Context<'a> {
    directory: &'a Path,
    env_files: &'a mut dyn FnMut(&Path) -> io::Result<String>,
    variables: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<ParseError>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        directory: &'a Path,
        env_files: &'a mut dyn FnMut(&Path) -> io::Result<String>,
        variables: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self { directory, env_files, variables, errors: Vec::new() }
    }

    pub(super) fn into_errors(self) -> Vec<ParseError> {
        self.errors
    }

    pub(super) fn directory(&self) -> &'a Path {
        self.directory
    }

    /// A path of the file, seen from its directory; `./` parts say nothing and go.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path).components().collect()
    }

    pub(super) fn read(&mut self, path: &Path) -> io::Result<String> {
        (self.env_files)(path)
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name)
    }

    pub(super) fn interpolated(
        &mut self,
        at: Position,
        field: &Field,
        text: &str,
    ) -> Option<String> {
        match interpolate(text, self.variables) {
            Ok(text) => Some(text),
            Err(error) => self.error(at, field, error),
        }
    }

    /// Notes an error; `None` is what the reader then has.
    pub(super) fn error<T>(
        &mut self,
        at: Position,
        field: &Field,
        problem: impl Into<Problem>,
    ) -> Option<T> {
        self.errors.push(ParseError::new(at, field, problem.into()));
        None
    }

    /// Notes that `node` is of the wrong kind.
    pub(super) fn wrong<T>(&mut self, node: &Node, field: &Field, expected: Expected) -> Option<T> {
        let error = ValueError { found: node.found(), expected, suggestion: None };
        self.error(node.at, field, error)
    }

    /// The value, or a note of why there is none.
    pub(super) fn take<T, E: Into<Problem>>(
        &mut self,
        at: Position,
        field: &Field,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => self.error(at, field, error),
        }
    }
}
