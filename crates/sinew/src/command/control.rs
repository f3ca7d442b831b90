//! `sinew control`: the composition root of a replica of control.

mod store;
mod transfer;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown},
    path::Path,
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};
use sinew_control::{
    admin,
    identity::{Authority, Lives, Seal},
    networks,
    serve::{Control as Replica, Handle, Options},
};
use sinew_door::{READY, STOPPING, notify};
use sinew_identity::Moment;
use sinew_model::ControlName;
use sinew_workload::socket;
use tokio::{
    net::UnixListener,
    runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    args::{Control, ControlAction, RunControl},
    command::{agent, block_on},
    context::Context,
    error::Error,
};

pub(super) fn control(args: Control, context: &Context) -> Result<(), Error> {
    match args.action {
        None => run(args.run, context),
        Some(ControlAction::Export { file, store }) => {
            block_on(transfer::export(&file, &store, context))
        }
        Some(ControlAction::Import { file, replace, store }) => {
            block_on(transfer::import(&file, &store, replace, context))
        }
        Some(ControlAction::RotateRoot) => block_on(rotate(context)),
    }
}

async fn rotate(context: &Context) -> Result<(), Error> {
    let new = context.control().await?.rotate_root().await?;
    context.show(&new, |new| {
        format!(
            "the root certificate is now {}\nhosts learn of it when they renew theirs; tokens and \
             certificates of before stay good\n",
            new.fingerprint
        )
    })
}

fn run(args: RunControl, context: &Context) -> Result<(), Error> {
    agent::log(&args.log, context.json)?;
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::system("start the runtime"))?;
    runtime.block_on(serve(args))
}

/// Why it does not start, in the words of who knows.
fn failed(error: impl std::fmt::Display) -> Error {
    Error::ControlStart { what: error.to_string() }
}

async fn serve(args: RunControl) -> Result<(), Error> {
    let _lock = lock(&args.directory)?;
    let listener = bind(&args.directory)?;
    let store = store::open(&args.store).await?;
    let seal = args.ca_key_file.as_deref().map(Seal::read).transpose().map_err(failed)?;
    let sealed = seal.is_some();
    let (network, now) = (args.network.clone(), Moment::now());
    let authority = Authority::open(Arc::clone(&store), network, seal, Lives::default(), now);
    let authority = Arc::new(authority.await.map_err(failed)?);
    let networks = networks::open(&*store, args.instances4).await.map_err(failed)?;
    let name = args.name.map_or_else(own_name, Ok)?;
    let mut options = Options::new(name.clone(), args.listen);
    options.advertise = args.advertise;
    let replica = Replica::bind(store, authority, options).await.map_err(failed)?;
    let at = replica.address().map_err(Error::system("find the own address"))?;
    let (stored, told) = (args.store.to_string(), replica.handle().addresses().swap_remove(0));
    tracing::info!(%name, network = %args.network, listens = %at, hosts_connect_to = told, instances4 = %networks.instances4, instances6 = %networks.instances6, store = stored, "control serves");
    if !sealed {
        tracing::info!(
            "the authority's key lies in the store as it is: who reads the store can pass for any \
             host; --ca-key-file encrypts it"
        );
    }
    answer(replica, listener, &args.directory).await
}

/// Serves hosts and people until a signal, or until the store is of no use.
async fn answer(replica: Replica, listener: UnixListener, directory: &Path) -> Result<(), Error> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(Error::system("wait for signals"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(Error::system("wait for signals"))?;
    let (stop, stopped) = watch::channel(false);
    let handle: Handle = replica.handle();
    let people = tokio::spawn(admin::serve(listener, handle, stopped));
    notify(READY);
    let ended = replica
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            notify(STOPPING);
            tracing::info!("control ends: hosts are told to go on elsewhere");
        })
        .await;
    stop.send_replace(true);
    let _ = people.await;
    let _ = fs::remove_file(directory.join(SOCKET));
    ended.map_err(failed)
}

const SOCKET: &str = "control.sock";

/// One replica a run directory: another one's socket is not to be taken away.
fn lock(directory: &Path) -> Result<File, Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(directory);
    made.map_err(Error::system(format!("make {}", directory.display())))?;
    let path = directory.join("control.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Error::system(format!("open {}", path.display())))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        if error == rustix::io::Errno::WOULDBLOCK {
            let what = format!("another replica of control uses {} already", directory.display());
            let help = "end it first, or name another directory with --run".to_owned();
            return Error::Usage { what, help };
        }
        Error::system(format!("lock {}", path.display()))(error.into())
    })?;
    Ok(file)
}

/// For root and the group.
fn bind(directory: &Path) -> Result<UnixListener, Error> {
    let group = sinew_door::group();
    let restrict = || Error::system(format!("restrict {}", directory.display()));
    chown(directory, None, group).map_err(restrict())?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o750)).map_err(restrict())?;
    let path = directory.join(SOCKET);
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    let listen = || -> io::Result<UnixListener> {
        let listener = socket::listen(&path, mode, group)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    listen().map_err(Error::system(format!("listen at {}", path.display())))
}

/// The host's own name, up to its first dot.
fn own_name() -> Result<ControlName, Error> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let label = name.split('.').next().unwrap_or_default();
    ControlName::new(label).map_err(|error| Error::Usage {
        what: format!("this host's name makes no name for a replica: {error}"),
        help: "give it one with --name".to_owned(),
    })
}
