//! `sinew token`.

use sinew_api::control::{MadeToken, NewToken, Token};

use crate::{
    args::{Token as Args, TokenAction},
    context::Context,
    error::Error,
    render::{
        table::{Align, Cell, Table},
        time,
    },
};

pub(super) async fn token(args: &Args, context: &Context) -> Result<(), Error> {
    let client = context.control().await?;
    match &args.action {
        TokenAction::Create { zone, node, ttl, uses } => {
            let new = NewToken {
                node: node.clone(),
                zone: zone.clone(),
                life_s: Some(ttl.as_secs()),
                uses: Some(*uses),
            };
            let made = client.create_token(&new).await?;
            context.show(&made, |made| created(made, *uses))
        }
        TokenAction::List => {
            let tokens = client.tokens().await?;
            context.show(&tokens, |tokens| table(tokens, context))
        }
        TokenAction::Revoke { id } => {
            client.revoke_token(id).await?;
            if context.json { context.print_line("{}") } else { context.print_line("revoked") }
        }
    }
}

fn created(made: &MadeToken, uses: u32) -> String {
    let left = (made.expires_s * 1000).saturating_sub(time::now_ms());
    let left = time::short(std::time::Duration::from_millis(left + 999));
    let hosts = if uses == 1 { "the host".to_owned() } else { format!("each of {uses} hosts") };
    format!(
        "token {}, good for {left}; run this on {hosts} that is to join:\n\n  sudo {}\n",
        made.id, made.join
    )
}

fn table(tokens: &[Token], context: &Context) -> String {
    let mut table = Table::new(&[
        ("TOKEN", Align::Left),
        ("FOR", Align::Left),
        ("USED", Align::Right),
        ("MADE", Align::Left),
        ("STATE", Align::Left),
        ("BY", Align::Left),
    ]);
    let now = time::now_ms();
    for token in tokens {
        let who = match (&token.node, &token.zone) {
            (Some(node), _) => node.to_string(),
            (None, Some(zone)) => format!("hosts of zone {zone}"),
            (None, None) => "any host".to_owned(),
        };
        let by: Vec<&str> = token.used.iter().map(|used| used.by.as_str()).collect();
        table.row([
            Cell::new(&token.id),
            Cell::new(who),
            Cell::new(format!("{}/{}", token.used.len(), token.uses)),
            Cell::new(time::ago(token.made_s * 1000, now)),
            Cell::new(state(token, now)),
            Cell::or_dash((!by.is_empty()).then(|| by.join(", "))),
        ]);
    }
    table.render(context.style, context.width)
}

fn state(token: &Token, now: u64) -> String {
    let end = token.expires_s * 1000;
    if token.revoked_s.is_some() {
        "revoked".to_owned()
    } else if end < now {
        "expired".to_owned()
    } else if token.good {
        format!("{} left", time::short(std::time::Duration::from_millis(end - now)))
    } else {
        "used up".to_owned()
    }
}
