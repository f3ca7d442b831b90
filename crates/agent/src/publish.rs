//! Ports of the host that projects publish: who may have which. The kernel hands the packets of a
//! published port to replicas before it looks for listeners of the host, so what listens there
//! already would be cut off without a word: that is refused.

use std::net::{IpAddr, SocketAddr, TcpListener};

use sinew_api::Shadowed;
use sinew_datapath::Listener;
use sinew_model::{Project, ProjectName, Protocol, Publish, ServiceName};

use crate::{
    alloc::Network6,
    intent::Intent,
    occupied::{holder, is_of_network},
    refusal::Refusal,
};

/// A port of the host that a project publishes.
#[derive(Clone, Copy, Debug)]
struct Published<'a> {
    service: &'a ServiceName,
    index: usize,
    publish: &'a Publish,
}

fn published(project: &Project) -> impl Iterator<Item = Published<'_>> {
    project.services.iter().flat_map(|(service, described)| {
        let each = described.publish.iter().enumerate();
        each.map(move |(index, publish)| Published { service, index, publish })
    })
}

impl Published<'_> {
    fn field(&self) -> String {
        format!("services.{}.publish[{}]", self.service, self.index)
    }
}

/// # Errors
/// When `project` publishes what another one has, or an address of the network itself.
pub(crate) fn check_projects(intent: &Intent, project: &Project) -> Result<(), Refusal> {
    let others = || intent.projects.iter().filter(|(name, _)| **name != project.name);
    for new in published(project) {
        let host = new.publish.host();
        if is_of_network(host.ip(), intent.network6) {
            return Err(Refusal::Invalid {
                field: new.field(),
                what: format!("{host} is of the addresses of services and instances"),
                remedy: "use an address of the host, 0.0.0.0 or [::]".to_owned(),
            });
        }
        for (name, owned) in others() {
            if let Some(old) =
                published(&owned.project).find(|old| old.publish.overlaps(new.publish))
            {
                return Err(taken_by(name, &old, &new));
            }
        }
    }
    Ok(())
}

fn taken_by(project: &ProjectName, old: &Published<'_>, new: &Published<'_>) -> Refusal {
    let (host, theirs, service) = (new.publish.host(), old.publish.host(), old.service);
    Refusal::HostPortTaken {
        field: new.field(),
        what: format!("{host}: the service {service} of the project {project} has {theirs}"),
        remedy: format!("choose another port, or take it down first: `sinew down {project}`"),
    }
}

/// Whether `project` publishes what none did before: only then the host is looked at.
pub(crate) fn has_new(intent: &Intent, project: &Project) -> bool {
    new(intent, project).next().is_some()
}

fn new<'a>(intent: &'a Intent, project: &'a Project) -> impl Iterator<Item = Published<'a>> {
    let is_old = |new: &Published<'_>| {
        let mut all = intent.projects.values().flat_map(|owned| published(&owned.project));
        all.any(|old| old.publish.host() == new.publish.host())
    };
    published(project).filter(move |new| !is_old(new))
}

/// # Errors
/// When what `project` publishes anew is no address of the host, or a program listens there.
pub(crate) fn check_host(
    intent: &Intent,
    project: &Project,
    listeners: &[Listener],
) -> Result<(), Refusal> {
    for new in new(intent, project) {
        let host = new.publish.host();
        // Bound for a moment, on any port: the kernel alone knows which addresses it has.
        if let Err(error) = TcpListener::bind((host.ip(), 0)) {
            return Err(Refusal::Invalid {
                field: new.field(),
                what: format!("{} cannot be listened on: {error}", host.ip()),
                remedy: "use an address of the host (`ip addr` lists them), 0.0.0.0 or [::]"
                    .to_owned(),
            });
        }
        let met = listeners.iter().find(|l| meets(new.publish, l, intent.network6));
        if let Some(listener) = met {
            let at = SocketAddr::new(listener.address, listener.port);
            let who = holder(listener.inode).unwrap_or_else(|| "a program".to_owned());
            return Err(Refusal::HostPortTaken {
                field: new.field(),
                what: format!("{host}: {who} listens on {at}, and would get no more connections"),
                remedy: "choose another port, or stop that program".to_owned(),
            });
        }
    }
    Ok(())
}

/// What is published on this host.
#[derive(Debug)]
pub(crate) struct Occupancy {
    network6: Network6,
    published: Vec<(ServiceName, Publish)>,
}

impl Occupancy {
    /// As `intent` wants it; `None`: nothing is.
    pub(crate) fn of(intent: &Intent) -> Option<Self> {
        let all = intent.projects.values().flat_map(|owned| published(&owned.project));
        let published: Vec<_> = all.map(|p| (p.service.clone(), p.publish.clone())).collect();
        (!published.is_empty()).then_some(Self { network6: intent.network6, published })
    }

    /// The programs that came after a port was published, and listen where it is. `holder` tells
    /// whose a socket is.
    pub(crate) fn shadows(
        &self,
        listeners: &[Listener],
        holder: impl Fn(u32) -> Option<String>,
    ) -> Vec<Shadowed> {
        let met = self.published.iter().flat_map(|(service, publish)| {
            let met = listeners.iter().filter(move |l| meets(publish, l, self.network6));
            met.map(move |listener| (service, publish, listener))
        });
        met.map(|(service, publish, listener)| Shadowed {
            service: service.clone(),
            published: publish.host(),
            listens_at: SocketAddr::new(listener.address, listener.port),
            program: holder(listener.inode),
        })
        .collect()
    }
}

/// Whether a connection to what is published could be one to `listener`.
fn meets(publish: &Publish, listener: &Listener, network6: Network6) -> bool {
    let covers = |all: IpAddr, one: IpAddr, both: bool| {
        let family = all.is_ipv4() == one.is_ipv4() || (all.is_ipv6() && both);
        all == one || (all.is_unspecified() && family)
    };
    (listener.protocol, listener.port) == (Protocol::Tcp, publish.host_port)
        && !is_of_network(listener.address, network6)
        && (covers(publish.host_ip, listener.address, true)
            || covers(listener.address, publish.host_ip, !listener.ipv6_only))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr, os::fd::AsFd};

    use sinew_model::{Command, PortName, Service};

    use super::*;
    use crate::launch::Owner;

    const NETWORK6: Network6 = [0xfd, 1, 2, 3, 4, 5];

    fn project(name: &str, hosts: &[&str]) -> Project {
        let mut service = Service::new(Command::Shell("true".into()), "/".into());
        service.ports = vec!["http:80".parse().unwrap()];
        service.publish = hosts.iter().map(|host| publish(host)).collect();
        let services = [(ServiceName::new(format!("{name}-web")).unwrap(), service)];
        Project { name: ProjectName::new(name).unwrap(), services: services.into() }
    }

    fn publish(host: &str) -> Publish {
        let host: std::net::SocketAddr = host.parse().unwrap();
        let port = PortName::new("http").unwrap();
        Publish { host_ip: host.ip(), host_port: host.port(), port }
    }

    fn intent(hosts: &[&str]) -> Intent {
        let owner = Owner { uid: 0, gid: 0 };
        Intent::new(NETWORK6).apply(project("shop", hosts), owner, &BTreeSet::new()).unwrap()
    }

    fn listener(address: &str, ipv6_only: bool) -> Listener {
        let address = address.parse().unwrap();
        let protocol = Protocol::Tcp;
        let (cgroup, inode, multipath) = (0, 0, false);
        Listener {
            address,
            port: 80,
            protocol,
            queue: 0,
            cgroup,
            ipv6_only,
            multipath,
            inode,
            cookie: 0,
        }
    }

    #[test]
    fn another_project_has_the_port() {
        let intent = intent(&["0.0.0.0:80"]);
        let refusal = check_projects(&intent, &project("blog", &["127.0.0.1:80"])).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "services.blog-web.publish[0]: 127.0.0.1:80: the service shop-web of the project shop \
             has 0.0.0.0:80"
        );
        assert_eq!(refusal.body().field.as_deref(), Some("services.blog-web.publish[0]"));
        assert!(check_projects(&intent, &project("shop", &["127.0.0.1:80"])).is_ok(), "its own");
        assert!(check_projects(&intent, &project("blog", &["[::1]:80", "0.0.0.0:81"])).is_ok());
    }

    #[test]
    fn addresses_of_the_network_are_not_published() {
        for host in ["127.80.0.1:80", "127.64.1.1:80", "[fd01:203:405::1]:80"] {
            let refusal = check_projects(&intent(&[]), &project("blog", &[host])).unwrap_err();
            assert!(matches!(refusal, Refusal::Invalid { .. }), "{refusal}");
        }
    }

    #[test]
    fn what_a_program_of_the_host_holds() {
        let meets = |host: &str, l: &Listener| meets(&publish(host), l, NETWORK6);
        assert!(meets("127.0.0.1:80", &listener("127.0.0.1", false)));
        assert!(meets("127.0.0.1:80", &listener("0.0.0.0", false)));
        assert!(meets("127.0.0.1:80", &listener("::", false)));
        assert!(!meets("127.0.0.1:80", &listener("::", true)));
        assert!(meets("0.0.0.0:80", &listener("10.0.0.1", false)));
        assert!(meets("[::]:80", &listener("10.0.0.1", false)));
        assert!(!meets("0.0.0.0:80", &listener("127.80.1.1", false)), "an instance's own");
        assert!(!meets("0.0.0.0:80", &listener("::1", false)));
        assert!(!meets("127.0.0.1:81", &listener("127.0.0.1", false)));
    }

    #[test]
    fn who_listens_behind_a_published_port() {
        assert!(Occupancy::of(&intent(&[])).is_none());
        let published = Occupancy::of(&intent(&["127.0.0.1:80", "[::1]:81"])).unwrap();
        let later = Listener { inode: 5, ..listener("0.0.0.0", false) };
        let all = [listener("127.80.1.1", false), later, listener("10.0.0.1", false)];
        let told = published.shadows(&all, |inode| (inode == 5).then(|| "nginx".to_owned()));
        let expected = Shadowed {
            service: "shop-web".parse().unwrap(),
            published: "127.0.0.1:80".parse().unwrap(),
            listens_at: "0.0.0.0:80".parse().unwrap(),
            program: Some("nginx".to_owned()),
        };
        assert_eq!(told, [expected]);
    }

    #[test]
    fn the_holder_is_named() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let inode = u32::try_from(rustix::fs::fstat(held.as_fd()).unwrap().st_ino).unwrap();
        let one = Listener { inode, ..listener("0.0.0.0", false) };
        let wanted = project("blog", &["127.0.0.1:80"]);
        let refusal = check_host(&intent(&[]), &wanted, &[one]).unwrap_err();
        let (text, process) = (refusal.to_string(), format!("(process {})", std::process::id()));
        assert!(text.contains(&process) && text.contains("listens on 0.0.0.0:80"), "{text}");
        let again = project("shop", &["127.0.0.1:80"]);
        assert!(check_host(&intent(&["127.0.0.1:80"]), &again, &[one]).is_ok(), "had it before");
    }

    #[test]
    fn an_address_that_the_host_does_not_have() {
        let wanted = project("blog", &["192.0.2.77:80"]);
        let refusal = check_host(&intent(&[]), &wanted, &[]).unwrap_err();
        assert!(refusal.to_string().contains("192.0.2.77 cannot be listened on"), "{refusal}");
    }
}
