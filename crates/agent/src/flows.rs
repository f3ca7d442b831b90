//! Connections one by one: from the kernel's samples to those who watch.
//!
//! The kernel tells of closed connections only while somebody watches, and of fewer of them when
//! there are many; what connect() and bind() refuse it always tells. No step waits for the next:
//! what a full queue does not take is counted, and told to those who watch.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sinew_api::{Flow, FlowItem, FlowVerdict};
use sinew_datapath as datapath;
use tokio::{
    sync::{Notify, broadcast, mpsc},
    time::MissedTickBehavior,
};

use crate::{
    bus::now_ms,
    runtime::{Handle, SharedDatapath},
    status,
};

pub(crate) mod asked;
mod names;

pub(crate) use names::{EXEC, Names, OUTSIDE};

/// What is kept for those who come later.
const KEPT: usize = 1024;
/// What a follower may be behind before it loses some.
const BACKLOG: usize = 1024;
/// What may wait to be given its names.
const WAITING: usize = 4096;
/// What is given its names together.
const BATCH: usize = 256;
/// From look to look at how many there are.
const LOOK: Duration = Duration::from_millis(100);
/// Looks from one at what was lost to the next.
const LOOKS_PER_LOSS: u32 = 10;
/// Closed connections that are told of between two looks: with more, the kernel samples.
const PER_LOOK: u32 = 200;
/// The kernel tells of one of so many at least.
const ONE_OF_MAX: u32 = 1 << 16;
/// From one look at everybody's names to the next.
const NAMES_AGE: Duration = Duration::from_millis(20);

/// Connections on their way to those who watch.
pub(crate) struct Flows {
    raw: mpsc::Sender<datapath::Flow>,
    /// Did not find room in `raw`.
    overrun: AtomicU64,
    told: broadcast::Sender<Arc<FlowItem>>,
    kept: Mutex<VecDeque<Arc<FlowItem>>>,
    /// What the kernel was told last; 0: nobody watches.
    one_of: Mutex<u32>,
    /// Somebody left.
    left: Notify,
    datapath: SharedDatapath,
}

/// Somebody who watches; the kernel tells no more when the last one is gone.
pub(crate) struct Watch {
    receiver: broadcast::Receiver<Arc<FlowItem>>,
    /// Dropped after the receiver, which then counts no more.
    _leaving: Leaving,
}

struct Leaving(Arc<Flows>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.left.notify_one();
    }
}

impl Watch {
    /// The next one. Taking it is cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Arc<FlowItem>> {
        match self.receiver.recv().await {
            Ok(item) => Some(item),
            Err(broadcast::error::RecvError::Lagged(flows)) => {
                let reason = "this reader was too slow".to_owned();
                Some(Arc::new(FlowItem::Lost { flows, reason }))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flows {
    /// Nobody watches yet. What is offered comes out of the receiver, for [`run`].
    pub(crate) fn new(datapath: SharedDatapath) -> (Arc<Self>, mpsc::Receiver<datapath::Flow>) {
        let (raw, receiver) = mpsc::channel(WAITING);
        let flows = Self {
            raw,
            overrun: AtomicU64::new(0),
            told: broadcast::channel(BACKLOG).0,
            kept: Mutex::default(),
            one_of: Mutex::new(0),
            left: Notify::new(),
            datapath,
        };
        (Arc::new(flows), receiver)
    }

    /// Takes what the kernel told, without waiting for anybody.
    pub(crate) fn offer(&self, flow: datapath::Flow) {
        if self.raw.try_send(flow).is_err() {
            self.overrun.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The last ones, oldest first.
    pub(crate) fn kept(&self) -> Vec<Arc<FlowItem>> {
        locked(&self.kept).iter().cloned().collect()
    }

    /// Watches: when this is done, every connection that closes from now on may be told.
    pub(crate) async fn watch(self: &Arc<Self>) -> Watch {
        let watch = Watch { receiver: self.told.subscribe(), _leaving: Leaving(Arc::clone(self)) };
        self.adjust(|one_of| one_of).await;
        watch
    }

    /// Nobody watches any more, since the agent ends.
    pub(crate) async fn end(&self) {
        let datapath = self.datapath.clone();
        let _ = tokio::task::spawn_blocking(move || datapath.lock().sample_flows(0)).await;
    }

    fn watched(&self) -> bool {
        self.told.receiver_count() > 0
    }

    /// Tells the kernel how many are wanted: none when nobody watches. The lock makes joining and
    /// leaving take turns; the data path may be busy for a while.
    async fn adjust(self: &Arc<Self>, next: impl FnOnce(u32) -> u32 + Send + 'static) {
        let flows = Arc::clone(self);
        let adjusted = tokio::task::spawn_blocking(move || {
            let mut one_of = locked(&flows.one_of);
            let wanted = if flows.watched() { next((*one_of).max(1)) } else { 0 };
            if wanted != *one_of {
                flows.datapath.lock().sample_flows(wanted);
                *one_of = wanted;
            }
        });
        let _ = adjusted.await;
    }

    fn tell(&self, item: FlowItem) {
        let item = Arc::new(item);
        if matches!(*item, FlowItem::Flow(_)) {
            let mut kept = locked(&self.kept);
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(Arc::clone(&item));
        }
        // Nobody may watch.
        let _ = self.told.send(item);
    }
}

/// How many there shall be for each that is told, after `seen` were told since the last look.
fn next_sample(one_of: u32, seen: u32) -> u32 {
    if seen > PER_LOOK {
        one_of.saturating_mul((seen / PER_LOOK).max(2).next_power_of_two()).min(ONE_OF_MAX)
    } else if seen < PER_LOOK / 4 && one_of > 1 {
        one_of / 2
    } else {
        one_of
    }
}

/// Gives names to what was offered and tells it, for as long as it is polled.
pub(crate) async fn run(
    flows: Arc<Flows>,
    mut raw: mpsc::Receiver<datapath::Flow>,
    handle: Handle,
) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut teller = Teller { flows, handle, names: Names::default(), looked_at: None };
    let (mut batch, mut closed) = (Vec::with_capacity(BATCH), 0);
    let mut losses = Losses::default();
    loop {
        let watched = teller.flows.watched();
        tokio::select! {
            biased;
            _ = looks.tick(), if watched => {
                let seen = std::mem::take(&mut closed);
                if next_sample(1, seen) > 1 || seen < PER_LOOK / 4 {
                    teller.flows.adjust(move |one_of| next_sample(one_of, seen)).await;
                }
                if let Some(lost) = losses.look(&teller.flows).await {
                    teller.flows.tell(lost);
                }
            }
            () = teller.flows.left.notified() => {
                teller.flows.adjust(|one_of| one_of).await;
                if !teller.flows.watched() {
                    losses = Losses::default();
                }
            }
            count = raw.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                closed += teller.tell(batch.drain(..)).await;
            }
        }
    }
}

/// What was lost while somebody watched.
#[derive(Default)]
struct Losses {
    looks: u32,
    before: Option<u64>,
}

impl Losses {
    async fn look(&mut self, flows: &Arc<Flows>) -> Option<FlowItem> {
        self.looks += 1;
        if self.looks % LOOKS_PER_LOSS != 1 {
            return None;
        }
        let datapath = flows.datapath.clone();
        let totals = tokio::task::spawn_blocking(move || datapath.lock().totals()).await;
        let lost = totals.ok()?.ok()?.flows_lost + flows.overrun.load(Ordering::Relaxed);
        let before = self.before.replace(lost).unwrap_or(lost);
        let reason = "there were more than the agent could take".to_owned();
        (lost > before).then(|| FlowItem::Lost { flows: lost - before, reason })
    }
}

struct Teller {
    flows: Arc<Flows>,
    handle: Handle,
    names: Names,
    looked_at: Option<Instant>,
}

impl Teller {
    /// Tells all of them, and how many of them are told of as one of so many.
    async fn tell(&mut self, batch: impl Iterator<Item = datapath::Flow>) -> u32 {
        let batch: Vec<_> = batch.collect();
        self.learn(&batch).await;
        let one_of = (*locked(&self.flows.one_of)).max(1);
        let clocks = Clocks { monotonic_ns: monotonic_ns(), wall_ms: now_ms() };
        let mut closed = 0;
        for raw in batch {
            let Some(flow) = translate(&raw, one_of, clocks, &self.names) else { continue };
            closed += u32::from(sampled(&raw));
            self.flows.tell(FlowItem::Flow(flow));
        }
        closed
    }

    /// Learns the names that `batch` needs and that are not known yet.
    async fn learn(&mut self, batch: &[datapath::Flow]) {
        let unknown = self.names.unknown_backends(batch);
        if !unknown.is_empty() {
            let datapath = self.flows.datapath.clone();
            let keys = tokio::task::spawn_blocking(move || {
                let datapath = datapath.lock();
                let key = |backend| Some((backend, datapath.backend_key(backend)?));
                unknown.into_iter().filter_map(key).collect::<Vec<_>>()
            });
            self.names.add_backends(keys.await.unwrap_or_default());
        }
        if batch.iter().all(|flow| self.names.know(flow)) {
            return;
        }
        // A caller that asks for what is nobody's again and again does not keep the agent busy.
        if let Some(at) = self.looked_at {
            tokio::time::sleep_until((at + NAMES_AGE).into()).await;
        }
        if let Ok(names) = self.handle.call(|runtime| status::flow_names(&runtime.core)).await {
            self.names.learn(names);
        }
        self.looked_at = Some(Instant::now());
    }
}

/// Both clocks at one moment: the kernel's times are of the first, people's of the second.
#[derive(Clone, Copy)]
struct Clocks {
    monotonic_ns: u64,
    wall_ms: u64,
}

impl Clocks {
    fn wall_ms(self, at_ns: u64) -> u64 {
        self.wall_ms.saturating_sub(self.monotonic_ns.saturating_sub(at_ns) / 1_000_000)
    }
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

fn verdict(number: u32) -> Option<FlowVerdict> {
    use sinew_abi::verdict as v;
    Some(match number {
        v::CLOSED => FlowVerdict::Closed,
        v::REFUSED => FlowVerdict::Refused,
        v::RESET => FlowVerdict::Reset,
        v::TIMED_OUT => FlowVerdict::TimedOut,
        v::CANCELLED => FlowVerdict::Cancelled,
        v::NO_BACKEND => FlowVerdict::NoBackend,
        v::NO_SUCH_PORT => FlowVerdict::NoSuchPort,
        v::BIND_DENIED => FlowVerdict::BindDenied,
        _ => return None,
    })
}

/// Whether the kernel tells of one of so many only.
fn sampled(raw: &datapath::Flow) -> bool {
    raw.verdict == sinew_abi::verdict::CLOSED || names::is_outside(raw)
}

/// `None` for what is no call, and for a verdict of another version.
fn translate(raw: &datapath::Flow, one_of: u32, clocks: Clocks, names: &Names) -> Option<Flow> {
    let verdict = verdict(raw.verdict).filter(|_| !names.is_look_up(raw))?;
    let destination = names.destination(raw);
    let reason = match verdict {
        FlowVerdict::NoSuchPort if destination.is_none() => "no service has this address",
        verdict => verdict.reason(),
    };
    Some(Flow {
        at_ms: clocks.wall_ms(raw.at_ns),
        source: names.source(raw),
        destination,
        address: raw.address,
        port: raw.port,
        protocol: raw.protocol,
        backend: names.backend(raw),
        verdict,
        reason: reason.to_owned(),
        connect_us: (raw.connect_us > 0).then_some(raw.connect_us),
        duration_us: (raw.duration_us > 0).then_some(raw.duration_us),
        sent_bytes: raw.sent_bytes,
        received_bytes: raw.received_bytes,
        one_of: if sampled(raw) { one_of } else { 1 },
    })
}

#[cfg(test)]
mod tests;
