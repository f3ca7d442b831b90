//! A network: a store, and replicas over it.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use sinew_control::{
    identity::{Authority, Grant, Lives, Purpose},
    networks,
    records::{Key, StoredSession},
    serve::{Control, Error, Handle, Options},
    store::{Embedded, Range, Span, Store, SystemClock, Transaction, embedded, schema},
    testing::{self, Member, Talk},
};
use sinew_identity::Moment;
use sinew_model::{
    Balance, Outlier, ServiceName,
    fleet::{Endpoint, EndpointStatus, ServiceRecord},
};
use sinew_proto::{FromAgent, FromControl, Hello, Report, ServiceReport, Welcome};
use tokio::{sync::oneshot, task::JoinHandle};

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) authority: Arc<Authority>,
}

pub(crate) struct Replica {
    pub(crate) at: SocketAddr,
    #[allow(dead_code, reason = "some tests look inside")]
    pub(crate) handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), Error>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_lives(Lives::default()).await
    }

    pub(crate) async fn with_lives(lives: Lives) -> Self {
        let clock = Arc::new(SystemClock::default());
        let store = Embedded::in_memory(embedded::Options::default(), clock).await.unwrap();
        Self::over(Arc::new(store), lives).await
    }

    pub(crate) async fn over(store: Arc<dyn Store>, lives: Lives) -> Self {
        schema::open(&*store).await.unwrap();
        networks::open(&*store, None).await.unwrap();
        let network = "test".parse().unwrap();
        let authority =
            Authority::open(Arc::clone(&store), network, None, lives, Moment::now()).await.unwrap();
        Self { store, authority: Arc::new(authority) }
    }

    pub(crate) async fn replica(&self, name: &str) -> Replica {
        self.replica_with(name, |_| {}).await
    }

    pub(crate) async fn replica_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut Options),
    ) -> Replica {
        let mut options =
            Options::new(name.parse().unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        change(&mut options);
        let (store, authority) = (Arc::clone(&self.store), Arc::clone(&self.authority));
        let control = Control::bind(store, authority, options).await.unwrap();
        let (at, handle) = (control.address().unwrap(), control.handle());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(control.run(async move {
            // Who forgets it does not stop it.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Replica { at, handle, stop: Some(stop), running }
    }

    pub(crate) async fn token(&self, purpose: Purpose) -> String {
        self.token_of(Grant { purpose, ..Grant::one_host() }).await
    }

    pub(crate) async fn token_of(&self, grant: Grant) -> String {
        let token = self.authority.create_token(grant, Moment::now()).await.unwrap();
        token.reveal().reveal().to_owned()
    }

    pub(crate) async fn any_token(&self) -> String {
        self.token(Purpose::Node { name: None, zone: None }).await
    }

    /// The newest session of a host, as the store has it.
    pub(crate) async fn session(&self, node: &str) -> StoredSession {
        let key = Key::Session(node.parse().unwrap()).bytes();
        let ranged = self.store.range(Range::of(Span::key(key))).await.unwrap();
        serde_json::from_slice(&ranged.entries[0].value).unwrap()
    }

    pub(crate) async fn put_session(&self, node: &str, session: &StoredSession) {
        let key = Key::Session(node.parse().unwrap()).bytes();
        let put = Transaction::put(key, serde_json::to_vec(session).unwrap());
        self.store.commit(put).await.unwrap();
    }

    /// A host that has joined.
    pub(crate) async fn member(&self, at: SocketAddr, node: &str) -> Member {
        testing::join(at, &self.any_token().await, &node.parse().unwrap()).await.unwrap()
    }
}

impl Replica {
    /// Has it go down, and waits for that.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.running.await.unwrap().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) -> Result<(), Error> {
        self.running.await.unwrap()
    }

    /// As if its process were killed.
    #[allow(dead_code, reason = "used by the tests of faults")]
    pub(crate) fn kill(self) {
        self.running.abort();
    }
}

pub(crate) fn hello(member: &Member) -> Hello {
    member.hello("a".parse().unwrap())
}

pub(crate) async fn open(member: &Member, at: SocketAddr) -> (Talk, Welcome) {
    member.open(at, hello(member)).await.unwrap()
}

pub(crate) fn orders() -> ServiceName {
    "orders".parse().unwrap()
}

pub(crate) fn endpoint(talk: &Talk, instance: u32) -> Endpoint {
    Endpoint {
        address4: talk.address(instance),
        address6: None,
        ports: BTreeMap::new(),
        zone: "a".parse().unwrap(),
        weight: 256,
        status: EndpointStatus::Up,
    }
}

/// The same again, with another weight of each.
pub(crate) fn reweighed(
    talk: &Talk,
    sequence: u64,
    instances: impl IntoIterator<Item = u32>,
    weight: u32,
) -> FromAgent {
    let FromAgent::Report(mut report) = report(talk, sequence, false, instances) else {
        unreachable!()
    };
    let all = report.services.values_mut().flat_map(|it| it.endpoints.values_mut());
    all.for_each(|endpoint| endpoint.weight = weight);
    FromAgent::Report(report)
}

/// A report of these instances of `orders`.
pub(crate) fn report(
    talk: &Talk,
    sequence: u64,
    full: bool,
    instances: impl IntoIterator<Item = u32>,
) -> FromAgent {
    let record = ServiceRecord {
        ports: Vec::new(),
        balance: Balance::default(),
        outlier: Outlier::default(),
    };
    let endpoints = instances.into_iter().map(|instance| (instance, endpoint(talk, instance)));
    let service =
        ServiceReport { record: Some(record), endpoints: endpoints.collect(), gone: [].into() };
    FromAgent::Report(Report { sequence, full, services: [(orders(), service)].into() })
}

/// Waits until a report is in the store.
pub(crate) async fn reported(talk: &mut Talk, sequence: u64) {
    talk.hear_until(|message| match message {
        FromControl::Reported(reported) if reported.sequence == sequence => Some(()),
        _ => None,
    })
    .await
    .unwrap();
}

pub(crate) async fn subscribe(talk: &Talk) {
    talk.say(FromAgent::Subscribe(vec![orders()])).await.unwrap();
}

/// Follows `orders` until it has these instances, whoever runs them.
pub(crate) async fn has(talk: &mut Talk, known: &mut Known, wanted: &[u32]) {
    while known.instances() != wanted {
        let message = talk.hear().await.unwrap();
        known.take(message);
    }
}

/// What an agent knows of `orders`.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) all: BTreeMap<sinew_model::fleet::EndpointKey, Endpoint>,
    pub(crate) updates: usize,
}

impl Known {
    pub(crate) fn instances(&self) -> Vec<u32> {
        self.all.keys().map(|key| key.instance).collect()
    }

    pub(crate) fn take(&mut self, message: FromControl) {
        match message {
            FromControl::Snapshot(snapshot) => self.all = snapshot.endpoints,
            FromControl::Delta(delta) => {
                self.all.extend(delta.put);
                self.all.retain(|key, _| !delta.removed.contains_key(key));
            }
            _ => return,
        }
        self.updates += 1;
    }
}

/// For what must not happen, and for tests that must not hang.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.unwrap()
}
