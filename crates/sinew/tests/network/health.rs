//! An instance whose health check fails is not called until it succeeds again, and goes on running.

use std::fs;

use crate::world::{World, eventually, eventually_or};

/// Serves whatever its check says: only the check knows of `sick-REPLICA`.
const SERVER: &str = r#"
import http.server, os
replica = os.environ["SINEW_REPLICA"]
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = self.path == "/health" and os.path.exists("sick-" + replica)
        self.send_response(503 if sick else 200); self.end_headers()
        self.wfile.write(replica.encode())
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), H).serve_forever()
"#;

const FILE: &str = r#"
name: trial
services:
  asked:
    command: [python3, server.py]
    port: 8000
    replicas: 2
    health: {http: /health, interval: 100ms, timeout: 20s, unhealthy_threshold: 2}
  tested:
    command: [python3, server.py]
    port: 8000
    replicas: 2
    health: {exec: 'test ! -e "sick-$$SINEW_REPLICA"', interval: 100ms, timeout: 20s, unhealthy_threshold: 2}
"#;

/// Who answers how often, of 40 calls.
fn answers(world: &World, service: &str) -> String {
    let script = r#"
import collections, urllib.request
c = collections.Counter()
for i in range(40):
    try: c[urllib.request.urlopen("http://SERVICE:8000/", timeout=20).read().decode()] += 1
    except Exception as e: c[repr(e)] += 1
print(" ".join(f"{who}:{n}" for who, n in sorted(c.items())))
"#;
    world.member(&script.replace("SERVICE", service))
}

fn states(world: &World, service: &str) -> Vec<String> {
    let mut all = world.workloads(service);
    all.sort_by_key(|w| w["replica"].as_u64());
    all.iter().map(|w| w["state"].as_str().unwrap().to_owned()).collect()
}

fn leaves_and_returns(service: &str) {
    let world = World::new();
    fs::write(world.path("server.py"), SERVER).unwrap();
    world.file(FILE);
    world.run(&["up", "-d"]);
    let both = |said: &str| said.starts_with("0:") && said.contains(" 1:");
    assert_eq!(states(&world, service), ["up", "up"]);
    let said = answers(&world, service);
    assert!(both(&said), "{said}");
    let pid = world.pid(service, 0);

    fs::write(world.path("sick-0"), "").unwrap();
    eventually_or(
        "it is unhealthy",
        || format!("{:?}", states(&world, service)),
        || states(&world, service) == ["unhealthy", "up"],
    );
    // The kernel is told right behind.
    eventually("it left the choice", || answers(&world, service) == "1:40");
    assert_eq!(answers(&world, service), "1:40");
    assert_eq!(states(&world, service), ["unhealthy", "up"]);
    assert_eq!(world.pid(service, 0), pid, "it runs on");

    fs::remove_file(world.path("sick-0")).unwrap();
    eventually("it is up again", || states(&world, service) == ["up", "up"]);
    eventually("it is called again", || both(&answers(&world, service)));
    assert_eq!(world.pid(service, 0), pid, "it was not started anew");
}

#[test]
fn what_answers_its_check_badly_is_not_called_until_it_answers_well() {
    leaves_and_returns("asked");
}

#[test]
fn what_fails_its_command_is_not_called_until_it_succeeds() {
    leaves_and_returns("tested");
}
