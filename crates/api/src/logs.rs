//! What `GET /v1/logs` is asked for. Client and agent share this codec, so that a follower that
//! lost its agent goes on behind the last line it saw: none twice, none missing.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sinew_model::ServiceName;

use crate::{
    ErrorBody,
    query::{flag, invalid, pairs},
};

/// A place in the log of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Service.
    pub service: ServiceName,
    /// Number in it.
    pub replica: u32,
    /// Bytes before this place, as [`LogLine::offset`](crate::LogLine::offset) counts them.
    pub offset: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.service, self.replica, self.offset)
    }
}

/// Which lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of these services; empty: of all, of those that come later too.
    pub services: Vec<ServiceName>,
    /// Go on with lines as they are written, of replicas that start later too (from their first line).
    pub follow: bool,
    /// At most so many lines of each replica before following; `None`: all of them.
    pub tail: Option<u32>,
    /// Replicas named here start behind that place, and `tail` is not for them.
    pub from: Vec<LogPosition>,
}

impl LogQuery {
    /// The query string, without `?`.
    pub fn to_query(&self) -> String {
        let mut query = format!("follow={}", self.follow);
        // Writing to a `String` does not fail.
        if !self.services.is_empty() {
            let _ = write!(query, "&service={}", join(&self.services));
        }
        if let Some(tail) = self.tail {
            let _ = write!(query, "&tail={tail}");
        }
        if !self.from.is_empty() {
            let _ = write!(query, "&from={}", join(&self.from));
        }
        query
    }

    /// Reads a query string, percent-encoded or not. `service` and `from` take lists with commas
    /// and may be repeated.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] with the parameter at fault.
    pub fn parse(query: &str) -> Result<Self, ErrorBody> {
        let mut wanted = Self::default();
        for pair in pairs(query) {
            let (key, value) = pair?;
            wanted.set(key, &value)?;
        }
        Ok(wanted)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), ErrorBody> {
        let items = || value.split(',').filter(|item| !item.is_empty());
        match key {
            "service" => {
                for item in items() {
                    let name = ServiceName::new(item).map_err(|error| {
                        invalid(
                            key,
                            item,
                            &error.to_string(),
                            "name a service of `GET /v1/services`",
                        )
                    })?;
                    self.services.push(name);
                }
            }
            "from" => {
                for item in items() {
                    let position = parse_position(item).ok_or_else(|| {
                        invalid(
                            key,
                            item,
                            "is not SERVICE/REPLICA@OFFSET",
                            "give one, as `orders/2@1024`",
                        )
                    })?;
                    self.from.push(position);
                }
            }
            "follow" => self.follow = flag(key, value)?,
            "tail" if value.is_empty() => self.tail = None,
            "tail" => {
                let lines = value.parse().map_err(|_| {
                    invalid(key, value, "is not a number of lines", "give 0 to 4294967295")
                })?;
                self.tail = Some(lines);
            }
            _ => {
                let remedy = "use service, follow, tail and from";
                return Err(invalid(key, value, "is no parameter of this call", remedy));
            }
        }
        Ok(())
    }
}

fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn parse_position(text: &str) -> Option<LogPosition> {
    let (workload, offset) = text.split_once('@')?;
    let (service, replica) = workload.split_once('/')?;
    Some(LogPosition {
        service: ServiceName::new(service).ok()?,
        replica: replica.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    #[test]
    fn a_query_survives_the_way() {
        let query = LogQuery {
            services: vec![name("orders"), name("web")],
            follow: true,
            tail: Some(7),
            from: vec![LogPosition { service: name("orders"), replica: 2, offset: 1 << 40 }],
        };
        assert_eq!(LogQuery::parse(&query.to_query()).unwrap(), query);
        assert_eq!(LogQuery::parse(&LogQuery::default().to_query()).unwrap(), LogQuery::default());
    }

    #[test]
    fn lists_may_be_encoded_or_repeated() {
        let query = LogQuery::parse("service=a%2Cb&service=c&follow&from=a%2F0%405").unwrap();
        assert_eq!(query.services, [name("a"), name("b"), name("c")]);
        assert!(query.follow);
        assert_eq!(query.from[0].to_string(), "a/0@5");
    }

    #[test]
    fn faults_name_the_parameter_and_the_value() {
        for (query, message) in [
            ("tail=x", "tail: \"x\" is not a number of lines"),
            ("follow=maybe", "follow: \"maybe\" is not true or false"),
            ("from=a@1", "from: \"a@1\" is not SERVICE/REPLICA@OFFSET"),
            ("colour=1", "colour: \"1\" is no parameter of this call"),
            ("service=%zz", "service: \"%zz\" is not valid percent-encoding"),
        ] {
            let error = LogQuery::parse(query).unwrap_err();
            assert_eq!(error.message, message);
            assert_eq!(error.code, ErrorCode::Invalid);
        }
    }
}
