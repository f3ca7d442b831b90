//! The control plane of many hosts.
//!
//! All that it must not lose lies in a [`store`]; a process of the control plane keeps nothing else,
//! so any number of them may run over one store. A [`registry`] [follows](follow) what all hosts
//! run, as the store tells it, and a [`session`] is the control plane's side of one agent. The
//! authority of the network, which says who is who, is [`identity`]. What one replica does for all is
//! its [`duty`]. All of that is pure or waits for the store; [`serve`] puts it on the network, and
//! [`admin`] lets people look and change.

pub mod admin;
pub mod duty;
pub mod follow;
pub mod identity;
pub mod networks;
pub mod placement;
pub mod records;
pub mod registry;
pub mod serve;
pub mod session;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
