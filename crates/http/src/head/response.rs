//! Status lines (RFC 9112 section 4).

use super::{Fields, Progress, Version, line_end};
use crate::chars::value_end;
use crate::{Limits, Refused, Span};

/// `HTTP/1.1 200`
const STATUS_END: usize = 12;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Status,
    Reason,
    Fields,
}

/// A response's head.
#[derive(Clone, Debug, Default)]
pub struct Response {
    limits: Limits,
    step: Step,
    at: usize,
    version: Version,
    status: u16,
    reason: Span,
    fields: Fields,
}

impl Response {
    /// To read heads within these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Forgets the last head: the next one begins where the next buffer does.
    pub fn restart(&mut self) {
        let fields = std::mem::take(&mut self.fields);
        *self = Self { limits: self.limits, fields, ..Self::default() };
        self.fields.restart(0);
    }

    /// Reads on. `bytes` begin where the head does, and are what they were at the last call with
    /// more behind.
    ///
    /// # Errors
    /// It is no response that has one meaning only. Nothing more can be read of the connection.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Progress, Refused> {
        if self.step == Step::Status && !self.read_status(bytes)? {
            return Ok(Progress::More);
        }
        if self.step == Step::Reason && !self.read_reason(bytes)? {
            return Ok(Progress::More);
        }
        self.fields.read(bytes, &self.limits)
    }

    fn read_status(&mut self, bytes: &[u8]) -> Result<bool, Refused> {
        let Some(version) = Version::read(bytes)? else { return Ok(false) };
        let Some(&[space, a, b, c]) = bytes.get(8..STATUS_END).and_then(|rest| rest.first_chunk())
        else {
            return Ok(false);
        };
        let digits = [a, b, c];
        if space != b' ' || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Refused::BadStatus);
        }
        let status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        if !(100..600).contains(&status) {
            return Err(Refused::BadStatus);
        }
        (self.version, self.status) = (version, status);
        (self.at, self.step) = (STATUS_END, Step::Reason);
        Ok(true)
    }

    /// The space before the reason has to be there even without a reason, but many servers leave
    /// it out, and it has no other meaning.
    fn read_reason(&mut self, bytes: &[u8]) -> Result<bool, Refused> {
        if bytes.get(STATUS_END).is_some_and(|byte| !matches!(byte, b' ' | b'\r' | b'\n')) {
            return Err(Refused::BadStatus);
        }
        self.at = value_end(bytes, self.at);
        if self.at > self.limits.line_bytes {
            return Err(Refused::LineTooLong);
        }
        let Some(next) = line_end(bytes, self.at, Refused::Control)? else { return Ok(false) };
        self.reason = Span::new(self.at.min(STATUS_END + 1), self.at);
        self.step = Step::Fields;
        self.fields.restart(next);
        Ok(true)
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The status: 100 to 599.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Where the reason lies; most often it tells nothing that the status does not.
    #[must_use]
    pub fn reason(&self) -> Span {
        self.reason
    }

    /// All fields.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }
}
