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

#[cfg(test)]
mod tests {
    use crate::{FlowQuery, LogQuery};

    #[test]
    fn broken_queries_are_told_about() {
        let right = [
            "service=web&replica=1&follow=true&tail=10&from=web.0:12",
            "from=exec&to=web&verdict=refused&follow",
            "service=w%65b&tail=%31&since=5",
        ];
        let mut read = 0;
        sinew_fuzz::each_text(&right, |query| {
            match LogQuery::parse(query) {
                Ok(parsed) => {
                    read += 1;
                    assert_eq!(LogQuery::parse(&parsed.to_query()).unwrap(), parsed);
                }
                Err(error) => assert!(error.field.is_some() && error.remedy.is_some(), "{error:?}"),
            }
            match FlowQuery::parse(query) {
                Ok(parsed) => {
                    read += 1;
                    assert_eq!(FlowQuery::parse(&parsed.to_query()).unwrap(), parsed);
                }
                Err(error) => assert!(error.field.is_some() && error.remedy.is_some(), "{error:?}"),
            }
        });
        assert!(read > 10, "some are whole: {read}");
    }
}
