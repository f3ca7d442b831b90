//! What an instance was launched with, and when a change of it takes a new launch.

use serde::{Deserialize, Serialize};
use sinew_model::{ProjectName, Service};

/// Who applied a project or attached a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// A service as one launch of its instances sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Project of the service.
    pub project: ProjectName,
    /// Who applied it: a service without a user runs as this one.
    pub owner: Owner,
    /// The service.
    pub service: Service,
    /// Raised by each `sinew restart`.
    pub rollout: u64,
}

impl Launch {
    /// Whether an instance of `self` has to be launched again to become one of `wanted`: it has, for
    /// what execve() was given, and for the ports, by which its binds were rewritten.
    pub(crate) fn outdated(&self, wanted: &Launch) -> bool {
        let (is, shall) = (&self.service, &wanted.service);
        self.rollout != wanted.rollout
            || (is.user.is_none() && self.owner != wanted.owner)
            || is.command != shall.command
            || is.env != shall.env
            || is.working_dir != shall.working_dir
            || is.user != shall.user
            || is.group != shall.group
            || is.privileges != shall.privileges
            || is.ports != shall.ports
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sinew_model::{Action, Command, Effect, Plan, Port, Project, ServiceName};

    use super::*;

    fn launch(service: Service) -> Launch {
        Launch {
            project: ProjectName::new("p").unwrap(),
            owner: Owner { uid: 1, gid: 1 },
            service,
            rollout: 0,
        }
    }

    fn service() -> Service {
        let minimal = serde_json::json!({
            "command": "true", "replicas": 1, "working_dir": "/",
            "health": sinew_model::Health::default(), "restart": sinew_model::Restart::default(),
            "stop": sinew_model::Stop::default(), "balance": sinew_model::Balance::default(),
            "outlier": sinew_model::Outlier::default(),
        });
        serde_json::from_value(minimal).unwrap()
    }

    fn plan_restarts(old: &Service, new: &Service) -> bool {
        let name = ServiceName::new("s").unwrap();
        let project = |service: &Service| Project {
            name: ProjectName::new("p").unwrap(),
            services: BTreeMap::from([(name.clone(), service.clone())]),
        };
        let plan = Plan::between(Some(&project(old)), Some(&project(new)));
        matches!(plan.steps[0].action, Action::Change { effect: Effect::RollingRestart, .. })
    }

    #[test]
    fn what_a_plan_calls_a_restart_is_one() {
        let port: Port = serde_json::from_value(
            serde_json::json!({"name": "a", "number": 1, "protocol": "tcp"}),
        )
        .unwrap();
        let changes: [&dyn Fn(&mut Service); 17] = [
            &|s| s.command = Command::Shell("false".into()),
            &|s| s.ports.push(port.clone()),
            &|s| s.replicas = 2,
            &|s| s.env = BTreeMap::from([("A".into(), "b".into())]),
            &|s| s.working_dir = "/tmp".into(),
            &|s| s.user = Some("u".into()),
            &|s| s.group = Some("g".into()),
            &|s| s.limits.pids = Some(9),
            &|s| s.health.healthy_threshold += 1,
            &|s| s.restart = sinew_model::Restart::Never,
            &|s| s.stop.grace *= 2,
            &|s| s.depends_on.push(ServiceName::new("d").unwrap()),
            &|s| s.balance = sinew_model::Balance::Random,
            &|s| s.outlier.max_ejected_percent = 1,
            &|s| s.zone = Some("z".into()),
            &|s| s.labels = BTreeMap::from([("A".into(), "b".into())]),
            &|s| s.privileges.no_new_privileges = false,
        ];
        for (index, change) in changes.iter().enumerate() {
            let (old, mut new) = (service(), service());
            change(&mut new);
            assert_ne!(old, new, "change {index} changes nothing");
            assert_eq!(
                launch(old.clone()).outdated(&launch(new.clone())),
                plan_restarts(&old, &new),
                "change {index}"
            );
        }
    }

    #[test]
    fn another_owner_is_another_user_unless_the_file_names_one() {
        let (is, mut shall) = (launch(service()), launch(service()));
        shall.owner.uid = 2;
        assert!(is.outdated(&shall));
        let named = Service { user: Some("www".into()), ..service() };
        let shall = Launch { owner: shall.owner, ..launch(named.clone()) };
        assert!(!launch(named).outdated(&shall));
    }
}
