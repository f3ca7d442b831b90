//! A connection to an upstream: requests are written, responses read.

use super::options::Options;
use crate::Refused;
use crate::framing::{Asked, Framing, of_response};
use crate::head::Response;

/// Interim responses before a final one. Two are usual: 100 and 103.
const INTERIM_MOST: u8 = 16;

/// How far a request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sending {
    /// There is none.
    #[default]
    Idle,
    /// Its body is held back until a 100 comes, or the caller has waited long enough.
    HeldBack,
    /// Its body is to be written.
    Body,
    /// It is written.
    Done,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Receiving {
    #[default]
    Idle,
    Head,
    Body(Framing),
    Tunnel,
    Broken,
}

/// A head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Another one follows.
    Interim,
    /// The answer, with what its Connection says.
    Final(Framing, Options),
}

/// What the end of a connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Nothing was under way.
    Idle,
    /// Nothing of a response has come. A server may close a connection just when a request is on
    /// its way: one that may be sent twice can be tried again elsewhere (RFC 9112 section 9.3.1).
    Unanswered,
    /// It ends the response's body.
    Whole,
    /// A tunnel's end.
    Tunnel,
}

/// The state of a connection to an upstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    sending: Sending,
    receiving: Receiving,
    asked: Asked,
    persists: bool,
    interim: u8,
}

impl Client {
    /// For a connection that was just made.
    #[must_use]
    pub fn new() -> Self {
        Self { persists: true, ..Self::default() }
    }

    /// How far the request is written.
    #[must_use]
    pub fn sending(&self) -> Sending {
        self.sending
    }

    /// Whether bytes that come are a response's. Others are [`Refused::Unasked`]: they could be
    /// taken for the answer to the next request.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        matches!(self.receiving, Receiving::Head | Receiving::Body(_) | Receiving::Tunnel)
    }

    /// Whether it may be given the next request.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.persists && self.sending == Sending::Idle && self.receiving == Receiving::Idle
    }

    /// The head of a request is about to be written.
    ///
    /// # Errors
    /// Another one is under way, or the connection is of no further use.
    pub fn send(&mut self, asked: Asked, body: Framing, hold_back: bool) -> Result<(), Refused> {
        if !self.is_reusable() {
            return Err(Refused::OutOfTurn);
        }
        self.sending = match body {
            Framing::None | Framing::Length(0) => Sending::Done,
            Framing::UntilClose | Framing::Tunnel => return Err(Refused::OutOfTurn),
            _ if hold_back => Sending::HeldBack,
            _ => Sending::Body,
        };
        (self.receiving, self.asked, self.interim) = (Receiving::Head, asked, 0);
        Ok(())
    }

    /// The body is not held back any longer: the client sends it, or the wait is over.
    pub fn release(&mut self) {
        if self.sending == Sending::HeldBack {
            self.sending = Sending::Body;
        }
    }

    /// The body was written to its end.
    pub fn body_sent(&mut self) {
        if self.sending == Sending::Body {
            self.sending = Sending::Done;
        }
    }

    /// A head was read.
    ///
    /// # Errors
    /// It is no answer to what was asked. The connection is of no further use.
    pub fn response(&mut self, head: &Response, bytes: &[u8]) -> Result<Received, Refused> {
        let received = self.judge(head, bytes);
        if received.is_err() {
            self.broken();
        }
        received
    }

    fn judge(&mut self, head: &Response, bytes: &[u8]) -> Result<Received, Refused> {
        if self.receiving != Receiving::Head {
            return Err(Refused::Unasked);
        }
        let framing = of_response(head, bytes, self.asked)?;
        let options = Options::of(head.fields(), bytes)?;
        if framing == Framing::Tunnel {
            // What is left of the request would be sent into the tunnel.
            if self.sending != Sending::Done {
                return Err(Refused::UnwantedSwitch);
            }
            (self.receiving, self.persists) = (Receiving::Tunnel, false);
            return Ok(Received::Final(framing, options));
        }
        if head.status() < 200 {
            return self.interim(head.status());
        }
        self.persists &= options.persists(head.version()) && framing != Framing::UntilClose;
        self.receiving = Receiving::Body(framing);
        if matches!(framing, Framing::None | Framing::Length(0)) {
            self.body_read();
        }
        Ok(Received::Final(framing, options))
    }

    fn interim(&mut self, status: u16) -> Result<Received, Refused> {
        self.interim += 1;
        if self.interim > INTERIM_MOST {
            return Err(Refused::TooManyInterim);
        }
        if status == 100 {
            self.release();
        }
        Ok(Received::Interim)
    }

    /// The response's body was read to its end. Who answers before the request is whole may not
    /// have read it: the connection is not used again.
    pub fn body_read(&mut self) {
        if matches!(self.receiving, Receiving::Body(_)) {
            self.persists &= self.sending == Sending::Done;
            (self.receiving, self.sending) = (Receiving::Idle, Sending::Idle);
        }
    }

    /// The upstream sends nothing any more. `begun`: bytes of a head were read.
    ///
    /// # Errors
    /// A response was cut short.
    pub fn closed(&mut self, begun: bool) -> Result<Closed, Refused> {
        let was = self.receiving;
        self.broken();
        match was {
            Receiving::Idle => Ok(Closed::Idle),
            Receiving::Head if !begun && self.interim == 0 => Ok(Closed::Unanswered),
            Receiving::Body(Framing::UntilClose) => Ok(Closed::Whole),
            Receiving::Tunnel => Ok(Closed::Tunnel),
            Receiving::Head | Receiving::Body(_) | Receiving::Broken => Err(Refused::CutShort),
        }
    }

    /// It cannot be used any more: what was read of it was refused, or took too long.
    pub fn broken(&mut self) {
        (self.receiving, self.persists) = (Receiving::Broken, false);
    }
}
