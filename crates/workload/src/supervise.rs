//! The agent's side of a shim.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use sinew_model::{Restart, Stop};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::Command,
    time::timeout,
};

use crate::{
    Errno, LaunchError, cgroup,
    process::wall_ms,
    protocol::{Greeting, Message, Request},
    restart::Phase,
    spec::{LaunchSpec, Order},
    status::Status,
};

mod events;

pub use events::Event;
use events::Events;

/// How long a shim may take to answer. A start includes what the program's directory takes to be
/// entered, and on a loaded machine its turn on the processor.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one that is there already may take. It has nothing else to do: one that takes longer
/// is stopped, or stuck, and is replaced.
const ANSWER: Duration = Duration::from_secs(5);
/// A greeting is short; more comes from something that is not a shim.
const MAX_GREETING_BYTES: u64 = 64 << 10;
/// Looks at a shim that is neither there nor gone, for the time that one takes to come or go.
const LOOKS: u32 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How shims are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shims {
    /// The program that has [`shim_main`](crate::shim_main) behind `shim <dir>`.
    pub exe: PathBuf,
    /// The cgroup they live in, outside of those of workloads; made when missing.
    pub cgroup: PathBuf,
}

/// Why a workload cannot be supervised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first start of the program failed; nothing is left running.
    #[error("{name}: {source}")]
    NotLaunched {
        /// The workload.
        name: String,
        /// Why.
        source: LaunchError,
    },
    /// It is supervised already.
    #[error("{} is looked after by process {pid} already; reconnect to it", dir.display())]
    AlreadyRunning {
        /// Directory of the workload.
        dir: PathBuf,
        /// Its shim.
        pid: u32,
    },
    /// Nothing was ever started there.
    #[error("there is no workload in {}", dir.display())]
    NotThere {
        /// Directory of the workload.
        dir: PathBuf,
    },
    /// The workload has ended and stays down.
    #[error("the workload in {} has ended; start it again", dir.display())]
    Ended {
        /// Directory of the workload.
        dir: PathBuf,
    },
    /// A shim cannot work.
    #[error("the shim of {} cannot {step}: {errno}", dir.display())]
    Shim {
        /// Directory of the workload.
        dir: PathBuf,
        /// What it tried.
        step: String,
        /// Why not.
        errno: Errno,
    },
    /// A shim does not say what is expected.
    #[error("the shim of {} said {said:?}; is {} the sinew program?", dir.display(), exe.display())]
    Strange {
        /// Directory of the workload.
        dir: PathBuf,
        /// What was started as shim.
        exe: PathBuf,
        /// What it said.
        said: String,
    },
    /// A shim does not answer.
    #[error("the shim of {} does not answer", dir.display())]
    Silent {
        /// Directory of the workload.
        dir: PathBuf,
    },
    /// A shim refuses a request.
    #[error("the shim of {} refuses: {reason}", dir.display())]
    Refused {
        /// Directory of the workload.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// The cgroup of a shim.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Files of the workload.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

/// Starts a workload under a shim of its own, in a directory that is made when missing. The program
/// runs, or has run already, when this returns.
///
/// # Errors
/// [`Error::NotLaunched`] when the program cannot be started at all, as described; see there for others.
pub async fn start(shims: &Shims, dir: &Path, spec: &LaunchSpec) -> Result<Supervised, Error> {
    let made = tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).await;
    made.map_err(Error::file("create", dir))?;
    if let Ok(status) = request_status(dir).await {
        let pid = status.shim.pid;
        return Err(Error::AlreadyRunning { dir: dir.to_owned(), pid });
    }
    let order = Order { id: order_id(), shims: shims.cgroup.clone(), launch: spec.clone() };
    order.write(dir).map_err(Error::file("write spec.json in", dir))?;
    match spawn(shims, dir).await? {
        Greeting::Ready => connect(shims, dir, Events::from_start()).await,
        Greeting::Busy { pid } => Err(Error::AlreadyRunning { dir: dir.to_owned(), pid }),
        Greeting::NotLaunched { error } => {
            Err(Error::NotLaunched { name: spec.name.clone(), source: error })
        }
        Greeting::Failed { step, errno } => Err(Error::Shim { dir: dir.to_owned(), step, errno }),
    }
}

/// Takes up a workload that was started before, by this agent or an earlier one. A shim that died is
/// replaced by one that goes on with what it finds, and so is one that does not answer; the workload
/// does not notice. The first event tells where the workload stands.
///
/// # Errors
/// [`Error::NotThere`] and those of shims.
pub async fn reconnect(shims: &Shims, dir: &Path) -> Result<Supervised, Error> {
    let order = Order::read(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NotThere { dir: dir.to_owned() },
        _ => Error::file("read spec.json in", dir)(error),
    })?;
    for _ in 0..LOOKS {
        let here = Events::from_here();
        match timeout(ANSWER, Supervised::subscribe(shims, dir, here)).await {
            Ok(Ok(supervised)) => return Ok(supervised),
            Ok(Err(_)) => {}
            Err(_) => end_shim(shims).await?,
        }
        if let Some(status) = ended(dir, order.id) {
            return Ok(Supervised::ended(shims, dir, status, Events::from_here()));
        }
        match spawn(shims, dir).await? {
            // It has bound its socket, or it has found an end that was just written.
            Greeting::Ready => return connect(shims, dir, Events::from_here()).await,
            // One that has not bound its socket yet, or has closed it already.
            Greeting::Busy { .. } => tokio::time::sleep(LOOK_EVERY).await,
            Greeting::NotLaunched { error } => {
                let name = order.launch.name;
                return Err(Error::NotLaunched { name, source: error });
            }
            Greeting::Failed { step, errno } => {
                return Err(Error::Shim { dir: dir.to_owned(), step, errno });
            }
        }
    }
    Err(Error::Silent { dir: dir.to_owned() })
}

/// Ends a shim that holds its workload and does not answer.
async fn end_shim(shims: &Shims) -> Result<(), Error> {
    let cgroup = shims.cgroup.clone();
    let ended = tokio::task::spawn_blocking(move || cgroup::remove_all(&cgroup));
    match ended.await {
        Ok(ended) => Ok(ended?),
        Err(error) => Err(Error::file("end what is in", &shims.cgroup)(error.into())),
    }
}

/// A workload under the eyes of its shim.
#[derive(Debug)]
pub struct Supervised {
    shims: Shims,
    dir: PathBuf,
    /// `None` once the shim has ended.
    lines: Option<BufReader<UnixStream>>,
    line: Vec<u8>,
    status: Status,
    events: Events,
}

impl Supervised {
    async fn subscribe(shims: &Shims, dir: &Path, events: Events) -> Result<Self, Error> {
        let (lines, message) = ask(dir, &Request::Subscribe).await?;
        let Message::Status { status } = message else { return Err(strange(dir, &message)) };
        let mut this = Self::ended(shims, dir, *status, events);
        this.lines = Some(lines);
        Ok(this)
    }

    fn ended(shims: &Shims, dir: &Path, status: Status, mut events: Events) -> Self {
        events.take_in(&status);
        let (shims, dir) = (shims.clone(), dir.to_owned());
        Self { shims, dir, lines: None, line: Vec::new(), status, events }
    }

    /// What was last heard.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What happened next; waits until something does. After [`Event::Ended`] and [`Event::Lost`]
    /// nothing does any more. May be dropped at any time: nothing is missed.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.next() {
                return event;
            }
            if self.events.is_over() {
                std::future::pending::<()>().await;
            }
            match self.read_status().await {
                Some(status) => self.take_in(status),
                None => self.find_again().await,
            }
        }
    }

    fn take_in(&mut self, status: Status) {
        self.events.take_in(&status);
        self.status = status;
    }

    async fn read_status(&mut self) -> Option<Status> {
        let lines = self.lines.as_mut()?;
        // What a dropped call has read stays in the buffer.
        let read = lines.read_until(b'\n', &mut self.line).await;
        let line = std::mem::take(&mut self.line);
        read.ok().filter(|length| *length > 0)?;
        match serde_json::from_slice(&line).ok()? {
            Message::Status { status } => Some(*status),
            Message::Accepted | Message::Refused { .. } => None,
        }
    }

    /// The shim has ended with its workload, or let go of us, or died.
    async fn find_again(&mut self) {
        self.lines = None;
        let order = self.status.order;
        for _ in 0..2 {
            if let Some(status) = ended(&self.dir, order) {
                return self.take_in(status);
            }
            if let Ok((lines, Message::Status { status })) =
                ask(&self.dir, &Request::Subscribe).await
                && status.order == order
            {
                self.lines = Some(lines);
                return self.take_in(*status);
            }
            // It may have ended between the two looks.
        }
        self.events.lose();
    }

    /// Sends the stop signal, waits for the grace and kills what is left; the workload stays down.
    /// Returns when the shim has taken that on.
    ///
    /// # Errors
    /// When the workload has ended, or the shim does not answer.
    pub async fn stop(&self) -> Result<(), Error> {
        self.request(&Request::Stop).await
    }

    /// Kills every process of the workload, which stays down.
    ///
    /// # Errors
    /// As of [`Supervised::stop`].
    pub async fn kill(&self) -> Result<(), Error> {
        self.request(&Request::Kill).await
    }

    /// Stops the workload and starts it again.
    ///
    /// # Errors
    /// As of [`Supervised::stop`].
    pub async fn restart(&self) -> Result<(), Error> {
        self.request(&Request::Restart).await
    }

    /// Changes what follows its next exit and how it is stopped, without touching it now.
    ///
    /// # Errors
    /// As of [`Supervised::stop`], and when there is no such signal.
    pub async fn update_policy(&self, restart: Restart, stop: Stop) -> Result<(), Error> {
        self.request(&Request::UpdatePolicy { restart, stop }).await
    }

    /// How its shim is started.
    #[must_use]
    pub fn shims(&self) -> &Shims {
        &self.shims
    }

    async fn request(&self, request: &Request) -> Result<(), Error> {
        let dir = self.dir.clone();
        match ask(&self.dir, request).await {
            Ok((_, Message::Accepted)) => Ok(()),
            Ok((_, Message::Refused { reason })) => Err(Error::Refused { dir, reason }),
            Ok((_, message)) => Err(strange(&dir, &message)),
            Err(_) if ended(&self.dir, self.status.order).is_some() => Err(Error::Ended { dir }),
            Err(error) => Err(error),
        }
    }
}

/// The last status of a workload whose shim has done all there was to do.
fn ended(dir: &Path, order: u64) -> Option<Status> {
    let status = Status::read(dir).ok().flatten()?;
    (status.order == order && matches!(status.phase(), Phase::Down { .. })).then_some(status)
}

async fn connect(shims: &Shims, dir: &Path, events: Events) -> Result<Supervised, Error> {
    let order = Order::read(dir).map_err(Error::file("read spec.json in", dir))?.id;
    match Supervised::subscribe(shims, dir, events.clone()).await {
        Err(error) => {
            let status = ended(dir, order).ok_or(error)?;
            Ok(Supervised::ended(shims, dir, status, events))
        }
        supervised => supervised,
    }
}

async fn request_status(dir: &Path) -> Result<Status, Error> {
    match ask(dir, &Request::Status).await? {
        (_, Message::Status { status }) => Ok(*status),
        (_, message) => Err(strange(dir, &message)),
    }
}

fn strange(dir: &Path, message: &Message) -> Error {
    Error::Refused { dir: dir.to_owned(), reason: format!("it answered {message:?}") }
}

/// One request and its answer, on a connection of their own.
async fn ask(dir: &Path, request: &Request) -> Result<(BufReader<UnixStream>, Message), Error> {
    let socket = dir.join("ctl.sock");
    let talk = async {
        let mut stream = BufReader::new(UnixStream::connect(&socket).await?);
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        line.clear();
        stream.read_until(b'\n', &mut line).await?;
        let message = serde_json::from_slice(&line)?;
        Ok((stream, message))
    };
    match timeout(PATIENCE, talk).await {
        Ok(answer) => answer.map_err(Error::file("talk to", &socket)),
        Err(_) => Err(Error::Silent { dir: dir.to_owned() }),
    }
}

/// Starts a shim and hears how it went. The process that is our child ends at once; the shim is
/// nobody's.
async fn spawn(shims: &Shims, dir: &Path) -> Result<Greeting, Error> {
    let mut command = Command::new(&shims.exe);
    command.arg("shim").arg(dir).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(Error::file("start", &shims.exe))?;
    let mut said = Vec::new();
    let hear = async {
        let Some(stdout) = child.stdout.take() else { return Ok(()) };
        BufReader::new(stdout).take(MAX_GREETING_BYTES).read_until(b'\n', &mut said).await?;
        child.wait().await.map(drop)
    };
    match timeout(PATIENCE, hear).await {
        Ok(heard) => heard.map_err(Error::file("start", &shims.exe))?,
        Err(_) => return Err(Error::Silent { dir: dir.to_owned() }),
    }
    serde_json::from_slice(&said).map_err(|_| Error::Strange {
        dir: dir.to_owned(),
        exe: shims.exe.clone(),
        said: String::from_utf8_lossy(&said).trim_end().to_owned(),
    })
}

fn order_id() -> u64 {
    let mut bytes = [0; 8];
    let flags = rustix::rand::GetRandomFlags::empty();
    match rustix::rand::getrandom(&mut bytes, flags) {
        Ok(_) => u64::from_ne_bytes(bytes),
        // The clock tells orders apart as well, if less surely.
        Err(_) => wall_ms(),
    }
}
