//! Connections, a line each: columns of fixed width, since nobody knows what comes next.

use sinew_api::{Flow, FlowVerdict};
use sinew_model::Protocol;

use super::{
    style::{Style, Tint},
    time,
};

/// The line above them.
pub(crate) fn head(style: Style) -> String {
    let names = row([
        "TIME", "FROM", "TO", "BACKEND", "VERDICT", "CONNECT", "DURATION", "SENT", "RECEIVED", "",
    ]);
    style.paint(Tint::Dim, names.trim_end())
}

/// A connection.
pub(crate) fn line(flow: &Flow, style: Style) -> String {
    let dash = || "-".to_owned();
    let host = match &flow.destination {
        Some(name) => name.to_string(),
        None if flow.address.is_ipv6() => format!("[{}]", flow.address),
        None => flow.address.to_string(),
    };
    let suffix = if flow.protocol == Protocol::Udp { "/udp" } else { "" };
    let duration = flow.duration_us.map(|us| time::micros(u32::try_from(us).unwrap_or(u32::MAX)));
    let reason = if flow.verdict == FlowVerdict::Closed { "" } else { flow.reason.as_str() };
    let text = row([
        &time::utc(flow.at_ms),
        &flow.source,
        &format!("{host}:{}{suffix}", flow.port),
        flow.backend.as_deref().unwrap_or("-"),
        flow.verdict.word(),
        &flow.connect_us.map_or_else(dash, time::micros),
        &duration.unwrap_or_else(dash),
        &time::bytes(flow.sent_bytes),
        &time::bytes(flow.received_bytes),
        reason,
    ]);
    let tint = match flow.verdict {
        FlowVerdict::Closed => Tint::Plain,
        FlowVerdict::Cancelled => Tint::Busy,
        _ => Tint::Bad,
    };
    style.paint(tint, text.trim_end())
}

fn row(cells: [&str; 10]) -> String {
    let [time, from, to, backend, verdict, connect, duration, sent, received, reason] = cells;
    format!(
        "{time:24}  {from:12}  {to:18}  {backend:12}  {verdict:12}  {connect:>8}  {duration:>8}  \
         {sent:>9}  {received:>9}  {reason}"
    )
}

#[cfg(test)]
mod tests {
    use sinew_model::ServiceName;

    use super::*;

    #[test]
    fn a_call_and_a_refused_one() {
        let call = Flow {
            at_ms: 1_763_719_200_123,
            source: "exec".to_owned(),
            destination: Some(ServiceName::new("web").unwrap()),
            address: [127, 64, 0, 1].into(),
            port: 80,
            protocol: Protocol::Tcp,
            backend: Some("web/1".to_owned()),
            verdict: FlowVerdict::Closed,
            reason: "closed after it was established".to_owned(),
            connect_us: Some(42),
            duration_us: Some(1_200),
            sent_bytes: 78,
            received_bytes: 2_048,
            one_of: 1,
        };
        let refused = Flow {
            destination: None,
            backend: None,
            verdict: FlowVerdict::NoSuchPort,
            reason: "no service has this address".to_owned(),
            connect_us: None,
            duration_us: None,
            sent_bytes: 0,
            received_bytes: 0,
            ..call.clone()
        };
        let plain = Style { colour: false };
        let lines = [head(plain), line(&call, plain), line(&refused, plain)];
        assert_eq!(
            lines.join("\n"),
            "\
TIME                      FROM          TO                  BACKEND       VERDICT        CONNECT  DURATION       SENT   RECEIVED
2025-11-21T10:00:00.123Z  exec          web:80              web/1         closed           42 us    1.2 ms       78 B    2.0 KiB
2025-11-21T10:00:00.123Z  exec          127.64.0.1:80       -             no-such-port         -         -        0 B        0 B  no service has this address"
        );
    }
}
