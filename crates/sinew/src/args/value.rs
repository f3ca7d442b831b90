//! Values with a form of their own: ports, scales, endpoints, times.

use std::{fmt, str::FromStr, time::Duration};

use sinew_api::AdoptTarget;
use sinew_model::{MAX_REPLICAS, Port, PortName, ServiceName};

/// `8080`, `53/udp`, `8080:http`, `53/udp:dns`; the file's `http:8080` too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSpec(pub(crate) Port);

impl FromStr for PortSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse() {
            return Ok(Self(port));
        }
        let (port, name) = match text.split_once(':') {
            Some((port, name)) => (port, Some(name)),
            None => (text, None),
        };
        let mut port: Port = port.parse().map_err(|_| {
            format!("{port:?} is no port: give 1 to 65535, as 8080, 53/udp or 8080:http")
        })?;
        if let Some(name) = name {
            port.name = PortName::new(name).map_err(|error| error.to_string())?;
        }
        Ok(Self(port))
    }
}

/// Writes what [`FromStr`] reads.
impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.0.number, self.0.protocol, self.0.name)
    }
}

/// Where control listens, with its port.
pub(crate) fn control(text: &str) -> Result<String, String> {
    sinew_agent::control_address(text)
        .ok_or_else(|| "give a host, as control-1 or 192.0.2.7:7443".to_owned())
}

/// `disk=ssd`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    const LONGEST: usize = 255;
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key.len() <= LONGEST && value.len() <= LONGEST => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!("give KEY=VALUE of up to {LONGEST} bytes each, as disk=ssd")),
    }
}

/// `orders=3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScaleTo {
    pub(crate) service: ServiceName,
    pub(crate) replicas: u16,
}

impl FromStr for ScaleTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, replicas) =
            text.split_once('=').ok_or("give NAME=N, as orders=3".to_owned())?;
        let replicas = match replicas.parse() {
            Ok(replicas) if replicas <= MAX_REPLICAS => replicas,
            _ => {
                return Err(format!(
                    "{replicas:?} is no number of replicas: use 0 to {MAX_REPLICAS}"
                ));
            }
        };
        let service = ServiceName::new(service).map_err(|error| error.to_string())?;
        Ok(Self { service, replicas })
    }
}

/// `orders/2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) service: ServiceName,
    pub(crate) replica: u32,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, replica) =
            text.split_once('/').ok_or("give SERVICE/REPLICA, as orders/2".to_owned())?;
        let replica =
            replica.parse().map_err(|_| format!("{replica:?} is no number of a replica"))?;
        let service = ServiceName::new(service).map_err(|error| error.to_string())?;
        Ok(Self { service, replica })
    }
}

/// `orders`, all replicas of it, or `orders/2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) service: ServiceName,
    pub(crate) replica: Option<u32>,
}

impl Source {
    /// Whether that replica is meant.
    pub(crate) fn covers(&self, service: &ServiceName, replica: u32) -> bool {
        self.service == *service && self.replica.is_none_or(|own| own == replica)
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            let Endpoint { service, replica } = text.parse()?;
            return Ok(Self { service, replica: Some(replica) });
        }
        let service = ServiceName::new(text).map_err(|error| error.to_string())?;
        Ok(Self { service, replica: None })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replica {
            Some(replica) => write!(f, "{}/{replica}", self.service),
            None => write!(f, "{}", self.service),
        }
    }
}

/// What `sinew adopt` takes: a number is a process, a path a cgroup, all else a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Adoptable(pub(crate) AdoptTarget);

impl FromStr for Adoptable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            if !text.starts_with('/') {
                return Err(format!("{text:?} is no cgroup: begin its path with a slash"));
            }
            return Ok(Self(AdoptTarget::Cgroup(text.into())));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(pid) if pid > 0 => Ok(Self(AdoptTarget::Pid(pid))),
                _ => Err(format!("{text:?} is no process: give its number")),
            };
        }
        if text.starts_with('-') || text.contains(char::is_whitespace) {
            return Err(format!("{text:?} is no unit: give its name, as nginx.service"));
        }
        Ok(Self(AdoptTarget::Unit(text.to_owned())))
    }
}

/// `orders`, `orders:8080` or `orders:http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Callee {
    pub(crate) service: ServiceName,
    pub(crate) port: Option<String>,
}

impl FromStr for Callee {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, port) = match text.split_once(':') {
            Some((service, port)) => (service, Some(port)),
            None => (text, None),
        };
        let is_port = |port: &str| match port.parse::<u64>() {
            Ok(number) => (1..=65_535).contains(&number),
            Err(_) => PortName::new(port).is_ok(),
        };
        if let Some(port) = port.filter(|port| !is_port(port)) {
            return Err(format!("{port:?} is no port: give its number or its name"));
        }
        let service = ServiceName::new(service).map_err(|error| error.to_string())?;
        Ok(Self { service, port: port.map(str::to_owned) })
    }
}

/// `orders`, or `exec`: a caller of no service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Service(ServiceName),
    Exec,
}

impl FromStr for Caller {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "exec" => Ok(Self::Exec),
            _ => ServiceName::new(text).map(Self::Service).map_err(|error| error.to_string()),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => name.fmt(f),
            Self::Exec => f.write_str("exec"),
        }
    }
}

/// A [`Caller`], or one instance of it, as `orders/2`.
pub(crate) fn caller(text: &str) -> Result<String, String> {
    let (name, replica) = match text.split_once('/') {
        Some((name, replica)) => (name, Some(replica)),
        None => (text, None),
    };
    name.parse::<Caller>()?;
    match replica.map(str::parse::<u32>) {
        Some(Err(_)) => Err(format!("{text:?} is no workload: give SERVICE/REPLICA, as orders/2")),
        _ => Ok(text.to_owned()),
    }
}

/// As `removal_cap_percent=20`.
pub(crate) fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("write a name, = and a number")?;
    let value = value.parse().map_err(|_| format!("{value:?} is no whole number"))?;
    Ok((name.to_owned(), value))
}

/// Seconds, with a fraction or without.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("{text:?} is no time in seconds"))
}

/// A number of seconds, minutes, hours or days.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
    seconds
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is no time: write it as 30s, 10m, 1h or 7d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("30s", 30), ("10m", 600), ("1h", 3600), ("7d", 604_800), ("5", 5)]
        {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(["", "h", "0s", "1w", "1.5h", "-1h"].iter().all(|text| time(text).is_err()));
    }

    #[test]
    fn callers_and_callees() {
        for text in ["orders", "orders/2", "exec", "exec/0"] {
            assert_eq!(caller(text).as_deref(), Ok(text));
        }
        assert!(["", "a b", "web/x", "web&to=x"].iter().all(|text| caller(text).is_err()));
        let callee = |text: &str| text.parse::<Callee>();
        assert_eq!(callee("web:http").unwrap().port.as_deref(), Some("http"));
        assert_eq!(callee("web").unwrap().port, None);
        assert!(["web:0", "web:a b", ":80"].iter().all(|text| callee(text).is_err()));
    }

    #[test]
    fn ports() {
        for (text, written) in [
            ("8080", "8080/tcp:tcp-8080"),
            ("80", "80/tcp:http"),
            ("53/udp", "53/udp:udp-53"),
            ("53/tcp", "53/tcp:tcp-53"),
            ("53/udp:dns", "53/udp:dns"),
            ("8080:web", "8080/tcp:web"),
            ("web:8080", "8080/tcp:web"),
        ] {
            let port: PortSpec = text.parse().unwrap();
            assert_eq!(port.to_string(), written);
            assert_eq!(written.parse(), Ok(port));
        }
        for (text, part) in [
            ("0", "\"0\" is no port"),
            ("65536", "\"65536\" is no port"),
            ("", "\"\" is no port"),
            ("80/sctp", "\"80/sctp\" is no port"),
            ("80:", "port name \"\" is not a DNS label"),
            ("80:Web", "port name \"Web\" is not a DNS label"),
            ("80/tcp/tcp", "\"80/tcp/tcp\" is no port"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err();
            assert!(error.starts_with(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_can_be_adopted() {
        let target = |text: &str| text.parse::<Adoptable>().map(|adoptable| adoptable.0);
        assert_eq!(target("4711"), Ok(AdoptTarget::Pid(4711)));
        assert_eq!(target("/a/b.service"), Ok(AdoptTarget::Cgroup("/a/b.service".into())));
        for unit in ["nginx", "user@7.service", "7z"] {
            assert_eq!(target(unit), Ok(AdoptTarget::Unit(unit.to_owned())));
        }
        for text in ["", "0", "99999999999", "a/b", "--x", "a b"] {
            assert!(target(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn scales_and_endpoints() {
        let scale: ScaleTo = "orders=3".parse().unwrap();
        assert_eq!((scale.service.as_str(), scale.replicas), ("orders", 3));
        for text in ["orders", "orders=", "orders=1025", "orders=-1", "Orders=1"] {
            assert!(text.parse::<ScaleTo>().is_err(), "{text:?}");
        }
        let endpoint: Endpoint = "orders/2".parse().unwrap();
        assert_eq!((endpoint.service.as_str(), endpoint.replica), ("orders", 2));
        for text in ["orders", "orders/", "orders/x", "/1", "orders/1/2"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(seconds("60"), Ok(Duration::from_secs(60)));
        assert_eq!(seconds("1.5s"), Ok(Duration::from_millis(1500)));
        for text in ["", "-1", "soon", "inf", "nan"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }
}
