//! Against a control plane that says what a test has it say, over real connections.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use bytes::BytesMut;
use http::{HeaderMap, Response};
use sinew_identity::{Fingerprint, Identity, Root, tls::Clients, token::RANDOM_BYTES};
use sinew_model::ControlName;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::fleet::call::frame;

const DAY: Duration = Duration::from_secs(86_400);

fn serial() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
}

/// A network's authority, and what it answers.
struct Control {
    root: Root,
    /// What it refuses with.
    refuses: Mutex<Option<&'static str>>,
    /// The requests for certificates.
    asked: Mutex<Vec<Bytes>>,
}

impl Control {
    fn new() -> Arc<Self> {
        let (network, key) = ("prod".parse().unwrap(), Key::generate().unwrap());
        let root = Root::generate(&network, key, Moment::now(), DAY * 365, serial()).unwrap();
        Arc::new(Self { root, refuses: Mutex::default(), asked: Mutex::default() })
    }

    fn sign(&self, role: Role, request: &[u8], now: Moment) -> Vec<CertificateDer<'static>> {
        let identity = Identity { network: "prod".parse().unwrap(), role };
        let (leaf, _) = self.root.issue(&identity, request, now, DAY, serial()).unwrap();
        vec![leaf, self.root.certificate().clone()]
    }

    fn credentials(&self, role: Role, now: Moment) -> (Key, Credentials) {
        let key = Key::generate().unwrap();
        let chain = self.sign(role, &key.request().unwrap(), now);
        let credentials =
            Credentials::new(&key, chain, vec![self.root.certificate().clone()]).unwrap();
        (key, credentials)
    }

    fn token(&self) -> Token {
        Token::new([7; RANDOM_BYTES], self.root.fingerprint())
    }

    /// Answers until the test ends.
    async fn serve(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.serve_at(listener);
        address
    }

    fn serve_at(self: &Arc<Self>, listener: TcpListener) {
        let role = Role::Control(ControlName::new("c1").unwrap());
        let holder = Holder::new(self.credentials(role, Moment::now()).1);
        let config = tls::server(&holder, Clients::MayJoin, Arc::new(DefaultTimeProvider)).unwrap();
        let (acceptor, control) = (TlsAcceptor::from(Arc::new(config)), self.clone());
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, control) = (acceptor.clone(), control.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, answer))) = connection.accept().await {
                        tokio::spawn(control.clone().answer(request, answer));
                    }
                });
            }
        });
    }

    async fn answer(
        self: Arc<Self>,
        request: http::Request<h2::RecvStream>,
        mut answer: h2::server::SendResponse<Bytes>,
    ) {
        let method = Method::of(request.uri().path()).unwrap();
        let mut body = request.into_body();
        let mut message = BytesMut::new();
        while let Some(data) = body.data().await {
            message.extend_from_slice(&data.unwrap());
        }
        let message = message.freeze().slice(5..);
        let head = Response::builder().header("content-type", "application/grpc");
        let refuses = *self.refuses.lock().unwrap();
        if let Some(why) = refuses {
            let head = head.header("grpc-status", "7").header("grpc-message", why);
            answer.send_response(head.body(()).unwrap(), true).unwrap();
            return;
        }
        let (node, request) = match method {
            Method::Join => {
                let Join { node, certificate_request, .. } = Join::decode(message).unwrap();
                (node, certificate_request)
            }
            Method::Renew => {
                ("web".parse().unwrap(), Renew::decode(message).unwrap().certificate_request)
            }
            Method::Session => panic!("no session is asked for"),
        };
        self.asked.lock().unwrap().push(request.clone());
        let chain = self.sign(Role::Node(node), &request, Moment::now());
        let bytes = |der: &CertificateDer<'_>| Bytes::copy_from_slice(der);
        let authorities = vec![bytes(self.root.certificate())];
        let certificate = Certificate { chain: chain.iter().map(bytes).collect(), authorities };
        let mut stream = answer.send_response(head.body(()).unwrap(), false).unwrap();
        stream.send_data(frame(&certificate.encode()), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }
}

fn node() -> NodeName {
    "web".parse().unwrap()
}

fn serial_of(credentials: &Credentials) -> String {
    format!("{:?}", credentials.certificate().serial)
}

#[tokio::test]
async fn a_host_joins_keeps_its_certificate_and_renews_it() {
    let control = Control::new();
    let addresses = ["127.0.0.1:1".to_owned(), control.serve().await];
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let (key, credentials) = place.join(&addresses, &node(), &control.token()).await.unwrap();
    assert_eq!(credentials.certificate().identity.role, Role::Node(node()));
    let (kept_key, kept) = place.read().unwrap();
    assert_eq!(kept_key.fingerprint(), key.fingerprint());
    assert_eq!(serial_of(&kept), serial_of(&credentials));
    assert!(!directory.path().join(PENDING).exists());
    let holder = Holder::new(credentials);
    place.renew(&addresses, &node(), &key, &holder).await.unwrap();
    assert_ne!(serial_of(&holder.current()), serial_of(&kept));
    assert_eq!(serial_of(&place.read().unwrap().1), serial_of(&holder.current()));
}

#[tokio::test]
async fn what_control_refuses_is_told_in_its_words_and_asked_again_with_the_same_key() {
    let control = Control::new();
    let addresses = [control.serve().await];
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    *control.refuses.lock().unwrap() = Some("the token was used by node/other%2C twice");
    let error = place.join(&addresses, &node(), &control.token()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "control gave no certificate: the token was used by node/other, twice"
    );
    assert!(matches!(place.read(), Err(FileError::Missing { .. })));
    let pending = fs::read(directory.path().join(PENDING)).unwrap();
    assert!(!pending.is_empty());
    *control.refuses.lock().unwrap() = None;
    let (key, _) = place.join(&addresses, &node(), &control.token()).await.unwrap();
    assert_eq!(key.to_pem().reveal().as_bytes(), pending);
    assert_eq!(control.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_of_another_network_is_told() {
    let control = Control::new();
    let addresses = [control.serve().await];
    let directory = tempfile::tempdir().unwrap();
    let token = Token::new([7; RANDOM_BYTES], Fingerprint::of(b"another root"));
    let joining = Place::new(directory.path()).join(&addresses, &node(), &token).await;
    let error = joining.unwrap_err().to_string();
    assert!(error.contains("has not the root certificate that the join token names"), "{error}");
    assert!(control.asked.lock().unwrap().is_empty(), "the token was shown to nobody");
}

#[tokio::test]
async fn an_expired_certificate_is_told_to_need_a_fresh_token() {
    let control = Control::new();
    let addresses = [control.serve().await];
    let directory = tempfile::tempdir().unwrap();
    let two_days_ago = Moment(Moment::now().0 - 2 * DAY.as_secs());
    let key = Key::generate().unwrap();
    let old = Root::generate(
        &"prod".parse().unwrap(),
        Key::generate().unwrap(),
        two_days_ago,
        DAY * 365,
        serial(),
    )
    .unwrap();
    // The root of today has not signed it either, but its time is looked at first or last: both are
    // told with what to do.
    let identity = Identity { network: "prod".parse().unwrap(), role: Role::Node(node()) };
    let (leaf, _) =
        old.issue(&identity, &key.request().unwrap(), two_days_ago, DAY, serial()).unwrap();
    let roots = vec![control.root.certificate().clone()];
    let holder = Holder::new(Credentials::new(&key, vec![leaf], roots).unwrap());
    let place = Place::new(directory.path());
    let error = place.renew(&addresses, &node(), &key, &holder).await.unwrap_err().to_string();
    assert!(error.contains("join again with a fresh token"), "{error}");
    assert!(control.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_does_not_answer_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (place, token) = (Place::new(directory.path()), Control::new().token());
    let error = place.join(&["127.0.0.1:1".to_owned()], &node(), &token).await.unwrap_err();
    assert!(error.to_string().contains("cannot connect to 127.0.0.1:1"), "{error}");
    let error = place.join(&[], &node(), &token).await.unwrap_err();
    assert!(matches!(error, CredentialsFailed::Nobody));
    // Something else listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 No\r\n\r\n").await.unwrap();
    });
    let error = place.join(&[address], &node(), &token).await.unwrap_err().to_string();
    assert!(error.contains("is it the control plane of sinew?"), "{error}");
}

#[tokio::test]
async fn who_is_not_reached_is_asked_again_and_who_refuses_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let control = Control::new();
    let pace = BackOff { base: Duration::from_millis(10), max: Duration::from_millis(50) };
    let web: NodeName = "web".parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (joining, token) = (place.clone(), control.token());
    let addresses = [address.to_string()];
    let asked = addresses.clone();
    let task = tokio::spawn(async move { joining.join_at_last(&asked, &web, &token, pace).await });
    // The first attempt meets nobody who speaks TLS.
    drop(listener.accept().await.unwrap());
    control.serve_at(listener);
    let (_, credentials) = task.await.unwrap().unwrap();
    assert!(credentials.certificate().life.not_after > Moment::now());
    *control.refuses.lock().unwrap() = Some("the token is used up");
    let web: NodeName = "web".parse().unwrap();
    let refused = place.join_at_last(&addresses, &web, &control.token(), pace).await;
    assert!(refused.err().unwrap().to_string().contains("the token is used up"));
}
