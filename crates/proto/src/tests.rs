//! Round trips, broken input, and the messages against the protocol's file.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use prost::Message as _;
use sinew_model::fleet::Generation;

use crate::{
    Certificate, Error, FromAgent, FromControl, Join, Path, Renew, Subject, testing, wire,
};

proptest! {
    #[test]
    fn what_agents_say_arrives(message in testing::from_agent()) {
        prop_assert_eq!(FromAgent::decode(message.encode()), Ok(message));
    }

    #[test]
    fn what_control_says_arrives(message in testing::from_control()) {
        prop_assert_eq!(FromControl::decode(message.encode()), Ok(message));
    }
}

#[test]
fn broken_messages_are_refused_or_mean_something() {
    let mut runner = TestRunner::deterministic();
    let mut some = |make: &dyn Fn(&mut TestRunner) -> Bytes| -> Vec<Bytes> {
        (0..40).map(|_| make(&mut runner)).collect()
    };
    let agent = some(&|runner| testing::from_agent().new_tree(runner).unwrap().current().encode());
    let control =
        some(&|runner| testing::from_control().new_tree(runner).unwrap().current().encode());
    let right: Vec<&[u8]> = agent.iter().chain(&control).map(AsRef::as_ref).collect();
    let (mut taken, mut refused) = (0, 0);
    sinew_fuzz::each(&right, |input| {
        let input = Bytes::copy_from_slice(input);
        // What is taken is within its bounds: it can be said again, and is the same.
        if let Ok(message) = FromAgent::decode(input.clone()) {
            assert_eq!(FromAgent::decode(message.encode()), Ok(message));
            taken += 1;
        }
        match FromControl::decode(input) {
            Ok(message) => assert_eq!(FromControl::decode(message.encode()), Ok(message)),
            Err(error) => {
                assert!(error.to_string().len() < 1000, "{error}");
                refused += 1;
            }
        }
    });
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}

fn report(change: impl FnOnce(&mut wire::ServiceReport)) -> String {
    let endpoint = wire::Endpoint {
        instance: 1,
        address4: Some(0x0a00_0001),
        zone: "a".into(),
        weight: 256,
        status: 2,
        ..Default::default()
    };
    let endpoints = vec![endpoint];
    let mut service =
        wire::ServiceReport { service: "orders".into(), endpoints, ..Default::default() };
    change(&mut service);
    let report = wire::Report { sequence: 1, full: false, services: vec![service] };
    let kind = Some(wire::AgentKind::Report(report));
    match FromAgent::decode(wire::AgentMessage { kind }.encode_to_vec().into()) {
        Ok(_) => "taken".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_refusal_names_the_field_and_what_it_holds() {
    assert_eq!(report(|_| ()), "taken");
    let refused = [
        (
            report(|it| it.service = "Orders".into()),
            "report.services[0].service is \"Orders\": is a service name: a DNS label of 1 to 63 \
             of a-z, 0-9 and '-', with a letter or digit at both ends",
        ),
        (
            report(|it| it.endpoints[0].status = 9),
            "report.services[0].endpoints[0].status is 9: is from 1 to 4",
        ),
        (
            report(|it| it.endpoints[0].ports = [("http".to_owned(), 70_000)].into()),
            "report.services[0].endpoints[0].ports.http is 70000: is at most 65535",
        ),
        (
            report(|it| it.endpoints[0].address6 = Bytes::from_static(b"1234567")),
            "report.services[0].endpoints[0].address6 is 7 bytes long: has 4 or 16 bytes",
        ),
        (
            report(|it| it.endpoints.push(it.endpoints[0].clone())),
            "report.services[0].endpoints is 1 twice: has each once",
        ),
        (
            report(|it| it.endpoints = vec![it.endpoints[0].clone(); 1025]),
            "report.services[0].endpoints is 1025 long: has at most 1024",
        ),
        (
            report(|it| it.gone = vec![1]),
            "report.services[0].gone[0].instance is 1: is not among the endpoints",
        ),
        (
            report(|it| it.record = Some(wire::ServiceRecord::default())),
            "report.services[0].record.outlier is missing: is there",
        ),
    ];
    for (told, expected) in refused {
        assert_eq!(told, expected);
    }
}

#[test]
fn a_refusal_tells_what_the_message_was_about() {
    let endpoint = wire::Endpoint::default();
    let snapshot = wire::Snapshot {
        service: "orders".into(),
        generation: 7,
        endpoints: vec![endpoint],
        ..Default::default()
    };
    let kind = Some(wire::ControlKind::Snapshot(snapshot));
    let error =
        FromControl::decode(wire::ControlMessage { kind }.encode_to_vec().into()).unwrap_err();
    let orders = Subject::Service("orders".parse().unwrap(), Generation(7));
    assert_eq!(error.of, Some(orders));
    assert!(error.to_string().starts_with("snapshot.endpoints[0].node is \"\": "), "{error}");
}

#[test]
fn what_a_later_version_says_is_told_apart() {
    // Field 99, a message without fields.
    let later = Bytes::from_static(&[0x9a, 0x06, 0x00]);
    assert_eq!(FromAgent::decode(later.clone()).unwrap_err().error, Error::UnknownKind);
    assert_eq!(FromControl::decode(later).unwrap_err().error, Error::UnknownKind);
    assert!(crate::speaks(1) && crate::speaks(2) && !crate::speaks(0) && !crate::speaks(3));
}

/// A version either way works: what the later one says besides is passed over.
#[test]
fn a_field_of_a_later_version_is_passed_over() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..100 {
        let message = testing::from_control().new_tree(&mut runner).unwrap().current();
        assert_eq!(FromControl::decode(with_a_field_more(&message.encode())), Ok(message));
        let message = testing::from_agent().new_tree(&mut runner).unwrap().current();
        assert_eq!(FromAgent::decode(with_a_field_more(&message.encode())), Ok(message));
    }
}

/// The message of a kind, with a field 99 that no version has yet.
fn with_a_field_more(message: &Bytes) -> Bytes {
    const MORE: [u8; 4] = [0x9a, 0x06, 0x01, 0x07];
    let (kind, mut rest) = (message[0], &message[1..]);
    let length = prost::encoding::decode_varint(&mut rest).unwrap();
    assert_eq!(length, rest.len() as u64);
    let mut later = vec![kind];
    prost::encoding::encode_varint(length + MORE.len() as u64, &mut later);
    later.extend_from_slice(rest);
    later.extend_from_slice(&MORE);
    later.into()
}

#[test]
fn too_long_a_message_is_not_looked_at() {
    let long = Bytes::from(vec![0; crate::bounds::MAX_MESSAGE_BYTES + 1]);
    let told = FromAgent::decode(long).unwrap_err().to_string();
    assert_eq!(told, "a message of 16777217 bytes: at most 16777216 are taken");
}

#[test]
fn joining_is_asked_for_and_answered() {
    let certificate_request = Bytes::from_static(b"request");
    let join = Join {
        token: "secret".to_owned(),
        node: "a".parse().unwrap(),
        certificate_request: certificate_request.clone(),
    };
    assert!(!format!("{join:?}").contains("secret"));
    assert_eq!(Join::decode(join.encode()), Ok(join.clone()));
    let long = Join { token: "secret".repeat(100), ..join };
    let told = Join::decode(long.encode()).unwrap_err().to_string();
    assert_eq!(told, "token is 600 bytes long: has at most 512 bytes");
    let renew = Renew { certificate_request };
    assert_eq!(Renew::decode(renew.encode()), Ok(renew));
    let certificate = Certificate { chain: vec!["leaf".into()], authorities: vec!["ca".into()] };
    assert_eq!(Certificate::decode(certificate.encode()), Ok(certificate));
    let empty = Certificate { chain: vec![Bytes::new()], authorities: Vec::new() };
    let told = Certificate::decode(empty.encode()).unwrap_err().to_string();
    assert_eq!(told, "chain[0] is 0 bytes long: has from 1 to 16384 bytes");
}

/// `message Name`, and `Name field = tag` of all its fields.
fn of_file(text: &str) -> BTreeSet<String> {
    let (mut all, mut message) = (BTreeSet::new(), "");
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(rest) = line.strip_prefix("message ") {
            message = rest.trim_end_matches(" {");
        } else if let Some((field, tag)) = line.trim_end_matches(';').split_once(" = ")
            && !message.is_empty()
        {
            let (kind, name) = field.rsplit_once(' ').unwrap();
            all.insert(format!(
                "{message} {} {name} = {tag}",
                kind.trim_start_matches("optional ")
            ));
        }
    }
    all
}

/// The same of the messages as they are written down in Rust.
fn of_rust(text: &str) -> BTreeSet<String> {
    let (mut all, mut message, mut attribute) = (BTreeSet::new(), String::new(), "");
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum ")) {
            let name = rest.trim_end_matches(" {");
            message =
                name.strip_suffix("Kind").map_or(name.to_owned(), |of| format!("{of}Message"));
        } else if let Some(rest) = line.strip_prefix("#[prost(") {
            attribute = rest.trim_end_matches(")]");
        } else if let Some((kind, tag)) = attribute.rsplit_once("tag = ") {
            let tag = tag.trim_matches('"');
            let field = line.trim_start_matches("pub ").trim_end_matches(',');
            let (name, inner) = match field.split_once(": ") {
                Some((name, inner)) => (name.to_owned(), inner),
                None => {
                    let (name, inner) = field.trim_end_matches(')').split_once('(').unwrap();
                    (name.to_lowercase(), inner)
                }
            };
            let inner = inner.trim_start_matches("Option<").trim_start_matches("Vec<");
            let repeated = if kind.contains("repeated") { "repeated " } else { "" };
            let kind = match kind.split([',', ' ']).next().unwrap() {
                "message" => inner.trim_end_matches('>').to_owned(),
                "btree_map" => {
                    format!("map<{}>", kind.split('"').nth(1).unwrap())
                }
                scalar => scalar.to_owned(),
            };
            all.insert(format!("{message} {repeated}{kind} {name} = {tag}"));
            attribute = "";
        }
    }
    all
}

#[test]
fn the_messages_are_those_of_the_protocols_file() {
    let file = include_str!("../sinew/v1/fleet.proto");
    let (file_fields, rust) = (of_file(file), of_rust(include_str!("wire.rs")));
    assert!(file_fields.len() > 80, "{file_fields:#?}");
    assert_eq!(file_fields, rust);
    for path in [Path::Session, Path::Join, Path::Renew] {
        let method = path.as_str().strip_prefix("/sinew.v1.Fleet/").unwrap();
        assert!(file.contains(&format!("rpc {method}(")), "{method}");
        assert_eq!(Path::of(path.as_str()), Some(path));
    }
    assert!(file.contains("package sinew.v1;") && Path::SERVICE == "sinew.v1.Fleet");
    assert_eq!(Path::of("/sinew.v1.Fleet/Other"), None);
}
