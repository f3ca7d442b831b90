//! The store of many machines: etcd, version 3.4 or later.
//!
//! Speaks the part of its gRPC API that is needed (messages in `wire`), over one connection to a
//! member. A member that fails, is silent or has no leader is left for the next one. A call that
//! surely had no effect, or may be made twice, is made again until its time is over; any other is
//! answered with [`Applied::Unknown`](super::Applied::Unknown).

mod calls;
mod client;
mod convert;
mod failure;
mod members;
mod renewals;
mod watch;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::FutureExt as _;

use super::{
    Answer, Committed, Error, Lease, LeaseId, LeaseStatus, Range, Ranged, Revision, Span, Store,
    Transaction, Watch,
};
use client::Client;
use renewals::Renewals;

/// How etcd is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://HOST:PORT` or `https://HOST:PORT` of members; the first that works is used.
    pub endpoints: Vec<String>,
    /// For `https`.
    pub tls: Option<Tls>,
    /// Where etcd wants users and passwords.
    pub user: Option<User>,
    /// How long a call may take, with all attempts at all members.
    pub timeout: Duration,
    /// How long an attempt may take where another can follow, and how long the member that serves a
    /// watch may be silent.
    pub attempt: Duration,
}

impl Options {
    /// With time-outs of 5 s for a call and 2 s for an attempt.
    #[must_use]
    pub const fn new(endpoints: Vec<String>) -> Self {
        let (timeout, attempt) = (Duration::from_secs(5), Duration::from_secs(2));
        Self { endpoints, tls: None, user: None, timeout, attempt }
    }
}

/// Certificates, in PEM.
#[derive(Clone)]
pub struct Tls {
    /// Of those who sign the members' certificates. Others are not trusted.
    pub ca_pem: Vec<u8>,
    /// The client's certificate and its key, where etcd wants one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that certificates have to be for; the endpoint's host without one.
    pub server_name: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.identity.is_some();
        f.debug_struct("Tls").field("identity", &identity).finish_non_exhaustive()
    }
}

/// A user of etcd.
#[derive(Clone)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A store in etcd. Clones share their connections.
#[derive(Clone)]
pub struct Etcd {
    client: Arc<Client>,
    renewals: Renewals,
}

impl Etcd {
    /// Reaches a member, and has the user accepted.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::Unavailable`], [`Error::Timeout`], [`Error::Unauthenticated`].
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let client = Arc::new(Client::new(options)?);
        client.greet().await?;
        Ok(Self { renewals: Renewals::new(Arc::clone(&client)), client })
    }
}

impl Store for Etcd {
    fn range(&self, range: Range) -> Answer<'_, Ranged> {
        async move {
            range.span.check()?;
            self.client.range(&range).await
        }
        .boxed()
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Committed> {
        async move {
            transaction.check()?;
            self.client.commit(&transaction).await
        }
        .boxed()
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, Lease> {
        self.client.grant(ttl).boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, Lease> {
        self.renewals.keep_alive(lease).boxed()
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, Revision> {
        self.client.revoke(lease).boxed()
    }

    fn time_to_live(&self, lease: LeaseId) -> Answer<'_, LeaseStatus> {
        self.client.time_to_live(lease).boxed()
    }

    fn watch(&self, span: Span, from: Option<Revision>) -> Answer<'_, Watch> {
        async move {
            span.check()?;
            watch::open(Arc::clone(&self.client), span, from).await
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> Answer<'_, ()> {
        self.client.compact(revision).boxed()
    }
}
