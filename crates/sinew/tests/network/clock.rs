//! A wall clock that jumps, under everything that runs: nothing is restarted, taken out or lost, and
//! what goes by time goes on.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::{Child, Stdio},
};

use crate::world::{World, eventually, eventually_or, kill, tool};

/// Adds the number in a file to what the clock shows. The C library loads it into every program.
const SHIFTED: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *shift;

__attribute__((constructor)) static void begin(void) {
    int file = open(FILE_OF_SHIFT, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *page = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) shift = page;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, clock, at);
    if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += *shift;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"#;

const DAY: i64 = 86_400;

/// The wall clock of what this thread starts.
struct Clock(File);

impl Clock {
    /// Has the C library load the shift wherever it is loaded itself, by an `/etc` that only the
    /// calling thread and its children see: what runs under Sinew inherits no environment.
    fn new(world: &World) -> Self {
        let [source, library, shift, etc] =
            ["clock.c", "clock.so", "shift", "etc"].map(|name| world.path(name));
        fs::write(&source, SHIFTED).unwrap();
        fs::write(&shift, 0_i64.to_ne_bytes()).unwrap();
        let define = format!("-DFILE_OF_SHIFT=\"{}\"", shift.display());
        let [source, library, etc] = [&source, &library, &etc].map(|path| path.to_str().unwrap());
        tool("cc", &["-shared", "-fPIC", "-O1", &define, "-o", library, source]);
        // SAFETY: affects the calling thread alone, which runs one test.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        tool("mount", &["--make-rprivate", "/"]);
        tool("cp", &["-a", "/etc", etc]);
        fs::write(world.path("etc/ld.so.preload"), library).unwrap();
        tool("mount", &["--bind", etc, "/etc"]);
        Self(File::options().write(true).open(shift).unwrap())
    }

    /// The clock shows this much more than it should.
    fn shift(&self, seconds: i64) {
        self.0.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
        let shows: i64 = tool("date", &["+%s"]).trim().parse().unwrap();
        let off = shows - true_seconds() - seconds;
        assert!(off.abs() < 60, "the clock of other programs is {off} s away");
    }
}

/// By the clock of this process, which has not loaded the shift.
fn true_seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs().cast_signed()
}

const PROJECT: &str = r#"
name: trial
services:
  web:
    command: [python3, -u, -m, http.server, "8000"]
    port: 8000
    replicas: 2
    health: {http: /well, interval: 100ms, unhealthy_threshold: 1}
  counter:
    command: [python3, count.py]
  victim:
    command: exec sleep 1000000
"#;

const COUNT: &str = "
import itertools, time
for i in itertools.count():
    print(i, flush=True)
    time.sleep(0.02)
";

/// Calls until it is told to end, and keeps count in a file.
const CALLER: &str = "
import collections, os, socket, time
seen = collections.Counter()
while not os.path.exists('enough'):
    try:
        s = socket.create_connection(('web', 8000), timeout=10)
        s.sendall(b'GET /called HTTP/1.0\\r\\n\\r\\n')
        seen['well' if s.recv(99).startswith(b'HTTP/1.0 200') else 'badly'] += 1
        s.close()
    except Exception as e:
        seen[repr(e)] += 1
    open('calls', 'w').write(str(seen['well']))
    time.sleep(0.02)
print(dict(seen))
";

/// What grows while all is well: checks of `web/0`, lines of `counter/0`, calls.
type Signs = [usize; 3];

struct Scene {
    world: World,
    clock: Clock,
    caller: Child,
    follower: Child,
}

impl Scene {
    fn begin() -> Self {
        let world = World::new();
        for (name, text) in [("count.py", COUNT), ("well", ""), ("called", "")] {
            fs::write(world.path(name), text).unwrap();
        }
        let clock = Clock::new(&world);
        world.file(PROJECT);
        world.run(&["up", "-d"]);
        let mut caller = world.sinew(&["exec", "--", "python3", "-c", CALLER]);
        let caller = caller.stdout(Stdio::piped()).spawn().unwrap();
        let shown = File::create(world.path("followed")).unwrap();
        let mut follower = world.sinew(&["logs", "-f", "counter"]);
        let follower = follower.stdout(shown).spawn().unwrap();
        let scene = Self { world, clock, caller, follower };
        scene.all_goes_on("at first");
        scene
    }

    fn signs(&self) -> Signs {
        let lines = |name: &str, with: &str| {
            let text = fs::read_to_string(self.world.path(name)).unwrap_or_default();
            text.lines().filter(|line| line.contains(with)).count()
        };
        let calls = fs::read_to_string(self.world.path("calls")).unwrap_or_default();
        [
            lines("state/logs/web/0.log", "GET /well"),
            lines("state/logs/counter/0.log", ""),
            calls.parse().unwrap_or(0),
        ]
    }

    fn all_goes_on(&self, when: &str) {
        let before = self.signs();
        eventually_or(
            &format!("{when}, checks, lines and calls go on"),
            || format!("{before:?} {:?}", self.signs()),
            || self.signs().iter().zip(before).all(|(now, before)| *now >= before + 10),
        );
    }

    /// The clock jumps while a workload waits for its next start.
    fn jumps(&self, when: &str, days: i64) {
        let killed = self.kill("victim");
        self.clock.shift(days * DAY);
        self.is_back("victim", killed);
        self.all_goes_on(when);
    }

    fn kill(&self, service: &str) -> i32 {
        let pid = self.world.pid(service, 0);
        kill(pid, rustix::process::Signal::KILL).unwrap();
        pid
    }

    fn is_back(&self, service: &str, killed: i32) {
        eventually(&format!("{service} was started again"), || {
            let all = self.world.workloads(service);
            all.iter().all(|w| w["state"] == "up" && w["pid"] != killed)
        });
    }

    /// When `victim/0` was started, as is shown, beside the true time.
    fn shown_ahead(&self) -> i64 {
        let at_ms = self.world.workloads("victim")[0]["started_at_ms"].as_i64().unwrap();
        at_ms / 1000 - true_seconds()
    }

    fn pids(&self) -> [i32; 3] {
        [("web", 0), ("web", 1), ("counter", 0)].map(|(name, n)| self.world.pid(name, n))
    }

    /// Ends the caller and gives what it saw.
    fn calls(&mut self) -> String {
        fs::write(self.world.path("enough"), "").unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.caller.stdout.take().unwrap(), &mut said).unwrap();
        self.caller.wait().unwrap();
        said.trim().to_owned()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in [&mut self.caller, &mut self.follower] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The numbers that `counter` wrote, in the order in which they are shown.
fn numbers(shown: &str) -> Vec<usize> {
    let lines = shown.lines().filter_map(|line| line.strip_prefix("counter/0 | "));
    lines.map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_clock_that_jumps_disturbs_nothing() {
    let mut scene = Scene::begin();
    let pids = scene.pids();
    scene.jumps("a day ahead", 1);
    assert!((scene.shown_ahead() - DAY).abs() < 600, "{}", scene.shown_ahead());
    scene.jumps("back by two days", -1);
    assert!((scene.shown_ahead() + DAY).abs() < 600, "{}", scene.shown_ahead());
    // While there is no agent.
    scene.world.kill_agent(scene.world.agent());
    scene.clock.shift(3 * DAY);
    scene.world.start_agent();
    scene.all_goes_on("under another agent");
    scene.jumps("to the true time", 0);

    assert_eq!(scene.pids(), pids, "nothing was restarted");
    for service in ["web", "counter"] {
        for workload in scene.world.workloads(service) {
            assert!(workload["restarts"] == 0 && workload["state"] == "up", "{workload}");
        }
    }
    let web = scene.world.json(&["services", "web"]);
    for endpoint in web["endpoints"].as_array().unwrap() {
        let failures = endpoint["failures"].as_u64().unwrap();
        assert!(failures == 0 && endpoint["ejections"] == 0, "{endpoint}");
    }
    let calls = scene.calls();
    assert!(calls.starts_with("{'well': ") && !calls.contains(','), "{calls}");

    let logged = numbers(&scene.world.run(&["logs", "counter"]));
    assert!(logged.iter().copied().eq(0..logged.len()), "{logged:?}");
    let followed = || numbers(&fs::read_to_string(scene.world.path("followed")).unwrap());
    eventually("what is written is shown", || followed().last() >= logged.last());
    let followed = followed();
    assert!(followed.windows(2).all(|two| two[1] == two[0] + 1), "{followed:?}");

    scene.clock.shift(-DAY);
    scene.world.run(&["restart", "web"]);
    let killed = scene.kill("web");
    scene.is_back("web", killed);
}
