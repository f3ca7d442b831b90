//! Many agents of the real protocol in one process, for the benches: they join, report endpoints that
//! change, subscribe, answer each update, and come back when control went away.
//!
//! Prints `ready` each time that all of them have what they subscribe to, after the beginning and after
//! control went away, and what was found as one line of JSON when standard input ends.
#![allow(clippy::print_stdout, reason = "it tells a bench what it found")]

use std::{
    collections::BTreeMap,
    error::Error,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sinew_control::testing::{self, Member, Talk};
use sinew_model::{
    NodeName, ServiceName, ZoneName,
    fleet::{Endpoint, EndpointKey, EndpointStatus, Generation, ServiceRecord},
};
use sinew_proto::{FromAgent, FromControl, Report, ServiceReport};
use tokio::{sync::Semaphore, time::sleep};

type Failure = Box<dyn Error + Send + Sync>;

/// Those of a host, shared evenly among its services.
const SERVICES_OF_HOST: usize = 10;
/// Services that an agent hears of besides what it runs.
const SUBSCRIBED: usize = 3;
/// Agents that join at once.
const JOINING: usize = 8;
/// Changes carry a number of these in the weight of the endpoint.
const STAMPS: u64 = 60_000;
/// From one attempt to connect to the next at most.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How long the views of all may take to be what is reported, once nothing changes any more.
const SETTLE: Duration = Duration::from_secs(30);

/// What all of them share.
struct Fleet {
    control: Vec<SocketAddr>,
    agents: usize,
    endpoints: usize,
    /// What all of them subscribe to, if anything.
    common: Option<ServiceName>,
    /// When the change of each number was reported; nanoseconds since the start.
    begun: Vec<AtomicU64>,
    started: Instant,
    measuring: AtomicBool,
    ending: AtomicBool,
    /// Reports that arrived and were answered, in microseconds.
    acked: Mutex<Vec<u32>>,
    changes: AtomicU64,
    open: AtomicUsize,
    /// How often control went away from an agent.
    lost: AtomicU64,
    /// When the last agent had everything again; nanoseconds since the start.
    last_open: AtomicU64,
}

impl Fleet {
    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn service(&self, number: usize) -> Result<ServiceName, Failure> {
        Ok(format!("s{}", number % self.agents).parse()?)
    }

    /// Which services agent `number` runs: each is run by so many agents.
    fn run_by(&self, number: usize) -> Result<Vec<ServiceName>, Failure> {
        if self.endpoints == 0 {
            return Ok(Vec::new());
        }
        (0..SERVICES_OF_HOST.min(self.agents)).map(|step| self.service(number + step)).collect()
    }

    fn subscribed_by(&self, number: usize) -> Result<Vec<ServiceName>, Failure> {
        if let Some(common) = &self.common {
            return Ok(vec![common.clone()]);
        }
        let far = number + self.agents / 2;
        (0..SUBSCRIBED.min(self.agents)).map(|step| self.service(far + step * 7)).collect()
    }
}

/// What one agent's host runs and knows.
struct Host {
    fleet: Arc<Fleet>,
    member: Member,
    number: usize,
    runs: BTreeMap<ServiceName, BTreeMap<u32, Endpoint>>,
    knows: BTreeMap<ServiceName, (Generation, BTreeMap<EndpointKey, u32>)>,
    sequence: u64,
    /// Whether what it runs is in the store, of this session.
    reported: bool,
    /// Whether it has everything.
    open: bool,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [control, token, agents, endpoints, churn, common @ ..] = &arguments[..] else {
        return Err("usage: fleet ADDRESS,… TOKEN AGENTS ENDPOINTS CHANGES_PER_S [SERVICE]".into());
    };
    let control = control.split(',').map(str::parse).collect::<Result<Vec<SocketAddr>, _>>()?;
    let fleet = Arc::new(Fleet {
        control,
        agents: agents.parse()?,
        endpoints: endpoints.parse()?,
        common: common.first().map(|name| name.parse()).transpose()?,
        begun: (0..STAMPS).map(|_| AtomicU64::new(0)).collect(),
        started: Instant::now(),
        measuring: AtomicBool::new(false),
        ending: AtomicBool::new(false),
        acked: Mutex::new(Vec::new()),
        changes: AtomicU64::new(0),
        open: AtomicUsize::new(0),
        lost: AtomicU64::new(0),
        last_open: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(fleet, token.clone(), churn.parse()?))
}

async fn run(fleet: Arc<Fleet>, token: String, changes_per_s: f64) -> Result<(), Failure> {
    let joining = Arc::new(Semaphore::new(JOINING));
    let mut tasks = Vec::new();
    for number in 0..fleet.agents {
        let (fleet, token, joining) = (fleet.clone(), token.clone(), joining.clone());
        tasks.push(tokio::spawn(async move {
            let node: NodeName = format!("sim-{number}").parse()?;
            let permit = joining.acquire_owned().await?;
            let member = testing::join(fleet.control[number % fleet.control.len()], &token, &node);
            let member = member.await?;
            drop(permit);
            Host::new(fleet, member, number)?.live(changes_per_s).await
        }));
    }
    while fleet.open.load(Ordering::Relaxed) < fleet.agents {
        if let Some(ended) = tasks.iter().position(tokio::task::JoinHandle::is_finished) {
            tasks.swap_remove(ended).await??;
        }
        sleep(Duration::from_millis(10)).await;
    }
    fleet.measuring.store(true, Ordering::Relaxed);
    let watched = fleet.clone();
    std::thread::spawn(move || watch(&watched));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    fleet.measuring.store(false, Ordering::Relaxed);
    fleet.ending.store(true, Ordering::Relaxed);
    let mut hosts = Vec::new();
    for task in tasks {
        hosts.push(task.await??);
    }
    println!("{}", found(&fleet, &hosts)?);
    Ok(())
}

/// Says when all have everything, and each time that they have it again.
fn watch(fleet: &Fleet) {
    let mut complete = false;
    while !fleet.ending.load(Ordering::Relaxed) {
        let now = fleet.open.load(Ordering::Relaxed) == fleet.agents;
        if now && !complete {
            println!("ready");
        }
        complete = now;
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What was measured, and what of what is reported somebody who asked for it does not know.
fn found(fleet: &Fleet, hosts: &[Host]) -> Result<serde_json::Value, Failure> {
    let mut truth: BTreeMap<&ServiceName, BTreeMap<EndpointKey, u32>> = BTreeMap::new();
    for host in hosts {
        for (service, endpoints) in &host.runs {
            let node = &host.member.node;
            let of = endpoints.iter().map(|(instance, endpoint)| {
                (EndpointKey { node: node.clone(), instance: *instance }, endpoint.weight)
            });
            truth.entry(service).or_default().extend(of);
        }
    }
    let (mut lost, mut stale) = (0, 0);
    for host in hosts {
        for (service, (_, known)) in &host.knows {
            let Some(there) = truth.get(service) else { continue };
            lost += there.keys().filter(|key| !known.contains_key(*key)).count();
            stale += there.iter().filter(|(key, weight)| known.get(key) != Some(weight)).count();
        }
    }
    let mut acked = fleet.acked.lock().unwrap_or_else(PoisonError::into_inner);
    acked.sort_unstable();
    let at = |share: f64| {
        let index = (acked.len() as f64 * share).ceil() as usize;
        acked.get(index.saturating_sub(1)).map_or(0.0, |us| f64::from(*us) / 1e3)
    };
    Ok(serde_json::json!({
        "changes": fleet.changes.load(Ordering::Relaxed),
        "acks": acked.len(),
        "change_to_ack_p50_ms": at(0.5),
        "change_to_ack_p99_ms": at(0.99),
        "sessions_lost": fleet.lost.load(Ordering::Relaxed),
        "last_open_ns": fleet.last_open.load(Ordering::Relaxed),
        "endpoints": truth.values().map(BTreeMap::len).sum::<usize>(),
        "endpoints_lost": lost,
        "endpoints_stale": stale,
    }))
}

fn own_address(number: usize) -> Ipv4Addr {
    let [.., high, low] = number.to_be_bytes();
    [10, 112, high, low].into()
}

impl Host {
    fn new(fleet: Arc<Fleet>, member: Member, number: usize) -> Result<Self, Failure> {
        let services = fleet.run_by(number)?;
        let each = fleet.endpoints.checked_div(services.len()).unwrap_or(0) as u32;
        let zone: ZoneName = format!("z{}", number % 3).parse()?;
        let endpoint = |_| Endpoint {
            address4: Some(own_address(number)),
            address6: None,
            ports: BTreeMap::new(),
            zone: zone.clone(),
            weight: 65_000,
            status: EndpointStatus::Up,
        };
        let runs = services.into_iter().map(|service| {
            (service, (0..each).map(|instance| (instance, endpoint(instance))).collect())
        });
        let runs = runs.collect();
        let subscribed = fleet.subscribed_by(number)?;
        let knows = subscribed.into_iter().map(|name| (name, Default::default())).collect();
        Ok(Self { fleet, member, number, runs, knows, sequence: 0, reported: false, open: false })
    }

    /// Until all end: sessions one after the other.
    async fn live(mut self, changes_per_s: f64) -> Result<Self, Failure> {
        let every = Duration::from_secs_f64(self.fleet.agents as f64 / changes_per_s.max(1e-9));
        let mut attempt = self.number;
        loop {
            let at = self.fleet.control[attempt % self.fleet.control.len()];
            attempt += 1;
            match self.session(at, every).await {
                Ok(()) => return Ok(self),
                Err(_) if !self.fleet.ending.load(Ordering::Relaxed) => {
                    let share = (self.number * 7919 + attempt * 104_729) % 1000;
                    sleep(BACK_OFF.mul_f64(share as f64 / 1000.0)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn session(&mut self, at: SocketAddr, every: Duration) -> Result<(), Failure> {
        let zone: ZoneName = format!("z{}", self.number % 3).parse()?;
        let mut hello = self.member.hello(zone);
        hello.address4 = Some(own_address(self.number));
        hello.known = self.knows.iter().map(|(name, (at, _))| (name.clone(), *at)).collect();
        let (mut talk, _) = self.member.open(at, hello).await?;
        (self.reported, self.open) = (false, false);
        let all: Vec<ServiceName> = self.runs.keys().cloned().collect();
        self.report(&talk, true, &all).await?;
        let ended = self.talk(&mut talk, every).await;
        if self.open {
            self.fleet.open.fetch_sub(1, Ordering::Relaxed);
        }
        if ended.is_err() {
            self.fleet.lost.fetch_add(1, Ordering::Relaxed);
        }
        ended
    }

    async fn talk(&mut self, talk: &mut Talk, every: Duration) -> Result<(), Failure> {
        let first = every.mul_f64((self.number * 7919 % 1000) as f64 / 1000.0);
        let mut change = Box::pin(sleep(first));
        let mut end: Option<Instant> = None;
        loop {
            let ending = self.fleet.ending.load(Ordering::Relaxed);
            if ending && end.is_none() {
                end = Some(Instant::now() + SETTLE.min(Duration::from_secs(3)));
            }
            if end.is_some_and(|end| end <= Instant::now()) {
                return Ok(());
            }
            tokio::select! {
                heard = talk.hear() => self.take(talk, heard?).await?,
                () = &mut change, if !ending && !self.runs.is_empty() => {
                    self.change(talk).await?;
                    change = Box::pin(sleep(every));
                }
                () = sleep(Duration::from_millis(200)) => {}
            }
        }
    }

    /// Another weight of one endpoint, by which whoever hears of it knows when it was reported.
    async fn change(&mut self, talk: &Talk) -> Result<(), Failure> {
        if !self.fleet.measuring.load(Ordering::Relaxed) {
            return Ok(());
        }
        let change = self.fleet.changes.fetch_add(1, Ordering::Relaxed);
        let stamp = change % STAMPS;
        let index = (change as usize).wrapping_mul(31) % self.runs.len();
        let Some((service, endpoints)) = self.runs.iter_mut().nth(index) else { return Ok(()) };
        let service = service.clone();
        if let Some(endpoint) = endpoints.values_mut().nth(change as usize % 10) {
            endpoint.weight = stamp as u32;
        }
        self.fleet.begun[stamp as usize].store(self.fleet.now_ns(), Ordering::Relaxed);
        self.report(talk, false, &[service]).await
    }

    async fn report(
        &mut self,
        talk: &Talk,
        full: bool,
        services: &[ServiceName],
    ) -> Result<(), Failure> {
        self.sequence += 1;
        let record = || ServiceRecord {
            ports: Vec::new(),
            balance: Default::default(),
            outlier: Default::default(),
        };
        let one = |name: &ServiceName| {
            let endpoints = self.runs.get(name).cloned().unwrap_or_default();
            let gone = [].into();
            (name.clone(), ServiceReport { record: Some(record()), endpoints, gone })
        };
        let services = services.iter().map(one).collect();
        let report = Report { sequence: self.sequence, full, services };
        Ok(talk.say(FromAgent::Report(report)).await?)
    }

    async fn take(&mut self, talk: &Talk, message: FromControl) -> Result<(), Failure> {
        let heard_ns = self.fleet.now_ns();
        let (service, generation) = match message {
            FromControl::Snapshot(snapshot) => {
                let known = self.knows.entry(snapshot.service.clone()).or_default();
                known.0 = snapshot.generation;
                let weights = snapshot.endpoints.into_iter().map(|(key, it)| (key, it.weight));
                known.1 = weights.collect();
                (snapshot.service, snapshot.generation)
            }
            FromControl::Delta(delta) => {
                let mut fresh = Vec::new();
                let known = self.knows.entry(delta.service.clone()).or_default();
                known.0 = delta.to;
                known.1.retain(|key, _| !delta.removed.contains_key(key));
                for (key, endpoint) in delta.put {
                    // A host's endpoints of a service come together.
                    if known.1.insert(key, endpoint.weight) != Some(endpoint.weight) {
                        fresh.push(endpoint.weight);
                    }
                }
                fresh.into_iter().for_each(|weight| self.heard_of(weight, heard_ns));
                (delta.service, delta.to)
            }
            FromControl::Reported(_) => {
                self.reported = true;
                self.look(heard_ns);
                return Ok(());
            }
            FromControl::Goodbye { reason, .. } => return Err(reason.into()),
            _ => return Ok(()),
        };
        talk.say(FromAgent::Ack { service, generation }).await?;
        self.look(heard_ns);
        Ok(())
    }

    /// Whether it has everything now.
    fn look(&mut self, now_ns: u64) {
        let all = self.knows.values().all(|(at, _)| *at > Generation(0));
        if self.reported && all && !self.open {
            self.open = true;
            self.fleet.open.fetch_add(1, Ordering::Relaxed);
            self.fleet.last_open.store(now_ns, Ordering::Relaxed);
        }
    }

    /// A change arrived, for the first time at this agent.
    fn heard_of(&self, weight: u32, heard_ns: u64) {
        let Some(begun) = self.fleet.begun.get(weight as usize) else { return };
        let begun_ns = begun.load(Ordering::Relaxed);
        if begun_ns > 0 && self.fleet.measuring.load(Ordering::Relaxed) {
            let us = heard_ns.saturating_sub(begun_ns) / 1000;
            let mut acked = self.fleet.acked.lock().unwrap_or_else(PoisonError::into_inner);
            acked.push(u32::try_from(us).unwrap_or(u32::MAX));
        }
    }
}
