//! `sinew run` and `sinew exec`: this very process becomes a member, then the command. So terminal,
//! directory, signals and exit status are the command's own, with nothing to pass on.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use sinew_api::Attach;
use sinew_model::Privileges;
use sinew_workload::rights::{self, Rights};

use crate::{
    args::{Exec, Run},
    command::block_on,
    context::Context,
    error::Error,
};

mod replicas;

pub(super) fn run(args: Run, context: &Context) -> Result<u8, Error> {
    if args.replicas > 1 {
        return block_on(replicas::run(&args, context));
    }
    let attach = Attach {
        service: Some(args.service),
        ports: args.port.into_iter().map(|spec| spec.0).collect(),
        command: in_a_line(&args.exec.argv),
    };
    become_command(&attach, args.announce, &args.exec, context)
}

pub(super) fn exec(args: &Exec, context: &Context) -> Result<u8, Error> {
    let attach = Attach { service: None, ports: Vec::new(), command: in_a_line(&args.argv) };
    become_command(&attach, false, args, context)
}

/// Returns only when it failed.
fn become_command(
    attach: &Attach,
    announce: bool,
    exec: &Exec,
    context: &Context,
) -> Result<u8, Error> {
    let [program, arguments @ ..] = exec.argv.as_slice() else {
        return Err(Error::Usage {
            what: "there is no command to run".to_owned(),
            help: "put it behind --".to_owned(),
        });
    };
    let attached = block_on(async { Ok(context.client().await?.attach(attach).await?) })?;
    if announce {
        context.print_line(&attached.replica.to_string())?;
    }
    if !exec.keep_privileges {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let rights = Rights::resolve(None, None, own, &Privileges::default())?;
        rights::drop_rights(&rights.without(&[])?)?;
    }
    let source = Command::new(program).args(arguments).envs(attached.env).exec();
    Err(Error::Exec { program: program.to_string_lossy().into_owned(), source })
}

/// The command as `sinew ps` shows it.
fn in_a_line(argv: &[OsString]) -> String {
    argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
