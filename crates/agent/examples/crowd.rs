//! An agent's core that knows more endpoints than a host can run, over the kernel's data path.
//!
//! `crowd PINS CGROUP SERVICES ENDPOINTS` prints the seconds that loading took and the process's
//! memory in KiB. For each line on standard input one endpoint then goes or comes back, and the
//! seconds are printed until the kernel's set of backends says so; `bench scale` uses it. For a line
//! `scale` the first service is scaled, and the seconds are printed until that is on disk, then until
//! it is begun.

use std::{error::Error, fs, io, path::PathBuf};

use sinew_agent::scale::Crowd;
use sinew_datapath::Options;

const NETWORK6: [u8; 6] = [0xfd, 0x51, 0, 0, 0, 2];

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [pins, cgroup, services, endpoints] = words.as_slice() else {
        return Err("usage: crowd PINS CGROUP SERVICES ENDPOINTS".into());
    };
    let state = std::env::temp_dir().join(format!("sinew-crowd-{}", std::process::id()));
    let cgroup = PathBuf::from(cgroup).join("members");
    fs::create_dir_all(&cgroup)?;
    let options = Options {
        pins: PathBuf::from(pins),
        cgroup,
        network6: NETWORK6,
        reach: Default::default(),
        types: sinew_datapath::TYPES.into(),
    };
    let (services, endpoints) = (services.parse()?, endpoints.parse()?);
    let mut crowd = Crowd::open(&options)?;
    let took = crowd.fill(services, endpoints)?;
    println!("{} {}", took.as_secs_f64(), memory_kib()?);
    assert_eq!(crowd.in_choice(), usize::from(services) * usize::from(endpoints));
    for line in io::stdin().lines() {
        if line? == "scale" {
            let [stored, done] = crowd.rescale(&state)?.map(|took| took.as_secs_f64());
            println!("{stored} {done}");
            continue;
        }
        println!("{}", crowd.change()?.as_secs_f64());
    }
    let _ = fs::remove_dir_all(state);
    Ok(())
}

fn memory_kib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(kib.parse()?)
}
