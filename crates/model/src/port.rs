//! Ports as people write them: `8080`, `53/udp`, `http:8080`.

use std::{fmt, str::FromStr};

use crate::{Expected, Port, PortName, Protocol, ValueError};

impl Port {
    /// The name of a port that was given none: `http`, `https`, else as `tcp-5432`.
    #[must_use]
    pub fn default_name(number: u16, protocol: Protocol) -> PortName {
        PortName::trusted(match (number, protocol) {
            (80, Protocol::Tcp) => "http".to_owned(),
            (443, Protocol::Tcp) => "https".to_owned(),
            _ => format!("{protocol}-{number}"),
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(ValueError::new(text, Expected::Word(&["tcp", "udp"]))),
        }
    }
}

/// `[NAME:]NUMBER[/PROTOCOL]`
impl FromStr for Port {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::new(text, Expected::Port);
        let (rest, protocol) = match text.split_once('/') {
            Some((rest, protocol)) => (rest, protocol.parse().map_err(|_| error())?),
            None => (text, Protocol::Tcp),
        };
        let (name, number) = match rest.split_once(':') {
            Some((name, number)) => (Some(PortName::new(name).map_err(|_| error())?), number),
            None => (None, rest),
        };
        let number = port_number(number).ok_or_else(error)?;
        let name = name.unwrap_or_else(|| Self::default_name(number, protocol));
        Ok(Self { name, number, protocol })
    }
}

/// Writes what [`FromStr`] reads.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, number, protocol } = self;
        match protocol {
            Protocol::Tcp => write!(f, "{name}:{number}"),
            Protocol::Udp => write!(f, "{name}:{number}/udp"),
        }
    }
}

/// Digits only, 1 to 65535.
pub(crate) fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, number: u16, protocol: Protocol) -> Port {
        Port { name: PortName::new(name).unwrap(), number, protocol }
    }

    #[test]
    fn ports_are_read_and_written() {
        for (text, expected, written) in [
            ("8080", port("tcp-8080", 8080, Protocol::Tcp), "tcp-8080:8080"),
            ("80", port("http", 80, Protocol::Tcp), "http:80"),
            ("443/tcp", port("https", 443, Protocol::Tcp), "https:443"),
            ("53/udp", port("udp-53", 53, Protocol::Udp), "udp-53:53/udp"),
            ("dns:53/udp", port("dns", 53, Protocol::Udp), "dns:53/udp"),
        ] {
            assert_eq!(text.parse::<Port>().unwrap(), expected);
            assert_eq!(expected.to_string(), written);
            assert_eq!(written.parse::<Port>().unwrap(), expected);
        }
    }

    #[test]
    fn what_is_not_a_port_is_refused() {
        for text in ["", "0", "65536", "+80", "-1", "http", "80/sctp", ":80", "HTTP:80", "80:http"]
        {
            assert_eq!(
                text.parse::<Port>().unwrap_err().to_string(),
                format!(
                    "{text:?} is not a port; write 8080, 53/udp, http:8080 or {{name: http, number: 8080}}"
                )
            );
        }
    }
}
