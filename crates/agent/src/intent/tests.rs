use std::collections::BTreeMap;

use super::*;

fn service(replicas: u16, ports: &[u16]) -> Service {
    let ports: Vec<_> = ports
        .iter()
        .map(|n| serde_json::json!({"name": format!("p{n}"), "number": n, "protocol": "tcp"}))
        .collect();
    Service {
        command: sinew_model::Command::Shell("true".into()),
        ports: serde_json::from_value(ports.into()).unwrap(),
        replicas,
        env: BTreeMap::new(),
        working_dir: "/".into(),
        user: None,
        group: None,
        limits: Default::default(),
        health: Default::default(),
        restart: Default::default(),
        stop: Default::default(),
        depends_on: Vec::new(),
        balance: Default::default(),
        outlier: Default::default(),
        zone: None,
        labels: BTreeMap::new(),
        publish: Vec::new(),
        privileges: Default::default(),
        placement: Default::default(),
    }
}

fn project(name: &str, services: &[(&str, u16)]) -> Project {
    Project {
        name: ProjectName::new(name).unwrap(),
        services: services
            .iter()
            .map(|(name, replicas)| (ServiceName::new(*name).unwrap(), service(*replicas, &[80])))
            .collect(),
    }
}

const OWNER: Owner = Owner { uid: 1, gid: 1 };

fn apply(intent: &Intent, project: Project) -> Result<Intent, Refusal> {
    intent.apply(project, OWNER, &BTreeSet::new())
}

fn named(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

#[test]
fn a_name_that_is_not_there_is_refused_with_the_one_that_was_meant() {
    let intent = apply(&Intent::new([1; 6]), project("a", &[("orders", 1)])).unwrap();
    let slips = [
        intent.scale(&named("odrers"), 2).unwrap_err(),
        intent.restart(&named("order")).unwrap_err(),
        intent.drain(&named("rders"), 0).unwrap_err(),
    ];
    for refusal in slips {
        let remedy = refusal.body().remedy.unwrap();
        assert!(remedy.starts_with("did you mean orders? "), "{remedy}");
    }
    let remedy = intent.restart(&named("warehouse")).unwrap_err().body().remedy.unwrap();
    assert!(!remedy.contains("did you mean"), "{remedy}");
}

#[test]
fn two_projects_cannot_have_one_name() {
    let intent = apply(&Intent::new([1; 6]), project("a", &[("orders", 1)])).unwrap();
    let refusal = apply(&intent, project("b", &[("orders", 1)])).unwrap_err();
    assert!(matches!(refusal, Refusal::NameTaken { .. }));
    assert_eq!(refusal.body().field.as_deref(), Some("services.orders"));
    let held = BTreeSet::from([named("stock")]);
    let refusal = intent.apply(project("c", &[("stock", 1)]), OWNER, &held).unwrap_err();
    assert!(matches!(refusal, Refusal::NameAttached { .. }));
    assert!(matches!(intent.attach(&named("orders"), 0), Err(Refusal::NameTaken { .. })));
    assert!(matches!(intent.attach(&named("exec"), 0), Err(Refusal::NameReserved { .. })));
}

#[test]
fn a_name_keeps_its_number_for_ever() {
    let intent = apply(&Intent::new([1; 6]), project("a", &[("orders", 1), ("stock", 1)])).unwrap();
    let number = intent.numbers[&named("orders")];
    let gone = intent.remove(&ProjectName::new("a").unwrap()).unwrap();
    let back = apply(&gone, project("b", &[("orders", 2), ("other", 1)])).unwrap();
    assert_eq!(back.numbers[&named("orders")], number);
    assert_eq!(back.numbers.values().collect::<BTreeSet<_>>().len(), 3, "numbers are distinct");
}

#[test]
fn what_does_not_change_raises_nothing() {
    let intent = apply(&Intent::new([1; 6]), project("a", &[("orders", 1)])).unwrap();
    let again = apply(&intent, project("a", &[("orders", 1)])).unwrap();
    assert_eq!(again, intent);
    assert_eq!(intent.scale(&named("orders"), 1).unwrap(), intent);
    let scaled = intent.scale(&named("orders"), 2).unwrap();
    assert!(scaled.generation > intent.generation);
}

#[test]
fn marks_of_what_is_gone_are_forgotten() {
    let intent = apply(&Intent::new([1; 6]), project("a", &[("orders", 3), ("b", 1)])).unwrap();
    let marked = intent.restart(&named("orders")).unwrap();
    let marked = marked.drain(&named("orders"), 2).unwrap().drain(&named("b"), 0).unwrap();
    let scaled = marked.scale(&named("orders"), 2).unwrap();
    assert_eq!(scaled.drained, BTreeSet::from([Key::of(&named("b"), 0)]));
    let applied = apply(&marked, project("a", &[("orders", 3)])).unwrap();
    assert_eq!(applied.drained, BTreeSet::from([Key::of(&named("orders"), 2)]));
    assert_eq!(applied.rollouts.len(), 1);
    let removed = marked.remove(&ProjectName::new("a").unwrap()).unwrap();
    assert!(removed.drained.is_empty() && removed.rollouts.is_empty());
}

#[test]
fn no_service_goes_beyond_what_one_may_have() {
    let intent = apply(&Intent::new([1; 6]), project("a", &[("s1", 1024)])).unwrap();
    assert!(matches!(
        intent.scale(&named("s1"), 1025),
        Err(Refusal::TooManyReplicas { replicas: 1025, .. })
    ));
    let mut wide = project("c", &[]);
    wide.services.insert(named("wide"), service(0, &(1..=17).collect::<Vec<_>>()));
    assert!(matches!(apply(&intent, wide), Err(Refusal::TooManyPorts { ports: 17, .. })));
}

#[test]
fn a_user_holds_so_many_names_and_root_any() {
    let full = (0..NAMES_PER_USER).try_fold(Intent::new([1; 6]), |intent, index| {
        intent.attach(&named(&format!("s{index}")), 7)
    });
    let full = full.unwrap();
    let refusal = full.attach(&named("more"), 7).unwrap_err();
    assert!(matches!(refusal, Refusal::TooManyNames { uid: 7, .. }), "{refusal}");
    let body = refusal.body();
    assert_eq!(body.field.as_deref(), Some("services.more"));
    assert!(body.message.contains("1024") && body.remedy.is_some(), "{body:?}");
    let owner = Owner { uid: 7, gid: 7 };
    let refused = full.apply(project("a", &[("more", 1)]), owner, &BTreeSet::new());
    assert!(matches!(refused, Err(Refusal::TooManyNames { .. })), "a project is no way around it");

    assert_eq!(full.attach(&named("s3"), 7).unwrap(), full, "what he holds he may use again");
    full.attach(&named("more"), 8).expect("others are not concerned");
    let roots = (0..=NAMES_PER_USER)
        .try_fold(full.clone(), |intent, index| intent.attach(&named(&format!("r{index}")), 0));
    assert_eq!(roots.unwrap().takers.len(), NAMES_PER_USER, "root is not counted");
    let freed = full.retire(&[named("s3")]);
    freed.attach(&named("more"), 7).expect("a name that was given up leaves its place");
}
