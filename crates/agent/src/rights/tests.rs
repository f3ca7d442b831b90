use std::collections::BTreeMap;

use super::*;

const GROUP: Option<u32> = Some(990);

fn caller(uid: u32) -> Caller {
    Caller::new(1, uid, uid, vec![990])
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
    let owned = Owned { project: project(|_| {}), owner: Owner { uid: 7, gid: 7 }, generation: 1 };
    assert!(caller(7).may_change(&owned).is_ok());
    assert!(caller(0).may_change(&owned).is_ok());
    assert!(caller(8).may_change(&owned).is_err());
}

#[test]
fn the_group_is_found_by_name() {
    let file = "root:x:0:\nsinew:x:990:alice,bob\nsinewy:x:991:\n";
    assert_eq!(sinew_door::sinew_group(file), Some(990));
    assert_eq!(sinew_door::sinew_group("root:x:0:\n"), None);
}

/// A caller to whom `rule` allows something, besides what it allows to user 1.
fn allowed(uid: u32, rule: &str) -> Caller {
    let text = format!("rules:\n  - user: 1\n    {rule}\n");
    let policy = sinew_model::parse_policy(&text, "p".as_ref()).unwrap();
    let accounts = sinew_workload::rights::Databases::read().unwrap();
    let caller = caller(uid);
    Caller { permits: Permits::of(&policy, "/p.yaml".into(), &caller, &accounts), ..caller }
}

/// Which line of the policy a refusal says would allow it.
fn line<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Option<String> {
    let refusal = result.err()?;
    let Refusal::Forbidden { remedy, .. } = &refusal else { panic!("{refusal}") };
    let line = remedy.strip_prefix("have root do it, as with sudo, or allow it in ").unwrap();
    let (_, line) = line.split_once(": `").unwrap();
    Some(line.strip_suffix('`').unwrap().to_owned())
}

type Ask = fn(&mut Service);

/// What each service asks for, and the line that allows it.
const ASKED: [(Ask, &str); 9] = [
    (|s| s.user = Some("2".into()), "run_as: [2]"),
    (|s| s.user = Some("root".into()), "run_as: [root]"),
    (|s| s.group = Some("2".into()), "run_as_group: [2]"),
    (|s| s.group = Some("root".into()), "run_as_group: [root]"),
    (|s| s.publish = vec![on_all(80)], "publish_below_1024: [80]"),
    (
        |s| s.privileges.keep_capabilities = vec!["CAP_NET_ADMIN".into()],
        "keep_capabilities: [CAP_NET_ADMIN]",
    ),
    (|s| s.privileges.no_new_privileges = false, "new_privileges: true"),
    (|s| s.publish = vec![on_all(1023)], "publish_below_1024: [1023]"),
    (|s| s.user = Some("3".into()), "run_as: [3]"),
];

#[test]
fn each_line_allows_what_its_refusal_named_and_nothing_else() {
    for (asks, needs) in ASKED {
        let refused = caller(1).may_apply(&project(asks));
        assert_eq!(line(refused).as_deref(), Some(needs));
        for (_, has) in ASKED {
            let is = line(allowed(1, has).may_apply(&project(asks)));
            assert_eq!(is.is_none(), has == needs, "{has}, asked for what needs {needs}");
        }
        // To somebody else it says nothing.
        assert!(allowed(4, needs).may_apply(&project(asks)).is_err(), "{needs}");
    }
}

#[test]
fn all_is_all_but_roots() {
    let all =
        |rule: &str, asks: Ask| line(allowed(1, &format!("{rule}: '*'")).may_apply(&project(asks)));
    assert_eq!(all("run_as", |s| s.user = Some("2".into())), None);
    assert_eq!(all("run_as", |s| s.user = Some("0".into())).as_deref(), Some("run_as: [0]"));
    assert_eq!(all("run_as_group", |s| s.group = Some("2".into())), None);
    let root = all("run_as_group", |s| s.group = Some("0".into()));
    assert_eq!(root.as_deref(), Some("run_as_group: [0]"));
    let publishes: Ask = |s| s.publish = vec![on_all(80), on_all(443)];
    assert!(allowed(1, "publish_below_1024: true").may_apply(&project(publishes)).is_ok());
    assert!(allowed(1, "publish_below_1024: [80]").may_apply(&project(publishes)).is_err());
    assert!(allowed(1, "publish_below_1024: false").may_apply(&project(publishes)).is_err());
}

#[test]
fn another_user_brings_its_own_groups_alone() {
    let with = |user: &'static str, group: &'static str| {
        move |s: &mut Service| {
            s.user = Some(user.into());
            s.group = Some(group.into());
        }
    };
    let caller = allowed(1, "run_as: [2, root]");
    assert!(caller.may_apply(&project(with("2", "2"))).is_ok());
    assert!(caller.may_apply(&project(with("0", "0"))).is_ok());
    let refused = caller.may_apply(&project(with("2", "0")));
    assert_eq!(line(refused).as_deref(), Some("run_as_group: [0]"));
    assert!(caller.may_apply(&project(with("1", "2"))).is_err());
}

#[test]
fn a_line_allows_to_adopt_of_others() {
    let alice = allowed(1, "adopt: [7]");
    assert!(alice.may_adopt(5, &[7, 7, 7, 7]).is_ok());
    assert!(alice.may_adopt(5, &[1, 7, 1, 7]).is_ok());
    for users in [[7, 7, 7, 0], [8, 7, 7, 7]] {
        assert!(alice.may_adopt(5, &users).is_err());
    }
    assert_eq!(line(alice.may_adopt(5, &[8, 8, 8, 8])).as_deref(), Some("adopt: [8]"));
    let all = allowed(1, "adopt: '*'");
    assert!(all.may_adopt(5, &[7, 8, 9, 10]).is_ok());
    assert_eq!(line(all.may_adopt(5, &[7, 0, 7, 7])).as_deref(), Some("adopt: [0]"));
    assert!(allowed(1, "adopt: [root]").may_adopt(5, &[0, 0, 0, 0]).is_ok());
}

#[test]
fn a_line_allows_to_change_what_is_of_others() {
    let owned =
        |uid| Owned { project: project(|_| {}), owner: Owner { uid, gid: 7 }, generation: 1 };
    let key = Key::of(&"p".parse().unwrap(), 0);
    let owner = |uid| Owner { uid, gid: 7 };
    let named = allowed(1, "change: [p]");
    for uid in [0, 7] {
        let refused = caller(1).may_change(&owned(uid));
        assert_eq!(line(refused).as_deref(), Some("change: [p]"));
        let refused = caller(1).may_change_adopted(&key, owner(uid));
        assert_eq!(line(refused).as_deref(), Some("change: [p]"));
        assert!(named.may_change(&owned(uid)).is_ok());
        assert!(named.may_change_adopted(&key, owner(uid)).is_ok());
        assert!(named.may_replace(&owned(uid)).is_err(), "it would be hers then");
        assert!(named.may_join(&"p".parse().unwrap(), uid).is_err());
    }
    let all = allowed(1, "change: '*'");
    assert!(all.may_change(&owned(7)).is_ok() && all.may_change_adopted(&key, owner(7)).is_ok());
    assert!(all.may_change(&owned(0)).is_err() && all.may_change_adopted(&key, owner(0)).is_err());
    assert!(allowed(1, "change: [q]").may_change(&owned(7)).is_err());
}

#[test]
fn the_agent_is_ended_by_root_or_by_a_line() {
    assert_eq!(line(caller(1).may_shut_down()).as_deref(), Some("shutdown: true"));
    assert!(caller(0).may_shut_down().is_ok());
    assert!(allowed(1, "shutdown: true").may_shut_down().is_ok());
    assert!(allowed(1, "shutdown: false").may_shut_down().is_err());
}

#[test]
fn rules_add_up_and_are_for_users_or_groups() {
    let text = "rules:\n  - {user: 1, run_as: [2]}\n  - {group: 990, run_as: [3]}\n  - {group: 5, adopt: [7]}\n";
    let policy = sinew_model::parse_policy(text, "p".as_ref()).unwrap();
    let accounts = sinew_workload::rights::Databases::read().unwrap();
    let of = |caller: &Caller| Permits::of(&policy, "/p.yaml".into(), caller, &accounts);
    let alice = of(&caller(1));
    assert!(alice.run_as.holds(&2, false) && alice.run_as.holds(&3, false));
    assert!(!alice.adopt.holds(&7, false));
    let other = of(&caller(5));
    assert!(!other.run_as.holds(&2, false) && other.run_as.holds(&3, false));
    assert!(other.adopt.holds(&7, false), "the primary group counts");
    assert_eq!(
        of(&Caller::new(1, 6, 6, vec![])),
        Permits { file: "/p.yaml".into(), ..Permits::default() }
    );
}
