//! What the control plane's subcommands are told.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use sinew_model::{ControlName, NetworkName, NodeName, ZoneName, fleet::Network};

use super::{DryRun, value};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Control {
    #[command(subcommand)]
    pub(crate) action: Option<ControlAction>,
    #[command(flatten)]
    pub(crate) run: Run,
}

/// What to do instead of being one.
#[derive(Debug, Subcommand)]
pub(crate) enum ControlAction {
    /// Write all that the store holds to a file: from the replica that runs here, or from the store
    /// that is named
    Export {
        /// The file; `-`: standard output
        file: PathBuf,
        #[command(flatten)]
        store: StoreAt,
    },
    /// Fill a store from such a file, while no replica uses it
    Import {
        /// The file; `-`: standard input
        file: PathBuf,
        /// Throw away what the store holds
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        store: StoreAt,
    },
    /// Replace the root certificate, on whose word hosts believe the new one
    RotateRoot,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where hosts connect
    #[arg(long, value_name = "IP:PORT", env = "SINEW_LISTEN", hide_env_values = true)]
    #[arg(default_value = "[::]:7443")]
    pub(crate) listen: SocketAddr,
    /// Where hosts are told to connect [default: the listening address, or this host's own]
    #[arg(long, value_name = "HOST:PORT", env = "SINEW_ADVERTISE", hide_env_values = true)]
    pub(crate) advertise: Option<String>,
    #[command(flatten)]
    pub(crate) store: StoreAt,
    /// This replica's name, unlike that of every other [default: this host's name]
    #[arg(long, value_name = "NAME", env = "SINEW_CONTROL_NAME", hide_env_values = true)]
    pub(crate) name: Option<ControlName>,
    /// The network's name: what all its certificates say
    #[arg(long, value_name = "NAME", env = "SINEW_NETWORK", hide_env_values = true)]
    #[arg(default_value = "sinew")]
    pub(crate) network: NetworkName,
    /// The network of which instances get addresses, as long as no host has any [default: as it is,
    /// or 10.111.0.0/16]
    #[arg(long, value_name = "NETWORK", env = "SINEW_INSTANCES4", hide_env_values = true)]
    pub(crate) instances4: Option<Network>,
    /// A file of 64 hexadecimal digits that encrypts the authority's key in the store; the same on
    /// all hosts of control
    #[arg(long, value_name = "FILE", env = "SINEW_CA_KEY_FILE", hide_env_values = true)]
    pub(crate) ca_key_file: Option<PathBuf>,
    /// Directory of the socket
    #[arg(long = "run", value_name = "DIR", env = "SINEW_RUN", hide_env_values = true)]
    #[arg(default_value = "/run/sinew")]
    pub(crate) directory: PathBuf,
    /// What to log: error, warn, info, debug, trace, or directives as `sinew_control=debug`
    #[arg(long, value_name = "FILTER", env = "SINEW_LOG", hide_env_values = true)]
    #[arg(default_value = "info")]
    pub(crate) log: String,
}

/// Where the store is.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreAt {
    /// Directory of the store of this host [default: control in the state directory]
    #[arg(long, value_name = "DIR", env = "SINEW_DATA", hide_env_values = true)]
    #[arg(conflicts_with = "etcd")]
    pub(crate) data: Option<PathBuf>,
    /// Members of etcd, as `https://HOST:2379`; several are separated by commas
    #[arg(long, value_name = "URL,URL", env = "SINEW_ETCD", hide_env_values = true)]
    #[arg(value_delimiter = ',')]
    pub(crate) etcd: Vec<String>,
    /// Who signs the certificates of etcd's members; PEM
    #[arg(long, value_name = "FILE", env = "SINEW_ETCD_CA", hide_env_values = true)]
    #[arg(requires = "etcd")]
    pub(crate) etcd_ca: Option<PathBuf>,
    /// The certificate that etcd is shown; PEM
    #[arg(long, value_name = "FILE", env = "SINEW_ETCD_CERT", hide_env_values = true)]
    #[arg(requires_all = ["etcd_ca", "etcd_key"])]
    pub(crate) etcd_cert: Option<PathBuf>,
    /// Its key; PEM
    #[arg(long, value_name = "FILE", env = "SINEW_ETCD_KEY", hide_env_values = true)]
    #[arg(requires = "etcd_cert")]
    pub(crate) etcd_key: Option<PathBuf>,
    /// The user that etcd knows
    #[arg(long, value_name = "NAME", env = "SINEW_ETCD_USER", hide_env_values = true)]
    #[arg(requires = "etcd_password_file")]
    pub(crate) etcd_user: Option<String>,
    /// The file of that user's password
    #[arg(long, value_name = "FILE", env = "SINEW_ETCD_PASSWORD_FILE", hide_env_values = true)]
    #[arg(requires = "etcd_user")]
    pub(crate) etcd_password_file: Option<PathBuf>,
}

impl StoreAt {
    /// Whether one was named.
    pub(crate) fn is_named(&self) -> bool {
        self.data.is_some() || !self.etcd.is_empty()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    pub(crate) action: TokenAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenAction {
    /// Make a token, and print what to run on the host that is to join
    Create {
        /// Only for hosts of this zone
        #[arg(long, value_name = "ZONE")]
        zone: Option<ZoneName>,
        /// Only for the host of this name
        #[arg(long, value_name = "NAME", conflicts_with = "uses")]
        node: Option<NodeName>,
        /// For so long, as 30s, 10m, 1h or 7d
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = value::time)]
        ttl: Duration,
        /// For so many hosts
        #[arg(long, value_name = "N", default_value_t = 1)]
        uses: u32,
    },
    /// List tokens, and who used them
    List,
    /// Have nobody join with a token any more; who has joined stays
    Revoke {
        /// As `sinew token list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Nodes {
    #[command(subcommand)]
    pub(crate) action: Option<NodesAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodesAction {
    /// Take a host out of the network
    Withdraw {
        /// The host
        node: NodeName,
    },
    /// Forget a dead host that is gone for good: its slice of the instance network is free for others
    Forget {
        /// The host
        node: NodeName,
        #[command(flatten)]
        run: DryRun,
    },
}
