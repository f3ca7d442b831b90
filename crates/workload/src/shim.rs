//! The process that looks after one workload: one thread, a few hundred kilobytes, no part of the
//! agent's life.
//!
//! Its memory is the directory it is given: `spec.json` says what to run, `state.json` what became
//! of it, `ctl.sock` takes requests, `lock` is held by the one shim that may act. A shim that finds a
//! state of its own order goes on with it: whoever starts shims may do so at any time.

use std::{path::Path, process::ExitCode};

use crate::{
    Errno,
    daemon::{Side, close_inherited, detach, enter_cgroup},
    process::{self, ProcessId},
    protocol::Greeting,
    spec::Order,
    status::Status,
};

mod control;
mod daemon;
mod life;
mod output;

use life::Life;

/// The main function of `sinew shim <dir>`.
///
/// Call it first in `main`, before any thread, runtime or file exists: it forks. The calling process
/// ends as soon as the shim is on its own; a [`Shims`](crate::Shims) reads from its standard output
/// whether the workload runs.
#[must_use]
pub fn shim_main(dir: &Path) -> ExitCode {
    let absolute = std::path::absolute(dir).map_err(failed("find the directory"));
    match absolute.and_then(|dir| work(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(greeting) => {
            daemon::greet(&greeting);
            ExitCode::FAILURE
        }
    }
}

fn work(dir: &Path) -> Result<(), Greeting> {
    let order = Order::read(dir).map_err(failed("read spec.json"))?;
    close_inherited();
    enter_cgroup(&order.shims)
        .map_err(|error| Greeting::Failed { step: error.to_string(), errno: Errno(libc::EPERM) })?;
    if detach(c"sinew-shim").map_err(failed("detach"))? == Side::Parent {
        return Ok(());
    }
    let signals = daemon::set_up_signals().map_err(failed("set up signals"))?;
    let _lock = daemon::lock(dir)?;
    // Read under the lock: the shim before us may have changed it.
    let order = Order::read(dir).map_err(failed("read spec.json"))?;
    let boot = process::boot_id().map_err(failed("read the boot id"))?;
    let shim = ProcessId::own().map_err(failed("read /proc/self/stat"))?;
    let known = Status::read(dir).map_err(failed("read state.json"))?;
    let known = known.filter(|status| status.order == order.id && status.boot == boot);
    let control = control::Control::bind(dir).map_err(failed("make ctl.sock"))?;
    let life = match known {
        Some(status) => Life::resume(dir, order, Status { shim, ..status }, control),
        None => Life::begin(dir, order, shim, boot, control),
    };
    life.run(&signals)
}

fn failed<E: Into<Errno>>(step: &str) -> impl FnOnce(E) -> Greeting {
    move |error| Greeting::Failed { step: step.to_owned(), errno: error.into() }
}
