//! The smallest host: servers behind one service, a member that may call it, and no agent.
//!
//! `host PINS CGROUP REPLICAS -- COMMAND…` starts the command once a replica, with `{}` replaced by
//! the replica's cgroup, which the command has to join; it prints a line when it listens on port
//! 8080. `CGROUP/members/client` can call the service at 127.64.0.1:8080. Lines on standard input:
//! `services N ENDPOINTS` puts N more services beside it and answers with the seconds that took and
//! the process's memory in KiB; `change` changes one endpoint and answers with the seconds.
//! The benches use it to look at the data path alone.

use std::{
    error::Error,
    fs,
    io::{self, BufRead, BufReader},
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use sinew_datapath::{
    Backend, Datapath, Instance, Kernel, Options, Service, ServicePort, Wanted, backend_key,
};
use sinew_model::{Balance, Outlier, Protocol};

const PORT: u16 = 8080;
const NETWORK6: [u8; 6] = [0xfd, 0x51, 0, 0, 0, 1];
const CLIENT: u32 = 0xf_0000;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [pins, cgroup, replicas, dashes, command @ ..] = words.as_slice() else {
        return Err("usage: host PINS CGROUP REPLICAS -- COMMAND…".into());
    };
    if dashes != "--" || command.is_empty() {
        return Err("the command goes after --".into());
    }
    let members = Path::new(cgroup).join("members");
    fs::create_dir_all(&members)?;
    let options = Options {
        pins: PathBuf::from(pins),
        cgroup: members.clone(),
        network6: NETWORK6,
        reach: Default::default(),
        types: sinew_datapath::TYPES.into(),
    };
    let (mut kernel, _events) = Kernel::open(&options)?;
    let mut wanted = served(&members, replicas.parse()?)?;
    kernel.apply(&wanted)?;
    for instance in wanted.instances.values().filter(|instance| instance.service != 0) {
        start(command, &instance.cgroup)?;
    }
    // They listen, and their listeners are known: the agent stops to watch here too.
    for instance in wanted.instances.values_mut() {
        Arc::make_mut(instance).watch_listen = false;
    }
    kernel.apply(&wanted)?;
    println!("ready");
    for line in io::stdin().lines() {
        obey(&line?, &mut wanted, &mut kernel)?;
    }
    Ok(())
}

fn served(members: &Path, replicas: u32) -> io::Result<Wanted> {
    let client = members.join("client");
    fs::create_dir_all(&client)?;
    let mut wanted = Wanted::default();
    wanted.set_instance(instance(CLIENT, 0, client));
    let mut backends = Vec::new();
    for number in 1..=replicas {
        let cgroup = members.join(format!("server-{number}"));
        fs::create_dir_all(&cgroup)?;
        let instance = instance(number, 1, cgroup);
        backends.push(Backend {
            address6: Some(instance.address6),
            local: true,
            ..backend(1, number, instance.address4, PORT)
        });
        wanted.set_instance(instance);
    }
    wanted.set_service(service(1, backends));
    Ok(wanted)
}

fn instance(number: u32, service: u32, cgroup: PathBuf) -> Instance {
    Instance {
        id: u64::from(number),
        cgroup,
        service,
        address4: in_range(80, number),
        address6: in_network(1, number),
        fleet4: None,
        fleet6: None,
        ports: if service == 0 { Vec::new() } else { vec![(Protocol::Tcp, PORT)] },
        own_address: true,
        brought: Vec::new(),
        watch_listen: service != 0,
    }
}

fn service(id: u32, backends: Vec<Backend>) -> Service {
    let port = ServicePort {
        number: PORT,
        protocol: Protocol::Tcp,
        balance: Balance::LeastLoad,
        outlier: Outlier::default(),
        backends,
    };
    Service {
        id,
        address4: in_range(64, id),
        address6: in_network(0, id),
        ports: vec![port],
        published: Vec::new(),
    }
}

fn backend(service: u32, number: u32, address4: Ipv4Addr, port: u16) -> Backend {
    Backend {
        key: backend_key(service, number, port, Protocol::Tcp, 0),
        address4: Some(address4),
        address6: None,
        port,
        weight: 256,
        local: false,
        node: 0,
        zone: 0,
        wildcard: Default::default(),
        in_choice: true,
        slots: 1,
    }
}

fn in_range(first: u8, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from_be_bytes([127, first, 0, 0]) + number)
}

fn in_network(subnet: u16, number: u32) -> Ipv6Addr {
    let [a, b, c, d, e, f] = NETWORK6;
    let word = |high, low| u16::from_be_bytes([high, low]);
    let [high, low] = [(number >> 16) as u16, number as u16];
    Ipv6Addr::new(word(a, b), word(c, d), word(e, f), subnet, 0, 0, high, low)
}

fn start(command: &[String], cgroup: &Path) -> Result<(), Box<dyn Error>> {
    let words: Vec<String> =
        command.iter().map(|word| word.replace("{}", &cgroup.to_string_lossy())).collect();
    let mut server = Command::new(&words[0]).args(&words[1..]).stdout(Stdio::piped()).spawn()?;
    let stdout = server.stdout.take().ok_or("the server has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.is_empty() {
        return Err(format!("{words:?} ended before it listened").into());
    }
    Ok(())
}

fn obey(line: &str, wanted: &mut Wanted, kernel: &mut Kernel) -> Result<(), Box<dyn Error>> {
    match line.split(' ').collect::<Vec<_>>().as_slice() {
        ["services", count, endpoints] => {
            fill(wanted, count.parse()?, endpoints.parse()?);
            println!("{} {}", timed(kernel, wanted)?, memory_kib()?);
        }
        ["change"] => {
            if let Some(mut last) = wanted.services.last_entry()
                && let Some(port) = Arc::make_mut(last.get_mut()).ports.last_mut()
                && let Some(backend) = port.backends.last_mut()
            {
                backend.in_choice = !backend.in_choice;
            }
            println!("{}", timed(kernel, wanted)?);
        }
        _ => return Err(format!("`{line}` is no order").into()),
    }
    Ok(())
}

/// Services whose endpoints lie on other hosts; nobody calls them.
fn fill(wanted: &mut Wanted, count: u32, endpoints: u32) {
    wanted.services.retain(|id, _| *id == 1);
    for id in 2..count + 2 {
        let remote = |number| {
            let address = u32::from_be_bytes([10, 0, 0, 0]) + id * endpoints + number;
            backend(id, number, Ipv4Addr::from(address), PORT)
        };
        wanted.set_service(service(id, (0..endpoints).map(remote).collect()));
    }
}

fn timed(kernel: &mut Kernel, wanted: &Wanted) -> Result<f64, sinew_datapath::Error> {
    let start = Instant::now();
    kernel.apply(wanted)?;
    Ok(start.elapsed().as_secs_f64())
}

fn memory_kib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(kib.parse()?)
}
