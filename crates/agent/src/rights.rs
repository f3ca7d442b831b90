//! Who may do what. Root may do all. The group `sinew` reads everything, joins as itself, and runs
//! projects as itself: it is not root by another name. A policy of the host may allow its members
//! more.

use sinew_model::{Project, Service, ServiceName};
use sinew_workload::rights::Rights;

use crate::{intent::Owned, key::Key, launch::Owner, refusal::Refusal};

mod permits;

pub(crate) use permits::{Permits, unknown};

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
    /// What the policy allows it.
    pub permits: Permits,
}

impl Caller {
    /// One that the policy was not asked about.
    pub(crate) fn new(pid: u32, uid: u32, gid: u32, groups: Vec<u32>) -> Self {
        Self { pid, uid, gid, groups, permits: Permits::default() }
    }

    /// As the owner of what it applies.
    pub(crate) fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
    }

    /// What to do about a refusal that `line` of the policy would have prevented.
    fn ask_for(&self, line: &str) -> String {
        let file = self.permits.file.display();
        format!("have root do it, as with sudo, or allow it in {file}: `{line}`")
    }

    /// # Errors
    /// When it is neither root nor of the group `sinew`, whose number is `group`, if there is one.
    pub(crate) fn may_call(&self, group: Option<u32>) -> Result<(), Refusal> {
        if self.is_root() || group.is_some_and(|group| self.is_in(group)) {
            return Ok(());
        }
        Err(Refusal::Forbidden {
            field: None,
            what: format!("user {} is neither root nor in the group sinew", self.uid),
            remedy:
                "use sudo, or join the group: `sudo usermod -aG sinew $USER`, then log in again"
                    .to_owned(),
        })
    }

    /// # Errors
    /// When it may not change what `owned` holds.
    pub(crate) fn may_change(&self, owned: &Owned) -> Result<(), Refusal> {
        let name = owned.project.name.as_str();
        if self.owns(owned.owner.uid) || self.permits.change.holds(name, owned.owner.uid == 0) {
            return Ok(());
        }
        Err(self.not_its_own(owned, self.ask_for(&format!("change: [{name}]"))))
    }

    /// # Errors
    /// When it may not put another project in the place of `owned`: its services would be the
    /// caller's then.
    pub(crate) fn may_replace(&self, owned: &Owned) -> Result<(), Refusal> {
        if self.owns(owned.owner.uid) {
            return Ok(());
        }
        Err(self.not_its_own(owned, "have that user or root do it, as with sudo".to_owned()))
    }

    fn owns(&self, owner: u32) -> bool {
        self.is_root() || self.uid == owner
    }

    fn not_its_own(&self, owned: &Owned, remedy: String) -> Refusal {
        let (name, owner) = (&owned.project.name, owned.owner.uid);
        let what = format!("project {name} belongs to user {owner}, and you are user {}", self.uid);
        Refusal::Forbidden { field: None, what, remedy }
    }

    /// # Errors
    /// When it may not change an endpoint that `owner` adopted.
    pub(crate) fn may_change_adopted(&self, key: &Key, owner: Owner) -> Result<(), Refusal> {
        let service = key.service.as_ref().map(ToString::to_string).unwrap_or_default();
        if self.owns(owner.uid) || self.permits.change.holds(&service, owner.uid == 0) {
            return Ok(());
        }
        Err(Refusal::Forbidden {
            field: None,
            what: format!("{key} was adopted by user {}", owner.uid),
            remedy: self.ask_for(&format!("change: [{service}]")),
        })
    }

    /// # Errors
    /// When it may not bring one more endpoint to the name that processes of `owner` hold.
    pub(crate) fn may_join(&self, service: &ServiceName, owner: u32) -> Result<(), Refusal> {
        if self.owns(owner) {
            return Ok(());
        }
        Err(Refusal::Forbidden {
            field: None,
            what: format!("the service name {service} is held by a process of user {owner}"),
            remedy: "use another name, or have root do it, as with sudo".to_owned(),
        })
    }

    /// # Errors
    /// When `pid`, which has these user ids, is of somebody whose processes are not the caller's to
    /// adopt.
    pub(crate) fn may_adopt(&self, pid: u32, users: &[u32]) -> Result<(), Refusal> {
        let others =
            |user: &&u32| !self.owns(**user) && !self.permits.adopt.holds(*user, **user == 0);
        match users.iter().find(others) {
            Some(user) => Err(Refusal::Forbidden {
                field: Some("target".to_owned()),
                what: format!("process {pid} is of user {user}, and you are user {}", self.uid),
                remedy: self.ask_for(&format!("adopt: [{user}]")),
            }),
            None => Ok(()),
        }
    }

    /// # Errors
    /// When it may not end the agent.
    pub(crate) fn may_leave(&self) -> Result<(), Refusal> {
        if self.is_root() {
            return Ok(());
        }
        Err(Refusal::Forbidden {
            field: None,
            what: "only root may take this host out of its network".to_owned(),
            remedy: "use sudo".to_owned(),
        })
    }

    /// # Errors
    /// When the user may not.
    pub(crate) fn may_shut_down(&self) -> Result<(), Refusal> {
        if self.is_root() || self.permits.shutdown {
            return Ok(());
        }
        Err(Refusal::Forbidden {
            field: None,
            what: "only root may stop the agent".to_owned(),
            remedy: self.ask_for("shutdown: true"),
        })
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
        let refuse = |name: &str, what: String, line: String| {
            let (field, remedy) = (field(name), self.ask_for(&line));
            let what = format!("{field}: only root may {what}");
            Err(Refusal::Forbidden { field: Some(field), what, remedy })
        };
        if let Some(user) = self.foreign_user(service, rights) {
            let what = format!("run as {user}, another user than you");
            return refuse("user", what, format!("run_as: [{user}]"));
        }
        if let Some(group) = self.foreign_group(service, rights) {
            let what = format!("run in {group}, a group that is not yours");
            return refuse("group", what, format!("run_as_group: [{group}]"));
        }
        let roots =
            |port: u16| port < FIRST_FREE_PORT && !self.permits.low_ports.holds(&port, false);
        if let Some(index) = service.publish.iter().position(|p| roots(p.host_port)) {
            let (name, port) = (format!("publish[{index}]"), service.publish[index].host_port);
            let what = format!("publish port {port}, which is below {FIRST_FREE_PORT}");
            return refuse(&name, what, format!("publish_below_1024: [{port}]"));
        }
        let privileges = &service.privileges;
        let kept = |capability: &&String| !self.permits.capabilities.holds(*capability, true);
        if let Some(capability) = privileges.keep_capabilities.iter().find(kept) {
            let line = format!("keep_capabilities: [{capability}]");
            return refuse("privileges.keep_capabilities", format!("keep {capability}"), line);
        }
        if !privileges.no_new_privileges && !self.permits.new_privileges {
            let line = "new_privileges: true".to_owned();
            return refuse("privileges.no_new_privileges", "turn it off".to_owned(), line);
        }
        Ok(())
    }

    /// The user of a service that it may not run as.
    fn foreign_user<'s>(&self, service: &'s Service, rights: &Rights) -> Option<&'s str> {
        let may = rights.uid == self.uid || self.permits.run_as.holds(&rights.uid, rights.uid == 0);
        (!may).then(|| service.user.as_deref().unwrap_or_default())
    }

    /// The group of a service that is neither its own, nor one of the user that it runs as.
    fn foreign_group<'s>(&self, service: &'s Service, rights: &Rights) -> Option<&'s str> {
        let gid = rights.gid;
        let may = self.is_in(gid)
            || self.permits.run_as_group.holds(&gid, gid == 0)
            || (rights.uid != self.uid && self.groups_of_user(service).contains(&gid));
        (!may).then(|| service.group.as_deref().unwrap_or_default())
    }

    /// The groups that the user of a service has by itself.
    fn groups_of_user(&self, service: &Service) -> Vec<u32> {
        let alone = Service { group: None, ..service.clone() };
        self.resolve(&alone).map(|rights| rights.groups).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
