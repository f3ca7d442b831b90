//! Request lines, and what a request as a whole has to be (RFC 9112 section 3).

use super::{Fields, Known, Progress, Version, line_end};
use crate::authority::Authority;
use crate::chars::{target_end, token_end};
use crate::{Limits, Refused, Span};

/// Methods are letters mostly; the longest that is registered has 17.
pub(crate) const METHOD_BYTES: usize = 32;
/// What connections of HTTP/2 begin with; reserved, so that no request does (RFC 9113 section 11.6).
pub(crate) const NO_METHOD: &[u8] = b"PRI";
/// Clients of long ago send an empty line behind a body (RFC 9112 section 2.2).
const EMPTY_LINES: u8 = 1;

/// The method. They are compared with regard to case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are called as the methods are")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token.
    Other,
}

impl Method {
    fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// The form of the target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A path, with or without a query.
    #[default]
    Origin,
    /// A whole URI of `http` or `https`; it names the host.
    Absolute {
        /// Its host and port.
        authority: Span,
        /// Its path and query; empty where it has none, which means `/`, or `*` for OPTIONS.
        path: Span,
    },
    /// Host and port, of CONNECT alone.
    Authority,
    /// `*`, of OPTIONS alone.
    Asterisk,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Before,
    Method,
    Target,
    Version,
    Fields,
}

/// A request's head.
#[derive(Clone, Debug, Default)]
pub struct Request {
    limits: Limits,
    step: Step,
    at: usize,
    start: usize,
    empty_lines: u8,
    method: Method,
    method_at: Span,
    target: Span,
    form: Form,
    version: Version,
    host: Span,
    fields: Fields,
}

impl Request {
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
    /// It is no request that has one meaning only. Nothing more can be read of the connection.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Progress, Refused> {
        if self.step != Step::Fields && !self.read_line(bytes)? {
            return Ok(Progress::More);
        }
        let progress = self.fields.read(bytes, &self.limits)?;
        if let Progress::Done(_) = progress {
            self.check(bytes)?;
        }
        Ok(progress)
    }

    /// Whether the line is whole.
    fn read_line(&mut self, bytes: &[u8]) -> Result<bool, Refused> {
        loop {
            match self.step {
                Step::Before => match bytes.get(self.at) {
                    None => return Ok(false),
                    Some(b'\r') if self.empty_lines < EMPTY_LINES => {
                        let Some(next) = line_end(bytes, self.at, Refused::BareCr)? else {
                            return Ok(false);
                        };
                        self.at = next;
                        self.empty_lines += 1;
                    }
                    Some(_) => (self.start, self.step) = (self.at, Step::Method),
                },
                Step::Method => {
                    self.at = token_end(bytes, self.at);
                    if self.at - self.start > METHOD_BYTES {
                        return Err(Refused::BadMethod);
                    }
                    match bytes.get(self.at) {
                        None => return Ok(false),
                        Some(b' ') if self.at > self.start => self.method_ends(bytes)?,
                        Some(_) => return Err(Refused::BadMethod),
                    }
                }
                Step::Target => {
                    self.at = target_end(bytes, self.at);
                    if self.at - self.start > self.limits.line_bytes {
                        return Err(Refused::TargetTooLong);
                    }
                    match bytes.get(self.at) {
                        None => return Ok(false),
                        Some(b' ') => self.target_ends(bytes)?,
                        Some(_) => return Err(Refused::BadTarget),
                    }
                }
                Step::Version => {
                    let Some(version) = Version::read(bytes.get(self.at..).unwrap_or_default())?
                    else {
                        return Ok(false);
                    };
                    let Some(next) = line_end(bytes, self.at + 8, Refused::BadVersion)? else {
                        return Ok(false);
                    };
                    (self.version, self.step) = (version, Step::Fields);
                    self.fields.restart(next);
                    return Ok(true);
                }
                Step::Fields => return Ok(true),
            }
        }
    }

    fn method_ends(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let name = &bytes[self.start..self.at];
        if name == NO_METHOD {
            return Err(Refused::BadMethod);
        }
        self.method_at = Span::new(self.start, self.at);
        self.method = Method::of(name);
        self.at += 1;
        self.step = Step::Target;
        Ok(())
    }

    fn target_ends(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.target = Span::new(self.method_at.range().end + 1, self.at);
        self.form = form(self.method, self.target, bytes).ok_or(Refused::BadTarget)?;
        self.at += 1;
        self.step = Step::Version;
        Ok(())
    }

    /// What RFC 9112 section 3.2 wants of Host: once, valid, and where the target goes.
    fn check(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut hosts = self.fields.list().iter().filter(|field| field.known == Known::Host);
        let Some(host) = hosts.next() else {
            return if self.version == Version::Http10 { Ok(()) } else { Err(Refused::NoHost) };
        };
        if hosts.next().is_some() {
            return Err(Refused::HostTwice);
        }
        self.host = host.value;
        let named = Authority::parse(self.host.of(bytes)).ok_or(Refused::BadHost)?;
        let target = match self.form {
            Form::Origin | Form::Asterisk => return Ok(()),
            Form::Authority => self.target,
            Form::Absolute { authority, .. } => authority,
        };
        let target = Authority::parse(target.of(bytes)).ok_or(Refused::BadTarget)?;
        // Clients leave out of Host the port that goes with the scheme, and some that of CONNECT.
        let default = match self.form {
            Form::Authority => target.port.unwrap_or_default(),
            _ if self.target.of(bytes)[..5].eq_ignore_ascii_case(b"https") => 443,
            _ => 80,
        };
        if named.is(&target, default) { Ok(()) } else { Err(Refused::HostDiffers) }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Where the method lies.
    #[must_use]
    pub fn method_at(&self) -> Span {
        self.method_at
    }

    /// Where the target lies.
    #[must_use]
    pub fn target(&self) -> Span {
        self.target
    }

    /// Which form the target has.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The host that is asked for, with its port where that is told: of the target where it names
    /// one, else of the field. Empty for HTTP/1.0 without either.
    #[must_use]
    pub fn authority(&self) -> Span {
        match self.form {
            Form::Authority => self.target,
            Form::Absolute { authority, .. } => authority,
            Form::Origin | Form::Asterisk => self.host,
        }
    }

    /// All fields.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }
}

fn form(method: Method, target: Span, bytes: &[u8]) -> Option<Form> {
    let text = target.of(bytes);
    match (method, text.first()?) {
        (Method::Connect, _) => Authority::parse(text)?.port.map(|_| Form::Authority),
        (_, b'/') => Some(Form::Origin),
        (Method::Options, b'*') if text.len() == 1 => Some(Form::Asterisk),
        _ => absolute(target, text),
    }
}

/// `http://host:port/path?query`. Other schemes have another meaning for whoever passes them on.
fn absolute(target: Span, text: &[u8]) -> Option<Form> {
    let start = ["http://", "https://"].into_iter().find_map(|scheme| {
        let begins = text.get(..scheme.len())?;
        begins.eq_ignore_ascii_case(scheme.as_bytes()).then_some(scheme.len())
    })?;
    let rest = &text[start..];
    let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Authority::parse(&rest[..len])?;
    let (at, end) = (target.range().start + start, target.range().end);
    Some(Form::Absolute { authority: Span::new(at, at + len), path: Span::new(at + len, end) })
}
