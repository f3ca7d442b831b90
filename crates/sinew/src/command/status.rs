//! `sinew status`.

use sinew_api::{CertificateStatus, FleetStatus, SessionStatus, Status};

use crate::{
    context::Context,
    error::Error,
    render::style::{Style, Tint},
};

pub(super) async fn status(context: &Context) -> Result<(), Error> {
    let status = context.client().await?.status().await?;
    context.show(&status, |status| text(status, context.style))
}

/// A line a fact; what is wrong stands last.
fn text(status: &Status, style: Style) -> String {
    let mut lines = Lines { text: String::new(), style };
    lines.fact("agent", &format!("sinew {}", status.version));
    match &status.fleet {
        None => lines
            .fact("network", "none: this host is alone; `sinew agent --join` makes it one of many"),
        Some(fleet) => describe(&mut lines, fleet),
    }
    for warning in &status.warnings {
        lines.tinted("warning", warning, Tint::Busy);
    }
    lines.text
}

struct Lines {
    text: String,
    style: Style,
}

impl Lines {
    fn fact(&mut self, what: &str, is: &str) {
        self.tinted(what, is, Tint::Plain);
    }

    fn tinted(&mut self, what: &str, is: &str, tint: Tint) {
        const WIDTH: usize = 11;
        self.text.push_str(&format!("{what:WIDTH$}  {}\n", self.style.paint(tint, is)));
    }
}

fn describe(lines: &mut Lines, fleet: &FleetStatus) {
    lines.fact("host", &format!("{} in zone {}", fleet.node, fleet.zone));
    if !fleet.addresses.is_empty() {
        lines.fact("addresses", &joined(&fleet.addresses));
    }
    match fleet.slices.as_slice() {
        [] => lines.tinted("instances", "no network was given yet", Tint::Busy),
        slices => lines.fact("instances", &joined(slices)),
    }
    match &fleet.session {
        Some(SessionStatus { control, epoch, open_s }) => {
            let session = format!("with control {control} for {open_s} s (number {epoch})");
            lines.tinted("session", &session, Tint::Good);
        }
        None => {
            let why = fleet.lost.clone().unwrap_or_else(|| {
                format!("none with control at {} yet", fleet.control.join(", "))
            });
            lines.tinted("session", &why, Tint::Bad);
        }
    }
    lines.fact("revision", &fleet.revision.to_string());
    let hosts = fleet.hosts.iter().map(|(node, zone)| format!("{node} ({zone})"));
    let hosts: Vec<String> = hosts.collect();
    let none = "none".to_owned();
    lines.fact("other hosts", &if hosts.is_empty() { none } else { hosts.join(", ") });
    let heard = fleet.subscribed.len();
    lines.fact("services", &format!("{heard} heard of, of {} names", fleet.names));
    for (zone, percent) in &fleet.limited_zones {
        let share = format!("zone {zone} gets {percent} % of its share of calls");
        lines.tinted("limited", &share, Tint::Busy);
    }
    for doubt in &fleet.doubts {
        let stale = format!("{} {}: {}; it stays in use", doubt.service, doubt.endpoint, doubt.why);
        lines.tinted("in doubt", &stale, Tint::Busy);
    }
    for refused in &fleet.refused {
        let (service, generation) = (&refused.service, refused.generation);
        let what = format!("{service} at generation {generation}: {}", refused.reason);
        lines.tinted("refused", &what, Tint::Bad);
    }
    match &fleet.certificate {
        Some(CertificateStatus { until, alarm: None, .. }) => {
            lines.fact("certificate", &format!("holds until {until}"));
        }
        Some(CertificateStatus { until, alarm: Some(alarm), .. }) => {
            lines.tinted("certificate", &format!("holds until {until}; {alarm}"), Tint::Bad);
        }
        None => lines.tinted(
            "certificate",
            "none: join again with `sinew agent --token TOKEN` and a fresh token",
            Tint::Bad,
        ),
    }
    for notice in &fleet.notices {
        lines.tinted("notice", notice, Tint::Bad);
    }
}

fn joined<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use sinew_api::Doubtful;

    use super::*;

    fn fleet() -> FleetStatus {
        FleetStatus {
            node: "web-1".parse().unwrap(),
            zone: "a".parse().unwrap(),
            control: vec!["c1:7443".to_owned()],
            addresses: vec!["192.0.2.7".parse().unwrap()],
            slices: vec!["10.111.3.0/24".parse().unwrap()],
            session: Some(SessionStatus { control: "c1".to_owned(), epoch: 4, open_s: 60 }),
            lost: None,
            revision: sinew_model::fleet::Generation(17),
            hosts: [("web-2".parse().unwrap(), "b".parse().unwrap())].into(),
            names: 3,
            subscribed: [("orders".parse().unwrap(), sinew_model::fleet::Generation(9))].into(),
            doubts: Vec::new(),
            refused: Vec::new(),
            limited_zones: Default::default(),
            certificate: Some(CertificateStatus {
                until: "2026-11-22T00:00:00Z".to_owned(),
                until_s: 1,
                alarm: None,
            }),
            notices: Vec::new(),
        }
    }

    fn shown(fleet: Option<FleetStatus>) -> String {
        let version = "0.1.0".to_owned();
        let status = Status { version, started_at_ms: 0, fleet, warnings: Vec::new() };
        text(&status, Style { colour: false })
    }

    #[test]
    fn a_host_tells_its_place() {
        assert_eq!(
            shown(Some(fleet())),
            "\
agent        sinew 0.1.0
host         web-1 in zone a
addresses    192.0.2.7
instances    10.111.3.0/24
session      with control c1 for 60 s (number 4)
revision     17
other hosts  web-2 (b)
services     1 heard of, of 3 names
certificate  holds until 2026-11-22T00:00:00Z
"
        );
        assert!(shown(None).contains("network      none: this host is alone"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let doubt = Doubtful {
            service: "orders".parse().unwrap(),
            endpoint: "web-2/0".to_owned(),
            why: "its host was declared dead".to_owned(),
        };
        let (session, certificate) = (None, None);
        let lost = Some("no session with control at c1: reset".to_owned());
        let text =
            shown(Some(FleetStatus { session, lost, certificate, doubts: vec![doubt], ..fleet() }));
        assert!(text.contains("session      no session with control at c1: reset\n"), "{text}");
        assert!(text.contains("in doubt     orders web-2/0: its host was declared dead; it stays"));
        assert!(text.contains("certificate  none: join again"), "{text}");
    }
}
