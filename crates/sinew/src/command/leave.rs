//! `sinew leave`.

use std::fmt::Write as _;

use sinew_api::Left;

use super::down::confirm;
use crate::{args::Leave, context::Context, error::Error};

pub(super) async fn leave(args: &Leave, context: &Context) -> Result<(), Error> {
    let client = context.client().await?;
    confirm(args.yes, "take this host out of its network")?;
    let grace_ms = u64::try_from(args.grace.as_millis()).unwrap_or(u64::MAX);
    let left = client.leave(sinew_api::Leave { grace_ms }).await?;
    context.show(&left, text)
}

fn text(left: &Left) -> String {
    let Left { node, told, placed } = left;
    let mut text = format!("{node} has left the network; what runs here goes on\n");
    if !told {
        text.push_str(
            "control could not be told: the others call what ran here until it declares the host dead\n",
        );
    }
    for project in placed {
        // Writing to a `String` does not fail.
        let _ = writeln!(
            text,
            "project {project} was placed here and is this host's own now: `sinew down {project}` ends it"
        );
    }
    let _ = writeln!(
        text,
        "its name and slice stay in the store: `sinew nodes forget {node}`, where sinew control runs, \
         removes them"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_told() {
        let mut left =
            Left { node: "h2".parse().unwrap(), told: true, placed: vec!["shop".parse().unwrap()] };
        let said = text(&left);
        assert!(
            said.contains("sinew nodes forget h2") && said.contains("sinew down shop"),
            "{said}"
        );
        assert!(!said.contains("could not be told"), "{said}");
        left.told = false;
        assert!(text(&left).contains("control could not be told"));
    }
}
