//! The members, and which of them is asked.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{super::Error, Options, Tls};

/// Members refuse pings that come more often than every 5 s.
const PING: Duration = Duration::from_secs(6);

pub(super) struct Members {
    all: Vec<Member>,
    current: AtomicUsize,
}

pub(super) struct Member {
    pub(super) name: String,
    /// Connects when it is used, also anew.
    pub(super) channel: Channel,
}

impl Members {
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let tls = options.tls.as_ref().map(tls).transpose()?;
        let member = |name: &String| {
            let endpoint = endpoint(name, options, tls.as_ref())?;
            Ok(Member { name: name.clone(), channel: endpoint.connect_lazy() })
        };
        let all = options.endpoints.iter().map(member).collect::<Result<Vec<_>, Error>>()?;
        if all.is_empty() {
            return Err(wrong("", "there has to be one"));
        }
        Ok(Self { all, current: AtomicUsize::new(0) })
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// The member to ask.
    pub(super) fn current(&self) -> (usize, &Member) {
        let current = self.current.load(Ordering::Relaxed);
        (current, self.get(current))
    }

    pub(super) fn get(&self, index: usize) -> &Member {
        &self.all[index]
    }

    /// Has the next one asked, unless somebody has left that member already.
    pub(super) fn leave(&self, member: usize) {
        let next = (member + 1) % self.all.len();
        let left =
            self.current.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
        if left.is_ok() && self.all.len() > 1 {
            let (from, to) = (&self.all[member].name, &self.all[next].name);
            tracing::info!(from, to, "asking another member of etcd");
        }
    }
}

fn wrong(value: &str, why: &str) -> Error {
    Error::Option { option: "endpoints", value: format!("\"{value}\""), why: why.to_owned() }
}

fn endpoint(
    name: &str,
    options: &Options,
    tls: Option<&ClientTlsConfig>,
) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(name.to_owned());
    let endpoint = endpoint.map_err(|error| wrong(name, &error.to_string()))?;
    let secure = match endpoint.uri().scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong(name, "it has to begin with http:// or https://")),
    };
    let endpoint = match (secure, tls) {
        (true, None) => return Err(wrong(name, "https needs the CA's certificate")),
        (false, Some(_)) => return Err(wrong(name, "with certificates it has to be https")),
        (false, None) => endpoint,
        (true, Some(tls)) => endpoint.tls_config(tls.clone()).map_err(|error| Error::Option {
            option: "tls",
            value: "of the endpoints".to_owned(),
            why: causes(&error),
        })?,
    };
    Ok(endpoint
        .connect_timeout(options.attempt)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(options.attempt)
        .keep_alive_while_idle(true))
}

fn tls(tls: &Tls) -> Result<ClientTlsConfig, Error> {
    pem("ca_pem", &tls.ca_pem, "CERTIFICATE")?;
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
    if let Some((certificate, key)) = &tls.identity {
        pem("identity's certificate", certificate, "CERTIFICATE")?;
        pem("identity's key", key, "PRIVATE KEY")?;
        config = config.identity(Identity::from_pem(certificate, key));
    }
    Ok(match &tls.server_name {
        Some(name) => config.domain_name(name),
        None => config,
    })
}

/// An empty list of trusted certificates would show as members that cannot be trusted.
fn pem(value: &str, text: &[u8], what: &str) -> Result<(), Error> {
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.contains(what);
    if String::from_utf8_lossy(text).lines().any(begins) {
        return Ok(());
    }
    let why = format!("it has no {what} in PEM");
    Err(Error::Option { option: "tls", value: value.to_owned(), why })
}

fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
