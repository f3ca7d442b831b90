//! Who may do what. Root may do all. The group `sinew` reads everything, joins as itself, and runs
//! projects as itself: it is not root by another name.

use std::collections::BTreeMap;

use sinew_model::{Project, Service};
use sinew_workload::rights::Rights;

use crate::{intent::Owned, launch::Owner, refusal::Refusal};

/// Ask them.
const ASK_ROOT: &str = "have root do it, as with sudo";

/// Ports below are root's, as they are when a program listens itself.
const FIRST_FREE_PORT: u16 = 1024;

/// Who is on the other end of a connection, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Process.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Caller {
    /// As who adopted something, when that one is not there any more.
    pub(crate) fn of(owner: Owner) -> Self {
        Self { pid: 0, uid: owner.uid, gid: owner.gid, groups: Vec::new() }
    }

    /// As the owner of what it applies.
    pub(crate) fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }

    fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// # Errors
    /// When it is neither root nor of the group `sinew`, whose number is `group`, if there is one.
    pub(crate) fn may_call(&self, group: Option<u32>) -> Result<(), Refusal> {
        let in_group = group.is_some_and(|g| self.gid == g || self.groups.contains(&g));
        if self.is_root() || in_group {
            return Ok(());
        }
        Err(Refusal::Forbidden {
            field: None,
            what: format!("user {} is neither root nor in the group sinew", self.uid),
            remedy: "use sudo, or join the group: `sudo usermod -aG sinew $USER`, then log in again",
        })
    }

    /// # Errors
    /// When it may not change what `owned` holds.
    pub(crate) fn may_change(&self, owned: &Owned) -> Result<(), Refusal> {
        if self.is_root() || self.uid == owned.owner.uid {
            return Ok(());
        }
        Err(Refusal::Forbidden {
            field: None,
            what: format!(
                "project {} belongs to user {}, and you are user {}",
                owned.project.name, owned.owner.uid, self.uid
            ),
            remedy: ASK_ROOT,
        })
    }

    /// # Errors
    /// When `pid`, which has these user ids, is not the caller's own.
    pub(crate) fn may_adopt(&self, pid: u32, users: &[u32]) -> Result<(), Refusal> {
        match users.iter().find(|user| **user != self.uid) {
            Some(user) if !self.is_root() => Err(Refusal::Forbidden {
                field: Some("target".to_owned()),
                what: format!("process {pid} is of user {user}, and you are user {}", self.uid),
                remedy: ASK_ROOT,
            }),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// When it is not root; `what` names what only root may do.
    pub(crate) fn must_be_root(&self, what: &str) -> Result<(), Refusal> {
        if self.is_root() {
            return Ok(());
        }
        Err(Refusal::Forbidden { field: None, what: what.to_owned(), remedy: ASK_ROOT })
    }

    /// # Errors
    /// When a service of `project` asks for rights that are not the caller's own, or for a user
    /// that does not exist; the field is named.
    pub(crate) fn may_apply(&self, project: &Project) -> Result<(), Refusal> {
        for (name, service) in &project.services {
            let field = |field: &str| format!("services.{name}.{field}");
            let rights = self.resolve(service).map_err(|error| Refusal::Invalid {
                field: field("user"),
                what: error.to_string(),
                remedy: "name a user and a group of this host".to_owned(),
            })?;
            if !self.is_root() {
                self.may_run(service, &rights, field)?;
            }
        }
        Ok(())
    }

    fn resolve(&self, service: &Service) -> Result<Rights, sinew_workload::rights::RightsError> {
        Rights::resolve(
            service.user.as_deref(),
            service.group.as_deref(),
            (self.uid, self.gid),
            &service.privileges,
        )
    }

    fn may_run(
        &self,
        service: &Service,
        rights: &Rights,
        field: impl Fn(&str) -> String,
    ) -> Result<(), Refusal> {
        let refuse = |name: &str, what: String| {
            Err(Refusal::Forbidden { field: Some(field(name)), what, remedy: ASK_ROOT })
        };
        if rights.uid != self.uid {
            let user = service.user.as_deref().unwrap_or_default();
            return refuse(
                "user",
                format!("{}: only root may run as {user}, another user than you", field("user")),
            );
        }
        if rights.gid != self.gid && !self.groups.contains(&rights.gid) {
            let group = service.group.as_deref().unwrap_or_default();
            return refuse(
                "group",
                format!(
                    "{}: only root may run in {group}, a group that is not yours",
                    field("group")
                ),
            );
        }
        let kept = service.publish.iter().position(|p| p.host_port < FIRST_FREE_PORT);
        if let Some(index) = kept {
            let (name, port) = (format!("publish[{index}]"), service.publish[index].host_port);
            let what = format!(
                "{}: only root may publish port {port}, which is below {FIRST_FREE_PORT}",
                field(&name)
            );
            return refuse(&name, what);
        }
        if let Some(capability) = service.privileges.keep_capabilities.first() {
            let name = "privileges.keep_capabilities";
            return refuse(name, format!("{}: only root may keep {capability}", field(name)));
        }
        if !service.privileges.no_new_privileges {
            let name = "privileges.no_new_privileges";
            return refuse(name, format!("{}: only root may turn it off", field(name)));
        }
        Ok(())
    }
}

/// The number of the group `sinew` in the text of `/etc/group`.
pub(crate) fn sinew_group(group_file: &str) -> Option<u32> {
    let groups: BTreeMap<&str, &str> = group_file
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.nth(1)?))
        })
        .collect();
    groups.get("sinew")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Option<u32> = Some(990);

    fn caller(uid: u32) -> Caller {
        Caller { pid: 1, uid, gid: uid, groups: vec![990] }
    }

    fn project(change: impl FnOnce(&mut Service)) -> Project {
        let service = serde_json::json!({
            "command": "true", "replicas": 1, "working_dir": "/",
            "health": sinew_model::Health::default(), "restart": sinew_model::Restart::default(),
            "stop": sinew_model::Stop::default(), "balance": sinew_model::Balance::default(),
            "outlier": sinew_model::Outlier::default(),
        });
        let mut service = serde_json::from_value(service).unwrap();
        change(&mut service);
        Project {
            name: "p".parse().unwrap(),
            services: BTreeMap::from([("api".parse().unwrap(), service)]),
        }
    }

    fn refused_field(uid: u32, change: impl FnOnce(&mut Service)) -> Option<String> {
        match caller(uid).may_apply(&project(change)) {
            Ok(()) => None,
            Err(Refusal::Forbidden { field, what, .. }) => {
                let field = field.unwrap();
                assert!(what.starts_with(&field), "{what}");
                Some(field)
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn only_root_adopts_what_is_of_others() {
        assert!(caller(0).may_adopt(5, &[7, 7, 7, 7]).is_ok());
        assert!(caller(7).may_adopt(5, &[7, 7, 7, 7]).is_ok());
        for users in [[0, 0, 0, 0], [7, 0, 7, 7], [7, 7, 0, 7]] {
            let refused = caller(7).may_adopt(5, &users).unwrap_err().to_string();
            assert_eq!(refused, "process 5 is of user 0, and you are user 7");
        }
    }

    #[test]
    fn root_and_the_group_may_call() {
        assert!(caller(0).may_call(None).is_ok());
        assert!(caller(1000).may_call(GROUP).is_ok());
        assert!(caller(1000).may_call(None).is_err());
        let stranger = Caller { groups: vec![27], ..caller(1000) };
        assert!(stranger.may_call(GROUP).is_err());
        assert!(Caller { gid: 990, ..stranger }.may_call(GROUP).is_ok());
    }

    #[test]
    fn the_group_is_not_root_by_another_name() {
        assert_eq!(refused_field(1, |_| {}), None);
        assert_eq!(refused_field(1, |s| s.user = Some("1".into())), None);
        let refused = |change: fn(&mut Service)| refused_field(1, change).unwrap();
        assert_eq!(refused(|s| s.user = Some("0".into())), "services.api.user");
        assert_eq!(refused(|s| s.user = Some("root".into())), "services.api.user");
        assert_eq!(refused(|s| s.user = Some("2".into())), "services.api.user");
        assert_eq!(refused(|s| s.group = Some("0".into())), "services.api.group");
        assert_eq!(
            refused(|s| s.privileges.keep_capabilities = vec!["CAP_NET_ADMIN".into()]),
            "services.api.privileges.keep_capabilities"
        );
        assert_eq!(
            refused(|s| s.privileges.no_new_privileges = false),
            "services.api.privileges.no_new_privileges"
        );
    }

    #[test]
    fn low_ports_of_the_host_are_roots() {
        let publishes = |port: u16| {
            move |s: &mut Service| {
                s.publish = vec![on_all(8080), on_all(port)];
            }
        };
        assert_eq!(refused_field(1, publishes(1024)), None);
        assert_eq!(refused_field(1, publishes(1023)).as_deref(), Some("services.api.publish[1]"));
        assert_eq!(refused_field(0, publishes(80)), None);
    }

    fn on_all(host_port: u16) -> sinew_model::Publish {
        let host_ip = std::net::Ipv4Addr::UNSPECIFIED.into();
        sinew_model::Publish { host_ip, host_port, port: "http".parse().unwrap() }
    }

    #[test]
    fn root_may_all_that_exists() {
        assert_eq!(refused_field(0, |s| s.user = Some("1".into())), None);
        assert_eq!(refused_field(0, |s| s.privileges.no_new_privileges = false), None);
        let nobody = caller(0).may_apply(&project(|s| s.user = Some("no-such-user".into())));
        let Err(Refusal::Invalid { field, .. }) = nobody else { panic!("accepted") };
        assert_eq!(field, "services.api.user");
    }

    #[test]
    fn a_project_is_its_owners() {
        let owned =
            Owned { project: project(|_| {}), owner: Owner { uid: 7, gid: 7 }, generation: 1 };
        assert!(caller(7).may_change(&owned).is_ok());
        assert!(caller(0).may_change(&owned).is_ok());
        assert!(caller(8).may_change(&owned).is_err());
    }

    #[test]
    fn the_group_is_found_by_name() {
        let file = "root:x:0:\nsinew:x:990:alice,bob\nsinewy:x:991:\n";
        assert_eq!(sinew_group(file), Some(990));
        assert_eq!(sinew_group("root:x:0:\n"), None);
    }
}
