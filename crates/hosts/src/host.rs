use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, namespace::Namespace};

/// One host.
pub struct Host {
    number: u8,
    namespace: Namespace,
    /// Of everything that runs on it.
    cgroup: PathBuf,
    files: PathBuf,
    pins: PathBuf,
}

impl Host {
    pub(crate) fn new(
        number: u8,
        cgroup: &Path,
        files: &Path,
        pins: &Path,
        switch: &Namespace,
    ) -> Result<Self, Error> {
        let name = format!("h{number}");
        let namespace = Namespace::new(&name, &cgroup.join(format!("{name}-network")))?;
        let [cgroup, files, pins] = [cgroup, files, pins].map(|of| of.join(&name));
        let host = Self { number, namespace, cgroup, files, pins };
        for directory in [host.programs(), host.files.clone()] {
            fs::create_dir_all(&directory).map_err(|e| Error::io("make", &directory, e))?;
        }
        let (port, peer) = (host.port(), host.namespace.pid());
        let link = host.link_address();
        switch
            .ip(&format!("link add {port} type veth peer name eth0 address {link} netns {peer}"))?;
        switch.ip(&format!("link set {port} master bridge0 up"))?;
        let (four, six) = (host.address(), host.address6());
        host.ip(&format!("address add {four}/24 dev eth0"))?;
        // Nobody else can have it: it need not be asked for.
        host.ip(&format!("address add {six}/64 dev eth0 nodad"))?;
        host.ip("link set eth0 up")?;
        Ok(host)
    }

    /// `h1` and so on.
    pub fn name(&self) -> String {
        format!("h{}", self.number)
    }

    /// Its number, from 1 on.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Where the others reach it over IPv4.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 64, 0, self.number)
    }

    /// Where the others reach it over IPv6.
    pub fn address6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.address().into(), self.address6().into()]
    }

    /// Locally administered, so that it can be told beforehand.
    pub(crate) fn link_address(&self) -> String {
        format!("02:00:00:00:01:{:02x}", self.number)
    }

    /// Its port of the bridge.
    pub(crate) fn port(&self) -> String {
        format!("port{}", self.number)
    }

    /// A directory of its own.
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// The file of the namespace of its name.
    pub(crate) fn name_file(&self) -> PathBuf {
        self.namespace.name_file()
    }

    /// The file of its network namespace.
    pub fn network(&self) -> PathBuf {
        self.namespace.file()
    }

    /// The cgroup of everything that runs on it.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Where programs are started.
    pub(crate) fn programs(&self) -> PathBuf {
        self.cgroup.join("programs")
    }

    /// Where a Sinew on it keeps what it has.
    pub fn environment(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("SINEW_RUN", self.files.join("run")),
            ("SINEW_STATE", self.files.join("state")),
            ("SINEW_PINS", self.pins.clone()),
            ("SINEW_CGROUP", self.cgroup.join("sinew")),
        ]
    }

    /// A command that runs on it, in a session of its own.
    ///
    /// # Errors
    /// When the host is gone.
    pub fn command(&self, program: &str) -> Result<Command, Error> {
        let mut command = self.namespace.command(program, &self.programs())?;
        command.envs(self.environment()).env("SINEW_HOST", self.name()).current_dir(&self.files);
        Ok(command)
    }

    /// Runs `ip` on it.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> Result<(), Error> {
        self.namespace.ip(arguments)
    }

    /// Stops all that runs on it, as a machine that has no time for it; packets still reach it.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn pause(&self) -> Result<(), Error> {
        self.tell("cgroup.freeze", "1")
    }

    /// Ends [`pause`](Self::pause).
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn resume(&self) -> Result<(), Error> {
        self.tell("cgroup.freeze", "0")
    }

    /// Kills everything that runs on it (-9). The host itself stays, with its files.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn kill(&self) -> Result<(), Error> {
        self.tell("cgroup.kill", "1")
    }

    fn tell(&self, file: &str, word: &str) -> Result<(), Error> {
        let path = self.cgroup.join(file);
        fs::write(&path, word).map_err(|e| Error::io("write", &path, e))
    }
}
