//! More than one host can run: the core of an agent, over the kernel's data path, that is told of
//! any number of instances that run and listen. No process is started and no cgroup is made, so that
//! a bench can see what size alone costs.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_abi::capacity;
use sinew_datapath::{Datapath, Events, Kernel, Options};
use sinew_model::{
    Check, Command, Port, PortName, Project, ProjectName, Protocol, Service, ServiceName,
};

use crate::{
    adopt::Places,
    alloc,
    core::{Core, Ended, Found, Input, Kind, Output, Process},
    intent::Intent,
    key::Key,
    launch::{Launch, Owner},
    memory,
    store::Store,
};

const PORT: u16 = 8080;

/// What went wrong.
pub type Fault = Box<dyn std::error::Error>;

/// An agent without anything to supervise.
pub struct Crowd {
    core: Core,
    kernel: Kernel,
    _events: Events,
    network6: [u8; 6],
    one: Option<One>,
}

/// An instance whose process comes and goes.
struct One {
    key: Key,
    number: u32,
    process: Process,
    runs: bool,
}

impl One {
    fn of(found: &Found) -> Option<Self> {
        let (key, number) = (found.key.clone(), found.number);
        Some(Self { key, number, process: found.process?, runs: true })
    }

    fn change(&mut self) -> Vec<Input> {
        let key = self.key.clone();
        self.runs = !self.runs;
        if !self.runs {
            return vec![Input::Gone(key, self.process.pid)];
        }
        let ended = Ended { reason: "exited with 1".into(), success: false, returns: true };
        self.process.restarts += 1;
        self.process.pid += 1;
        let (instance, address) = (self.number.into(), alloc::instance4(self.number).into());
        vec![
            Input::Exited(key.clone(), ended),
            Input::Started(key, self.process),
            Input::Listening { instance, address, port: PORT },
        ]
    }
}

impl Crowd {
    /// Knows nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(options: &Options) -> Result<Self, Fault> {
        let (kernel, events) = Kernel::open(options)?;
        let core = Core::new(Instant::now(), options.network6);
        Ok(Self { core, kernel, _events: events, network6: options.network6, one: None })
    }

    /// Is told of `services`, each with so many `endpoints` that run, listen and are called.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn fill(&mut self, services: u16, endpoints: u16) -> Result<Duration, Fault> {
        let (intent, found) = told(self.network6, services, endpoints)?;
        self.one = found.last().and_then(One::of);
        let listeners = found
            .iter()
            .map(|f| (IpAddr::V4(alloc::instance4(f.number)), PORT, Protocol::Tcp))
            .collect();
        let intent = Arc::new(intent);
        let start = Instant::now();
        self.feed(vec![Input::Boot { intent, found, listeners, rubble: Vec::new() }])?;
        let took = start.elapsed();
        memory::give_back();
        Ok(took)
    }

    /// One process ends, or the next one of its instance listens: the time until the kernel's set
    /// of backends says so.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn change(&mut self) -> Result<Duration, Fault> {
        let inputs = self.one.as_mut().ok_or("no endpoint")?.change();
        let start = Instant::now();
        self.feed(inputs)?;
        Ok(start.elapsed())
    }

    /// The first service gets two instances more, or loses them again, as `sinew scale` has it: the time
    /// until that is in `state`, then until the core and the data path know.
    ///
    /// # Errors
    /// When the disk or the kernel refuses.
    pub fn rescale(&mut self, state: &Path) -> Result<[Duration; 2], Fault> {
        let store = Store::open(state)?;
        let start = Instant::now();
        let intent = self.core.intent().clone();
        let (_, _, name, service) = intent.services().next().ok_or("no service")?;
        let next = intent.scale(name, service.replicas ^ 2)?;
        store.save(&next)?;
        let stored = start.elapsed();
        self.feed(vec![Input::Intent(Arc::new(next))])?;
        Ok([stored, start.elapsed() - stored])
    }

    /// Backends that may be chosen.
    pub fn in_choice(&mut self) -> usize {
        let wanted = self.core.wanted(Path::new("/"), None);
        let ports = wanted.services.values().flat_map(|service| &service.ports);
        ports.flat_map(|port| &port.backends).filter(|backend| backend.in_choice).count()
    }

    /// As the runtime does: what came together is one change of the data path.
    fn feed(&mut self, inputs: Vec<Input>) -> Result<(), Fault> {
        let mut inputs = VecDeque::from(inputs);
        while !inputs.is_empty() {
            let mut due = None;
            while let Some(input) = inputs.pop_front() {
                for output in self.core.handle(Instant::now(), input) {
                    if let Output::Sync(revision) = output {
                        due = Some(revision);
                    }
                }
            }
            if let Some(revision) = due {
                self.sync()?;
                inputs.push_back(Input::Synced(revision, Ok(())));
            }
        }
        Ok(())
    }

    /// All but the members: there are no cgroups. No more are kept than a host can have; endpoints
    /// beyond would be those of other hosts.
    fn sync(&mut self) -> Result<(), Fault> {
        let wanted = self.core.wanted(Path::new("/"), None);
        let mut instances = std::mem::take(&mut wanted.instances);
        while instances.len() > capacity::INSTANCES as usize {
            instances.pop_last();
        }
        let applied = self.kernel.apply(wanted);
        wanted.instances = instances;
        Ok(applied?)
    }
}

fn told(network6: [u8; 6], services: u16, endpoints: u16) -> Result<(Intent, Vec<Found>), Fault> {
    let owner = Owner { uid: 0, gid: 0 };
    let name = ProjectName::new("crowd")?;
    let mut service = Service::new(Command::Shell("serve".into()), "/".into());
    service.replicas = endpoints;
    service.health.check = Check::None;
    service.ports =
        vec![Port { name: PortName::new("http")?, number: PORT, protocol: Protocol::Tcp }];
    let names = (0..services).map(|n| ServiceName::new(format!("service-{n}")));
    let names: Vec<ServiceName> = names.collect::<Result<_, _>>()?;
    let all = names.iter().map(|name| (name.clone(), service.clone())).collect();
    let project = Project { name: name.clone(), services: all };
    let mut intent = Intent::new(network6);
    intent.take_unchecked(project, owner)?;
    let launch = Arc::new(Launch { project: name, owner, service, rollout: 0 });
    let keys = names.iter().flat_map(|n| (0..endpoints).map(|replica| Key::of(n, replica.into())));
    let mut numbers = BTreeSet::new();
    Ok((intent, keys.filter_map(|key| found(&mut numbers, key, &launch)).collect()))
}

fn found(numbers: &mut BTreeSet<u32>, key: Key, launch: &Arc<Launch>) -> Option<Found> {
    let number = alloc::instance_number(&key.to_string(), |n| numbers.contains(&n))?;
    numbers.insert(number);
    let process = Process { pid: number, at_ms: 0, restarts: 0 };
    let kind = Kind::Launched(launch.clone());
    Some(Found { key, number, kind, process: Some(process), ended: None, places: Places::new() })
}
