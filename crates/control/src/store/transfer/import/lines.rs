//! The export, line by line.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::super::{Error, line::Line};

/// No line of an export is longer: the longest entry, in Base64 or escaped.
const LONGEST_LINE: u64 = 8 << 20;

pub(super) struct Lines<'a> {
    input: &'a mut (dyn AsyncBufRead + Send + Unpin),
    number: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn new(input: &'a mut (dyn AsyncBufRead + Send + Unpin)) -> Self {
        Self { input, number: 0 }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Line>, Error> {
        let mut text = Vec::new();
        let mut limited = (&mut *self.input).take(LONGEST_LINE);
        if limited.read_until(b'\n', &mut text).await? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if text.len() as u64 == LONGEST_LINE {
            return Err(self.wrong(format!("it is longer than {LONGEST_LINE} bytes")));
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| self.wrong(error.to_string()))
    }

    /// What is wrong with the line read last.
    pub(super) fn wrong(&self, why: impl Into<String>) -> Error {
        Error::Line { line: self.number, why: why.into() }
    }
}
