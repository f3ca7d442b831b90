//! The agent is gone for a while: nobody calls in vain, and no stranger takes an advantage.

use std::process::Stdio;

use crate::{
    life::{WEB, calls},
    world::{World, eventually},
};

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
