//! The rules that a project obeys, however it arrives. The file's reader adds places to what is
//! found here; the API's answers carry it as it is.

use std::{collections::BTreeMap, path::Path, time::Duration};

use crate::{
    Balance, Check, Command, Health, Invalid, InvalidProject, Limits, Outlier, Privileges, Project,
    Rule, Service, ServiceName, Stop, ZoneName,
    field::Field,
    order,
    units::{MAX_DURATION, format_cpu, format_duration, format_size},
    words::{self, nearest},
};

mod ports;

/// The most instances of a service.
pub const MAX_REPLICAS: u16 = 1024;

/// Names with a meaning of their own: `exec` sessions, the agent, and what every program calls
/// its own machine.
pub(crate) const RESERVED: [&str; 4] = ["exec", "agent", "localhost", "outside"];

impl Project {
    /// Checks every rule that the types alone do not hold.
    ///
    /// # Errors
    /// With every field at fault.
    pub fn validate(&self) -> Result<(), InvalidProject> {
        let found = check(self);
        if found.is_empty() {
            return Ok(());
        }
        let fields =
            found.into_iter().map(|(field, rule)| Invalid { field: field.into(), rule }).collect();
        Err(InvalidProject { fields })
    }
}

/// Every broken rule with its field, in the file's spelling.
pub(crate) fn check(project: &Project) -> Vec<(Field, Rule)> {
    let mut rules = Rules { found: Vec::new() };
    let services = Field::root().key("services");
    rules.need(!project.services.is_empty(), &services, || Rule::NoServices);
    for (name, service) in &project.services {
        let field = services.key(name);
        let reserved = RESERVED.contains(&name.as_str());
        rules.need(!reserved, &field, || Rule::Reserved(name.clone()));
        rules.service(service, &field);
        rules.dependencies(&project.services, name, service, &field.key("depends_on"));
    }
    rules.cycles(&project.services, &services);
    rules.published(&project.services, &services);
    rules.found
}

struct Rules {
    found: Vec<(Field, Rule)>,
}

impl Rules {
    fn need(&mut self, holds: bool, field: &Field, rule: impl FnOnce() -> Rule) {
        if !holds {
            self.found.push((field.clone(), rule()));
        }
    }

    fn range<T: PartialOrd + Copy>(
        &mut self,
        field: &Field,
        value: T,
        (least, most): (T, T),
        show: fn(T) -> String,
    ) {
        self.need(least <= value && value <= most, field, || {
            Rule::range(show(value), show(least), show(most))
        });
    }

    fn duration(&mut self, field: &Field, value: Duration, least: Duration) {
        self.range(field, value, (least, MAX_DURATION), format_duration);
    }

    fn positive(&mut self, field: &Field, value: Duration) {
        self.duration(field, value, Duration::from_millis(1));
    }

    fn service(&mut self, service: &Service, field: &Field) {
        self.command(&service.command, &field.key("command"));
        self.ports(service, field);
        self.range(&field.key("replicas"), service.replicas, (0, MAX_REPLICAS), |n| n.to_string());
        self.env(&service.env, &field.key("env"));
        self.working_dir(&service.working_dir, &field.key("working_dir"));
        for (key, account) in [("user", &service.user), ("group", &service.group)] {
            if let Some(account) = account {
                self.need(is_account(account), &field.key(key), || Rule::Account(account.clone()));
            }
        }
        self.limits(&service.limits, &field.key("limits"));
        self.health(service, &field.key("health"));
        self.stop(&service.stop, &field.key("stop"));
        self.balance(service.balance, &field.key("balance"));
        self.outlier(&service.outlier, &field.key("outlier"));
        if let Some(zone) = &service.zone {
            let is_zone = ZoneName::new(zone.as_str()).is_ok();
            self.need(is_zone, &field.key("zone"), || Rule::Zone(zone.clone()));
        }
        let placement = field.key("placement").key("labels");
        for (labels, field) in
            [(&service.labels, field.key("labels")), (&service.placement.labels, placement)]
        {
            for label in labels.keys() {
                self.need(is_word(label), &field.key(label), || Rule::Word(label.clone()));
            }
        }
        self.privileges(&service.privileges, &field.key("privileges"));
    }

    fn command(&mut self, command: &Command, field: &Field) {
        self.need(!command.is_empty(), field, || Rule::EmptyCommand);
        let words = match command {
            Command::Shell(line) => std::slice::from_ref(line),
            Command::Argv(argv) => argv,
        };
        for word in words {
            self.text(word, field);
        }
    }

    fn text(&mut self, text: &str, field: &Field) {
        self.need(!text.contains('\0'), field, || Rule::Nul(text.to_owned()));
    }

    fn env(&mut self, env: &BTreeMap<String, String>, field: &Field) {
        for (name, value) in env {
            let usable = !name.is_empty() && !name.contains(['=', '\0', ' ']);
            let field = field.key(name);
            self.need(usable, &field, || Rule::VariableName(name.clone()));
            self.text(value, &field);
        }
    }

    fn working_dir(&mut self, path: &Path, field: &Field) {
        let text = path.to_string_lossy();
        self.need(path.is_absolute(), field, || Rule::Relative(text.clone().into_owned()));
        self.text(&text, field);
    }

    fn limits(&mut self, limits: &Limits, field: &Field) {
        // Below these no program starts, and the kernel takes no shorter quota.
        if let Some(memory) = limits.memory_bytes {
            self.range(&field.key("memory"), memory, (1 << 20, 1 << 50), format_size);
        }
        if let Some(cpu) = limits.cpu_millis {
            self.range(&field.key("cpu"), cpu, (10, 10_000_000), format_cpu);
        }
        if let Some(pids) = limits.pids {
            self.range(&field.key("pids"), pids, (1, 4_194_304), |n| n.to_string());
        }
    }

    fn health(&mut self, service: &Service, field: &Field) {
        let Health { check, interval, timeout, healthy_threshold, unhealthy_threshold, .. } =
            &service.health;
        match check {
            Check::None => {}
            Check::Tcp { port } => self.checked_port(service, *port, &field.key("tcp")),
            Check::Http { port, path } => {
                let field = field.key("http");
                self.checked_port(service, *port, &field);
                let sound = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic());
                self.need(sound, &field, || Rule::HttpPath(path.clone()));
            }
            Check::Exec { command } => self.command(command, &field.key("exec")),
        }
        self.positive(&field.key("interval"), *interval);
        self.positive(&field.key("timeout"), *timeout);
        self.duration(&field.key("start_period"), service.health.start_period, Duration::ZERO);
        for (key, threshold) in [
            ("healthy_threshold", *healthy_threshold),
            ("unhealthy_threshold", *unhealthy_threshold),
        ] {
            self.range(&field.key(key), threshold, (1, 1000), |n| n.to_string());
        }
    }

    fn stop(&mut self, stop: &Stop, field: &Field) {
        let signal = &stop.signal;
        self.need(words::signal_number(signal).is_some(), &field.key("signal"), || Rule::Signal {
            value: signal.clone(),
            suggestion: words::nearest_signal(signal),
        });
        self.duration(&field.key("grace"), stop.grace, Duration::ZERO);
    }

    fn balance(&mut self, balance: Balance, field: &Field) {
        if let Balance::Source { timeout } = balance {
            self.positive(&field.key("timeout"), timeout);
        }
    }

    fn outlier(&mut self, outlier: &Outlier, field: &Field) {
        let Outlier { consecutive_failures, base, max, max_ejected_percent } = *outlier;
        let consecutive = field.key("consecutive_failures");
        self.range(&consecutive, consecutive_failures, (0, 1000), |n| n.to_string());
        self.positive(&field.key("base"), base);
        self.positive(&field.key("max"), max);
        self.need(base <= max, &field.key("base"), || Rule::OutlierOrder {
            base: format_duration(base),
            max: format_duration(max),
        });
        let percent = field.key("max_ejected_percent");
        self.range(&percent, max_ejected_percent, (0, 100), |n| n.to_string());
    }

    fn privileges(&mut self, privileges: &Privileges, field: &Field) {
        let list = field.key("keep_capabilities");
        for (index, capability) in privileges.keep_capabilities.iter().enumerate() {
            let known = words::CAPABILITIES.contains(&capability.as_str());
            self.need(known, &list.index(index), || Rule::Capability {
                value: capability.clone(),
                suggestion: words::nearest_capability(capability),
            });
        }
    }

    fn dependencies(
        &mut self,
        services: &BTreeMap<ServiceName, Service>,
        name: &ServiceName,
        service: &Service,
        field: &Field,
    ) {
        for (index, needed) in service.depends_on.iter().enumerate() {
            let field = field.index(index);
            self.need(services.contains_key(needed), &field, || {
                let others = services.keys().filter(|other| *other != name);
                let near = nearest(needed.as_str(), others.map(ServiceName::as_str));
                let suggestion = near.and_then(|near| ServiceName::new(near).ok());
                Rule::NoSuchService { name: needed.clone(), suggestion }
            });
            let first = !service.depends_on[..index].contains(needed);
            self.need(first, &field, || Rule::DependencyTwice(needed.clone()));
        }
    }

    fn cycles(&mut self, services: &BTreeMap<ServiceName, Service>, field: &Field) {
        for cycle in order::cycles(services) {
            let [first, second, ..] = &*cycle else { continue };
            let list = field.key(first).key("depends_on");
            let index = services[first].depends_on.iter().position(|name| name == second);
            self.found.push((list.index(index.unwrap_or_default()), Rule::Cycle(cycle)));
        }
    }
}

pub(crate) fn is_account(text: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && !":/,".contains(c);
    !text.is_empty() && text.len() <= 256 && !text.starts_with('-') && text.chars().all(allowed)
}

fn is_word(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
