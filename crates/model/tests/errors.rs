//! Files that are wrong: each fault is told with its place, its field, its value and the remedy.

#![expect(clippy::unwrap_used, reason = "a fault of a helper fails its test")]

use std::{io, path::Path};

use sinew_model::{FileSource, ParseErrors, Project, parse};

fn read(text: &str) -> Result<Project, ParseErrors> {
    let source = FileSource { path: Path::new("sinew.yaml"), directory: Path::new("/srv/shop") };
    let mut files = |path: &Path| match path.to_str() {
        Some("/srv/shop/bad.env") => Ok("A=1\nsecret\n\nB C=2\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    parse(text, &source, &mut files, &|name| (name == "USER").then(|| "ada".to_owned()))
}

/// Every error of a file, each without the file's name.
fn errors(text: &str) -> Vec<String> {
    let errors = match read(text) {
        Ok(_) => return Vec::new(),
        Err(errors) => errors.to_string(),
    };
    errors.lines().map(|line| line.strip_prefix("sinew.yaml:").unwrap().to_owned()).collect()
}

/// Checks one fault a row: the text, and what is said of it.
fn check_files(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(errors(text), [*expected], "{text}");
    }
}

/// The same for a line of a service on line 5, columns counted from its start.
fn check_lines(rows: &[(&str, usize, &str)]) {
    for (line, column, expected) in rows {
        let text = format!(
            "services:\n  api:\n    command: ./api\n    ports: [http:8080, dns:53/udp]\n    {line}\n"
        );
        let expected = format!("5:{}: services.api.{expected}", column + 4);
        assert_eq!(errors(&text), [expected], "{line}");
    }
}

#[test]
fn files_that_are_not_yaml_or_no_project() {
    check_files(&[
        ("", "1:1: the file is empty; describe at least one service under services:"),
        ("# nothing\n", "1:1: the file is empty; describe at least one service under services:"),
        (
            "a: [b\n",
            "2:1: not YAML: while parsing a flow sequence, expected ',' or ']'; check indentation, quotes and brackets here and just before",
        ),
        (
            "a: 'b",
            "1:4: not YAML: while scanning a quoted scalar, found unexpected end of stream; check indentation, quotes and brackets here and just before",
        ),
        (
            "services:\n  a:\n    command: x\n   port: 1\n",
            "4:4: not YAML: while parsing a block mapping, did not find expected key; check indentation, quotes and brackets here and just before",
        ),
        (
            "a: *b",
            "1:4: not YAML: while parsing node, found unknown anchor; check indentation, quotes and brackets here and just before",
        ),
        (
            "hello",
            r#"1:1: "hello" is not a mapping of services; begin with services: and describe one a key"#,
        ),
        (
            "- a\n",
            "1:1: a list is not a mapping of services; begin with services: and describe one a key",
        ),
        (
            "services: {a: {command: x}}\n---\nb: 1\n",
            "2:1: a second document begins here; keep one document a file",
        ),
        ("services: !include other.yaml", "1:11: tag \"include\" has no meaning here; remove it"),
        (
            "[a, b]: 1\nservices: {a: {command: x}}",
            "1:1: a list cannot be a key; write a word and a colon",
        ),
        (
            "services: {a: {<<: 1, command: x}}",
            "1:16: only mappings can be merged by `<<`; write << with an alias such as *defaults",
        ),
        (
            "name: shop\n",
            "1:1: no services is given; add it, such as services: {api: {command: ./api}}",
        ),
        (
            "services:\n",
            "1:1: services: the project has no service; describe at least one under services",
        ),
        (
            "services: {}\n",
            "1:1: services: the project has no service; describe at least one under services",
        ),
        (
            "services: [api]\n",
            "1:1: services: a list is not a mapping of services; write each service's name and a colon, and indent its keys",
        ),
        (
            "services:\n  api: ./api\n",
            r#"2:8: services.api: "./api" is not a service; indent its keys below its name, command: first"#,
        ),
        (
            "services:\n  api:\n",
            "2:3: services.api: the value is missing; indent its keys below its name, command: first",
        ),
        (
            "services:\n  api: {port: 80}\n",
            "2:3: services.api: no command is given; add it, such as command: ./server",
        ),
    ]);
}

#[test]
fn files_that_are_too_much() {
    let nested = format!("services: {}{}", "[".repeat(40), "]".repeat(40));
    let long = format!("# {}", "x".repeat(8 << 20));
    let deep = (1..40)
        .fold("a0: &a0 [1]\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [*a{}]\n", n - 1));
    let wide = (1..20).fold("a0: &a0 [1]\n".to_owned(), |text, n| {
        let before = n - 1;
        format!("{text}a{n}: &a{n} [*a{before}, *a{before}, *a{before}, *a{before}]\n")
    });
    check_files(&[
        (
            &nested,
            "1:42: nested more than 32 levels deep; no field needs that; look for a stray bracket",
        ),
        (&long, "1:1: the file has 8388610 bytes; keep it below 8388608 bytes"),
        (
            &deep,
            "31:12: nested more than 32 levels deep; no field needs that; look for a stray bracket",
        ),
        (
            &wide,
            "11:27: aliases expand to more than 4194304 bytes; write the values out or use fewer aliases",
        ),
    ]);
}

#[test]
fn keys_that_are_wrong() {
    check_files(&[
        (
            "version: 3\nservices: {a: {command: x}}",
            "1:1: version: unknown key; known here: name, services",
        ),
        ("nmae: a\nservices: {a: {command: x}}", "1:1: nmae: unknown key; did you mean \"name\"?"),
        (
            "services: {a: {command: x}}\nservices: {b: {command: x}}",
            "2:1: services: given twice, first on line 1; remove one",
        ),
        (
            "services:\n  a: {command: x}\n  a: {command: y}",
            "3:3: services.a: given twice, first on line 2; remove one",
        ),
    ]);
    check_lines(&[
        ("replica: 3", 1, r#"replica: unknown key; did you mean "replicas"?"#),
        ("Replicas: 3", 1, r#"Replicas: unknown key; did you mean "replicas"?"#),
        ("working-dir: a", 1, r#"working-dir: unknown key; did you mean "working_dir"?"#),
        ("environment: {A: 1}", 1, r#"environment: unknown key; did you mean "env"?"#),
        ("healthcheck: none", 1, r#"healthcheck: unknown key; did you mean "health"?"#),
        (
            "image: nginx",
            1,
            "image: unknown key; known here: command, port, ports, replicas, env, env_file, working_dir, user, group, limits, health, restart, stop, depends_on, balance, outlier, zone, labels, publish, privileges, placement",
        ),
        ("command: y", 1, "command: given twice, first on line 3; remove one"),
        ("limits: {mem: 1G}", 10, "limits.mem: unknown key; known here: memory, cpu, pids"),
        ("stop: {singal: INT}", 8, r#"stop.singal: unknown key; did you mean "signal"?"#),
        (
            "health: {tcp: true, intervall: 1s}",
            21,
            r#"health.intervall: unknown key; did you mean "interval"?"#,
        ),
        (
            "health: {http: {paths: /}}",
            17,
            r#"health.http.paths: unknown key; did you mean "path"?"#,
        ),
        ("outlier: {bases: 1s}", 11, r#"outlier.bases: unknown key; did you mean "base"?"#),
        (
            "balance: {policy: source, time: 1s}",
            27,
            "balance.time: unknown key; known here: policy, timeout",
        ),
        (
            "balance: {policy: random, timeout: 1s}",
            36,
            "balance.timeout: unknown key; known here: policy",
        ),
        (
            "balance: {timeout: 1s}",
            1,
            "balance: no policy is given; add it, such as policy: source",
        ),
        (
            "privileges: {keep: [A]}",
            14,
            "privileges.keep: unknown key; known here: keep_capabilities, no_new_privileges",
        ),
        (
            "health: {interval: 1s}",
            1,
            "health: no tcp, http or exec is given; add it, such as tcp: true",
        ),
        ("health: {tcp: true, exec: x}", 27, "health.exec: exec and tcp are both given; keep one"),
        ("port: 80", 7, "port: port and ports are both given; keep one"),
    ]);
}

#[test]
fn names_that_are_none() {
    check_files(&[
        (
            "name: My Shop\nservices: {a: {command: x}}",
            r#"1:7: name: project name "My Shop" is not a DNS label; use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends"#,
        ),
        (
            "services: {a_b: {command: x}}",
            r#"1:12: services.a_b: service name "a_b" is not a DNS label; use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends"#,
        ),
        (
            "services: {exec: {command: x}}",
            "1:12: services.exec: the name exec is reserved; choose another: exec, agent, localhost and outside have a meaning already",
        ),
        (
            "services:\n  agent: {command: x}",
            "2:3: services.agent: the name agent is reserved; choose another: exec, agent, localhost and outside have a meaning already",
        ),
    ]);
}

#[test]
fn values_of_the_wrong_kind() {
    check_lines(&[
        ("replicas: many", 11, r#"replicas: "many" is not a whole number in range; use 0 to 1024"#),
        ("replicas: 1025", 11, r#"replicas: "1025" is not a whole number in range; use 0 to 1024"#),
        ("replicas: -1", 11, r#"replicas: "-1" is not a whole number in range; use 0 to 1024"#),
        ("replicas: [1]", 1, "replicas: a list is not a whole number in range; use 0 to 1024"),
        ("replicas:", 1, "replicas: the value is missing; use 0 to 1024"),
        ("user: {name: a}", 1, "user: a mapping is not text; write one word or a quoted line"),
        (
            "env: 5",
            6,
            r#"env: "5" is not a mapping or a list of KEY=VALUE; write KEY: value lines, or - KEY=VALUE items"#,
        ),
        ("env: {A: [1]}", 7, "env.A: a list is not text; write one word or a quoted line"),
        ("env: ['=1']", 7, r#"env[0]: "=1" is not KEY=VALUE; put a name before the ="#),
        ("env: [A=1, A=2]", 12, "env[1]: given twice, first on line 5; remove one"),
        (
            "env: {A B: 1}",
            12,
            r#"env."A B": "A B" cannot name a variable; use a name without = and without spaces"#,
        ),
        ("labels: {a: {}}", 10, "labels.a: a mapping is not text; write one word or a quoted line"),
        (
            "env_file: {a: b}",
            1,
            "env_file: a mapping is not text or a list of it; write one, or a list with - before each",
        ),
        (
            "depends_on: {db: {}}",
            1,
            "depends_on: a mapping is not text or a list of it; write one, or a list with - before each",
        ),
        (
            "depends_on: [d b]",
            14,
            r#"depends_on[0]: service name "d b" is not a DNS label; use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends"#,
        ),
        (
            "limits: 1G",
            9,
            r#"limits: "1G" is not a mapping; write key: value for memory, cpu, pids"#,
        ),
        (
            "limits: {memory: 256MB}",
            18,
            r#"limits.memory: "256MB" is not a size; write bytes or use K, M, G, T (powers of 1024), such as 256MiB"#,
        ),
        ("limits: {memory: 1K}", 18, "limits.memory: 1KiB is out of range; use 1MiB to 1024TiB"),
        (
            "limits: {cpu: half}",
            15,
            r#"limits.cpu: "half" is not a number of processors; write processors, such as 0.5, or thousandths, such as 500m"#,
        ),
        ("limits: {cpu: 0}", 15, "limits.cpu: 0 is out of range; use 10m to 10000"),
        (
            "limits: {pids: 0}",
            16,
            r#"limits.pids: "0" is not a whole number in range; use 1 to 4194304"#,
        ),
        ("restart: no", 10, r#"restart: "no" is not known here; use always, on-failure or never"#),
        (
            "restart: on_failure",
            10,
            r#"restart: "on_failure" is not known here; did you mean "on-failure"?"#,
        ),
        (
            "balance: least-loaded",
            10,
            r#"balance: "least-loaded" is not known here; did you mean "least-load"?"#,
        ),
        (
            "balance: [a]",
            1,
            "balance: a list is not known here; use least-load, round-robin, random or source",
        ),
        (
            "balance: {policy: source, timeout: 0s}",
            36,
            "balance.timeout: 0s is out of range; use 1ms to 7d",
        ),
        (
            "stop: {grace: 5}",
            15,
            r#"stop.grace: "5" is not a duration; write it with units, such as 500ms, 2s or 1m30s"#,
        ),
        ("stop: {grace: 8d}", 15, "stop.grace: 8d is out of range; use 0s to 7d"),
        (
            "stop: {signal: TREM}",
            16,
            r#"stop.signal: "TREM" is not a signal that stops a workload; did you mean SIGTERM?"#,
        ),
        (
            "stop: {signal: kitten}",
            16,
            r#"stop.signal: "kitten" is not a signal that stops a workload; use SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 or the like"#,
        ),
        ("outlier: {base: 0s}", 17, "outlier.base: 0s is out of range; use 1ms to 7d"),
        (
            "outlier: {base: 2m}",
            17,
            "outlier.base: base 2m is longer than max 1m; raise max or lower base",
        ),
        (
            "outlier: {max_ejected_percent: 101}",
            32,
            r#"outlier.max_ejected_percent: "101" is not a whole number in range; use 0 to 100"#,
        ),
        (
            "outlier: {consecutive_failures: 2.5}",
            33,
            r#"outlier.consecutive_failures: "2.5" is not a whole number in range; use 0 to 1000"#,
        ),
        (
            "privileges: {no_new_privileges: yes}",
            33,
            r#"privileges.no_new_privileges: "yes" is not true or false; write true or false"#,
        ),
        (
            "privileges: {keep_capabilities: [NET_ADMN]}",
            34,
            r#"privileges.keep_capabilities[0]: "NET_ADMN" is not a capability of Linux; did you mean CAP_NET_ADMIN?"#,
        ),
        (
            "privileges: {keep_capabilities: kitten}",
            33,
            r#"privileges.keep_capabilities[0]: "kitten" is not a capability of Linux; use a name of capabilities(7), such as CAP_NET_ADMIN"#,
        ),
        (
            "zone: Rack 1",
            7,
            r#"zone: "Rack 1" cannot be a zone; use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends"#,
        ),
        (
            "group: a:b",
            8,
            r#"group: "a:b" cannot be a user or group; use a name or number of /etc/passwd or /etc/group"#,
        ),
        (
            "working_dir: \"a\\0\"",
            14,
            r#"working_dir: "/srv/shop/a\0" has a NUL character; remove it: Linux ends text there"#,
        ),
    ]);
    check_files(&[
        (
            "services: {a: {command: {x: y}}}",
            "1:16: services.a.command: a mapping is not a command; write a line for the shell, or a list of program and arguments",
        ),
        (
            "services: {a: {command: [x, [y]]}}",
            "1:29: services.a.command[1]: a list is not text; write one word or a quoted line",
        ),
        (
            "services: {a: {command: []}}",
            "1:16: services.a.command: the command is empty; say which program to run",
        ),
        (
            "services: {a: {command: ''}}",
            "1:25: services.a.command: the command is empty; say which program to run",
        ),
    ]);
}

#[test]
fn ports_and_checks_that_are_wrong() {
    check_lines(&[
        (
            "health: htp",
            9,
            r#"health: "htp" is not a health check; write none, tcp, or a mapping with tcp:, http: or exec:"#,
        ),
        ("health: nonne", 9, r#"health: "nonne" is not a health check; did you mean "none"?"#),
        (
            "health: [tcp]",
            1,
            "health: a list is not a health check; write none, tcp, or a mapping with tcp:, http: or exec:",
        ),
        (
            "health: {tcp: 9}",
            15,
            r#"health.tcp: the service has no port "9"; use http, or declare it under ports"#,
        ),
        (
            "health: {tcp: dns}",
            15,
            r#"health.tcp: the service has no port "dns"; use http, or declare it under ports"#,
        ),
        (
            "health: {http: {port: 9}}",
            23,
            r#"health.http.port: the service has no port "9"; use http, or declare it under ports"#,
        ),
        (
            "health: {http: x}",
            16,
            r#"health.http: "x" is not a path; begin it with / and leave out spaces"#,
        ),
        (
            "health: {tcp: true, interval: 0s}",
            31,
            "health.interval: 0s is out of range; use 1ms to 7d",
        ),
        (
            "health: {tcp: true, timeout: 0s}",
            30,
            "health.timeout: 0s is out of range; use 1ms to 7d",
        ),
        (
            "health: {tcp: true, healthy_threshold: 0}",
            40,
            r#"health.healthy_threshold: "0" is not a whole number in range; use 1 to 1000"#,
        ),
        (
            "publish: 8080",
            10,
            r#"publish: "8080" is not a published port; write PORT:NAME or HOST_IP:PORT:NAME, such as 8080:http"#,
        ),
        (
            "publish: [80:grpc]",
            11,
            r#"publish[0]: the service has no port "grpc"; use dns or http, or declare it under ports"#,
        ),
        (
            "publish: [80:http, '127.0.0.1:80:8080']",
            20,
            "publish[1]: host port 127.0.0.1:80 is already published by services.api.publish[0]; choose another port of the host",
        ),
        (
            "publish: ['80:HTTP']",
            11,
            r#"publish[0]: port name "HTTP" is not a DNS label; use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends"#,
        ),
    ]);
    check_files(&[
        (
            "services: {a: {command: x, port: 0}}",
            r#"1:34: services.a.port: "0" is not a port; write 8080, 53/udp, http:8080 or {name: http, number: 8080}"#,
        ),
        (
            "services: {a: {command: x, port: [80]}}",
            "1:28: services.a.port: a list is not a port; write 8080, 53/udp, http:8080 or {name: http, number: 8080}",
        ),
        (
            "services: {a: {command: x, port: {name: b}}}",
            "1:28: services.a.port: no number is given; add it, such as number: 8080",
        ),
        (
            "services: {a: {command: x, port: {number: 0}}}",
            r#"1:43: services.a.port.number: "0" is not a whole number in range; use 1 to 65535"#,
        ),
        (
            "services: {a: {command: x, port: {number: 1, protocol: sctp}}}",
            r#"1:56: services.a.port.protocol: "sctp" is not known here; use tcp or udp"#,
        ),
        (
            "services: {a: {command: x, port: '8:80'}}",
            r#"1:34: services.a.ports[0]: port name "8" has no letter; use a name with a letter, such as http"#,
        ),
        (
            "services: {a: {command: x, ports: [80, 80/tcp]}}",
            "1:40: services.a.ports[1]: port 80/tcp is already that of services.a.ports[0]; remove one",
        ),
        (
            "services: {a: {command: x, ports: [b:80, b:81]}}",
            r#"1:42: services.a.ports[1]: port name "b" is already that of services.a.ports[0]; give each port its own name"#,
        ),
        (
            "services: {a: {command: x, ports: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}}",
            "1:28: services.a.ports: 17 ports are more than a service may have; keep it to 16",
        ),
        (
            "services: {a: {command: x, port: 53/udp, health: tcp}}",
            "1:50: services.a.health: the check needs a TCP port, and the service has none; declare it under ports",
        ),
        (
            "services: {a: {command: x, health: {http: /}}}",
            "1:43: services.a.health.http: the check needs a TCP port, and the service has none; declare it under ports",
        ),
        (
            "services: {a: {command: x, publish: '80:http'}}",
            r#"1:37: services.a.publish[0]: the service has no port "http"; declare it under ports"#,
        ),
        (
            "services:\n  a: {command: x, port: 80, publish: '9:80'}\n  b: {command: x, port: 80, publish: '0.0.0.0:9:http'}",
            "3:38: services.b.publish[0]: host port 0.0.0.0:9 is already published by services.a.publish[0]; choose another port of the host",
        ),
    ]);
}

#[test]
fn dependencies_that_cannot_be() {
    check_files(&[
        (
            "services: {web: {command: x, depends_on: [ap]}, api: {command: x}}",
            "1:43: services.web.depends_on[0]: the project has no service ap; did you mean api?",
        ),
        (
            "services: {web: {command: x, depends_on: postgres}}",
            "1:42: services.web.depends_on[0]: the project has no service postgres; name a service of this project, or remove it",
        ),
        (
            "services: {web: {command: x, depends_on: [api, api]}, api: {command: x}}",
            "1:48: services.web.depends_on[1]: api is given twice; remove one",
        ),
        (
            "services:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, depends_on: [c]}\n  c: {command: x, depends_on: [b, a]}",
            "2:32: services.a.depends_on[0]: dependency cycle: a -> b -> c -> a; remove one of these dependencies",
        ),
    ]);
}

#[test]
fn variables_and_files_that_are_not_there() {
    check_lines(&[
        ("zone: $ZONE", 7, "zone: variable ZONE is not set; set it, or write ${ZONE:-} for none"),
        ("zone: ${ZONE:?say where}", 7, r#"zone: variable ZONE is required: "say where"; set it"#),
        (
            "env: {A: $(date)}",
            10,
            r#"env.A: "$(date)" is not a variable; write ${NAME} or ${NAME:-default}, and $$ for a plain dollar sign"#,
        ),
        (
            "replicas: ${USER}",
            11,
            r#"replicas: "ada" is not a whole number in range; use 0 to 1024"#,
        ),
        (
            "env_file: none.env",
            11,
            "env_file: /srv/shop/none.env cannot be read: entity not found; correct the path, which is relative to this file, or its permissions",
        ),
    ]);
    let text = "services: {a: {command: x, env_file: [bad.env]}}";
    let remedy = "write KEY=VALUE lines, # comments and empty lines only";
    assert_eq!(
        errors(text),
        [
            format!("1:39: services.a.env_file[0]: /srv/shop/bad.env:2 is not KEY=VALUE; {remedy}"),
            format!("1:39: services.a.env_file[0]: /srv/shop/bad.env:4 is not KEY=VALUE; {remedy}"),
        ]
    );
}

#[test]
fn a_directory_may_name_no_project() {
    let source = FileSource { path: Path::new("sinew.yaml"), directory: Path::new("/") };
    let text = "services: {a: {command: x}}";
    let read = parse(text, &source, &mut |_| Err(io::ErrorKind::NotFound.into()), &|_| None);
    assert_eq!(
        read.unwrap_err().to_string(),
        "sinew.yaml:1:1: no name is given; add it, such as name: shop"
    );
}

const MANY: &str = "\
services:
  api:
    command: ./api
    port: 80a
    replica: 3
    health: tcp
    publish: 8080:http
    depends_on: [db, web]
  db:
    replicas: 0x2
  web:
    command: nginx
\tuser: 7
";

#[test]
fn all_faults_are_told_at_once_and_none_twice() {
    assert_eq!(
        errors(&MANY.replace('\t', "    ")),
        [
            // Neither the check nor the published port are blamed for the port that was not read.
            r#"4:11: services.api.port: "80a" is not a port; write 8080, 53/udp, http:8080 or {name: http, number: 8080}"#,
            r#"5:5: services.api.replica: unknown key; did you mean "replicas"?"#,
            "9:3: services.db: no command is given; add it, such as command: ./server",
            r#"10:15: services.db.replicas: "0x2" is not a whole number in range; use 0 to 1024"#,
        ]
    );
    // A service whose name or content is wrong is there all the same for those that need it.
    assert_eq!(
        errors("services:\n  a: {command: x, depends_on: [b]}\n  b: 5\n"),
        [
            r#"3:6: services.b: "5" is not a service; indent its keys below its name, command: first"#
        ]
    );
}

#[test]
fn errors_are_shown_with_their_lines() {
    let text = MANY.replace('\t', "    ");
    let shown = read(&text).unwrap_err().render(&text, false);
    let expected = "\
sinew.yaml:4:11: error: services.api.port: \"80a\" is not a port; write 8080, 53/udp, http:8080 or {name: http, number: 8080}
4 |     port: 80a
  |           ^
sinew.yaml:5:5: error: services.api.replica: unknown key; did you mean \"replicas\"?
5 |     replica: 3
  |     ^
";
    assert_eq!(shown[..expected.len()], *expected);
    assert!(shown.ends_with("\n10 |     replicas: 0x2\n   |               ^\n"), "{shown}");
}

#[test]
fn colours_change_no_word() {
    let errors = read(MANY).unwrap_err();
    let mut shown = errors.render(MANY, true);
    assert!(shown.contains("\u{1b}[1;31merror:\u{1b}[0m"));
    for code in ["[0m", "[1m", "[1;31m", "[1;34m"] {
        shown = shown.replace(&format!("\u{1b}{code}"), "");
    }
    assert_eq!(shown, errors.render(MANY, false));
}

#[test]
fn columns_count_characters_and_lines_may_end_in_crlf() {
    let text = "services:\r\n  api: {command: 'é \u{1b}', replicas: x}\r\n";
    let errors = read(text).unwrap_err();
    assert_eq!(
        errors.render(text, false),
        "sinew.yaml:2:35: error: services.api.replicas: \"x\" is not a whole number in range; use 0 to 1024\n\
         2 |   api: {command: 'é  ', replicas: x}\n  |                                   ^\n"
    );
}
