//! The disk of the state is full: what runs goes on, what is asked for is refused as a whole and says
//! why, and all of it works again when there is space.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::Output,
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::Signal,
};

use serde_json::Value;

use crate::{
    life::calls,
    look::failing,
    world::{World, eventually, kill},
};

/// A web that writes nothing, since output that cannot be kept is an error to the program, and one that
/// writes all the time and does not mind.
const FILE: &str = r#"
name: trial
services:
  web:
    command: ["python3", "-c", "import http.server as h; h.SimpleHTTPRequestHandler.log_message = lambda *a: None; h.ThreadingHTTPServer(('', 8000), h.SimpleHTTPRequestHandler).serve_forever()"]
    port: 8000
    replicas: 3
  talker:
    command: ["python3", "-u", "-c", "import itertools, time\nfor n in itertools.count():\n    try: print('line', n, flush=True)\n    except OSError: pass\n    time.sleep(.01)"]
"#;

/// A world whose state is on a small disk.
fn small() -> World {
    let world = World::new();
    // SAFETY: affects the calling thread alone, which runs one test.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    // What comes below stays in it; everything else is seen as before.
    let (state, data) = (world.path("state"), c"size=1m,mode=0700");
    fs::create_dir(&state).unwrap();
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).unwrap();
    mount("tmpfs", &state, "tmpfs", MountFlags::empty(), data).unwrap();
    world
}

/// Fills the disk to its last byte.
fn fill(world: &World) -> PathBuf {
    let path = world.path("state/filler");
    let mut filler = File::create(&path).unwrap();
    for size in [4096, 1] {
        while filler.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("free some space on that disk, then repeat"), "{said}");
    said
}

/// What is wanted and what runs, as far as it does not change by itself.
fn state(world: &World) -> (Value, Vec<Value>) {
    let of = |w: &Value| serde_json::json!([w["service"], w["replica"], w["state"], w["pid"]]);
    let all = world.json(&["ps"]);
    let services = world.json(&["services"]).as_array().unwrap().clone();
    let names = services.iter().map(|s| serde_json::json!([s["name"], s["up"], s["address4"]]));
    (names.collect(), all.as_array().unwrap().iter().map(of).collect())
}

/// The last line of `talker` that was kept.
fn last_line(world: &World) -> u64 {
    let line = world.run(&["logs", "talker", "--tail", "1"]);
    line.trim().rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_full_disk_refuses_changes_and_keeps_what_runs() {
    let world = small();
    let file = world.file(FILE);
    world.run(&["up", "-d"]);
    let saved = || fs::read(world.path("state/state.json")).unwrap();
    let filler = fill(&world);
    let (before, on_disk) = (state(&world), saved());

    for change in [&["scale", "web=2"][..], &["restart", "web"], &["drain", "web/0"], &["down"]] {
        refused(&world.try_run(change));
        assert_eq!(state(&world), before, "{change:?}: nothing of it was done");
    }
    let more = FILE.replace("replicas: 3", "replicas: 4") + "  more:\n    command: sleep 1000\n";
    world.file(&more);
    refused(&world.try_run(&["up", "-d"]));
    assert_eq!(state(&world), before);
    assert_eq!(saved(), on_disk, "a backup is one of what was");

    // What needs no space works.
    let kept = last_line(&world);
    assert_eq!(world.member(&calls(20)), "{'ok': 20}");
    assert_eq!(world.member(&failing(9)), "ConnectionRefusedError");
    eventually("flows tell of it", || world.run(&["flows"]).contains("web:9 "));
    kill(world.pid("web", 1), Signal::KILL).unwrap();
    eventually("web/1 is back", || {
        let now = state(&world);
        now.0 == before.0 && now.1 != before.1
    });
    let before = state(&world);
    world.kill_agent(world.agent());
    world.start_agent();
    assert_eq!(state(&world), before, "an agent starts there too");
    assert_eq!(world.member(&calls(20)), "{'ok': 20}");

    fs::remove_file(filler).unwrap();
    eventually("output is kept again", || last_line(&world) > kept);
    world.run(&["up", "-d", "-f", file.to_str().unwrap()]);
    assert_eq!((world.workloads("web").len(), world.workloads("more").len()), (4, 1));
    world.run(&["scale", "web=2"]);
    assert_eq!(world.member(&calls(20)), "{'ok': 20}");
}

#[test]
fn an_agent_that_has_no_room_to_begin_says_so() {
    let world = small();
    world.file(FILE);
    let filler = fill(&world);
    let said = refused(&world.try_run(&["up", "-d"]));
    assert!(said.contains("state/agent.log"), "{said}");
    fs::remove_file(filler).unwrap();
    world.run(&["up", "-d"]);
    assert_eq!(world.member(&calls(5)), "{'ok': 5}");
}
