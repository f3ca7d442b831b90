//! A network namespace and a host's name, kept by a process that does nothing else.

use std::{
    fs::{self, File},
    io::Write as _,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::{
    process::{Signal, set_parent_process_death_signal, setsid},
    system::sethostname,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use crate::Error;

pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Makes one whose holder lies in `cgroup`.
    pub(crate) fn new(name: &str, cgroup: &Path) -> Result<Self, Error> {
        fs::create_dir_all(cgroup).map_err(|e| Error::io("make", cgroup, e))?;
        let processes = cgroup.join("cgroup.procs");
        let name = name.to_owned();
        let mut command = Command::new("sleep");
        command.arg("infinity").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: system calls and a write between fork and exec; the child has one thread, and the
        // path was made before.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                fs::OpenOptions::new().write(true).open(&processes)?.write_all(b"0")?;
                unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWUTS)?;
                Ok(sethostname(name.as_bytes())?)
            });
        }
        let holder = command.spawn().map_err(|e| Error::io("start", Path::new("sleep"), e))?;
        let namespace = Self { holder };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    pub(crate) fn file(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid()))
    }

    /// The file of the namespace of the host's name.
    pub(crate) fn name_file(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/uts", self.pid()))
    }

    /// A command that runs in it and in a cgroup, in a session of its own.
    pub(crate) fn command(&self, program: &str, cgroup: &Path) -> Result<Command, Error> {
        let open = |path: PathBuf| File::open(&path).map_err(|e| Error::io("open", &path, e));
        let (network, name) = (open(self.file())?, open(self.name_file())?);
        let processes = cgroup.join("cgroup.procs");
        let mut command = Command::new(program);
        // SAFETY: system calls and a write between fork and exec; the path was made before.
        unsafe {
            command.pre_exec(move || {
                setsid()?;
                fs::OpenOptions::new().write(true).open(&processes)?.write_all(b"0")?;
                let of_name = LinkNameSpaceType::HostNameAndNISDomainName;
                move_into_link_name_space(name.as_fd(), Some(of_name))?;
                Ok(move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?)
            });
        }
        Ok(command)
    }

    /// Runs `ip` in it.
    pub(crate) fn ip(&self, arguments: &str) -> Result<(), Error> {
        self.run("ip", arguments)
    }

    /// Runs a tool in it until it ends.
    pub(crate) fn run(&self, tool: &str, arguments: &str) -> Result<(), Error> {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.file().display()))
            .arg(tool)
            .args(arguments.split(' '))
            .output()
            .map_err(|e| Error::io("start", Path::new(tool), e))?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Tool { command: format!("{tool} {arguments}"), status: output.status, told })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
