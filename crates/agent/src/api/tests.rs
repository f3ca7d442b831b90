use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn document() -> Value {
    serde_json::from_str(include_str!("openapi.json")).unwrap()
}

#[test]
fn the_document_describes_every_route() {
    let document = document();
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, calls)| {
            calls.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    assert_eq!(described, ROUTES.iter().map(|route| (*route).to_owned()).collect());
}

/// `SINEW_BLESS=1 cargo test -p sinew-agent` rewrites the page.
#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/api.md");
    let (document, mut page) = (document(), String::from(REFERENCE));
    for route in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        let call = &document["paths"][path][method];
        let method = method.to_uppercase();
        let summary = call["summary"].as_str().unwrap();
        page += &format!("| `{method} {path}`{} | {summary} |\n", query(&document, call));
    }
    if std::env::var_os("SINEW_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/reference/api.md: rewrite it with SINEW_BLESS=1");
}

/// What may stand behind the path.
fn query(document: &Value, call: &Value) -> String {
    let parameters = call["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let resolved = parameters.iter().map(|parameter| match parameter["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => parameter,
    });
    let names: Vec<_> = resolved
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| format!("`{}`", parameter["name"].as_str().unwrap()))
        .collect();
    if names.is_empty() { String::new() } else { format!(", query {}", names.join(", ")) }
}

const REFERENCE: &str = "# The API\n\n\
    HTTP/1.1 and JSON over a unix socket, `/run/sinew/api.sock` (mode 0660, group `sinew`). The \
    command line uses nothing else:\n\
    ```\n\
    curl --unix-socket /run/sinew/api.sock http://sinew/v1/services\n\
    curl -N --unix-socket /run/sinew/api.sock http://sinew/v1/events\n\
    ```\n\
    Callers are who the kernel says they are: root may do everything, members of group `sinew` \
    see everything and run commands as themselves. `GET /v1/openapi.json` is the whole \
    description, with every field. Events, followed logs and followed flows are server-sent \
    events. An error is `{\"code\", \"message\", \"field\", \"remedy\", \"retryable\"}`: what was \
    wrong, where, what to do about it, and whether trying again helps.\n\n\
    | call | does |\n|---|---|\n";

#[test]
fn every_route_is_in_the_router() {
    let source = include_str!("../api.rs");
    for route in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        assert!(source.contains(&format!("(\"{path}\", {method}(")), "{route}");
    }
    let router = source.split("fn router(").nth(1).and_then(|rest| rest.split("\n}").next());
    assert_eq!(router.unwrap().matches(".route(").count(), ROUTES.len());
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn the_schemas_name_the_fields_of_the_types() {
    let document = document();
    let fields_of = |name: &str, value: Value| {
        let is: BTreeSet<String> = value.as_object().unwrap().keys().cloned().collect();
        let described = &document["components"]["schemas"][name]["properties"];
        let described: BTreeSet<String> = described.as_object().unwrap().keys().cloned().collect();
        assert_eq!(is, described, "{name}");
    };
    let name = || "orders".parse::<sinew_model::ServiceName>().unwrap();
    let json = |value: &dyn Fn() -> serde_json::Result<Value>| value().unwrap();
    fields_of("Scale", json(&|| serde_json::to_value(sinew_api::Scale { replicas: 1 })));
    fields_of("Leave", json(&|| serde_json::to_value(sinew_api::Leave::default())));
    let left = || sinew_api::Left { node: "h2".parse().unwrap(), told: true, placed: Vec::new() };
    fields_of("Left", json(&|| serde_json::to_value(left())));
    fields_of("Shutdown", json(&|| serde_json::to_value(sinew_api::Shutdown::default())));
    fields_of(
        "LogLine",
        json(&|| {
            let (service, text) = (name(), String::new());
            serde_json::to_value(sinew_api::LogLine { service, replica: 0, text, offset: 0 })
        }),
    );
    let endpoint = sinew_api::ExplainedEndpoint {
        workload: "orders/0".to_owned(),
        node: None,
        zone: None,
        address: [127, 0, 0, 1].into(),
        port: 1,
        state: sinew_api::WorkloadState::Up,
        fitness: sinew_api::Fitness::Fit,
        code: sinew_api::Finding::Fit,
        reason: String::new(),
        active: 0,
        weight: 256,
        connect_us: 0,
        failures_in_a_row: 0,
        queue: None,
        ejected_for_ms: None,
    };
    let port = || serde_json::from_str(r#"{"name":"a","number":1,"protocol":"tcp"}"#).unwrap();
    fields_of(
        "Adopt",
        json(&|| {
            serde_json::to_value(sinew_api::Adopt {
                target: sinew_api::AdoptTarget::Pid(1),
                service: name(),
                ports: vec![port()],
            })
        }),
    );
    fields_of(
        "Adopted",
        json(&|| {
            serde_json::to_value(sinew_api::Adopted {
                service: name(),
                replica: 0,
                adopted: String::new(),
                processes: 1,
                endpoints: Vec::new(),
                silent: vec![port()],
                moved_from: None,
            })
        }),
    );
    fields_of(
        "Released",
        json(&|| {
            serde_json::to_value(sinew_api::Released {
                service: name(),
                replica: 0,
                moved_to: None,
                origin_gone: None,
            })
        }),
    );
    fields_of("ExplainedEndpoint", json(&|| serde_json::to_value(&endpoint)));
    fields_of(
        "Explanation",
        json(&|| {
            serde_json::to_value(sinew_api::Explanation {
                from: "exec".to_owned(),
                to: name(),
                port: 1,
                protocol: sinew_model::Protocol::Tcp,
                policy: String::new(),
                decision: sinew_api::Decision::NoBackend,
                takes: Vec::new(),
                outcome: String::new(),
                kept: Vec::new(),
                endpoints: Vec::new(),
            })
        }),
    );
    let edges =
        [sinew_datapath::EdgeStats { source: 0, destination: 0, counters: sinew_abi::Edge::ZERO }];
    let edges = crate::status::edges(&edges, &std::collections::HashMap::new());
    fields_of("EdgeStatus", json(&|| serde_json::to_value(&edges[0])));
    fields_of(
        "Flow",
        json(&|| {
            serde_json::to_value(sinew_api::Flow {
                at_ms: 0,
                source: "exec".to_owned(),
                destination: None,
                address: [127, 0, 0, 1].into(),
                port: 1,
                protocol: sinew_model::Protocol::Tcp,
                backend: None,
                verdict: sinew_api::FlowVerdict::Closed,
                reason: String::new(),
                connect_us: None,
                duration_us: None,
                sent_bytes: 0,
                received_bytes: 0,
                one_of: 1,
            })
        }),
    );
    fields_of(
        "ErrorBody",
        json(&|| serde_json::to_value(Refusal::PortTwice { service: name(), number: 1 }.body())),
    );
    fields_of(
        "WorkloadStatus",
        json(&|| {
            serde_json::to_value(sinew_api::WorkloadStatus {
                service: None,
                replica: 0,
                state: sinew_api::WorkloadState::Up,
                pid: None,
                address: [127, 0, 0, 1].into(),
                started_at_ms: None,
                restarts: 0,
                reason: None,
                command: String::new(),
                adopted: Some(String::new()),
            })
        }),
    );
}

#[test]
fn the_schemas_name_the_words_of_the_enumerations() {
    fn words<T: serde::Serialize>(all: &[T]) -> Value {
        serde_json::to_value(all).unwrap()
    }
    let schemas = document()["components"]["schemas"].clone();
    for (name, words) in [
        ("Decision", words(&sinew_api::Decision::ALL)),
        ("Finding", words(&sinew_api::Finding::ALL)),
        ("FlowVerdict", words(&sinew_api::FlowVerdict::ALL)),
    ] {
        assert_eq!(schemas[name]["enum"], words, "{name}");
    }
}
