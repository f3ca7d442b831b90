//! The rules as tower layers.
//!
//! [`GuardLayer`] puts a rate, a limit and a breaker before a service; [`RetryLayer`] tries again
//! what failed. Both take the rules themselves in an `Arc`, so that several services can share
//! them and others can look at them.
//!
//! ```
//! use std::sync::Arc;
//! use sinew_resilience::{Clock, Invalid, breaker::{Breaker, Settings}, limit::Bulkhead};
//! use sinew_resilience::tower::{GuardLayer, Verdict};
//!
//! # struct Response;
//! # impl Response { fn is_server_error(&self) -> bool { false } }
//! # fn layer() -> Result<(), Invalid> {
//! let breaker = Arc::new(Breaker::new(Settings::default())?);
//! let layer = GuardLayer::new(Clock::start(), |answer: Result<&Response, &std::io::Error>| {
//!     match answer {
//!         Ok(response) if !response.is_server_error() => Verdict::Success,
//!         _ => Verdict::Failure,
//!     }
//! })
//! .breaker(breaker)
//! .bulkhead(Arc::new(Bulkhead::new(100)));
//! # drop(layer); Ok(())
//! # }
//! # layer().unwrap();
//! ```

mod guard;
mod retry;
#[cfg(all(test, not(loom)))]
mod tests;

pub use guard::{Guard, GuardError, GuardFuture, GuardLayer, Verdict};
pub use retry::{Retry, RetryError, RetryFuture, RetryLayer, Sleep, Try};
