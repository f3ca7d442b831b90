use sinew_model::{Command, fleet::Generation};

use super::*;

const NOBODY: BTreeSet<ServiceName> = BTreeSet::new();

fn service(command: &str, depends_on: &[&str]) -> Service {
    let mut service = Service::new(Command::Shell(command.to_owned()), "/".into());
    service.depends_on = depends_on.iter().map(|name| name.parse().unwrap()).collect();
    service.replicas = 40;
    service
}

fn assigned(list: &[(&str, &str, u16, Service)]) -> Assigned {
    let one = |(project, name, replicas, service): &(&str, &str, u16, Service)| {
        let definition = serde_json::to_vec(service).unwrap().into();
        let project = project.parse().unwrap();
        (name.parse().unwrap(), Assignment { project, replicas: *replicas, definition })
    };
    Assigned { generation: Generation(7), services: list.iter().map(one).collect() }
}

fn told(refused: &[Held]) -> Vec<(String, String)> {
    refused.iter().map(|held| (held.service.to_string(), held.reason.clone())).collect()
}

fn replicas(intent: &Intent) -> Vec<(String, u16)> {
    intent.services().map(|(_, _, name, service)| (name.to_string(), service.replicas)).collect()
}

#[test]
fn what_is_assigned_runs_and_what_is_no_longer_goes() {
    let intent = Intent::new([1; 6]);
    let both = assigned(&[
        ("shop", "api", 2, service("api", &["db"])),
        ("shop", "web", 1, service("web", &["api"])),
        ("mail", "smtp", 3, service("smtp", &[])),
    ]);
    let (intent, refused) = take(&intent, &both, &NOBODY);
    assert_eq!(refused, []);
    let of = |name: &str, count| (name.to_owned(), count);
    assert_eq!(replicas(&intent), [of("smtp", 3), of("api", 2), of("web", 1)]);
    let depends = |name: &str| {
        let (_, _, service) = intent.service(&name.parse().unwrap()).unwrap();
        service.depends_on.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    // The database runs elsewhere, or nowhere yet.
    assert_eq!((depends("api"), depends("web")), (vec![], vec!["api".to_owned()]));
    let same = take(&intent, &both, &NOBODY);
    assert_eq!(same, (intent.clone(), vec![]));
    let fewer = assigned(&[("shop", "api", 1, service("api", &[]))]);
    let (intent, _) = take(&intent, &fewer, &NOBODY);
    assert_eq!(replicas(&intent), [of("api", 1)]);
    let (intent, _) = take(&intent, &assigned(&[]), &NOBODY);
    assert!(intent.projects.is_empty() && intent.placed.is_empty());
}

#[test]
fn what_the_host_has_of_its_own_stays_and_is_told() {
    let own = Project {
        name: "shop".parse().unwrap(),
        services: [("api".parse().unwrap(), service("own", &[]))].into(),
    };
    let intent = Intent::new([1; 6]).apply(own, OWNER, &NOBODY).unwrap();
    let placed = assigned(&[
        ("shop", "web", 1, service("web", &[])),
        ("other", "api", 1, service("api", &[])),
        ("more", "held", 1, service("held", &[])),
        ("good", "fine", 1, service("fine", &[])),
    ]);
    let attached = BTreeSet::from(["held".parse().unwrap()]);
    let (after, refused) = take(&intent, &placed, &attached);
    let names: Vec<_> = told(&refused).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["held", "api", "web"]);
    assert!(told(&refused)[2].1.contains("a project shop of its own"), "{refused:?}");
    assert!(told(&refused)[1].1.contains("taken by the project shop"), "{refused:?}");
    let of = |name: &str, count| (name.to_owned(), count);
    assert_eq!(replicas(&after), [of("fine", 1), of("api", 40)]);
    assert_eq!(after.placed, BTreeSet::from(["good".parse().unwrap()]));
    // What was never placed is not taken down.
    let (after, _) = take(&after, &assigned(&[]), &NOBODY);
    assert_eq!(replicas(&after), [of("api", 40)]);
}

#[test]
fn a_definition_that_is_not_read_leaves_what_runs() {
    let (intent, _) =
        take(&Intent::new([1; 6]), &assigned(&[("shop", "api", 2, service("api", &[]))]), &NOBODY);
    let mut newer = assigned(&[
        ("shop", "api", 5, service("api", &[])),
        ("shop", "web", 1, service("web", &[])),
    ]);
    newer.services.get_mut(&"web".parse::<ServiceName>().unwrap()).unwrap().definition =
        br#"{"command":"x","working_dir":"/","hologram":true}"#.as_slice().into();
    let (after, refused) = take(&intent, &newer, &NOBODY);
    assert_eq!(after, intent);
    assert_eq!(refused.len(), 1);
    assert!(refused[0].reason.contains("hologram"), "{refused:?}");
    let invalid = assigned(&[("shop", "api", 1, service("", &[]))]);
    let (after, refused) = take(&intent, &invalid, &NOBODY);
    assert_eq!(after, intent);
    assert!(!refused[0].reason.is_empty());
}
