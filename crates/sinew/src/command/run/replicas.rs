//! `sinew run --replicas N`: N children, each a `sinew run` of its own that becomes the command.

use std::{
    ffi::OsString,
    io::Write,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

use crate::{
    args::Run,
    command::signals::Signals,
    context::Context,
    error::{Error, STATUS_SINEW},
    render::{palette::Palette, style::Style},
};

/// The status of the first child that failed, else 0.
pub(super) async fn run(args: &Run, context: &Context) -> Result<u8, Error> {
    let mut signals = Signals::catch()?;
    let mut running = JoinSet::new();
    let mut groups = Vec::new();
    for _ in 0..args.replicas {
        match spawn(args, context) {
            Ok(child) => {
                groups.extend(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
                running.spawn(follow(child, args.service.to_string(), context.style));
            }
            Err(error) => {
                forward(&groups, Signal::TERM);
                while running.join_next().await.is_some() {}
                return Err(error);
            }
        }
    }
    let mut status = 0;
    loop {
        tokio::select! {
            signal = signals.next() => forward(&groups, signal),
            ended = running.join_next() => match ended {
                None => return Ok(status),
                Some(ended) if status == 0 => {
                    status = ended.ok().and_then(Result::ok).map_or(STATUS_SINEW, exit_status);
                }
                Some(_) => {}
            },
        }
    }
}

fn spawn(args: &Run, context: &Context) -> Result<Child, Error> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sinew").args(arguments(args, context));
    // A group of its own: Ctrl-C of the terminal reaches it once, through here.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: runs between fork and exec; prctl is a system call alone and touches no memory.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            Ok(())
        });
    }
    command.spawn().map_err(Error::system("start an instance"))
}

/// The words by which one child runs one instance.
fn arguments(args: &Run, context: &Context) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["--socket".into(), context.socket.clone().into()];
    words.extend(["run", "--announce", "--service", args.service.as_str()].map(Into::into));
    for spec in &args.port {
        words.extend(["--port".to_owned(), spec.to_string()].map(Into::into));
    }
    if args.exec.keep_privileges {
        words.push("--keep-privileges".into());
    }
    words.push("--".into());
    words.extend(args.exec.argv.iter().cloned());
    words
}

/// Prints what the child writes until it ends.
async fn follow(mut child: Child, service: String, style: Style) -> std::io::Result<ExitStatus> {
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        let mut stdout = BufReader::new(stdout);
        // Announced in the first line; there is none when it could not become a member.
        let mut announced = String::new();
        stdout.read_line(&mut announced).await?;
        let name = match announced.trim_end() {
            "" => service.clone(),
            replica => format!("{service}/{replica}"),
        };
        let tint = service.parse().map(|service| Palette::default().tint(&service));
        let prefix = tint.map_or(name.clone(), |tint| style.paint(tint, &format!("{name} |")));
        let (out, err) = tokio::join!(
            copy_lines(stdout, std::io::stdout(), &prefix),
            copy_lines(BufReader::new(stderr), std::io::stderr(), &prefix),
        );
        out.and(err)?;
    }
    child.wait().await
}

async fn copy_lines(
    mut from: impl AsyncBufRead + Unpin,
    mut to: impl Write,
    prefix: &str,
) -> std::io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        // One write, so that lines of different instances do not mix.
        let whole = [prefix.as_bytes(), b" ", text, b"\n"].concat();
        to.write_all(&whole)?;
        to.flush()?;
    }
}

fn forward(groups: &[Pid], signal: Signal) {
    for group in groups {
        // One that has ended needs no signal.
        let _ = kill_process_group(*group, signal);
    }
}

/// As a shell tells it.
fn exit_status(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(STATUS_SINEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(exit_status(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_status(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_status(ExitStatus::from_raw(9)), 137);
    }

    #[tokio::test]
    async fn every_line_gets_the_prefix() {
        let mut written = Vec::new();
        let from = BufReader::new(&b"one\n\xff\xfe\nlast"[..]);
        copy_lines(from, &mut written, "a/0 |").await.unwrap();
        assert_eq!(written, b"a/0 | one\na/0 | \xff\xfe\na/0 | last\n");
    }
}
