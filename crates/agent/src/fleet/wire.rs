//! One connection to control: it is made, carries a session, and ends. What happens on it is told to
//! who runs the link; nothing here decides anything.

use std::{net::IpAddr, pin::pin, time::Duration};

use bytes::Bytes;
use h2::{Ping, PingPong, SendStream, client::ResponseFuture};
use sinew_proto::Path;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    call::{CallError, Incoming, frame, request, send},
    dial::{Dialled, Target},
    link::Connection,
};

/// A dial takes no longer, whoever waits.
const DIAL: Duration = Duration::from_secs(30);

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// It is there.
    Connected {
        /// Where this host connects from, and its address of the other family there.
        from: Vec<IpAddr>,
    },
    /// A message came.
    Message(Bytes),
    /// A ping was answered.
    Alive,
    /// It could not be made, or it ended.
    Closed(String),
}

/// The connection that is there, or is being made.
pub(super) struct Wire {
    pub(super) connection: Connection,
    /// Takes a message when the stream does.
    pub(super) messages: mpsc::Sender<Bytes>,
    pings: mpsc::Sender<()>,
    task: AbortHandle,
}

impl Wire {
    /// Connects, and tells `events`.
    pub(super) fn open(
        connection: Connection,
        target: Target,
        events: mpsc::Sender<(Connection, Event)>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        // One: what comes later is newer.
        let (messages, to_send) = mpsc::channel(1);
        let (pings, to_ping) = mpsc::channel(1);
        let task = tasks.spawn(async move {
            let why = match carry(connection, &target, &events, to_send, to_ping).await {
                Ok(()) => "control ended the session".to_owned(),
                Err(error) => error.to_string(),
            };
            // Who listened may be gone.
            let _ = events.send((connection, Event::Closed(why))).await;
        });
        Self { connection, messages, pings, task }
    }

    /// Asks for a sign of life, unless one is awaited.
    pub(super) fn ping(&self) {
        let _ = self.pings.try_send(());
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Teller<'a> {
    connection: Connection,
    events: &'a mpsc::Sender<(Connection, Event)>,
}

impl Teller<'_> {
    async fn tell(&self, event: Event) {
        // Who listened may be gone.
        let _ = self.events.send((self.connection, event)).await;
    }
}

async fn carry(
    connection: Connection,
    target: &Target,
    events: &mpsc::Sender<(Connection, Event)>,
    to_send: mpsc::Receiver<Bytes>,
    to_ping: mpsc::Receiver<()>,
) -> Result<(), CallError> {
    let Dialled { from, mut requests, mut driver } = target.dial(DIAL).await?;
    let pings = driver.ping_pong();
    let opened = requests.send_request(request(target, Path::Session)?, false);
    let (answer, sending) = opened.map_err(|error| target.http(error))?;
    let tell = Teller { connection, events };
    let write = pin!(write(target, sending, to_send));
    let read = pin!(read(target, answer, &tell));
    let beat = pin!(beat(target, pings, to_ping, &tell));
    tell.tell(Event::Connected { from: from.map(own).unwrap_or_default() }).await;
    tokio::select! {
        biased;
        read = read => read,
        written = write => written,
        beaten = beat => beaten,
        ended = driver => ended.map_err(|error| target.http(error).into()),
    }
}

/// Hosts reach each other over both families, and control sees one. Who connects on the loopback
/// interface has told nothing.
fn own(from: IpAddr) -> Vec<IpAddr> {
    if from.is_loopback() {
        return Vec::new();
    }
    let beside = sinew_datapath::beside(from).unwrap_or_else(|error| {
        tracing::debug!("it is not known which address lies beside {from}: {error}");
        None
    });
    [Some(from), beside].into_iter().flatten().collect()
}

async fn write(
    target: &Target,
    mut stream: SendStream<Bytes>,
    mut messages: mpsc::Receiver<Bytes>,
) -> Result<(), CallError> {
    while let Some(message) = messages.recv().await {
        send(&mut stream, frame(&message)).await.map_err(|error| target.http(error))?;
    }
    // Whoever had something to say is gone, and so will this be.
    std::future::pending().await
}

async fn read(target: &Target, answer: ResponseFuture, tell: &Teller<'_>) -> Result<(), CallError> {
    let mut incoming = Incoming::open(target, answer).await?;
    while let Some(message) = incoming.next().await? {
        tell.tell(Event::Message(message)).await;
    }
    Ok(())
}

async fn beat(
    target: &Target,
    pings: Option<PingPong>,
    mut asked: mpsc::Receiver<()>,
    tell: &Teller<'_>,
) -> Result<(), CallError> {
    let Some(mut pings) = pings else { return std::future::pending().await };
    while asked.recv().await.is_some() {
        pings.ping(Ping::opaque()).await.map_err(|error| target.http(error))?;
        tell.tell(Event::Alive).await;
    }
    std::future::pending().await
}
