//! `sinew adopt` and `sinew release`.

use std::fmt::Write as _;

use sinew_api::{Adopted, Released};

use crate::{
    args::{Adopt, Release},
    context::Context,
    error::Error,
};

pub(super) async fn adopt(args: &Adopt, context: &Context) -> Result<(), Error> {
    let adopt = sinew_api::Adopt {
        target: args.target.0.clone(),
        service: args.service.clone(),
        ports: args.port.iter().map(|port| port.0.clone()).collect(),
    };
    let adopted = context.client().await?.adopt(&adopt).await?;
    context.show(&adopted, adopted_text)
}

pub(super) async fn release(args: &Release, context: &Context) -> Result<(), Error> {
    let endpoint = &args.endpoint;
    let released = context.client().await?.release(&endpoint.service, endpoint.replica).await?;
    context.show(&released, released_text)
}

fn adopted_text(adopted: &Adopted) -> String {
    let Adopted { service, replica, adopted: what, processes, endpoints, silent, moved_from } =
        adopted;
    let plural = if *processes == 1 { "process" } else { "processes" };
    let mut text = format!("{service}/{replica} is {what}: {processes} {plural}");
    // Writing to a `String` does not fail.
    for (at, endpoint) in endpoints.iter().enumerate() {
        let _ = write!(text, "{} {endpoint}", if at == 0 { ", reached at" } else { "," });
    }
    text.push('\n');
    for port in silent {
        let _ = writeln!(text, "nothing listens on port {} yet: it is looked for", port.number);
    }
    if let Some(from) = moved_from {
        let _ = writeln!(
            text,
            "moved here from cgroup {}; sockets that it had stay as they are",
            from.display()
        );
    }
    let _ = writeln!(text, "it calls a service by its full name, as web.sinew.internal");
    text
}

fn released_text(released: &Released) -> String {
    let Released { service, replica, moved_to, origin_gone } = released;
    let mut text = format!("{service}/{replica} is released and goes on without Sinew\n");
    match (moved_to, origin_gone) {
        (Some(to), Some(gone)) => {
            let (to, gone) = (to.display(), gone.display());
            let _ = writeln!(text, "its cgroup {gone} is gone: it was moved to {to}");
        }
        (Some(to), None) => {
            let _ = writeln!(text, "moved back to cgroup {}", to.display());
        }
        (None, _) => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_adopted_is_told() {
        let mut adopted = Adopted {
            service: "cache".parse().unwrap(),
            replica: 0,
            adopted: "process 4711".to_owned(),
            processes: 2,
            endpoints: vec!["127.0.0.1:6379".parse().unwrap(), "[::1]:6379".parse().unwrap()],
            silent: Vec::new(),
            moved_from: Some("/sys/fs/cgroup/user.slice".into()),
        };
        assert_eq!(
            adopted_text(&adopted),
            "\
cache/0 is process 4711: 2 processes, reached at 127.0.0.1:6379, [::1]:6379
moved here from cgroup /sys/fs/cgroup/user.slice; sockets that it had stay as they are
it calls a service by its full name, as web.sinew.internal
"
        );
        adopted.endpoints.clear();
        adopted.silent =
            vec![serde_json::from_str(r#"{"name":"a","number":80,"protocol":"tcp"}"#).unwrap()];
        let text = adopted_text(&adopted);
        assert!(text.contains("nothing listens on port 80 yet"), "{text}");
    }

    #[test]
    fn where_the_released_went_is_told() {
        let mut released = Released {
            service: "cache".parse().unwrap(),
            replica: 0,
            moved_to: None,
            origin_gone: None,
        };
        let free = "cache/0 is released and goes on without Sinew\n";
        assert_eq!(released_text(&released), free);
        released.moved_to = Some("/a".into());
        assert_eq!(released_text(&released), format!("{free}moved back to cgroup /a\n"));
        released.origin_gone = Some("/a/b".into());
        let gone = "its cgroup /a/b is gone: it was moved to /a\n";
        assert_eq!(released_text(&released), format!("{free}{gone}"));
    }
}
