//! The task that owns this host's membership: it does what [`Member`] wants done, on connections to
//! control, on disk, and towards the agent's heart.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use sinew_identity::{
    Due, Key, Moment, Token,
    tls::{Credentials, Holder},
};
use sinew_model::ServiceName;
use sinew_proto::Placed;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    credentials::{CredentialsFailed, Place, target},
    joined::{Joined, Kept as KeptJoined},
    last_good::{Kept, LastGood, SetAside},
    link::{BackOff, Connection},
    member::{Beginning, Known, Member, Run, Step},
    mirror::Saved,
    news::News,
    status::{self, Status},
    wire::{Event, Wire},
};
use crate::{random, store::StoreError};

/// What is known is written at most so often.
const WRITE: Duration = Duration::from_secs(2);
/// What happens on connections and waits to be looked at: beyond that, control waits.
const EVENTS: usize = 64;
/// For what is to be said when the agent ends.
const LAST_WORD: Duration = Duration::from_secs(1);
const ON_ITS_WAY: Duration = Duration::from_millis(20);
/// From a renewal that failed to the next attempt.
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// Between attempts to join again.
const REJOIN: BackOff = BackOff { base: Duration::from_secs(2), max: Duration::from_secs(300) };
/// Nobody sleeps longer over a certificate: the clock may be set.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_secs(3600);

/// What the agent's heart tells.
#[derive(Debug)]
pub(crate) enum Tell {
    /// All that it found running when it began.
    Runs(BTreeMap<ServiceName, Run>),
    /// What runs of a service now.
    Report(ServiceName, Run),
    /// Somebody here looked these up, or calls them.
    Used(Vec<ServiceName>),
    /// What services of this host name as what they call.
    Configured(BTreeSet<ServiceName>),
    /// What became of what control has this host run.
    Placed(Placed),
    /// Answered when control has all that was told so far; `false`: there is no session.
    Settle(oneshot::Sender<bool>),
    /// This host has left: nothing is kept.
    Left,
    /// Somebody asks how things are.
    Status(oneshot::Sender<Status>),
}

/// What this host shows of itself.
pub(crate) struct Certified {
    pub(crate) place: Place,
    pub(crate) key: Arc<Key>,
    pub(crate) holder: Holder,
}

/// A token that did not let this host join again when the agent began.
pub(crate) struct Rejoin {
    pub(crate) token: Token,
    pub(crate) place: Place,
    pub(crate) kept: KeptJoined,
    /// Why it did not.
    pub(crate) why: String,
}

/// What is kept on disk, and what was there.
pub(crate) struct Files {
    mirror: LastGood<Saved>,
    known: LastGood<Known>,
}

impl Files {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { mirror: LastGood::new(directory, WRITE), known: LastGood::new(directory, WRITE) }
    }

    /// # Errors
    /// When a file is there but can neither be read nor be set aside.
    pub(crate) fn load(
        &self,
        node: &sinew_model::NodeName,
        now_ms: u64,
    ) -> Result<(Option<Saved>, Option<Known>), StoreError> {
        Ok((warned(self.mirror.load(node, now_ms)?), warned(self.known.load(node, now_ms)?)))
    }
}

fn warned<T: Kept>((kept, aside): (Option<T>, Option<SetAside>)) -> Option<T> {
    if let Some(aside) = aside {
        tracing::warn!("{aside}");
    }
    kept
}

/// The task and what it works with.
pub(crate) struct Session {
    member: Member,
    files: Files,
    certified: Option<Certified>,
    /// Chosen once: hosts that joined together do not renew together.
    jitter: f64,
    renew_at: Instant,
    renewals: JoinSet<Result<(), CredentialsFailed>>,
    /// Why the last renewal failed.
    unrenewed: Option<String>,
    rejoin: Option<Rejoin>,
    rejoins: JoinSet<Result<(Key, Credentials), CredentialsFailed>>,
    events: mpsc::Sender<(Connection, Event)>,
    happened: mpsc::Receiver<(Connection, Event)>,
    wire: Option<Wire>,
    wires: JoinSet<()>,
    news: mpsc::UnboundedSender<News>,
    /// The heart has told what runs. Before that nobody is called: a first report that lacks what
    /// runs could have it removed.
    met: bool,
    /// The disk refused: said once.
    unwritten: Option<String>,
    settling: Vec<oneshot::Sender<bool>>,
    left: bool,
}

impl Session {
    pub(crate) fn new(
        beginning: Beginning,
        files: Files,
        certified: Option<Certified>,
        rejoin: Option<Rejoin>,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        let (events, happened) = mpsc::channel(EVENTS);
        let now = Instant::now();
        Self {
            member: Member::new(now, beginning),
            files,
            certified,
            jitter: random::unit(),
            renew_at: now,
            renewals: JoinSet::new(),
            unrenewed: None,
            rejoin,
            rejoins: JoinSet::new(),
            events,
            happened,
            wire: None,
            wires: JoinSet::new(),
            news,
            met: false,
            unwritten: None,
            settling: Vec::new(),
            left: false,
        }
    }

    /// What is known, for who has just begun.
    pub(crate) fn first_news(&mut self) -> Vec<News> {
        self.member.news()
    }

    /// Works until nobody is left who could tell it anything.
    pub(crate) async fn run(mut self, mut told: mpsc::UnboundedReceiver<Tell>) {
        self.begin_to_rejoin();
        loop {
            let now = Instant::now();
            if self.met {
                let steps = self.member.tick(now);
                self.perform(now, steps);
            }
            if !self.left {
                self.write(now);
            }
            self.say(now);
            self.answer_settling();
            let wake = self.wake(now);
            let free = self.wire.as_ref().map(|wire| wire.messages.clone());
            tokio::select! {
                word = told.recv() => match word {
                    Some(word) => self.take(word),
                    None => return self.end().await,
                },
                Some((connection, event)) = self.happened.recv() => self.hear(connection, event),
                () = tokio::time::sleep_until(wake.into()) => {}
                Some(_) = self.wires.join_next() => {}
                Some(Ok(renewed)) = self.renewals.join_next() => self.renewed(renewed),
                Some(Ok(joined)) = self.rejoins.join_next() => self.rejoined(joined),
                // The stream has taken the last message: there may be another.
                () = taken(free) => {}
            }
            self.look_at_certificate();
        }
    }

    fn take(&mut self, word: Tell) {
        let now = Instant::now();
        match word {
            Tell::Runs(all) => {
                self.member.runs(all);
                self.met = true;
            }
            Tell::Report(service, run) => self.member.report(&service, run),
            Tell::Used(services) => self.member.used(now, &services),
            Tell::Configured(services) => self.member.configure(now, services),
            Tell::Placed(placed) => self.member.placed(placed),
            Tell::Settle(asked) => self.settling.push(asked),
            Tell::Left => self.left = true,
            Tell::Status(asked) => {
                let certificate = self.certified.as_ref().map(|certified| {
                    let life = certified.holder.current().certificate().life;
                    status::certificate(life, Moment::now(), self.jitter, self.unrenewed.clone())
                });
                // Who asked may have gone.
                let mut status = status::of(&self.member, now, certificate);
                status.notices.extend(self.rejoin.iter().map(|rejoin| rejoin.why.clone()));
                let _ = asked.send(status);
            }
        }
    }

    fn hear(&mut self, connection: Connection, event: Event) {
        if self.wire.as_ref().is_none_or(|wire| wire.connection != connection) {
            return;
        }
        let now = Instant::now();
        let steps = match event {
            Event::Connected { from } => {
                self.member.is_at(&from);
                self.member.connected(now, connection);
                return;
            }
            Event::Alive => {
                self.member.heard(now, connection);
                return;
            }
            Event::Message(message) => self.member.received(now, wall_clock(), connection, message),
            Event::Closed(why) => {
                self.wire = None;
                self.member.closed(now, connection, &why)
            }
        };
        self.perform(now, steps);
    }

    fn perform(&mut self, now: Instant, steps: Vec<Step>) {
        let mut steps = std::collections::VecDeque::from(steps);
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Connect(connection, address) => match self.target(&address) {
                    Ok(target) => {
                        let (events, wires) = (self.events.clone(), &mut self.wires);
                        self.wire = Some(Wire::open(connection, target, events, wires));
                    }
                    Err(why) => steps.extend(self.member.closed(now, connection, &why)),
                },
                Step::Close(connection) => {
                    self.wire = self.wire.take().filter(|wire| wire.connection != connection);
                }
                Step::Ping(connection) => {
                    if let Some(wire) = &self.wire
                        && wire.connection == connection
                    {
                        wire.ping();
                    }
                }
                // The heart ends before this task does.
                Step::News(news) => drop(self.news.send(news)),
                Step::Told(what) => tracing::info!("{what}"),
            }
        }
    }

    fn answer_settling(&mut self) {
        let answer = match self.member.session() {
            None => false,
            Some(_) if self.member.has_reported() => true,
            Some(_) => return,
        };
        for asked in self.settling.drain(..) {
            // Who asked may have gone.
            let _ = asked.send(answer);
        }
    }

    async fn last_word(&mut self) {
        if self.member.session().is_none() {
            return;
        }
        self.say(Instant::now());
        while let Some(wire) = &self.wire
            && wire.messages.capacity() == 0
        {
            let messages = wire.messages.clone();
            taken(Some(messages)).await;
            self.say(Instant::now());
        }
        // What the stream took is on its way by then.
        tokio::time::sleep(ON_ITS_WAY).await;
    }

    fn target(&self, address: &str) -> Result<super::dial::Target, String> {
        let certified = self.certified.as_ref().ok_or("this host has no certificate")?;
        target(address, &certified.holder).map_err(|error| error.to_string())
    }

    /// Says what there is to say, as long as the stream takes it.
    fn say(&mut self, now: Instant) {
        let Some(wire) = &self.wire else { return };
        while let Ok(room) = wire.messages.try_reserve()
            && let Some(message) = self.member.next_message(now, wall_clock())
        {
            room.send(message.encode());
        }
    }

    fn write(&mut self, now: Instant) {
        let changed = self.member.take_changed();
        if changed.mirror {
            self.files.mirror.changed();
        }
        if changed.known {
            self.files.known.changed();
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let (mirror, known) = (due(self.files.mirror.due(now)), due(self.files.known.due(now)));
        if mirror || known {
            self.write_now(now, mirror, known);
        }
    }

    fn write_now(&mut self, now: Instant, mirror: bool, known: bool) {
        let Self { files, member, .. } = self;
        let written = tokio::task::block_in_place(|| {
            let mirror = if mirror { files.mirror.write(now, member.mirror()) } else { Ok(()) };
            let known = if known { files.known.write(now, member.known()) } else { Ok(()) };
            mirror.and(known)
        });
        let trouble = written.err().map(|error| error.to_string());
        if let Some(trouble) = &trouble
            && self.unwritten.as_ref() != Some(trouble)
        {
            tracing::warn!("what is known of other hosts is not on disk: {trouble}");
        }
        self.unwritten = trouble;
    }

    fn wake(&self, now: Instant) -> Instant {
        let never = now + LOOK_AT_CERTIFICATE;
        let tick = self.member.next_tick().filter(|_| self.met);
        let due = [tick, self.files.mirror.due(now), self.files.known.due(now)];
        let certificate = self.certified.as_ref().map(|_| self.renew_at);
        due.into_iter().flatten().chain(certificate).min().unwrap_or(never).min(never)
    }

    /// Renews the certificate when its age asks for it.
    fn look_at_certificate(&mut self) {
        let now = Instant::now();
        let Some(Certified { place, key, holder }) = &self.certified else { return };
        if self.renew_at > now {
            return;
        }
        let life = holder.current().certificate().life;
        let due = life.due(Moment::now(), self.jitter);
        self.renew_at = now
            + match due {
                Due::Fine { renew_at } => {
                    renew_at.since(Moment::now()).clamp(Duration::from_secs(1), LOOK_AT_CERTIFICATE)
                }
                Due::NotYetValid { by } => by.clamp(Duration::from_secs(1), RENEW_AGAIN),
                Due::Renew | Due::Alarm { .. } | Due::Expired { .. } => {
                    RENEW_AGAIN.min(life.not_after.since(life.not_before) / 30)
                }
            };
        match due {
            Due::Fine { .. } | Due::NotYetValid { .. } => {}
            Due::Expired { .. } => self.complain(status::words(due)),
            Due::Renew | Due::Alarm { .. } => {
                let Joined { control, node, .. } = self.member.joined().clone();
                let (place, key, holder) = (place.clone(), key.clone(), holder.clone());
                self.renewals
                    .spawn(async move { place.renew(&control, &node, &key, &holder).await });
            }
        }
    }

    fn renewed(&mut self, renewed: Result<(), CredentialsFailed>) {
        let Some(Certified { holder, .. }) = &self.certified else { return };
        let life = holder.current().certificate().life;
        match renewed {
            Ok(()) => {
                let until = life.not_after;
                tracing::info!("this host's certificate was renewed and holds until {until}");
                self.unrenewed = None;
                self.renew_at = Instant::now();
            }
            Err(error) => {
                let alarm = status::words(life.due(Moment::now(), self.jitter));
                let why =
                    alarm.unwrap_or_else(|| "this host's certificate is not renewed yet".into());
                self.complain(Some(format!("{why}: {error}")));
            }
        }
    }

    fn begin_to_rejoin(&mut self) {
        let Some(Rejoin { token, place, .. }) = &self.rejoin else { return };
        let Joined { control, node, .. } = self.member.joined().clone();
        let (token, place) = (token.clone(), place.clone());
        self.rejoins
            .spawn(async move { place.join_at_last(&control, &node, &token, REJOIN).await });
    }

    fn rejoined(&mut self, joined: Result<(Key, Credentials), CredentialsFailed>) {
        let Some(mut rejoin) = self.rejoin.take() else { return };
        let (key, credentials) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                rejoin.why = format!("{}; give it a fresh one", not_rejoined(&error));
                tracing::warn!("{}", rejoin.why);
                self.rejoin = Some(rejoin);
                return;
            }
        };
        let Rejoin { token, place, kept, .. } = rejoin;
        let holder = match self.certified.take() {
            Some(Certified { holder, .. }) => {
                holder.replace(credentials);
                holder
            }
            None => Holder::new(credentials),
        };
        self.certified = Some(Certified { place, key: Arc::new(key), holder });
        let now = Instant::now();
        self.renew_at = now;
        self.unrenewed = None;
        self.member.certified(now, token.id);
        let joined = self.member.joined();
        tracing::info!("this host has joined again as {} in zone {}", joined.node, joined.zone);
        if let Err(error) = kept.save(joined) {
            tracing::warn!("that this host has joined is not on disk: {error}");
        }
    }

    fn complain(&mut self, why: Option<String>) {
        let Some(why) = why else { return };
        if self.unrenewed.as_ref() != Some(&why) {
            tracing::warn!("{why}");
        }
        self.unrenewed = Some(why);
    }

    /// Says what there is still to say, and has the next life begin with what is known now.
    async fn end(mut self) {
        // Who does not hear it in that time hears that the session ended.
        let _ = tokio::time::timeout(LAST_WORD, self.last_word()).await;
        if self.left {
            return;
        }
        let changed = self.member.take_changed();
        let now = Instant::now();
        let mirror = changed.mirror || self.files.mirror.due(now).is_some();
        let known = changed.known || self.files.known.due(now).is_some();
        self.write_now(now, mirror, known);
    }
}

/// In words.
pub(crate) fn not_rejoined(error: &CredentialsFailed) -> String {
    format!("this host could not join again by the token that it was given: {error}")
}

/// Waits until the stream has taken what it was given; for ever when it has nothing.
async fn taken(messages: Option<mpsc::Sender<bytes::Bytes>>) {
    match messages {
        Some(messages) if messages.capacity() == 0 => {
            if messages.reserve().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        _ => std::future::pending().await,
    }
}

fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
