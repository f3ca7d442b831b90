//! Names of services, for the members of this host. The resolver is a process of its own
//! ([`process`]), so that names are answered while no agent runs. The agent tells it by a file what
//! there is ([`files`]), sees by the zone's serial that it is served, and keeps the process there
//! ([`supervisor`]).

use std::{
    fs, io,
    net::{IpAddr, SocketAddrV4},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sinew_abi::capacity;
use sinew_datapath as datapath;
use sinew_dns::{HostConfig, follow_host};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{alloc, environment::DOMAIN, paths::Paths};

mod files;
mod follow;
mod lookups;
mod process;
mod query;
mod supervisor;

pub(crate) use files::Addresses;
pub(crate) use lookups::Lookups;
pub use process::resolver_main;

use files::State;
use supervisor::{Channels, Plan, Supervisor};

/// Name servers of the host whose queries are taken over.
const NAME_SERVERS: usize = capacity::NAME_SERVERS as usize;
/// From look to look at `resolv.conf`.
const FOLLOW: Duration = Duration::from_secs(1);
/// How long anybody waits for a zone to be served: the resolver may be on its way back, and without
/// it members still run.
const SERVE: Duration = Duration::from_secs(2);

/// How long an agent's start waits for the resolver; members whose queries are passed on untouched
/// meanwhile still run.
const BEGIN: Duration = Duration::from_secs(10);

/// The runtime's side of the resolver.
pub(crate) struct Names {
    plan: Plan,
    /// The resolver's group, which reads the zone.
    group: Option<u32>,
    host: watch::Receiver<Arc<HostConfig>>,
    bound: watch::Receiver<Option<State>>,
    trouble: watch::Receiver<Option<String>>,
    published: watch::Sender<u32>,
    served: watch::Receiver<u32>,
    led: watch::Sender<Option<SocketAddrV4>>,
    supervisor: JoinHandle<()>,
}

/// Takes up the resolver that an earlier agent left, or starts one. When there is none, members still
/// run; [`Names::trouble`] says why.
///
/// # Errors
/// When the directory shared with it cannot be made.
pub(crate) async fn start(
    exe: &Path,
    paths: &Paths,
    resolv_conf: &Path,
    pins: Option<PathBuf>,
    tasks: &mut JoinSet<()>,
) -> io::Result<Names> {
    let directory = paths.resolver();
    let group = process::group();
    make(&directory, group)?;
    let spec = files::Spec {
        domain: DOMAIN.to_owned(),
        address4: alloc::RESOLVER4,
        resolv_conf: resolv_conf.to_owned(),
        pins,
        cgroup: paths.resolver_cgroup(),
    };
    let plan = Plan { exe: exe.to_owned(), directory, log: paths.resolver_log(), spec };
    let generation = files::Catalog::read(&plan.directory).map_or(0, |names| names.generation);
    let (published, to_serve) = watch::channel(generation);
    let (serving, served) = watch::channel(0);
    let (binding, mut bound) = watch::channel(None);
    let (troubled, trouble) = watch::channel(None);
    let (led, leading) = watch::channel(None);
    let channels = Channels {
        bound: binding,
        trouble: troubled,
        published: to_serve,
        served: serving,
        led: leading,
    };
    let (host, follow) = follow_host(resolv_conf, FOLLOW);
    tasks.spawn(follow);
    let mut supervisor = Supervisor::new(plan.clone(), channels);
    if timeout(BEGIN, supervisor.begin()).await.is_err() {
        tracing::warn!("the agent starts without a resolver; it goes on to try for one");
    }
    bound.mark_unchanged();
    let supervisor = tokio::spawn(supervisor.run());
    Ok(Names { plan, group, host, bound, trouble, published, served, led, supervisor })
}

/// Only root changes what is in it, and only the resolver reads it.
fn make(directory: &Path, group: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    chown(directory, Some(0), group)?;
    let mode = if group.is_some() { 0o710 } else { 0o700 };
    fs::set_permissions(directory, fs::Permissions::from_mode(mode))
}

impl Names {
    /// Tells the resolver what there is.
    ///
    /// # Errors
    /// When it cannot be written; the resolver stays with what was there before.
    pub(crate) fn publish(
        &self,
        services: impl Iterator<Item = (sinew_model::ServiceName, Addresses)>,
    ) -> io::Result<()> {
        // 0 is what a resolver serves to which nothing was said.
        let generation = self.published.borrow().checked_add(1).unwrap_or(1);
        let names = files::Catalog { generation, services: services.collect() };
        names.write(&self.plan.directory, self.group)?;
        self.published.send_replace(generation);
        Ok(())
    }

    /// Waits until all that was published is served; `None`: it is, or nobody serves anything.
    pub(crate) fn settling(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let wanted = *self.published.borrow();
        let mut served = self.served.clone();
        if *served.borrow_and_update() == wanted || self.bound.borrow().is_none() {
            return None;
        }
        let published = self.published.subscribe();
        Some(async move {
            let is_served = served.wait_for(|served| *served == *published.borrow());
            if timeout(SERVE, is_served).await.is_err() {
                tracing::warn!("the resolver does not serve the newest names yet");
            }
        })
    }

    /// Waits until the data path is to be told something else of names.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            () = next(&mut self.host) => {}
            () = next(&mut self.bound) => {}
        }
    }

    /// Hears of lookups of services of other hosts from now on.
    ///
    /// # Errors
    /// When there is no way to.
    pub(crate) fn lookups(&self) -> io::Result<Lookups> {
        Lookups::listen(&self.plan.directory, self.group)
    }

    /// The host's own search domains.
    pub(crate) fn search(&self) -> Vec<String> {
        self.host.borrow().search.clone()
    }

    /// As the data path is told.
    pub(crate) fn resolver(&self) -> Option<datapath::Resolver> {
        let bound = self.bound.borrow();
        let State { address4, address6, .. } = bound.as_ref()?;
        let name_servers: Vec<IpAddr> =
            self.host.borrow().name_servers.iter().copied().take(NAME_SERVERS).collect();
        Some(datapath::Resolver { address4: *address4, address6: *address6, name_servers })
    }

    /// Name servers of the host whose queries are left alone, because there are too many.
    pub(crate) fn too_many_servers(&self) -> Option<String> {
        let servers = self.host.borrow().name_servers.len();
        (servers > NAME_SERVERS).then(|| {
            format!(
                "resolv.conf has {servers} name servers: services are found by name through the \
                 first {NAME_SERVERS} only; list fewer"
            )
        })
    }

    /// Whether queries were led elsewhere, or nowhere, until now.
    pub(crate) fn is_new(&self, resolver: &datapath::Resolver) -> bool {
        *self.led.borrow() != Some(resolver.address4)
    }

    /// Queries are led to `resolver` now: others may end.
    pub(crate) fn leads_to(&self, resolver: Option<&datapath::Resolver>) {
        let address = resolver.map(|resolver| resolver.address4);
        self.led.send_if_modified(|led| std::mem::replace(led, address) != address);
    }

    /// Why services cannot be reached by name.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Looks after the resolver no more, and ends it when nobody is left who could ask.
    pub(crate) async fn end(self, with_resolver: bool) {
        self.supervisor.abort();
        let _ = self.supervisor.await;
        if with_resolver {
            self.plan.end_all();
        }
    }
}

async fn next<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
