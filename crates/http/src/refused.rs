//! Why a message is not taken: one reason, one code, one answer.

use std::fmt;

/// What is wrong with a message. None of it gets better by waiting or trying again: the connection
/// that brought it is of no further use, since nobody can tell where its next message begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`told` says each of them in words")]
pub enum Refused {
    BareCr,
    BareLf,
    Control,
    BadMethod,
    BadTarget,
    BadVersion,
    UnsupportedVersion,
    BadStatus,
    LineTooLong,
    TargetTooLong,
    BadFieldName,
    SpaceBeforeColon,
    Folded,
    FieldTooLong,
    TooManyFields,
    HeadTooLarge,
    NoHost,
    HostTwice,
    BadHost,
    HostDiffers,
    LengthAndCoding,
    LengthTwice,
    BadLength,
    LengthTooGreat,
    CodingBefore11,
    BadCoding,
    UnknownCoding,
    UnwantedBody,
    BadChunkSize,
    BadChunkEnd,
    ExtensionTooLong,
    BadConnection,
    BadExpect,
    UnwantedSwitch,
    TooManyInterim,
    Unasked,
    CutShort,
    OutOfTurn,
}

impl Refused {
    /// Code, status of the answer where it was a request, and words.
    const fn told(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BareCr => ("bare-cr", 400, "a carriage return without a line feed"),
            Self::BareLf => ("bare-lf", 400, "a line feed without a carriage return"),
            Self::Control => ("control", 400, "a control character"),
            Self::BadMethod => {
                ("bad-method", 400, "the method is no token, or is PRI, which is no request's")
            }
            Self::BadTarget => (
                "bad-target",
                400,
                "the request target has none of the four forms, or not the one of its method",
            ),
            Self::BadVersion => ("bad-version", 400, "the version is not written as HTTP/1.1 is"),
            Self::UnsupportedVersion => {
                ("unsupported-version", 505, "the version is neither HTTP/1.0 nor HTTP/1.1")
            }
            Self::BadStatus => ("bad-status", 400, "the status is not a number of 100 to 599"),
            Self::LineTooLong => ("line-too-long", 400, "the first line is longer than allowed"),
            Self::TargetTooLong => {
                ("target-too-long", 414, "the request line is longer than allowed")
            }
            Self::BadFieldName => ("bad-field-name", 400, "the name of a field is no token"),
            Self::SpaceBeforeColon => {
                ("space-before-colon", 400, "white space between the name of a field and its colon")
            }
            Self::Folded => ("folded", 400, "a line begins with white space"),
            Self::FieldTooLong => ("field-too-long", 431, "a field is longer than allowed"),
            Self::TooManyFields => ("too-many-fields", 431, "more fields than allowed"),
            Self::HeadTooLarge => ("head-too-large", 431, "the head is larger than allowed"),
            Self::NoHost => ("no-host", 400, "no Host"),
            Self::HostTwice => ("host-twice", 400, "more than one Host"),
            Self::BadHost => ("bad-host", 400, "the Host is not a host with or without a port"),
            Self::HostDiffers => ("host-differs", 400, "the Host is another than the target's"),
            Self::LengthAndCoding => {
                ("length-and-coding", 400, "both Content-Length and Transfer-Encoding")
            }
            Self::LengthTwice => ("length-twice", 400, "more than one Content-Length"),
            Self::BadLength => ("bad-length", 400, "the Content-Length is no decimal number"),
            Self::LengthTooGreat => {
                ("length-too-great", 413, "the length is greater than anybody can count")
            }
            Self::CodingBefore11 => {
                ("coding-before-1.1", 400, "a Transfer-Encoding in a message of HTTP/1.0")
            }
            Self::BadCoding => {
                ("bad-coding", 400, "the Transfer-Encoding is not one `chunked`, at its end")
            }
            Self::UnknownCoding => ("unknown-coding", 501, "a transfer coding other than chunked"),
            Self::UnwantedBody => ("unwanted-body", 400, "a body where there can be none"),
            Self::BadChunkSize => {
                ("bad-chunk-size", 400, "the size of a chunk is no hexadecimal number and CR LF")
            }
            Self::BadChunkEnd => ("bad-chunk-end", 400, "a chunk does not end where its size says"),
            Self::ExtensionTooLong => {
                ("extension-too-long", 400, "chunk extensions are longer than allowed")
            }
            Self::BadConnection => (
                "bad-connection",
                400,
                "Connection is no list of tokens, or names what is for all hops",
            ),
            Self::BadExpect => ("bad-expect", 417, "something other than 100-continue is expected"),
            Self::UnwantedSwitch => {
                ("unwanted-switch", 400, "a change of protocol that was not asked for")
            }
            Self::TooManyInterim => {
                ("too-many-interim", 400, "more interim responses than allowed")
            }
            Self::Unasked => ("unasked", 400, "bytes of a response that nobody asked for"),
            Self::CutShort => ("cut-short", 400, "the connection ended within a message"),
            Self::OutOfTurn => ("out-of-turn", 500, "a message where its connection allows none"),
        }
    }

    /// A short name that does not change: for counters, logs and the header that tells it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.told().0
    }

    /// The status to answer a request with. A response that is refused is a 502 (Bad Gateway),
    /// whatever is wrong with it (RFC 9112 section 6.3).
    #[must_use]
    pub const fn status(self) -> u16 {
        self.told().1
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told().2)
    }
}

impl std::error::Error for Refused {}
