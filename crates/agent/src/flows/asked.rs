//! Whether those whose connections are asked for were ever here: a slip of the pen looks like a
//! quiet service otherwise.

use std::collections::BTreeSet;

use sinew_api::{FlowItem, FlowQuery};
use sinew_model::{ServiceName, nearest};

use super::{EXEC, OUTSIDE};
use crate::refusal::Refusal;

/// # Errors
/// When `query` names a caller or a service that is neither among `services` nor an end of what is
/// kept.
pub(crate) fn check<'a>(
    query: &FlowQuery,
    services: impl IntoIterator<Item = &'a str>,
    kept: impl IntoIterator<Item = &'a FlowItem>,
) -> Result<(), Refusal> {
    let services: BTreeSet<&str> = services.into_iter().collect();
    let (mut callers, mut called) = (services.clone(), services);
    callers.extend([EXEC, OUTSIDE]);
    for item in kept {
        if let FlowItem::Flow(flow) = item {
            callers.insert(&flow.source);
            called.extend(flow.destination.as_ref().map(ServiceName::as_str));
        }
    }
    known("from", query.from.as_deref(), &callers)?;
    known("to", query.to.as_ref().map(ServiceName::as_str), &called)
}

fn known(field: &str, asked: Option<&str>, names: &BTreeSet<&str>) -> Result<(), Refusal> {
    let Some(asked) = asked.filter(|asked| !names.contains(asked)) else { return Ok(()) };
    let see = "see what there is with `sinew services`";
    Err(Refusal::Invalid {
        field: field.to_owned(),
        what: format!("there is no service {asked}, and no connection of one is kept"),
        remedy: match nearest(asked, names.iter().copied()) {
            Some(name) => format!("did you mean {name}? {see}"),
            None => see.to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use sinew_api::{Flow, FlowVerdict};
    use sinew_model::Protocol;

    use super::*;

    #[test]
    fn who_is_here_or_was_may_be_asked_for() {
        let gone = FlowItem::Flow(Flow {
            at_ms: 0,
            source: "batch".to_owned(),
            destination: Some("cache".parse().unwrap()),
            address: [127, 64, 0, 1].into(),
            port: 80,
            protocol: Protocol::Tcp,
            backend: None,
            verdict: FlowVerdict::Closed,
            reason: String::new(),
            connect_us: None,
            duration_us: None,
            sent_bytes: 0,
            received_bytes: 0,
            one_of: 1,
        });
        let check = |query| {
            let query = FlowQuery::parse(query).unwrap();
            check(&query, ["orders", "web"], [&gone]).map_err(|refusal| refusal.body())
        };
        for query in ["", "from=web&to=orders", "from=exec", "from=outside", "from=batch&to=cache"]
        {
            assert_eq!(check(query), Ok(()), "{query}");
        }
        let error = check("from=web&to=odrers").unwrap_err();
        assert_eq!(error.field.as_deref(), Some("to"));
        assert_eq!(
            error.message,
            "to: there is no service odrers, and no connection of one is kept"
        );
        let see = "see what there is with `sinew services`";
        assert_eq!(error.remedy, Some(format!("did you mean orders? {see}")));
        let error = check("from=warehouse").unwrap_err();
        assert_eq!((error.field.as_deref(), error.remedy.as_deref()), (Some("from"), Some(see)));
        assert!(check("to=batch").is_err(), "it called, and was never called");
        assert!(check("to=exec").is_err(), "nobody calls it");
    }
}
