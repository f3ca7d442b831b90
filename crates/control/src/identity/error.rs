//! Why nobody was let in.

use std::time::Duration;

use sinew_identity::{
    Identity, IssueError, KeyError, Moment, Role, certificate::CertificateError,
    tls::CredentialsError, token::TokenId,
};
use sinew_model::NetworkName;

use super::{SealError, records::ROOT};
use crate::store;

/// Why the authority did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Others wrote in between, again and again.
    #[error("{key} changes all the time: nothing was written; try again")]
    Contended {
        /// Of the store.
        key: String,
    },
    /// A value is not what was written.
    #[error(
        "{key} in the store is damaged at line {line}, column {column}, or of a newer sinew: restore the store, or use the sinew that wrote it"
    )]
    Damaged {
        /// Of the store.
        key: String,
        /// From 1 on.
        line: usize,
        /// From 1 on.
        column: usize,
    },
    /// The store is another network's.
    #[error(
        "the store holds network {found}, and this is to be network {wanted}: give each network a store of its own, or its name as --network {found}"
    )]
    OtherNetwork {
        /// Of the store.
        found: NetworkName,
        /// Asked for.
        wanted: NetworkName,
    },
    /// There is no root any more.
    #[error(
        "the store has no root certificate any more: restore the store, or start control anew and have all hosts join again"
    )]
    NoRoot,
    /// The last rotation is not over.
    #[error("the root before this one is still trusted, until {until}: rotate again after that")]
    RotationUnderway {
        /// Its end.
        until: Moment,
    },
    /// The root's key cannot be read.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Nothing was signed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A key could not be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A root in the store is damaged.
    #[error("{ROOT} in the store is damaged: {0}; restore the store")]
    Root(#[from] CertificateError),
    /// What was signed does not fit.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The system gave none.
    #[error("the system gave no randomness")]
    NoRandomness,
    /// Who asks may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A token that nobody should have.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// Why a host was not let in. All of it may be told to who asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no such token.
    #[error(
        "join token {id} is not known here: it was deleted after its end, or is of another network; make one with `sinew token create`"
    )]
    Unknown {
        /// Of the token.
        id: TokenId,
    },
    /// The token is known and its secret is another.
    #[error(
        "join token {id} has a wrong secret: copy the token again as `sinew token create` showed it"
    )]
    WrongSecret {
        /// Of the token.
        id: TokenId,
    },
    /// All its uses are.
    #[error(
        "join token {id} was used up: {by} joined with it at {at}; every host needs a token of its own, make one with `sinew token create`. If {by} was not yours, withdraw it: somebody else had the token"
    )]
    Used {
        /// Of the token.
        id: TokenId,
        /// Who used it last.
        by: Role,
        /// When.
        at: Moment,
    },
    /// Its time is over.
    #[error(
        "join token {id} expired at {at}, {} s ago by control's clock, which says {now}: make one with `sinew token create`; if it was made just now, the clocks of the control hosts differ", .now.since(*.at).as_secs()
    )]
    Expired {
        /// Of the token.
        id: TokenId,
        /// When.
        at: Moment,
        /// Control's clock.
        now: Moment,
    },
    /// Somebody revoked it.
    #[error("join token {id} was revoked at {at}: make one with `sinew token create`")]
    Revoked {
        /// Of the token.
        id: TokenId,
        /// When.
        at: Moment,
    },
    /// It is for somebody else.
    #[error(
        "join token {id} is for {granted} alone, and {asked} asks: make one for that with `sinew token create`"
    )]
    WrongPurpose {
        /// Of the token.
        id: TokenId,
        /// Whom it lets in.
        granted: super::Purpose,
        /// Who asked.
        asked: Role,
    },
    /// Another host has the name.
    #[error(
        "{role} is a member already, with a certificate until {until}: choose another name; if it is the same host set up anew, make a token for its name with `sinew token create --node NAME`"
    )]
    NameTaken {
        /// Who.
        role: Role,
        /// Until then, if it does not renew.
        until: Moment,
    },
    /// It was taken out.
    #[error(
        "{role} was withdrawn from the network at {at}: to have it back, join it with a token for its name"
    )]
    Withdrawn {
        /// Who.
        role: Role,
        /// When.
        at: Moment,
    },
    /// The certificate is not one of those that are good.
    #[error(
        "the certificate of {identity} was replaced: its host has joined anew, or another host under its name; join this one again with a fresh token"
    )]
    Replaced {
        /// Whose.
        identity: Identity,
    },
    /// Of another network.
    #[error("{identity} is not of network {ours}")]
    OtherNetwork {
        /// Whose.
        identity: Identity,
        /// Of this authority.
        ours: NetworkName,
    },
}

/// Why no token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Of no use.
    #[error("a token needs at least 1 use: 0 were given")]
    NoUses,
    /// For no time, or for too long a time.
    #[error("a token lasts 1 s to {} s: {} s were given", .most.as_secs(), .given.as_secs())]
    Life {
        /// What was asked for.
        given: Duration,
        /// What is allowed.
        most: Duration,
    },
    /// A name is one host's.
    #[error("a token for one name has 1 use: {uses} were given")]
    OneName {
        /// What was asked for.
        uses: u32,
    },
}
