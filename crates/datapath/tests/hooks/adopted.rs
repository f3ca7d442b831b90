//! Programs that were there before: hooked where they are, reached where they listen.

use std::{collections::BTreeSet, fs, path::Path};

use sinew_datapath::{Backend, Datapath as _, Error, Instance, Wildcard, backend_key};
use sinew_model::Protocol;

use crate::world::{World, instance4, instance6, service6};

/// A program that lives outside of Sinew, deep in a cgroup of its own.
const SERVER: &str = r#"
import http.server, socket
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"old from " + self.client_address[0].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("ADDRESS", 9000), H)
print("ready", flush=True)
s.serve_forever()
"#;

const CALL: &str = "import urllib.request
try: print(urllib.request.urlopen('http://127.64.0.5:9000/', timeout=5).read().decode())
except Exception as e: print(e)";

const OLD: u32 = 5;

/// Adopts a cgroup as a replica of service 5, at an address of the host.
fn adopt(world: &mut World, cgroup: &Path, wildcard: bool) {
    world.kernel.hook(cgroup).unwrap();
    let all = world.kernel.listeners().unwrap();
    let brought = all.iter().filter(|l| l.port == 9000).map(|l| l.cookie).collect();
    world.wanted.set_instance(Instance {
        id: 77,
        cgroup: cgroup.to_owned(),
        service: OLD,
        address4: instance4(OLD, 0),
        address6: instance6(OLD, 0),
        fleet4: None,
        fleet6: None,
        ports: vec![(Protocol::Tcp, 9000)],
        own_address: false,
        brought,
        watch_listen: false,
    });
    let backend = Backend {
        key: backend_key(OLD, 0, 9000, Protocol::Tcp, 0),
        address4: Some("127.0.0.1".parse().unwrap()),
        address6: None,
        wildcard: Wildcard { v4: wildcard, v6: false },
        port: 9000,
        weight: 256,
        local: true,
        node: 0,
        zone: 0,
        in_choice: true,
        slots: 1,
    };
    world.service(OLD, 9000, Protocol::Tcp, 0);
    let mut service = (*world.wanted.services[&OLD]).clone();
    service.ports[0].backends.push(backend);
    world.wanted.set_service(service);
    world.apply();
}

/// Names of the links pinned for adopted cgroups, by cgroup id.
fn hooked(world: &World) -> BTreeSet<String> {
    let entries = fs::read_dir(world.pins().join("links/hooked")).unwrap();
    entries.flatten().map(|e| e.file_name().into_string().unwrap()).collect()
}

#[test]
fn an_existing_cgroup_is_hooked_in_place_at_any_depth() {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 1);
    world.python_server(1, 0, &SERVER.replace("ADDRESS", "0.0.0.0").replace("9000", "8080"));
    world.wait_listening(1, 0);
    world.client(2);
    let outside = world.outside("unit");
    let deep = (0..20).fold(outside.clone(), |at, level| at.join(format!("level{level}")));
    fs::create_dir_all(&deep).unwrap();
    world.python_server_in(&deep, &SERVER.replace("ADDRESS", "127.0.0.1"));
    let call_out = CALL.replace("127.64.0.5:9000", "127.64.0.1:8080");
    let refused = world.python_in(&deep, &call_out);
    assert!(refused.contains("No route to host"), "a stranger reaches no service: {refused}");

    adopt(&mut world, &outside, false);
    // It sees callers as it did before; its own calls bear its address in the network.
    assert_eq!(world.python(2, 0, CALL), "old from 127.0.0.1");
    let own = format!("old from {}", instance4(OLD, 0));
    assert_eq!(world.python_in(&deep, &call_out), own);
    assert_eq!(world.kernel_edges(OLD, 1).connects(), 1, "it calls in its own name");
    let bound =
        "import socket; s = socket.socket(); s.bind(('0.0.0.0', 7)); print(s.getsockname())";
    assert_eq!(world.python_in(&deep, bound), "('0.0.0.0', 7)", "its binds are left alone");

    // Another loader takes the links up; the programs are replaced in place.
    let links = hooked(&world);
    assert_eq!(links.len(), 1);
    world.reopen();
    assert_eq!(hooked(&world), links);
    assert_eq!(world.python_in(&deep, &call_out), own);

    world.wanted.instances.retain(|_, i| i.cgroup != outside);
    world.apply();
    assert_eq!(hooked(&world), BTreeSet::new());
    let refused = world.python_in(&deep, &call_out);
    assert!(refused.contains("No route to host"), "released: {refused}");
}

#[test]
fn a_wildcard_listener_counts_only_when_it_is_known_as_one() {
    let mut world = World::new();
    world.client(2);
    let outside = world.outside("unit");
    let pid = world.python_server_in(&outside, &SERVER.replace("ADDRESS", "0.0.0.0"));
    adopt(&mut world, &outside, false);
    assert!(world.python(2, 0, CALL).contains("refused"), "not bound to that very address");
    let backend = |world: &mut World, wildcard| {
        let mut service = (*world.wanted.services[&OLD]).clone();
        service.ports[0].backends[0].wildcard = wildcard;
        world.wanted.set_service(service);
        world.apply();
    };
    backend(&mut world, Wildcard { v4: true, v6: false });
    assert_eq!(world.python(2, 0, CALL), "old from 127.0.0.1");
    world.kill(pid);
    assert!(world.python(2, 0, CALL).contains("refused"), "nobody listens");
}

#[test]
fn a_stranger_where_an_adopted_program_listened_is_not_taken_for_it() {
    let called6 = format!("[{}]", service6(OLD));
    for (at, script, called) in
        [("127.0.0.1", SERVER.to_owned(), "127.64.0.5"), ("::1", six(SERVER), &called6)]
    {
        let call = CALL.replace("127.64.0.5", called);
        let mut world = World::new();
        world.client(2);
        let (outside, elsewhere) = (world.outside("unit"), world.outside("elsewhere"));
        let server = script.replace("ADDRESS", at);
        let own = world.python_server_in(&outside, &server);
        adopt(&mut world, &outside, false);
        let mut service = (*world.wanted.services[&OLD]).clone();
        let backend = &mut service.ports[0].backends[0];
        backend.address4 = at.parse().ok();
        backend.address6 = at.parse().ok();
        world.wanted.set_service(service);
        world.apply();
        let answer = format!("old from {at}");
        assert_eq!(world.python(2, 0, &call), answer);

        // It starts again, and nobody has told.
        world.kill(own);
        let own = world.python_server_in(&outside, &server);
        assert_eq!(world.python(2, 0, &call), answer, "made in its cgroup");

        // It is gone, and nobody has told.
        world.kill(own);
        let stranger = world.python_server_in(&elsewhere, &server);
        assert!(world.python(2, 0, &call).contains("refused"), "made elsewhere");

        // A process that is adopted brings what it listens with.
        let all = world.kernel.listeners().unwrap();
        let listener = all.iter().find(|l| l.port == 9000).unwrap();
        let mut adopted = (*world.wanted.instances[&77]).clone();
        adopted.brought = vec![listener.cookie];
        world.wanted.set_instance(adopted.clone());
        world.apply();
        assert_eq!(world.python(2, 0, &call), answer, "its own, wherever it was made");
        world.reopen();
        assert_eq!(world.python(2, 0, &call), answer, "known to the next loader");

        world.kill(stranger);
        let other = world.python_server_in(&elsewhere, &server);
        assert!(world.python(2, 0, &call).contains("refused"), "another socket");
        world.kill(other);
    }
}

/// The same server, by IPv6.
fn six(server: &str) -> String {
    server.replace(
        "s = http.server.ThreadingHTTPServer(",
        "http.server.ThreadingHTTPServer.address_family = socket.AF_INET6\n\
         s = http.server.ThreadingHTTPServer(",
    )
}

#[test]
fn a_cgroup_made_anew_is_another_one() {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 0);
    let outside = world.outside("unit");
    adopt(&mut world, &outside, false);
    let first = hooked(&world);
    fs::remove_dir(&outside).unwrap();
    fs::create_dir(&outside).unwrap();
    world.kernel.hook(&outside).unwrap();
    world.apply();
    let second = hooked(&world);
    assert_eq!((first.len(), second.len()), (1, 1), "nothing of the old one is left");
    assert_ne!(first, second);
}

#[test]
fn a_cgroup_whose_hooks_are_held_alone_is_refused_whole() {
    let mut world = World::new();
    world.client(2);
    let outside = world.outside("unit");
    // Attached without BPF_F_ALLOW_MULTI: the old way, as small tools do it.
    let program = world.pins().join("links/connect6");
    let held = exclusive::attach(&program, &outside);
    let error = world.kernel.hook(&outside).unwrap_err();
    assert!(matches!(error, Error::HookTaken { hook: "connect6", .. }), "{error}");
    assert!(error.to_string().contains("bpftool cgroup tree"), "{error}");
    assert_eq!(hooked(&world), BTreeSet::new(), "what was attached before it is taken back");
    drop(held);
    world.kernel.hook(&outside).unwrap();
    world.apply();
    assert_eq!(hooked(&world), BTreeSet::new(), "hooked, but not wanted");
}

#[test]
fn a_replacement_that_fails_on_one_cgroup_is_taken_back_on_all() {
    let mut world = World::new();
    world.client(2);
    let outside = world.outside("unit");
    world.python_server_in(&outside, &SERVER.replace("ADDRESS", "127.0.0.1"));
    adopt(&mut world, &outside, false);
    let links = world.pins().join("links");
    let of_unit = fs::read_dir(links.join("hooked")).unwrap().next().unwrap().unwrap().path();
    // The last hook of the last cgroup cannot be replaced: what is pinned there is of another one.
    fs::rename(of_unit.join("getpeername6"), of_unit.join("sock_release")).unwrap();
    let maps = world.pins().join(format!("v{}", sinew_abi::ABI_VERSION));
    let verified = || fs::read_dir(&maps).unwrap().flatten().map(|entry| entry.path());
    let verified = || verified().find(|path| path.is_dir()).unwrap();
    let programs = || -> Vec<u32> {
        let pins = [&links, &of_unit].map(|at| fs::read_dir(at).unwrap().flatten());
        let pins = pins.into_iter().flatten().map(|entry| entry.path());
        let mut pins: Vec<_> = pins.filter(|path| !path.is_dir()).collect();
        pins.sort();
        pins.iter().map(|pin| exclusive::program_of(pin)).collect()
    };
    let before = programs();
    assert_eq!(before.len(), 31, "15 for members, 2 for deaths, 14 of the unit");
    fs::remove_dir_all(verified()).unwrap();
    let error = world.try_reopen().unwrap_err();
    assert!(error.to_string().contains("replace program sock_release"), "{error}");
    assert_eq!(programs(), before, "versions do not mix");
    assert_eq!(world.python(2, 0, CALL), "old from 127.0.0.1");

    fs::remove_file(of_unit.join("sock_release")).unwrap();
    world.reopen();
    let after = programs();
    assert_eq!(after.len(), 32, "what was missing is made anew");
    assert!(after.iter().all(|program| !before.contains(program)));
    assert_eq!(world.python(2, 0, CALL), "old from 127.0.0.1");
}

/// The attachment of another program, which shares its hook with nobody.
mod exclusive {
    use std::{
        ffi::CString,
        fs::File,
        os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        path::Path,
    };

    const OBJ_GET: i64 = 7;
    const PROG_ATTACH: i64 = 8;
    const PROG_DETACH: i64 = 9;
    const PROG_GET_FD_BY_ID: i64 = 13;
    const OBJ_GET_INFO_BY_FD: i64 = 15;
    const CONNECT6: u32 = 11;

    fn bpf<T>(command: i64, attributes: &mut T) -> i32 {
        // SAFETY: a prefix of `union bpf_attr`, whose pointers outlive the call.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
        };
        assert!(result >= 0, "bpf {command}: {}", std::io::Error::last_os_error());
        i32::try_from(result).unwrap()
    }

    fn owned(fd: i32) -> OwnedFd {
        // SAFETY: the kernel has just made it for us.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    pub(super) struct Held {
        cgroup: File,
        program: OwnedFd,
    }

    /// Number of the program of a pinned link.
    pub(super) fn program_of(link: &Path) -> u32 {
        let path = CString::new(link.to_str().unwrap()).unwrap();
        let link = owned(bpf(OBJ_GET, &mut [path.as_ptr() as u64, 0]));
        let mut info = [0u32; 16];
        let size = size_of_val(&info) as u64;
        let pointer = info.as_mut_ptr() as u64;
        bpf(OBJ_GET_INFO_BY_FD, &mut [link.as_raw_fd() as u64 | size << 32, pointer]);
        info[2]
    }

    /// Attaches the program of a pinned link to a cgroup, by itself alone.
    pub(super) fn attach(link: &Path, cgroup: &Path) -> Held {
        let program = owned(bpf(PROG_GET_FD_BY_ID, &mut [program_of(link), 0, 0, 0]));
        let cgroup = File::open(cgroup).unwrap();
        let mut held = Held { cgroup, program };
        held.call(PROG_ATTACH);
        held
    }

    impl Held {
        fn call(&mut self, command: i64) {
            let (cgroup, program) = (self.cgroup.as_raw_fd(), self.program.as_raw_fd());
            bpf(command, &mut [cgroup as u32, program as u32, CONNECT6, 0]);
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.call(PROG_DETACH);
        }
    }
}
