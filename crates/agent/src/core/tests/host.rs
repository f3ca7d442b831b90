//! A host without a kernel: processes that start, listen, fail and end when a test says so.

use std::path::Path;

use sinew_datapath::Wanted;
use sinew_model::{Check, Command, Project, Restart, Service};
use sinew_workload::ProcessId;

use super::*;
use crate::{
    adopt::{Adoption, Place, Target},
    launch::Owner,
};

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Apply {
        replicas: [u16; 3],
        variant: u8,
    },
    Remove,
    Scale {
        service: u8,
        replicas: u16,
    },
    Restart {
        service: u8,
    },
    Drain {
        service: u8,
        replica: u32,
    },
    Attach {
        service: bool,
    },
    Adopt {
        foreign: bool,
    },
    Release {
        replica: u32,
    },
    DrainAdopted {
        replica: u32,
    },
    /// The n-th of what is under way ends, well or badly.
    Finish {
        nth: usize,
        well: bool,
    },
    /// The n-th process starts, listens, exits…
    Process {
        nth: usize,
        act: Act,
    },
    Check {
        nth: usize,
        well: bool,
    },
    Deliver {
        kernel: bool,
    },
    Connections {
        open: u32,
    },
    Wait {
        ms: u64,
    },
    RestartAgent,
    NoticesLost,
    /// All that is under way goes one step on.
    GoOn {
        notices_first: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Start,
    Listen,
    /// A listener more, as of a server that reads its configuration again.
    ListenAgain,
    Exit,
    /// Well, and for good.
    Finish,
    SupervisorDies,
    /// The cgroup of an adopted one is made anew.
    Replace,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let replicas = || 0..4u16;
    let nth = || 0..64usize;
    let act = prop_oneof![
        4 => Just(Act::Start),
        4 => Just(Act::Listen),
        1 => Just(Act::ListenAgain),
        2 => Just(Act::Exit),
        1 => Just(Act::SupervisorDies),
        1 => Just(Act::Replace)
    ];
    prop_oneof![
        3 => ([replicas(), replicas(), replicas()], 0..3u8)
            .prop_map(|(replicas, variant)| Step::Apply { replicas, variant }),
        1 => Just(Step::Remove),
        2 => (0..3u8, replicas()).prop_map(|(service, replicas)| Step::Scale { service, replicas }),
        2 => (0..3u8).prop_map(|service| Step::Restart { service }),
        1 => (0..3u8, 0..4u32).prop_map(|(service, replica)| Step::Drain { service, replica }),
        1 => any::<bool>().prop_map(|service| Step::Attach { service }),
        1 => any::<bool>().prop_map(|foreign| Step::Adopt { foreign }),
        1 => (0..3u32).prop_map(|replica| Step::Release { replica }),
        1 => (0..3u32).prop_map(|replica| Step::DrainAdopted { replica }),
        24 => (nth(), proptest::bool::weighted(0.9))
            .prop_map(|(nth, well)| Step::Finish { nth, well }),
        20 => (nth(), act).prop_map(|(nth, act)| Step::Process { nth, act }),
        10 => (nth(), proptest::bool::weighted(0.8))
            .prop_map(|(nth, well)| Step::Check { nth, well }),
        16 => any::<bool>().prop_map(|kernel| Step::Deliver { kernel }),
        3 => (0..3u32).prop_map(|open| Step::Connections { open }),
        3 => (0..40_000u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::RestartAgent),
        1 => Just(Step::NoticesLost),
        16 => any::<bool>().prop_map(|notices_first| Step::GoOn { notices_first }),
    ]
}

const NAMES: [&str; 3] = ["base", "api", "web"];
const PORT: u16 = 80;

pub(super) fn name(index: u8) -> ServiceName {
    ServiceName::new(NAMES[usize::from(index)]).unwrap()
}

fn service(index: u8, replicas: u16, variant: u8) -> Service {
    let check = if index == 1 { Check::Tcp { port: PORT } } else { Check::None };
    Service {
        command: Command::Argv(vec![format!("program-{variant}")]),
        ports: vec![Port {
            name: sinew_model::PortName::new("http").unwrap(),
            number: PORT,
            protocol: Protocol::Tcp,
        }],
        replicas,
        env: BTreeMap::new(),
        working_dir: "/".into(),
        user: None,
        group: None,
        limits: Default::default(),
        health: Health {
            check,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 1,
            start_period: Duration::ZERO,
        },
        restart: Restart::Always,
        stop: Default::default(),
        depends_on: (index > 0).then(|| name(index - 1)).into_iter().collect(),
        balance: Default::default(),
        outlier: Default::default(),
        zone: None,
        labels: BTreeMap::new(),
        publish: Vec::new(),
        privileges: Default::default(),
        placement: Default::default(),
    }
}

pub(super) fn project(replicas: [u16; 3], variant: u8) -> Project {
    let services = [0, 1, 2]
        .map(|index| (name(index), service(index, replicas[usize::from(index)], variant)))
        .into();
    Project { name: ProjectName::new("shop").unwrap(), services }
}

/// The service of what was adopted.
pub(super) fn old() -> ServiceName {
    ServiceName::new("old").unwrap()
}

const OWNER: Owner = Owner { uid: 1, gid: 1 };

/// What the supervisor of an instance has.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    kind: Kind,
    number: u32,
    alive: Option<Process>,
    listens: bool,
    pub(super) starts: u32,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) core: Core,
    pub(super) intent: Intent,
    pub(super) now: Instant,
    /// What was ordered and is not done.
    pending: Vec<Output>,
    /// Supervisors that run.
    pub(super) workloads: BTreeMap<Key, Workload>,
    pub(super) cgroups: BTreeSet<Key>,
    /// What the data path holds, and the revision of it.
    pub(super) kernel: Wanted,
    /// Notices of the kernel and of the supervisors on their way; each kind keeps its order.
    notices: Vec<Input>,
    reports: Vec<Input>,
    probes: BTreeMap<Key, u64>,
    pub(super) open: u32,
    /// Where connections were closed.
    pub(super) closed: Vec<std::net::SocketAddr>,
    pub(super) published: Vec<(Option<ProjectName>, EventKind)>,
    pids: u32,
}

impl Host {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let intent = Intent::new([0xfd; 6]);
        Self {
            core: Core::new(now, intent.network6),
            intent,
            now,
            pending: Vec::new(),
            workloads: BTreeMap::new(),
            cgroups: BTreeSet::new(),
            kernel: Wanted::default(),
            notices: Vec::new(),
            reports: Vec::new(),
            probes: BTreeMap::new(),
            open: 0,
            closed: Vec::new(),
            published: Vec::new(),
            pids: 100,
        }
    }

    pub(super) fn feed(&mut self, input: Input) {
        for output in self.core.handle(self.now, input) {
            match output {
                Output::Publish(project, kind) => self.published.push((project, kind)),
                Output::Probe { key, run, .. } => {
                    self.probes.insert(key, run);
                }
                Output::EndProbe(key) => {
                    self.probes.remove(&key);
                }
                Output::Launch(key) => {
                    assert!(self.cgroups.contains(&key), "{key} launched without a cgroup");
                    assert!(!self.workloads.contains_key(&key), "{key} launched twice");
                    let number = self.core.instance(&key).unwrap().number;
                    let registered = self.kernel.instances.contains_key(&u64::from(number));
                    assert!(registered, "{key} launched before the kernel knows it");
                    let twice =
                        self.pending.iter().any(|o| matches!(o, Output::Launch(k) if *k == key));
                    assert!(!twice, "{key} launched twice");
                    self.pending.push(Output::Launch(key));
                }
                other => self.pending.push(other),
            }
        }
    }

    /// Orders to one worker are carried out in their order, all else in any.
    fn first_of_its_worker(&self, nth: usize) -> usize {
        fn ordered(output: &Output) -> Option<&Key> {
            match output {
                Output::Launch(key)
                | Output::Adjust(key)
                | Output::Stop(key)
                | Output::Clean(key) => Some(key),
                _ => None,
            }
        }
        let nth = nth % self.pending.len();
        let worker = ordered(&self.pending[nth]);
        let first = worker
            .and_then(|key| self.pending.iter().position(|earlier| ordered(earlier) == Some(key)));
        first.unwrap_or(nth)
    }

    fn intend(&mut self, next: Result<Intent, crate::refusal::Refusal>) {
        if let Ok(next) = next {
            self.intent = next.clone();
            self.feed(Input::Intent(Arc::new(next)));
        }
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Apply { replicas, variant } => self.apply(project(replicas, variant)),
            Step::Remove => self.intend(self.intent.remove(&ProjectName::new("shop").unwrap())),
            Step::Scale { service, replicas } => {
                self.intend(self.intent.scale(&name(service), replicas));
            }
            Step::Restart { service } => self.intend(self.intent.restart(&name(service))),
            Step::Drain { service, replica } => {
                self.intend(self.intent.drain(&name(service), replica));
            }
            Step::Attach { service } => self.attach(service),
            Step::Adopt { foreign } => self.adopt(foreign),
            Step::Release { replica } => {
                self.intend(self.intent.release(&Key::of(&old(), replica)));
            }
            Step::DrainAdopted { replica } => self.intend(self.intent.drain(&old(), replica)),
            Step::Finish { nth, well } => {
                if !self.pending.is_empty() {
                    let output = self.pending.remove(self.first_of_its_worker(nth));
                    self.finish(output, well);
                }
            }
            Step::Process { nth, act } => {
                let key = self.workloads.keys().nth(nth % self.workloads.len().max(1)).cloned();
                if let Some(key) = key {
                    self.act(&key, act);
                }
            }
            Step::Check { nth, well } => {
                let probe = self.probes.iter().nth(nth % self.probes.len().max(1));
                if let Some((key, run)) = probe.map(|(k, r)| (k.clone(), *r)) {
                    let result = if well { Ok(()) } else { Err("refused".to_owned()) };
                    self.feed(Input::Checked { key, run, result });
                }
            }
            Step::Deliver { kernel } => {
                let queue = if kernel { &mut self.notices } else { &mut self.reports };
                if !queue.is_empty() {
                    let input = queue.remove(0);
                    self.feed(input);
                }
            }
            Step::Connections { open } => {
                self.open = open;
                self.report_active();
            }
            Step::Wait { ms } => {
                self.now += Duration::from_millis(ms);
                self.feed(Input::Tick);
            }
            Step::RestartAgent => self.restart_agent(),
            Step::GoOn { notices_first } => {
                self.go_on(notices_first);
            }
            Step::NoticesLost => {
                self.notices.clear();
                self.feed(Input::NoticesLost);
            }
        }
    }

    pub(super) fn apply(&mut self, project: Project) {
        let attached = self.core.attached_names().into_keys().collect();
        self.intend(self.intent.apply(project, OWNER, &attached));
    }

    fn attach(&mut self, service: bool) {
        self.attach_to(service.then(|| ServiceName::new("tool").unwrap()));
    }

    pub(super) fn attach_as(&mut self, service: &ServiceName) {
        self.attach_to(Some(service.clone()));
    }

    /// The first instance of `service` ends.
    pub(super) fn exit_of(&mut self, service: &ServiceName) {
        self.act(&Key::of(service, 0), Act::Exit);
        while !(self.pending.is_empty() && self.reports.is_empty()) {
            self.go_on(false);
        }
    }

    fn attach_to(&mut self, service: Option<ServiceName>) {
        if let Some(service) = &service {
            self.intend(self.intent.attach(service, OWNER.uid));
        }
        let key = Key { replica: self.core.free_replica(service.as_ref()), service };
        self.pids += 1;
        let attached = Attached {
            pid: self.pids,
            owner: OWNER,
            ports: Vec::new(),
            command: "tool".into(),
            at_ms: 0,
        };
        self.feed(Input::Attach { key, attached });
    }

    fn adopt(&mut self, foreign: bool) {
        let key = Key::of(&old(), self.core.free_replica(Some(&old())));
        self.pids += 1;
        let target = match foreign {
            true => Target::Cgroup { path: format!("/foreign/{}", key.replica).into() },
            false => {
                let process = ProcessId { pid: self.pids, start_ticks: 1 };
                Target::Process { process, from: "/foreign".into() }
            }
        };
        let ports = service(0, 1, 0).ports;
        let command = "old".to_owned();
        let adoption = Adoption { key, target, owner: OWNER, ports, command, at_ms: 0 };
        self.intend(self.intent.adopt(adoption));
    }

    fn places(&self, key: &Key) -> Places {
        let listens = self
            .workloads
            .get(key)
            .is_some_and(|w| w.listens && matches!(w.kind, Kind::Adopted(_)));
        let at = std::net::Ipv4Addr::new(127, 0, 0, 1 + key.replica as u8);
        let place = Place { address: at.into(), wildcard: false, sockets: Default::default() };
        listens.then_some(((Protocol::Tcp, PORT, Family::V4), place)).into_iter().collect()
    }

    fn report_active(&mut self) {
        let active = self
            .kernel
            .services
            .values()
            .flat_map(|s| &s.ports)
            .flat_map(|p| &p.backends)
            .map(|b| (b.key, self.open))
            .collect();
        self.feed(Input::Active(active));
    }

    fn finish(&mut self, output: Output, well: bool) {
        let result = if well { Ok(()) } else { Err("it does not work".to_owned()) };
        match output {
            Output::Report(..) | Output::Configured(_) => {}
            Output::Prepare(key) => {
                if well {
                    self.cgroups.insert(key.clone());
                }
                self.feed(Input::Prepared(key, result));
            }
            Output::Sync(revision) => {
                if well {
                    self.kernel = self.core.wanted(Path::new("/c"), None).clone();
                }
                self.feed(Input::Synced(revision, result));
            }
            Output::Scan => {
                let listeners = self.listeners();
                self.feed(Input::Listeners(listeners));
            }
            Output::Launch(key) => self.launch(key, result),
            Output::Look(key) => {
                let places = self.places(&key);
                self.feed(Input::Places(key, places));
            }
            Output::Forsake(key) => self.intend(self.intent.release(&key)),
            Output::Stop(key) => {
                let adopted = self.core.instance(&key).is_some_and(|i| i.adoption().is_some());
                if !adopted {
                    self.end(&key);
                }
                self.reports.push(Input::Stopped(key));
            }
            Output::Clean(key) => {
                if well {
                    self.workloads.remove(&key);
                    self.cgroups.remove(&key);
                }
                // Its reports come behind those of the workload's last moments.
                self.reports.push(Input::Cleaned(key, result));
            }
            Output::Close(sockets) => self.closed.extend(sockets),
            Output::Adjust(_) => {}
            Output::Retire(names) => {
                if well {
                    self.intend(Ok(self.intent.retire(&names)));
                }
            }
            Output::Publish(..) | Output::Probe { .. } | Output::EndProbe(_) => unreachable!(),
        }
    }

    fn launch(&mut self, key: Key, result: Result<(), String>) {
        if result.is_ok() {
            let instance = self.core.instance(&key).unwrap();
            let mut alive = instance.process;
            if let Some(adoption) = instance.adoption() {
                let pid = match &adoption.target {
                    Target::Process { process, .. } => process.pid,
                    Target::Unit { .. } | Target::Cgroup { .. } => 1,
                };
                let process = Process { pid, at_ms: 0, restarts: 0 };
                alive = Some(process);
                self.reports.push(Input::Started(key.clone(), process));
            }
            let workload = Workload {
                kind: instance.kind.clone(),
                number: instance.number,
                alive,
                listens: false,
                starts: 0,
            };
            self.workloads.insert(key.clone(), workload);
        }
        self.reports.push(Input::Launched(key, result));
    }

    fn end(&mut self, key: &Key) {
        if let Some(workload) = self.workloads.get_mut(key) {
            workload.alive = None;
            workload.listens = false;
        }
    }

    fn act(&mut self, key: &Key, act: Act) {
        let Some(workload) = self.workloads.get_mut(key) else { return };
        let foreign = match &workload.kind {
            Kind::Adopted(adoption) => Some(adoption.target.cgroup().is_some()),
            Kind::Launched(_) | Kind::Attached(_) | Kind::Rubble => None,
        };
        if let Some(foreign) = foreign {
            return self.act_adopted(key, act, foreign);
        }
        let attached = matches!(workload.kind, Kind::Attached(_));
        match act {
            Act::Start if workload.alive.is_none() && !attached => {
                self.pids += 1;
                let process = Process { pid: self.pids, at_ms: 0, restarts: workload.starts };
                workload.starts += 1;
                workload.alive = Some(process);
                self.reports.push(Input::Started(key.clone(), process));
            }
            Act::Listen | Act::ListenAgain
                if workload.alive.is_some()
                    && workload.listens == matches!(act, Act::ListenAgain)
                    && !attached =>
            {
                workload.listens = true;
                let (instance, address) =
                    (u64::from(workload.number), IpAddr::V4(alloc::instance4(workload.number)));
                let watched =
                    self.kernel.instances.values().any(|i| i.id == instance && i.watch_listen);
                let protocol = Protocol::Tcp;
                self.notices.push(Input::Bound { instance, address, port: PORT, protocol });
                if watched {
                    self.notices.push(Input::Listening { instance, address, port: PORT });
                }
            }
            Act::Exit if workload.alive.is_some() => {
                let pid = workload.alive.map_or(0, |process| process.pid);
                self.end(key);
                self.reports.push(Input::Gone(key.clone(), pid));
                let input = if attached {
                    Input::Stopped(key.clone())
                } else {
                    let ended =
                        Ended { reason: "exited with 1".into(), success: false, returns: true };
                    Input::Exited(key.clone(), ended)
                };
                self.reports.push(input);
            }
            Act::Finish if workload.alive.is_some() => {
                self.end(key);
                let ended = Ended { reason: "exited with 0".into(), success: true, returns: false };
                self.reports.push(Input::Exited(key.clone(), ended));
            }
            Act::SupervisorDies if !attached => {
                self.end(key);
                self.reports.push(Input::Stopped(key.clone()));
            }
            _ => {}
        }
    }

    fn act_adopted(&mut self, key: &Key, act: Act, foreign: bool) {
        let Some(workload) = self.workloads.get_mut(key) else { return };
        match act {
            Act::Start if workload.alive.is_none() && foreign => {
                let process = Process { pid: 1, at_ms: 0, restarts: 0 };
                workload.alive = Some(process);
                self.reports.push(Input::Started(key.clone(), process));
            }
            Act::Listen if workload.alive.is_some() => workload.listens = true,
            Act::ListenAgain if workload.alive.is_some() => {
                let (instance, address) =
                    (u64::from(workload.number), IpAddr::from([127, 0, 0, 1]));
                let protocol = Protocol::Tcp;
                self.notices.push(Input::Bound { instance, address, port: PORT, protocol });
            }
            Act::Exit if workload.alive.is_some() => {
                self.end(key);
                self.reports.push(match foreign {
                    true => Input::Exited(key.clone(), crate::runtime::nobody_there()),
                    false => Input::Stopped(key.clone()),
                });
            }
            Act::Replace if foreign => {
                self.workloads.remove(key);
                self.reports.push(Input::Replaced(key.clone()));
            }
            _ => {}
        }
    }

    /// kill -9 of the agent, and its next start: what was under way is lost, what runs is found.
    fn restart_agent(&mut self) {
        let known: BTreeMap<_, _> =
            self.core.instances().map(|i| (i.key.clone(), i.number)).collect();
        self.pending.clear();
        self.notices.clear();
        self.reports.clear();
        self.probes.clear();
        self.core = Core::new(self.now, self.intent.network6);
        let workloads = self.workloads.clone();
        let mut found = Vec::new();
        for (key, workload) in workloads {
            assert!(known.contains_key(&key), "{key} runs and the agent had lost it");
            let attached = match &workload.kind {
                Kind::Attached(_) => true,
                Kind::Adopted(adoption) => adoption.target.cgroup().is_none(),
                Kind::Launched(_) | Kind::Rubble => false,
            };
            if attached && workload.alive.is_none() {
                self.workloads.remove(&key);
                self.cgroups.remove(&key);
                continue;
            }
            let ended = workload.alive.is_none().then(|| Ended {
                reason: "exited with 1".into(),
                success: false,
                returns: true,
            });
            let places = self.places(&key);
            found.push(Found {
                places,
                key,
                number: workload.number,
                kind: workload.kind,
                process: workload.alive,
                ended,
            });
        }
        let rubble =
            self.cgroups.iter().filter(|k| !self.workloads.contains_key(k)).cloned().collect();
        let intent = Arc::new(self.intent.clone());
        let listeners = self.listeners();
        self.feed(Input::Boot { intent, found, listeners, rubble });
    }

    fn listeners(&self) -> Vec<(IpAddr, u16, Protocol)> {
        self.workloads
            .values()
            .filter(|w| w.listens)
            .map(|w| (IpAddr::V4(alloc::instance4(w.number)), PORT, Protocol::Tcp))
            .collect()
    }

    /// What is under way goes one step on; tells whether nothing was.
    fn go_on(&mut self, notices_first: bool) -> bool {
        let pending = std::mem::take(&mut self.pending);
        let reports = std::mem::take(&mut self.reports);
        let notices = std::mem::take(&mut self.notices);
        let idle = pending.is_empty() && reports.is_empty() && notices.is_empty();
        pending.into_iter().for_each(|output| self.finish(output, true));
        let inputs = if notices_first { [notices, reports] } else { [reports, notices] };
        inputs.into_iter().flatten().for_each(|input| self.feed(input));
        for key in self.workloads.keys().cloned().collect::<Vec<_>>() {
            self.act(&key, Act::Start);
            self.act(&key, Act::Listen);
        }
        idle
    }

    /// Everything under way ends well, every process starts and listens, every check is well.
    pub(super) fn calm_down(&mut self) {
        self.open = 0;
        for _ in 0..2_000 {
            let before = self.published.len();
            let mut idle = self.go_on(false);
            for (key, run) in self.probes.clone() {
                self.feed(Input::Checked { key, run, result: Ok(()) });
            }
            self.report_active();
            self.check_soundness();
            idle &= self.pending.is_empty() && self.reports.is_empty() && self.notices.is_empty();
            if idle && self.published.len() == before {
                let Some(at) = self.core.next_tick() else { return };
                self.now = self.now.max(at);
                self.feed(Input::Tick);
            }
        }
        panic!("never calm: {:#?}", self.core);
    }

    /// What the data path shall hold: the same, whether most of it was kept or nothing.
    fn wanted(&mut self) -> Wanted {
        let kept = self.core.wanted(Path::new("/c"), None).clone();
        let present = self.core.instances.keys().map(|key| key.service.clone());
        let all: BTreeSet<_> =
            present.chain(self.intent.numbers.keys().cloned().map(Some)).collect();
        self.core.wanted = Wanted { fleet: kept.fleet.clone(), ..Wanted::default() };
        self.core.stale = all;
        assert_eq!(kept, *self.core.wanted(Path::new("/c"), None));
        self.core.wanted = kept.clone();
        kept
    }

    /// What holds at every moment.
    pub(super) fn check_soundness(&mut self) {
        self.core.check_launches();
        let wanted = self.wanted();
        for backend in wanted.services.values().flat_map(|s| &s.ports).flat_map(|p| &p.backends) {
            if !backend.in_choice || !backend.local {
                continue;
            }
            let number = (backend.key >> 17) as u32;
            let instance = self.core.instances().find(|i| i.number == number).unwrap();
            // Who was launched and listens is called before its supervisor has told of it.
            let told = instance.phase == Phase::Running && instance.process.is_some();
            if told || instance.launch().is_none() {
                assert_eq!(instance.state(), WorkloadState::Up, "{}", instance.key);
            }
            assert!(!self.intent.drained.contains(&instance.key), "{}", instance.key);
        }
        for replica in self.core.instances() {
            let alike = self.core.instances().filter(|i| i.number == replica.number).count();
            assert_eq!(alike, 1, "{} shares its address", replica.key);
        }
    }

    /// What holds once it is quiet.
    pub(super) fn check_convergence(&mut self) {
        let wanted: BTreeSet<Key> = self
            .intent
            .services()
            .flat_map(|(_, _, name, s)| {
                (0..u32::from(s.replicas)).map(move |replica| Key::of(name, replica))
            })
            .filter(|key| !self.intent.drained.contains(key))
            .filter(|key| self.can_start(key))
            .collect();
        for instance in self.core.instances().filter(|i| i.adoption().is_some()) {
            let state = match self.intent.drained.contains(&instance.key) {
                true => WorkloadState::Stopped,
                false => WorkloadState::Up,
            };
            assert_eq!(instance.state(), state, "{}", instance.key);
        }
        let adopted = self.workloads.iter().filter(|(_, w)| matches!(w.kind, Kind::Adopted(_)));
        assert_eq!(
            adopted.map(|(key, _)| key).collect::<BTreeSet<_>>(),
            self.intent.adopted.iter().map(|adoption| &adoption.key).collect(),
            "what is hooked is not what was adopted"
        );
        let running: BTreeSet<Key> = self
            .workloads
            .iter()
            .filter(|(_, w)| matches!(w.kind, Kind::Launched(_)))
            .map(|(key, _)| key.clone())
            .collect();
        assert_eq!(running, wanted, "what runs is not what is wanted");
        for key in &wanted {
            let workload = &self.workloads[key];
            let Kind::Launched(launch) = &workload.kind else { unreachable!() };
            let current = self.intent.launch(key.service.as_ref().unwrap()).unwrap();
            // What could not start again is left as it is.
            if self.dependencies_can_start(&current.service) {
                assert!(!launch.outdated(&current), "{key} runs what was wanted before");
            }
            let called =
                self.kernel.services.values().flat_map(|s| &s.ports).flat_map(|p| &p.backends).any(
                    |b| b.in_choice && b.key == backend_key(workload.number, Protocol::Tcp, PORT),
                );
            assert!(called, "{key} runs and is not called: {:#?}", self.core.instance(key));
        }
        let watched = self.kernel.instances.values().filter(|i| i.watch_listen).count();
        assert_eq!(watched, 0, "each connection pays for a watch that nobody needs");
        let cgroups: BTreeSet<_> = self.workloads.keys().cloned().collect();
        assert_eq!(self.cgroups, cgroups, "cgroups are left over");
        let wanted = self.wanted();
        assert_eq!(self.kernel, wanted);
    }

    /// Whether all that it depends on has an instance that is not held.
    fn can_start(&self, key: &Key) -> bool {
        let Some((_, _, service)) = self.intent.service(key.service.as_ref().unwrap()) else {
            return false;
        };
        // One that runs already goes on when what it depends on is taken away.
        self.workloads.contains_key(key) || self.dependencies_can_start(service)
    }

    fn dependencies_can_start(&self, service: &Service) -> bool {
        service.depends_on.iter().all(|needed| {
            self.intent.service(needed).is_some_and(|(_, _, s)| {
                (0..u32::from(s.replicas)).any(|replica| {
                    let key = Key::of(needed, replica);
                    !self.intent.drained.contains(&key) && self.can_start(&key)
                })
            })
        })
    }
}
