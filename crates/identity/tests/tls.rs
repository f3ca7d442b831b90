//! Real handshakes over loopback: who is let in, who is refused, and what either side is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "tls/network.rs"]
mod network;

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use network::{At, DAY, NOW, Network, node};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use sinew_identity::{
    Fingerprint, Key, Life, Moment, Peer, Refusal, RefusedByPeer, Role, RoleKind,
    tls::{self, Clients, Credentials, Holder},
};

type Server = StreamOwned<ServerConnection, TcpStream>;
type Client = StreamOwned<ClientConnection, TcpStream>;

/// What came of a connection at its two ends: at the server's who the client is, at the client's who
/// the server is.
struct Met {
    server: io::Result<(Option<Peer>, Server)>,
    client: io::Result<(Option<Peer>, Client)>,
}

fn meet(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Met {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::clone(server);
    let serving = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
        Ok((tls::peer(stream.conn.peer_certificates()), stream))
    });
    let connection = ClientConnection::new(Arc::clone(client), tls::server_name()).unwrap();
    let stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    let client = greet(stream);
    Met { server: serving.join().unwrap(), client }
}

fn greet(mut stream: Client) -> io::Result<(Option<Peer>, Client)> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    Ok((tls::peer(stream.conn.peer_certificates()), stream))
}

impl Met {
    fn refused_by_server(self) -> (Refusal, RefusedByPeer) {
        let told = Refusal::of_io(&self.server.unwrap_err()).unwrap();
        let life = Life { not_before: NOW, not_after: NOW + DAY };
        (told, RefusedByPeer::of_io(&self.client.unwrap_err(), life, NOW).unwrap())
    }

    fn refused_by_client(self) -> Refusal {
        assert!(self.server.is_err());
        Refusal::of_io(&self.client.unwrap_err()).unwrap()
    }
}

fn server(credentials: Credentials, now: Moment) -> Arc<ServerConfig> {
    Arc::new(tls::server(&Holder::new(credentials), Clients::Known, At::fixed(now)).unwrap())
}

fn client(credentials: Credentials, now: Moment) -> Arc<ClientConfig> {
    Arc::new(tls::client(&Holder::new(credentials), At::fixed(now)).unwrap())
}

#[test]
fn a_host_and_control_know_each_other() {
    let network = Network::new("prod");
    let met = meet(&server(network.control("a"), NOW), &client(network.node("web"), NOW));
    let (peer, session) = met.server.unwrap();
    assert_eq!(peer.unwrap().identity.to_string(), "spiffe://prod/node/web");
    assert_eq!(session.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(session.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(met.client.unwrap().0.unwrap().identity.to_string(), "spiffe://prod/control/a");
}

#[test]
fn replicas_of_control_know_each_other() {
    let network = Network::new("prod");
    let met = meet(&server(network.control("a"), NOW), &client(network.control("b"), NOW));
    assert_eq!(met.server.unwrap().0.unwrap().identity.role.kind(), RoleKind::Control);
}

#[test]
fn a_host_talks_to_no_host() {
    let network = Network::new("prod");
    let met = meet(&server(network.node("other"), NOW), &client(network.node("web"), NOW));
    let Refusal::WrongRole { peer, wanted } = met.refused_by_client() else { panic!() };
    assert_eq!((peer.role, wanted), (node("other"), RoleKind::Control));
}

#[test]
fn an_expired_host_is_refused_and_both_are_told() {
    let network = Network::new("prod");
    let later = NOW + DAY + DAY / 2;
    let control = network.made(later).control("a");
    let met = meet(&server(control, later), &client(network.node("web"), NOW));
    // The client's clock stands still: it refuses control's certificate as not yet valid.
    let Refusal::NotYetValid { from, now } = met.refused_by_client() else { panic!() };
    assert_eq!(now, NOW);
    assert!(from > NOW + DAY);

    let control = network.made(later).control("a");
    let met = meet(&server(control, later), &client(network.node("web"), later));
    let (told, heard) = met.refused_by_server();
    assert_eq!(told, Refusal::Expired { at: NOW + DAY, now: later });
    assert_eq!(
        told.to_string(),
        "the peer's certificate expired at 2023-11-15T22:13:20Z, 43200 s ago by the clock here, which \
         says 2023-11-16T10:13:20Z: either its renewal failed for long, and it has to join again with a \
         fresh token, or one of the clocks is wrong"
    );
    assert!(matches!(heard, RefusedByPeer::Time(_)), "{heard:?}");
}

#[test]
fn a_server_behind_the_time_tells_the_skew() {
    let network = Network::new("prod");
    let ahead = Moment(NOW.0 + 7200);
    let host = network.made(ahead).node("web");
    let met = meet(&server(network.control("a"), NOW), &client(host, ahead));
    let (told, heard) = met.refused_by_server();
    assert_eq!(told, Refusal::NotYetValid { from: Moment(ahead.0 - 300), now: NOW });
    assert!(told.to_string().contains("the clocks differ by 6900 s at least"), "{told}");
    assert!(heard.to_string().contains("the clock here says 2023-11-14T22:13:20Z"), "{heard}");
}

#[test]
fn clocks_may_differ_by_the_allowance() {
    let network = Network::new("prod");
    let ahead = Moment(NOW.0 + 300);
    let host = network.made(ahead).node("web");
    let met = meet(&server(network.control("a"), NOW), &client(host, ahead));
    met.server.unwrap();
    met.client.unwrap();
}

#[test]
fn another_network_is_refused_by_name() {
    let (prod, test) = (Network::new("prod"), Network::new("test"));
    let met = meet(&server(test.control("a"), NOW), &client(prod.node("web"), NOW));
    let told = met.refused_by_client().to_string();
    assert!(told.contains("spiffe://test/control/a, and this is network prod"), "{told}");
}

#[test]
fn another_network_of_the_same_name_is_refused_by_its_root() {
    let (one, two) = (Network::new("prod"), Network::new("prod"));
    let met = meet(&server(two.control("a"), NOW), &client(one.node("web"), NOW));
    assert_eq!(met.refused_by_client(), Refusal::UnknownAuthority);
    // The same, found by the server: the client trusts both.
    let trusting = one.trusting(&two).node("web");
    let met = meet(&server(two.control("a"), NOW), &client(trusting, NOW));
    let (told, heard) = met.refused_by_server();
    assert_eq!((told, heard), (Refusal::UnknownAuthority, RefusedByPeer::Authority));
}

#[test]
fn a_server_that_is_not_of_sinew_is_refused() {
    let key = rcgen::generate_simple_self_signed(["example.test".to_owned()]).unwrap();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.into())
        .unwrap();
    let met = meet(&Arc::new(server), &client(Network::new("prod").node("web"), NOW));
    assert!(matches!(met.refused_by_client(), Refusal::Unreadable(_)));
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[test]
fn who_shows_nothing_may_join_and_no_more() {
    let network = Network::new("prod");
    let stranger = || Arc::new(tls::first_contact(network.fingerprint(), At::fixed(NOW)).unwrap());
    let holder = Holder::new(network.control("a"));
    let open = Arc::new(tls::server(&holder, Clients::MayJoin, At::fixed(NOW)).unwrap());
    let met = meet(&open, &stranger());
    assert_eq!(met.server.unwrap().0, None);
    assert!(matches!(met.client.unwrap().0.unwrap().identity.role, Role::Control(_)));

    let met = meet(&server(network.control("a"), NOW), &stranger());
    let life = Life { not_before: NOW, not_after: NOW };
    let heard = RefusedByPeer::of_io(&met.client.unwrap_err(), life, NOW);
    assert_eq!(heard, Some(RefusedByPeer::None));

    let expired = client(network.node("web"), NOW + DAY * 2);
    let control = network.made(NOW + DAY * 2).control("a");
    let holder = Holder::new(control);
    let open = Arc::new(tls::server(&holder, Clients::MayJoin, At::fixed(NOW + DAY * 2)).unwrap());
    let (told, _) = meet(&open, &expired).refused_by_server();
    assert!(matches!(told, Refusal::Expired { .. }), "{told}");
}

#[test]
fn a_token_is_of_one_network() {
    let (prod, test) = (Network::new("prod"), Network::new("test"));
    let joining = Arc::new(tls::first_contact(test.fingerprint(), At::fixed(NOW)).unwrap());
    let holder = Holder::new(prod.control("a"));
    let open = Arc::new(tls::server(&holder, Clients::MayJoin, At::fixed(NOW)).unwrap());
    let told = meet(&open, &joining).refused_by_client();
    assert_eq!(told, Refusal::NotOfToken { root: test.fingerprint() });
}

#[test]
fn showing_the_right_root_is_not_enough() {
    // Anybody may have seen the root: without its key it serves nothing.
    let (prod, evil) = (Network::new("prod"), Network::new("prod"));
    let joining = Arc::new(tls::first_contact(prod.fingerprint(), At::fixed(NOW)).unwrap());
    let holder = Holder::new(evil.showing(&prod).control("a"));
    let open = Arc::new(tls::server(&holder, Clients::MayJoin, At::fixed(NOW)).unwrap());
    assert_eq!(meet(&open, &joining).refused_by_client(), Refusal::UnknownAuthority);
    // Nor does a host of the right network pass for control.
    let holder = Holder::new(prod.node("web"));
    let open = Arc::new(tls::server(&holder, Clients::MayJoin, At::fixed(NOW)).unwrap());
    let joining = Arc::new(tls::first_contact(prod.fingerprint(), At::fixed(NOW)).unwrap());
    assert!(matches!(meet(&open, &joining).refused_by_client(), Refusal::WrongRole { .. }));
}

#[test]
fn a_new_certificate_is_shown_at_once_and_open_sessions_stay() {
    let network = Network::new("prod");
    let (control, host) = (Holder::new(network.control("a")), Holder::new(network.node("web")));
    let server = Arc::new(tls::server(&control, Clients::Known, At::fixed(NOW)).unwrap());
    let client = Arc::new(tls::client(&host, At::fixed(NOW)).unwrap());
    let first = meet(&server, &client);
    let ((peer, mut at_server), (_, mut at_client)) =
        (first.server.unwrap(), first.client.unwrap());
    let old = peer.unwrap();

    host.replace(network.node("web"));
    control.replace(network.control("a"));
    at_client.write_all(b"y").unwrap();
    let mut byte = [0];
    at_server.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"y");

    let new = meet(&server, &client).server.unwrap().0.unwrap();
    assert_eq!(new.identity, old.identity);
    assert_ne!(new.serial, old.serial);
}

#[test]
fn a_new_root_is_believed_on_the_word_of_the_old() {
    let old = Network::new("prod");
    let new = old.rotated();
    // Control has moved on; the host knows the old root alone.
    let met = meet(&server(new.control("a"), NOW), &client(old.node("web"), NOW));
    met.server.unwrap();
    met.client.unwrap();
    // So does a host with a token from before.
    let joining = Arc::new(tls::first_contact(old.fingerprint(), At::fixed(NOW)).unwrap());
    let holder = Holder::new(new.control("a"));
    let open = Arc::new(tls::server(&holder, Clients::MayJoin, At::fixed(NOW)).unwrap());
    meet(&open, &joining).client.unwrap();
    // And a replica that has not heard of it believes a host that has.
    meet(&server(old.control("b"), NOW), &client(new.node("web"), NOW)).server.unwrap();
}

#[test]
fn tls_12_is_not_spoken() {
    let network = Network::new("prod");
    let credentials = network.node("web");
    let mut old = rustls::RootCertStore::empty();
    old.add(credentials.trust().roots[0].clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(old)
        .with_no_client_auth();
    let met = meet(&server(network.control("a"), NOW), &Arc::new(client));
    let refused = met.server.unwrap_err().to_string();
    assert!(refused.contains("Tls12NotOffered"), "{refused}");
}

#[test]
fn what_is_signed_never_outlasts_its_root() {
    let network = Network::new("prod");
    let end = NOW + DAY * 365;
    let last = network.made(Moment(end.0 - 3600)).node("web");
    assert_eq!(last.certificate().life.not_after, end);
    let request = Key::generate().unwrap().request().unwrap();
    let refused = network.sign(&node("web"), &request, Moment(end.0 + 1)).unwrap_err();
    assert!(refused.to_string().contains("rotate the root"), "{refused}");
}

#[test]
fn a_request_gets_no_more_than_its_key() {
    let network = Network::new("prod");
    let mut wishes = rcgen::CertificateParams::new(["evil.test".to_owned()]).unwrap();
    wishes.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let request = wishes.serialize_request(&pair).unwrap();
    let (der, read) = network.sign(&node("web"), request.der(), NOW).unwrap();
    assert_eq!(read.identity.role, node("web"));
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!parsed.is_ca());
    assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    // A request that was tampered with.
    let mut forged = request.der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(network.sign(&node("web"), &forged, NOW).is_err());
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let request = wishes.serialize_request(&other).unwrap();
    let refused = network.sign(&node("web"), request.der(), NOW).unwrap_err().to_string();
    assert!(refused.contains("not ECDSA P-256"), "{refused}");
}

#[test]
fn fingerprints_of_keys_are_those_of_certificates() {
    let key = Key::generate().unwrap();
    let (_, read) = Network::new("prod").sign(&node("web"), &key.request().unwrap(), NOW).unwrap();
    assert_eq!(read.key, key.fingerprint());
    assert_ne!(Fingerprint::of(b"x"), read.key);
}
