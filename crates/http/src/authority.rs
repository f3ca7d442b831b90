//! Host and port as Host, CONNECT and absolute targets name them (RFC 3986 section 3.2).

use std::net::Ipv6Addr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    pub(crate) host: &'a [u8],
    pub(crate) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Without user information, which has no place in a request (RFC 9110 section 4.2.4).
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = if bytes.first() == Some(&b'[') {
            bytes.iter().position(|byte| *byte == b']')? + 1
        } else {
            bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len())
        };
        let (host, rest) = bytes.split_at(end);
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        is_host(host).then_some(Self { host, port })
    }

    /// The same place, where a port that is not told is `default`.
    pub(crate) fn is(&self, other: &Self, default: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    u16::try_from(number).ok()
}

/// Escapes with `%` could stand in a name, but one hop undoes them and the next compares them as
/// they are. No name of a host needs any.
fn is_host(host: &[u8]) -> bool {
    if let [b'[', address @ .., b']'] = host {
        return std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    }
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte);
    !host.is_empty() && host.iter().all(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for right in ["a", "orders", "a.b:80", "127.0.0.1:65535", "[::1]", "[::1]:8080"] {
            assert!(Authority::parse(right.as_bytes()).is_some(), "{right}");
        }
        for wrong in [
            "", ":80", "a:", "a:b", "a:65536", "a:+1", "[::1", "[a]", "::1", "u@a", "a/b", "a b",
            "a%41", "a,b:1:2", "[::1]x", "a\0", "ä",
        ] {
            assert_eq!(Authority::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
