//! Query strings: what the calls with parameters have in common.

use crate::{ErrorBody, ErrorCode};

/// The parameters of a query string, percent-encoded or not, decoded.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = Result<(&str, String), ErrorBody>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent_decode(value).ok_or_else(|| {
            invalid(key, value, "is not valid percent-encoding", "encode it as UTF-8")
        })?;
        Ok((key, decoded))
    })
}

/// A parameter that is on or off; naming it turns it on.
pub(crate) fn flag(key: &str, value: &str) -> Result<bool, ErrorBody> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(invalid(key, value, "is not true or false", "give one of them")),
    }
}

pub(crate) fn invalid(key: &str, value: &str, what: &str, remedy: &str) -> ErrorBody {
    ErrorBody {
        code: ErrorCode::Invalid,
        message: format!("{key}: {value:?} {what}"),
        remedy: Some(remedy.to_owned()),
        field: Some(key.to_owned()),
        retryable: false,
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}
