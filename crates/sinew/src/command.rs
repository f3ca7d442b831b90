//! One module a subcommand. Each takes its arguments and a [`Context`], and prints.

use std::{io::Write as _, process::ExitCode};

use tokio::runtime;

use crate::{
    args::{Cli, Command},
    context::Context,
    error::Error,
};

mod actions;
mod adopt;
mod agent;
mod change;
mod completions;
mod control;
mod doctor;
mod down;
mod explain;
mod flows;
mod last_words;
mod leave;
mod list;
mod logs;
mod nodes;
mod plan;
mod printer;
mod run;
mod signals;
mod status;
mod token;
mod top;
mod up;

pub(crate) use agent::log_of_helper;

/// Runs the subcommand and tells how it ended.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let context = Context::new(&cli.global);
    let is_run = matches!(cli.command, Command::Run(_) | Command::Exec(_));
    match dispatch(cli.command, &context) {
        Ok(status) => ExitCode::from(status),
        Err(error) if error.is_closed_output() => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = std::io::stderr().write_all(error.report(context.error_style).as_bytes());
            ExitCode::from(if is_run { error.run_exit_status() } else { error.exit_status() })
        }
    }
}

/// Runs the subcommand; 0, unless it is the status of a command that it ran.
fn dispatch(command: Command, context: &Context) -> Result<u8, Error> {
    match command {
        Command::Run(run) => return run::run(run, context),
        Command::Exec(exec) => return run::exec(&exec, context),
        Command::Agent(agent) => agent::agent(*agent, context)?,
        Command::Leave(leave) => block_on(leave::leave(&leave, context))?,
        Command::Control(control) => control::control(*control, context)?,
        Command::Token(token) => block_on(token::token(&token, context))?,
        Command::Nodes(nodes) => block_on(nodes::nodes(&nodes, context))?,
        Command::History(history) => block_on(actions::history(&history, context))?,
        Command::Rollback(rollback) => block_on(actions::rollback(&rollback, context))?,
        Command::Pause(pause) => block_on(actions::pause(&pause, context))?,
        Command::Resume(resume) => block_on(actions::resume(&resume, context))?,
        Command::Evacuate(evacuate) => block_on(actions::evacuate(&evacuate, context))?,
        Command::Return(zone) => block_on(actions::bring_back(&zone, context))?,
        Command::Place(place) => block_on(actions::place(&place, context))?,
        Command::Unplace(unplace) => block_on(actions::unplace(&unplace, context))?,
        Command::Placement => block_on(actions::placement(context))?,
        Command::Limits(limits) => block_on(actions::limits(&limits, context))?,
        Command::Doctor => doctor::doctor(context)?,
        Command::Completions(completions) => completions::completions(&completions, context)?,
        Command::Up(up) => block_on(up::up(&up, context))?,
        Command::Plan(file) => block_on(plan::plan(&file, context))?,
        Command::Down(down) => block_on(down::down(&down, context))?,
        Command::Adopt(adopt) => block_on(adopt::adopt(&adopt, context))?,
        Command::Release(release) => block_on(adopt::release(&release, context))?,
        Command::Ps => block_on(list::ps(context))?,
        Command::Services(services) => block_on(list::services(&services, context))?,
        Command::Status => block_on(status::status(context))?,
        Command::Logs(logs) => block_on(logs::logs(&logs, context))?,
        Command::Explain(explain) => block_on(explain::explain(&explain, context))?,
        Command::Flows(flows) => block_on(flows::flows(&flows, context))?,
        Command::Top(top) => block_on(top::top(&top, context))?,
        Command::Scale(scale) => block_on(change::scale(&scale, context))?,
        Command::Drain(drain) => block_on(change::drain(&drain, context))?,
        Command::Restart(restart) => block_on(change::restart(&restart, context))?,
    }
    Ok(0)
}

/// Runs `task` on this thread alone: the process can become another one afterwards.
fn block_on<T>(task: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::system("start the runtime"))?;
    runtime.block_on(task)
}
