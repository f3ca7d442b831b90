//! A client's connection: requests are read, responses written.

use super::options::{Options, expects_continue, upgrade};
use crate::Refused;
use crate::framing::{Asked, Framing, of_request};
use crate::head::{Method, Request, Version};

/// What to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// The head of the next request.
    #[default]
    Head,
    /// The body, and pass it on.
    Body,
    /// The rest of a body that nobody wants any more, within a bound of the caller's.
    Discard,
    /// Nothing: what comes waits for the response.
    Wait,
    /// Bytes for the other side of a tunnel.
    Tunnel,
}

/// What to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writing {
    /// Nothing: no request is there.
    #[default]
    Idle,
    /// A head: interim ones, then the final one.
    Head,
    /// The body.
    Body,
    /// All of the response is written, not all of the request read.
    Done,
    /// Bytes of the other side of a tunnel.
    Tunnel,
    /// Nothing any more: the connection ends.
    Close(Close),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// At once: both sides know that nothing is to come.
    Now,
    /// Shut down for writing, read and drop what still comes for a while, then close: a reset
    /// could take the response back before the client has read it (RFC 9112 section 9.6).
    Linger,
    /// With a reset: a response was cut short, and must not be taken for whole.
    Reset,
}

/// A request that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Where its body ends.
    pub framing: Framing,
    /// How its response will be read.
    pub asked: Asked,
    /// The client waits for a 100 before it sends its body.
    pub expects_continue: bool,
    /// What Connection says.
    pub options: Options,
}

/// How a response is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Of the body, as this client can read it.
    pub framing: Framing,
    /// What its Connection has to say, if anything.
    pub connection: Option<&'static str>,
}

/// The state of a client's connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server {
    reading: Reading,
    writing: Writing,
    version: Version,
    asked: Asked,
    persists: bool,
    /// The client holds its body back.
    held_back: bool,
    draining: bool,
}

impl Server {
    /// For a connection that was just accepted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What to read now.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// What to write now.
    #[must_use]
    pub fn writing(&self) -> Writing {
        self.writing
    }

    /// A head was read.
    ///
    /// # Errors
    /// It is not taken. [`refuse`](Self::refuse) ends the connection.
    pub fn request(&mut self, head: &Request, bytes: &[u8]) -> Result<Begun, Refused> {
        if self.reading != Reading::Head || self.writing != Writing::Idle {
            return Err(Refused::OutOfTurn);
        }
        self.version = head.version();
        let framing = of_request(head, bytes)?;
        let options = Options::of(head.fields(), bytes)?;
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        let expects_continue = expects_continue(head, bytes)? && has_body;
        self.asked = match head.method() {
            Method::Head => Asked::Head,
            Method::Connect => Asked::Connect,
            _ if upgrade(head, options, bytes).is_some() => Asked::Upgrade,
            _ => Asked::Body,
        };
        self.persists = options.persists(self.version) && !self.draining;
        self.held_back = expects_continue;
        self.reading = if has_body { Reading::Body } else { Reading::Wait };
        self.writing = Writing::Head;
        Ok(Begun { framing, asked: self.asked, expects_continue, options })
    }

    /// Whether an interim response of this status may be written now. Clients of HTTP/1.0 get
    /// none (RFC 9110 section 15.2).
    pub fn interim(&mut self, status: u16) -> bool {
        let may = self.writing == Writing::Head && self.version == Version::Http11;
        self.held_back &= !(may && status == 100);
        may
    }

    /// The request's body was read to its end. A client that held it back has not waited.
    pub fn body_read(&mut self) {
        if matches!(self.reading, Reading::Body | Reading::Discard) {
            self.reading = Reading::Wait;
            self.held_back = false;
            self.settle();
        }
    }

    /// A final response is about to be written; its body was found to end so. One to HEAD has none,
    /// whatever its head tells of one.
    ///
    /// # Errors
    /// No response is due, or a tunnel that was not asked for, or before the request's body ended.
    pub fn respond(&mut self, framing: Framing) -> Result<Reply, Refused> {
        if self.writing != Writing::Head {
            return Err(Refused::OutOfTurn);
        }
        let framing = match framing {
            Framing::Tunnel if !self.may_tunnel() => return Err(Refused::OutOfTurn),
            Framing::Tunnel => Framing::Tunnel,
            _ if self.asked == Asked::Head => Framing::None,
            Framing::Chunked | Framing::UntilClose if self.version == Version::Http10 => {
                Framing::UntilClose
            }
            Framing::Chunked | Framing::UntilClose => Framing::Chunked,
            framing => framing,
        };
        // A body that is held back may come all the same, or never: the next request cannot be
        // told from it.
        self.persists &= framing != Framing::UntilClose && !self.held_back && !self.draining;
        let connection = match (self.persists, self.version) {
            _ if framing == Framing::Tunnel => None,
            (false, _) => Some("close"),
            (true, Version::Http10) => Some("keep-alive"),
            (true, Version::Http11) => None,
        };
        match framing {
            Framing::Tunnel => {
                (self.reading, self.writing) = (Reading::Tunnel, Writing::Tunnel);
            }
            Framing::None | Framing::Length(0) => self.written(),
            _ => self.writing = Writing::Body,
        }
        Ok(Reply { framing, connection })
    }

    fn may_tunnel(&self) -> bool {
        self.reading == Reading::Wait && matches!(self.asked, Asked::Connect | Asked::Upgrade)
    }

    /// The response's body was written to its end.
    pub fn body_written(&mut self) {
        if self.writing == Writing::Body {
            self.written();
        }
    }

    fn written(&mut self) {
        self.writing = Writing::Done;
        if self.reading == Reading::Body {
            self.reading = Reading::Discard;
        }
        self.settle();
    }

    /// Both are done, or one of them is and the other is not worth it.
    fn settle(&mut self) {
        match (self.writing, self.reading) {
            (Writing::Done, Reading::Discard) if !self.persists => {
                self.writing = Writing::Close(Close::Linger);
            }
            (Writing::Done, Reading::Wait) if !self.persists => {
                self.writing = Writing::Close(Close::Now);
            }
            (Writing::Done, Reading::Wait) => {
                (self.reading, self.writing) = (Reading::Head, Writing::Idle);
            }
            _ => {}
        }
    }

    /// What was read breaks the protocol, or takes too long. Whether an answer may be written
    /// before the connection ends: then [`respond`](Self::respond) to it, which says `close`.
    pub fn refuse(&mut self) -> bool {
        self.persists = false;
        match self.writing {
            Writing::Idle | Writing::Head => {
                (self.writing, self.reading) = (Writing::Head, Reading::Discard);
                self.asked = Asked::Body;
                self.held_back = false;
                true
            }
            Writing::Body | Writing::Tunnel => {
                self.writing = Writing::Close(Close::Reset);
                false
            }
            Writing::Done => {
                self.writing = Writing::Close(Close::Linger);
                false
            }
            Writing::Close(_) => false,
        }
    }

    /// The client sends nothing any more.
    ///
    /// # Errors
    /// Its request is not whole. `begun`: bytes of a head were read.
    pub fn input_closed(&mut self, begun: bool) -> Result<(), Refused> {
        self.persists = false;
        match self.reading {
            Reading::Head if !begun => self.writing = Writing::Close(Close::Now),
            Reading::Head | Reading::Body => return Err(Refused::CutShort),
            Reading::Discard if self.writing == Writing::Done => {
                self.writing = Writing::Close(Close::Now);
            }
            Reading::Discard | Reading::Wait | Reading::Tunnel => {}
        }
        Ok(())
    }

    /// The response cannot be written to its end, or the tunnel's other side broke.
    pub fn cut_short(&mut self) {
        self.writing = Writing::Close(Close::Reset);
    }

    /// No further request after the one that is under way. The client must not be cut off from a
    /// request that is on its way, so an idle connection is closed as if it had been idle too long.
    pub fn drain(&mut self) {
        self.draining = true;
        self.persists = false;
        if self.writing == Writing::Idle {
            self.writing = Writing::Close(Close::Linger);
        }
    }
}
