//! The agent is killed at any moment of any work; what was wanted comes true all the same.

use std::{process::Stdio, time::Duration};

use crate::{
    life::{WEB, calls},
    world::{World, eventually},
};

/// How many moments are tried; more with SINEW_SEEDS.
fn seeds() -> u64 {
    std::env::var("SINEW_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(100)
}

/// A small generator: moments need to differ, not to be good.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn killed_at_any_point_it_converges() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let mut random = Random(42);
    let mut replicas = 3;
    for seed in 0..seeds() {
        let agent = world.agent();
        let mut command = match random.below(4) {
            0 => {
                replicas = 1 + random.below(5);
                world.sinew(&["scale", &format!("web={replicas}")])
            }
            1 => {
                replicas = 1 + random.below(5);
                world.file(&of(replicas));
                world.sinew(&["up", "-d"])
            }
            2 => world.sinew(&["restart", "web"]),
            _ => world.sinew(&["drain", "web/0"]),
        };
        let mut command = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The moment is what is drawn: it is not waited for something.
        std::thread::sleep(Duration::from_millis(random.below(150)));
        world.kill_agent(agent);
        if !world.try_run(&["ps"]).status.success() {
            world.start_agent();
        }
        command.wait().unwrap();
        // The order may have been lost with the agent before it was taken: it is given again. What
        // was drained by hand stays so until it is restarted.
        world.file(&of(replicas));
        world.run(&["up", "-d"]);
        if world.workloads("web").iter().any(|w| w["state"] != "up") {
            world.run(&["restart", "web"]);
        }
        eventually(&format!("seed {seed}: {replicas} up"), || {
            let all = world.workloads("web");
            all.len() as u64 == replicas && all.iter().all(|w| w["state"] == "up")
        });
        assert_eq!(world.member(&calls(10)), "{'ok': 10}", "seed {seed}");
    }
}

fn of(replicas: u64) -> String {
    WEB.replace("replicas: 3", &format!("replicas: {replicas}"))
}

#[test]
fn callers_do_not_notice_that_the_agent_is_gone() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let agent = world.agent();
    let script = calls(3000).replace(
        "    try:\n        s = socket.create_connection((\"web\", 8000)",
        "    try:\n        s = socket.create_connection((A, 8000)",
    );
    let script = format!(
        "import socket\nA = socket.gethostbyname('web')\nprint('begun', flush=True)\n{script}"
    );
    let mut caller = world
        .sinew(&["exec", "--", "python3", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufReader::new(caller.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "begun\n");
    world.kill_agent(agent);
    world.start_agent();
    let again = world.agent();
    world.kill_agent(again);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
    caller.wait().unwrap();
    assert_eq!(rest.trim(), "{'ok': 3000}");
}

#[test]
fn a_stranger_does_not_make_an_instance_ready() {
    let world = World::new();
    world.file("name: trial\nservices:\n  slow:\n    command: sleep 1000000\n    port: 8000\n");
    let mut up =
        world.sinew(&["up", "-d"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let slow =
        || world.try_run(&["ps"]).status.success().then(|| world.workloads("slow").pop()).flatten();
    eventually("it runs", || slow().is_some_and(|slow| slow["pid"].is_u64()));
    let address = slow().unwrap()["address"].as_str().unwrap().to_owned();
    let listen = "import socket, sys\ns = socket.create_server((sys.argv[1], 8000))\nprint('bound', flush=True)\ns.accept()";
    let mut stranger = std::process::Command::new("python3")
        .args(["-c", listen, &address])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = std::io::BufReader::new(stranger.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert_eq!(line, "bound\n");
    world.kill_agent(world.agent());
    world.start_agent();
    assert_eq!(slow().unwrap()["state"], "starting");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    up.kill().unwrap();
    up.wait().unwrap();
}
