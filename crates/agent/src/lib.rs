//! The agent of a host: supervises, reconciles, serves the API.
//!
//! What is wanted ([`intent`]) is the only durable state. The [`core`] compares it with what was seen
//! and says what to do; the [`runtime`] around it does it and reports back; the [`api`] lets callers
//! change what is wanted and look. Neither workloads nor the data path need the agent's life: a new
//! one finds them again and goes on.

mod adopt;
mod alloc;
mod api;
mod attach;
mod bus;
mod capacity;
mod core;
mod dns;
mod environment;
mod explain;
pub mod fleet;
mod flows;
mod health;
mod intent;
mod key;
mod launch;
mod limits;
mod lock;
mod memory;
mod metrics;
mod occupied;
mod paths;
mod peer;
mod policy;
mod pollable;
mod prompt;
mod publish;
mod random;
mod record;
mod refusal;
mod rights;
mod runtime;
#[doc(hidden)]
pub mod scale;
mod serve;
mod status;
mod store;
mod times;
mod zones;

pub use api::Members;
pub use dns::resolver_main;
pub use fleet::{CredentialsFailed, EnterError, JoinError, JoinOptions, control_address};
pub use lock::LockError;
pub use occupied::{Occupied, Stranger, strangers};
pub use paths::Paths;
pub use serve::{AgentOptions, DatapathSource, Error, serve};
pub use store::StoreError;
