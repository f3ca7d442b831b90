//! Commands for people: a shell in which they are on the PATH can do what tests do.

use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt as _};

use crate::{Error, Hosts, PORT_DISABLED, PORT_FORWARDING};

pub(crate) fn write(hosts: &Hosts) -> Result<(), Error> {
    let directory = hosts.scripts();
    fs::create_dir(&directory).map_err(|e| Error::io("make", &directory, e))?;
    for (name, body) in [
        ("on", on(hosts)),
        ("cut", cut(hosts)),
        ("heal", port(hosts, "heal", PORT_FORWARDING)),
        ("pause", file(hosts, "pause", "cgroup.freeze", 1)),
        ("resume", file(hosts, "resume", "cgroup.freeze", 0)),
        ("crash", file(hosts, "crash", "cgroup.kill", 1)),
    ] {
        let path = directory.join(name);
        let executable = fs::Permissions::from_mode(0o755);
        fs::write(&path, body)
            .and_then(|()| fs::set_permissions(&path, executable))
            .map_err(|e| Error::io("write", &path, e))?;
    }
    Ok(())
}

/// A case of `$1` for each host, and the complaint about any other word.
fn cases(hosts: &Hosts, usage: &str, each: impl Fn(&crate::Host) -> String) -> String {
    let mut text = String::from("#!/bin/sh\ncase \"$1\" in\n");
    for host in hosts.all() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}) {} ;;", host.name(), each(host));
    }
    let names: Vec<String> = hosts.all().iter().map(crate::Host::name).collect();
    let names = names.join(" ");
    let _ = writeln!(text, "*) echo \"usage: {usage}; hosts: {names}\" >&2; exit 2 ;;\nesac");
    text
}

fn on(hosts: &Hosts) -> String {
    let each = |host: &crate::Host| {
        let mut words = format!("host={}", host.name());
        for (name, path) in host.environment() {
            let _ = write!(words, "; export {name}={}", path.display());
        }
        for (name, path) in [
            ("programs", host.programs()),
            ("network", host.network()),
            ("name", host.name_file()),
            ("files", host.files().to_owned()),
        ] {
            let _ = write!(words, "; {name}={}", path.display());
        }
        words
    };
    let mut text = cases(hosts, "on HOST COMMAND…", each);
    text.push_str(
        "shift\n[ $# -gt 0 ] || set -- \"${SHELL:-sh}\"\nexport SINEW_HOST=$host\n\
         echo 0 > \"$programs/cgroup.procs\" && cd \"$files\" && exec nsenter --net=\"$network\" \
         --uts=\"$name\" \"$@\"\n",
    );
    text
}

/// Also the tool of that name, which people and scripts go on to use.
fn cut(hosts: &Hosts) -> String {
    let script = port(hosts, "cut", PORT_DISABLED);
    script.replacen("in\n", "in\n-*) PATH=${PATH#*:}; exec cut \"$@\" ;;\n", 1)
}

fn port(hosts: &Hosts, name: &str, state: u8) -> String {
    let switch = hosts.switch.file();
    cases(hosts, &format!("{name} HOST"), |host| {
        let (switch, port) = (switch.display(), host.port());
        format!("exec nsenter --net={switch} bridge link set dev {port} state {state}")
    })
}

fn file(hosts: &Hosts, name: &str, file: &str, word: u8) -> String {
    cases(hosts, &format!("{name} HOST"), |host| {
        format!("echo {word} > {}", host.cgroup().join(file).display())
    })
}
