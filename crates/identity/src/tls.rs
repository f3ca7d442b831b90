//! Mutual TLS 1.3 between hosts and control, with certificates that change under it.
//!
//! Sessions are never resumed: a resumed one would not show its certificate again, and so go on past
//! its end. Connections that are open keep what they were made with; new ones use what the
//! [`Holder`] has at that time.

mod holder;
mod verifier;

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName},
    server::NoServerSessionStorage,
    time_provider::TimeProvider,
    version::TLS13,
};

pub use holder::{Credentials, CredentialsError, Holder};
use verifier::{Believes, Verifier};

use crate::{Certificate, Fingerprint, Peer, RoleKind};

/// gRPC is HTTP/2.
const ALPN: &[u8] = b"h2";

/// Why there is no configuration: the build of rustls lacks something.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("this build of sinew cannot speak TLS 1.3: {0}")]
pub struct Unsupported(#[from] rustls::Error);

/// Who may connect to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Hosts and replicas of control, and also who shows no certificate: such a peer may join, and
    /// nothing else. Who shows one that does not hold is refused.
    MayJoin,
    /// Hosts and replicas of control.
    Known,
}

/// For a replica of control. `clock` judges the peers' certificates.
///
/// # Errors
/// Never with the pinned build.
pub fn server(
    holder: &Holder,
    clients: Clients,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, Unsupported> {
    let provider = Arc::new(default_provider());
    let believes = Believes::Roots { holder: holder.clone(), wanted: None };
    let verifier = Arc::new(Verifier::new(believes, clients == Clients::Known, &provider));
    let mut config = ServerConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(holder.clone()));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// For a host, or a replica that connects to another: only replicas of control are talked to.
///
/// # Errors
/// Never with the pinned build.
pub fn client(holder: &Holder, clock: Arc<dyn TimeProvider>) -> Result<ClientConfig, Unsupported> {
    let believes = Believes::Roots { holder: holder.clone(), wanted: Some(RoleKind::Control) };
    let mut config =
        connecting(believes, clock)?.with_client_cert_resolver(Arc::new(holder.clone()));
    finish(&mut config);
    Ok(config)
}

/// For a host that has only a token: whoever shows the root that the token names is believed.
///
/// # Errors
/// Never with the pinned build.
pub fn first_contact(
    root: Fingerprint,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, Unsupported> {
    let mut config = connecting(Believes::Token { root }, clock)?.with_no_client_auth();
    finish(&mut config);
    Ok(config)
}

type Connecting = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

/// The usual verifiers of rustls hold a server to its DNS name. A replica of control is known by the
/// SPIFFE id in its certificate and reached at whatever address people gave, so that is what
/// [`Verifier`] holds it to; signatures and chains are checked as usual.
fn connecting(believes: Believes, clock: Arc<dyn TimeProvider>) -> Result<Connecting, Unsupported> {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(Verifier::new(believes, true, &provider));
    let builder =
        ClientConfig::builder_with_details(provider, clock).with_protocol_versions(&[&TLS13])?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn finish(config: &mut ClientConfig) {
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![ALPN.to_vec()];
}

/// The name that a client has to give to rustls, which nobody looks at: see [`client`].
#[must_use]
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())
}

/// Who is at the other end of a connection whose handshake is done; `None`: who showed no
/// certificate.
#[must_use]
pub fn peer(shown: Option<&[CertificateDer<'_>]>) -> Option<Peer> {
    // The verifier has read it: what it could not read has no connection.
    Certificate::read(shown?.first()?).ok().map(Peer::from)
}
