//! Policies: what a file allows, and what is said of one that is wrong.

#![expect(clippy::unwrap_used, reason = "a fault of a helper fails its test")]

use std::{collections::BTreeSet, path::Path};

use sinew_model::{Allowed, Grant, Grantee, ParseErrors, Policy, parse_policy};

const RIGHT: &str = "
rules:
  - user: alice
    run_as: [postgres, www-data]
    run_as_group: adm
    adopt: [postgres]
    publish_below_1024: [80, 443]
    change: [shop]
  - group: deploy
    run_as: ['*', root]
    publish_below_1024: true
    keep_capabilities: [net_raw]
    new_privileges: true
    shutdown: true
";

fn read(text: &str) -> Result<Policy, ParseErrors> {
    parse_policy(text, Path::new("/etc/sinew/policy.yaml"))
}

fn named<const N: usize>(names: [&str; N]) -> Allowed<String> {
    Allowed { all: false, named: names.into_iter().map(str::to_owned).collect() }
}

#[test]
fn every_key_is_read() {
    let alice = Grant {
        run_as: named(["postgres", "www-data"]),
        run_as_group: named(["adm"]),
        adopt: named(["postgres"]),
        publish_below_1024: Allowed { all: false, named: [80, 443].into() },
        change: named(["shop"]),
        ..Grant::new(Grantee::User("alice".to_owned()))
    };
    let deploy = Grant {
        run_as: Allowed { all: true, ..named(["root"]) },
        publish_below_1024: Allowed { all: true, named: BTreeSet::new() },
        keep_capabilities: named(["CAP_NET_RAW"]),
        new_privileges: true,
        shutdown: true,
        ..Grant::new(Grantee::Group("deploy".to_owned()))
    };
    assert_eq!(read(RIGHT).unwrap(), Policy { rules: vec![alice, deploy] });
    assert_eq!(read("rules: []").unwrap(), Policy::default());
}

#[test]
fn every_fault_has_its_place_and_remedy() {
    let example = "such as rules: [{user: alice, run_as: [www-data]}]";
    for (text, expected) in [
        ("", format!("1:1: no rules is given; add it, {example}")),
        ("# none\n", format!("1:1: no rules is given; add it, {example}")),
        ("{}", format!("1:1: no rules is given; add it, {example}")),
        ("[]", "1:1: a list is not a policy; begin with rules: and put a - before each".into()),
        ("rule: []", "1:1: rule: unknown key; did you mean \"rules\"?".into()),
        (
            "rules: {user: alice}",
            "1:1: rules: a mapping is not a list of rules; put a - before each, such as - user: alice"
                .into(),
        ),
    ] {
        assert!(said(text).starts_with(&expected), "{text}: {}", said(text));
    }
    for (rule, expected) in [
        ("run_as: [a]", "1:9: rules[0]: no user or group is given; add it, such as user: alice"),
        ("user: a, group: b", "1:26: rules[0].group: group and user are both given; keep one"),
        (
            "user: '*'",
            "1:16: rules[0].user: \"*\" cannot be a user or group; \
             use a name or number of /etc/passwd or /etc/group",
        ),
        ("user: a, runas: [b]", "1:19: rules[0].runas: unknown key; did you mean \"run_as\"?"),
        (
            "user: a, adopt: ['']",
            "1:27: rules[0].adopt[0]: \"\" cannot be a user or group; \
             use a name or number of /etc/passwd or /etc/group",
        ),
        (
            "user: a, publish_below_1024: [1024]",
            "1:40: rules[0].publish_below_1024[0]: \"1024\" is not a whole number in range; \
             use 1 to 1023",
        ),
        (
            "user: a, publish_below_1024: {}",
            "1:19: rules[0].publish_below_1024: a mapping is not true or ports below 1024; \
             write true, or a list such as [80, 443]",
        ),
        (
            "user: a, change: Shop",
            "1:27: rules[0].change: project name \"Shop\" is not a DNS label; \
             use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
        ),
        (
            "user: a, keep_capabilities: [net_adm]",
            "1:39: rules[0].keep_capabilities[0]: \"net_adm\" is not a capability of Linux; \
             did you mean CAP_NET_ADMIN?",
        ),
        (
            "user: a, shutdown: yes",
            "1:29: rules[0].shutdown: \"yes\" is not true or false; write true or false",
        ),
        (
            "user: a, run_as: ['${USER}']",
            "1:28: rules[0].run_as[0]: variable USER is not set; set it, or write ${USER:-} for none",
        ),
    ] {
        assert_eq!(said(&format!("rules: [{{{rule}}}]")), expected, "{rule}");
    }
}

/// What is said of a text, without the file's name.
fn said(text: &str) -> String {
    let errors = read(text).unwrap_err().to_string();
    errors.strip_prefix("/etc/sinew/policy.yaml:").unwrap().to_owned()
}

#[test]
fn all_faults_are_told_at_once() {
    let errors = read("rules:\n  - run_as: ['']\n  - user: a\n    adpot: [b]\n").unwrap_err();
    assert_eq!(errors.errors.len(), 3, "{errors}");
}

#[test]
fn broken_policies_are_told_about() {
    sinew_fuzz::each_text(&[RIGHT, "rules: [{user: a, run_as: '*'}]"], |text| {
        if let Err(errors) = read(text) {
            assert!(!errors.to_string().is_empty());
        }
    });
}

#[test]
fn all_is_not_root() {
    let all = Allowed { all: true, ..named(["root"]) };
    assert!(all.holds("www-data", false) && all.holds("root", true));
    assert!(!all.holds("toor", true));
    assert!(!named(["a"]).holds("b", false));
    let mut both = named(["a"]);
    both.extend(Allowed { all: true, ..named(["b"]) });
    assert_eq!(both, Allowed { all: true, ..named(["a", "b"]) });
}
