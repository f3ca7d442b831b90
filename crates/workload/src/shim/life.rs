//! A workload's life: carries out what the state machine says, and tells it what happened.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    control::Control,
    daemon,
    output::{Look, Output},
};
use crate::{
    LaunchError, cgroup,
    launch::{Gate, Prepared, Program, Report, open_log},
    process::{self, ProcessId, since_boot, wall_ms},
    protocol::{Greeting, Message, Request},
    restart::{Action, Input, Machine, Phase},
    signal,
    spec::Order,
    status::{Exit, ExitRecord, Run, Status},
};

/// How long after a SIGTERM nothing is started: a machine that goes down ends workloads with it, and
/// one that came back would be killed without grace.
const HOLD: Duration = Duration::from_secs(15);

/// How long an ended process may wait for its parent before its status is given up.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
const STATUS_RETRY: Duration = Duration::from_millis(20);

pub(super) struct Life {
    dir: PathBuf,
    order: Order,
    status: Status,
    /// What `state.json` holds.
    written: Option<Status>,
    child: Option<Child>,
    watch: Option<cgroup::Watch>,
    output: Option<Output>,
    control: Control,
    /// Whether who started us still waits for word.
    greeting_due: bool,
    /// Whether a failing start ends the shim: the first one of an order.
    first: bool,
}

struct Child {
    run: Run,
    pidfd: OwnedFd,
    /// Until it has become the program.
    starting: Option<(Prepared, Gate)>,
    /// Whether its end is recorded already.
    recorded: bool,
    oom_kills_before: u64,
    /// When its end was seen, if its status could not be read then.
    ended_at: Option<Duration>,
}

/// What a poll found.
struct Ready {
    report: bool,
    exit: bool,
    signal: bool,
}

impl Life {
    /// A life that begins: an earlier order's processes are cleared away first.
    pub(super) fn begin(
        dir: &Path,
        order: Order,
        shim: ProcessId,
        boot: String,
        control: Control,
    ) -> Self {
        let (machine, action) = Machine::new(order.launch.policy());
        let status = Status {
            order: order.id,
            boot,
            shim,
            machine,
            run: None,
            runs: 0,
            ends: 0,
            exits: VecDeque::new(),
            log_dropped_bytes: 0,
            log_unbounded: None,
        };
        let mut life = Self::new(dir, order, status, control, true);
        life.perform(Some(action));
        life
    }

    /// A life that goes on: its process is taken over, if it still runs.
    pub(super) fn resume(dir: &Path, order: Order, status: Status, control: Control) -> Self {
        let mut life = Self::new(dir, order, status, control, false);
        if life.adopt() {
            life.step(Input::Launched);
            return life;
        }
        if !matches!(life.status.phase(), Phase::Stopping { .. }) {
            // Whatever is there was left behind, or never recorded and so never became the program.
            life.kill_all();
        }
        if let Some(run) = life.status.run.take() {
            life.record(Some(run), Exit::Unknown, 0);
            life.step(Input::Exited { failure: true });
        } else if life.status.phase() == Phase::Launching {
            life.step(Input::Exited { failure: true });
        }
        life
    }

    fn new(dir: &Path, order: Order, status: Status, control: Control, first: bool) -> Self {
        Self {
            dir: dir.to_owned(),
            order,
            status,
            written: None,
            child: None,
            watch: None,
            output: None,
            control,
            greeting_due: true,
            first,
        }
    }

    fn adopt(&mut self) -> bool {
        let Some(run) = self.status.run else { return false };
        let Some(pidfd) = run.process.open() else { return false };
        self.child = Some(Child {
            run,
            pidfd,
            starting: None,
            recorded: false,
            oom_kills_before: cgroup::oom_kills(self.cgroup()),
            ended_at: None,
        });
        if let Ok(log) = open_log(&self.order.launch.log, self.owner_of_log()) {
            self.follow_output(log);
        }
        true
    }

    /// As the launch found it; the accounts may have changed since.
    fn owner_of_log(&self) -> u32 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&self.order.launch.log).map_or(0, |metadata| metadata.uid())
    }

    /// Lives until nothing is left to do.
    pub(super) fn run(mut self, signals: &OwnedFd) -> Result<(), Greeting> {
        loop {
            self.settle();
            self.publish();
            self.greet();
            if matches!(self.status.phase(), Phase::Down { .. }) {
                return Ok(());
            }
            let ready = self.wait(signals);
            self.dispatch(&ready, signals);
        }
    }

    /// Tells the machine when its cgroup is empty.
    fn settle(&mut self) {
        while self.child.is_none()
            && matches!(self.status.phase(), Phase::Clearing { .. } | Phase::Stopping { .. })
            && !self.is_populated()
        {
            // What health checks of a dead agent left.
            let _ = cgroup::remove_below(self.cgroup());
            self.watch = None;
            self.step(Input::Empty);
        }
    }

    fn is_populated(&mut self) -> bool {
        if self.watch.is_none() {
            self.watch = cgroup::Watch::new(self.cgroup()).ok();
        }
        self.watch.as_mut().is_some_and(cgroup::Watch::is_populated)
    }

    /// Stores a change before anybody hears of it.
    fn publish(&mut self) {
        if self.written.as_ref() == Some(&self.status) {
            return;
        }
        // A full disk must not take the supervisor from a workload that runs. The next change is
        // written again; and nothing is started that could not be written down.
        if self.status.write(&self.dir).is_ok() {
            self.written = Some(self.status.clone());
        }
        self.control.publish(&self.status);
    }

    fn greet(&mut self) {
        let greeting = match (self.status.phase(), self.status.last_exit()) {
            (Phase::Clearing { .. } | Phase::Launching, _) if self.first => return,
            (Phase::Down { .. }, Some(ExitRecord { exit: Exit::NotLaunched { error }, .. }))
                if self.first =>
            {
                Greeting::NotLaunched { error: error.clone() }
            }
            _ => Greeting::Ready,
        };
        self.first = false;
        if std::mem::take(&mut self.greeting_due) {
            daemon::greet(&greeting);
        }
    }

    fn wait(&self, signals: &OwnedFd) -> Ready {
        let place = signals.as_fd();
        let child = self.child.as_ref();
        let starting = child.and_then(|child| child.starting.as_ref());
        // A process that has ended but whose status is not there yet would be ready all the time.
        let exit = if self.is_status_late() { PollFlags::empty() } else { PollFlags::IN };
        let own = [
            interest(starting.map(|(_, gate)| gate.as_fd()), PollFlags::IN, place),
            interest(child.map(|child| child.pidfd.as_fd()), exit, place),
            (signals.as_fd(), PollFlags::IN),
            interest(self.watch.as_ref().map(AsFd::as_fd), PollFlags::PRI, place),
        ];
        let all = own.into_iter().chain(self.control.interests());
        let mut fds: Vec<PollFd<'_>> =
            all.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        let timeout = self.deadline().map(|at| at.saturating_sub(since_boot()));
        // Up to the next whole millisecond: waking too early means waking twice.
        let timeout = timeout.map(|left| left + Duration::from_millis(1));
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        let polled = poll(&mut fds, timeout.as_ref());
        let is = |index: usize| {
            polled.is_ok() && fds.get(index).is_some_and(|fd| !fd.revents().is_empty())
        };
        Ready {
            report: starting.is_some() && is(0),
            exit: child.is_some() && (is(1) || self.is_status_late()),
            signal: is(2),
        }
    }

    fn is_status_late(&self) -> bool {
        self.child.as_ref().is_some_and(|child| child.ended_at.is_some())
    }

    fn deadline(&self) -> Option<Duration> {
        let machine = self.status.machine.deadline();
        let output = self.output.as_ref().map(Output::deadline);
        let retry = self.is_status_late().then(|| since_boot() + STATUS_RETRY);
        [machine, output, retry].into_iter().flatten().min()
    }

    fn dispatch(&mut self, ready: &Ready, signals: &OwnedFd) {
        // In this order: what a process reports comes before its end.
        if ready.report {
            self.hear_report();
        }
        if ready.exit {
            self.see_exit();
        }
        if ready.signal && take_signal(signals) {
            self.step(Input::Hold(since_boot() + HOLD));
        }
        self.bound_output();
        self.step(Input::Tick);
        self.serve();
    }

    fn serve(&mut self) {
        let mut requests = Vec::new();
        let status = &self.status;
        // Requests are carried out after the clients have been gone through, in their order.
        self.control.serve(|request| {
            let answer = answer(request, status);
            if answer == Message::Accepted {
                requests.push(request.clone());
            }
            answer
        });
        for request in requests {
            self.carry_out(request);
        }
    }

    fn carry_out(&mut self, request: Request) {
        match request {
            Request::Status | Request::Subscribe => {}
            Request::Stop => self.step(Input::Stop),
            Request::Kill => self.step(Input::Kill),
            Request::Restart => self.step(Input::Restart),
            Request::UpdatePolicy { restart, stop } => {
                self.order.launch.restart = restart;
                self.order.launch.stop = stop;
                // Lost when the disk is full and this shim is killed: then the old policy holds.
                let _ = self.order.write(&self.dir);
                self.status.machine.set_policy(self.order.launch.policy());
            }
        }
    }

    fn step(&mut self, input: Input) {
        let action = self.status.machine.step(since_boot(), random(), input);
        self.perform(action);
    }

    fn perform(&mut self, action: Option<Action>) {
        match action {
            None => {}
            Some(Action::Launch) => self.launch(),
            Some(Action::Signal) => self.signal_child(),
            Some(Action::SignalRest) => self.signal_rest(),
            Some(Action::KillAll) => self.kill_all(),
        }
    }

    fn launch(&mut self) {
        if let Err(error) = self.try_launch() {
            // A process held back ends now; it is waited for like any other.
            if let Some(child) = &mut self.child {
                child.starting = None;
                child.recorded = true;
            }
            let run = self.child.as_ref().map(|child| child.run);
            self.not_launched(run, error);
        }
    }

    fn try_launch(&mut self) -> Result<(), LaunchError> {
        let prepared = self.prepare()?;
        let oom_kills_before = cgroup::oom_kills(self.cgroup());
        let spawned = prepared.spawn()?;
        // It is our child, so the number is its own until we wait for it.
        let process = ProcessId::of(spawned.pid);
        let process = process.map_err(LaunchError::refused("read its start time"))?;
        let run = Run { number: self.status.runs + 1, process, started_at_ms: wall_ms() };
        self.status.runs = run.number;
        self.status.run = Some(run);
        let child = self.child.insert(Child {
            run,
            pidfd: spawned.pidfd,
            starting: Some((prepared, spawned.gate)),
            recorded: false,
            oom_kills_before,
            ended_at: None,
        });
        // Written down before it becomes the program: a shim killed in between is followed by one
        // that knows of it, and a process that was not written down ends by itself.
        let stored = self.status.write(&self.dir);
        stored.map_err(LaunchError::refused("write state.json"))?;
        self.written = Some(self.status.clone());
        if let Some((_, gate)) = &child.starting {
            gate.open();
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<Prepared, LaunchError> {
        let spec = &self.order.launch;
        let rights = spec.rights()?;
        if signal::number(&spec.stop.signal).is_none() {
            return Err(LaunchError::NoSignal { name: spec.stop.signal.clone() });
        }
        cgroup::create(&spec.cgroup)?;
        cgroup::apply_limits(&spec.cgroup, &spec.limits)?;
        // Not one descriptor shared with the program: it may change the flags of its own.
        let log = open_log(&spec.log, rights.uid)?;
        let prepared = Prepared::new(Program {
            argv: &spec.argv,
            env: &spec.env,
            working_dir: &spec.working_dir,
            rights: &rights,
            cgroup: &spec.cgroup,
            mirrors_of: &spec.cgroup,
            output: open_log(&spec.log, rights.uid)?,
        })?;
        self.follow_output(log);
        Ok(prepared)
    }

    fn hear_report(&mut self) {
        let Some(child) = &mut self.child else { return };
        let Some((prepared, gate)) = &child.starting else { return };
        match prepared.report(gate) {
            Report::Pending => {}
            Report::Launched => {
                child.starting = None;
                self.step(Input::Launched);
            }
            Report::Failed(error) => {
                child.starting = None;
                child.recorded = true;
                let run = child.run;
                self.not_launched(Some(run), error);
            }
        }
    }

    fn not_launched(&mut self, run: Option<Run>, error: LaunchError) {
        self.record(run, Exit::NotLaunched { error }, 0);
        self.step(Input::NotLaunched { fatal: self.first });
    }

    fn see_exit(&mut self) {
        let now = since_boot();
        let Some(child) = &mut self.child else { return };
        let ended_at = *child.ended_at.get_or_insert(now);
        let exit = match process::exit_of(child.pidfd.as_fd(), child.run.process) {
            Some(exit) => exit,
            None if now < ended_at + STATUS_PATIENCE => return,
            None => Exit::Unknown,
        };
        // It may have ended before it was heard of.
        self.hear_report();
        let Some(child) = self.child.take() else { return };
        self.status.run = None;
        if child.recorded {
            return;
        }
        let failure = exit.is_failure();
        self.record(Some(child.run), exit, child.oom_kills_before);
        self.step(Input::Exited { failure });
    }

    fn record(&mut self, run: Option<Run>, exit: Exit, oom_kills_before: u64) {
        let left_behind = match &exit {
            Exit::NotLaunched { .. } => 0,
            _ => cgroup::own_processes(self.cgroup()),
        };
        let out_of_memory = matches!(exit, Exit::Code { .. } | Exit::Signal { .. })
            && cgroup::oom_kills(self.cgroup()) > oom_kills_before;
        self.status.remember(ExitRecord {
            run,
            exit,
            at_ms: wall_ms(),
            out_of_memory,
            left_behind,
        });
    }

    fn signal_child(&self) {
        let Some(child) = &self.child else { return };
        send_stop(child.pidfd.as_fd(), self.stop_signal());
    }

    /// The children of a program that died of its stop signal, as a shell does, get the signal too,
    /// and what is left of the grace.
    fn signal_rest(&self) {
        let listed = cgroup::processes(self.cgroup()).unwrap_or_default();
        let handles: Vec<(u32, OwnedFd)> = listed
            .into_iter()
            .filter_map(|pid| Some((pid, ProcessId::of(pid).ok()?.open()?)))
            .collect();
        // With a handle at hand the number is not reused: who is listed still is who is meant.
        let still = cgroup::processes(self.cgroup()).unwrap_or_default();
        for (_, handle) in handles.iter().filter(|(pid, _)| still.contains(pid)) {
            send_stop(handle.as_fd(), self.stop_signal());
        }
    }

    fn kill_all(&self) {
        // A cgroup that cannot be killed keeps its processes, and nothing is started in it.
        let _ = cgroup::kill(self.cgroup());
    }

    fn stop_signal(&self) -> i32 {
        signal::number(&self.order.launch.stop.signal).unwrap_or(libc::SIGTERM)
    }

    fn follow_output(&mut self, log: OwnedFd) {
        self.output = Some(Output::new(log, self.order.launch.log_limit_bytes, since_boot()));
    }

    fn bound_output(&mut self) {
        let Some(output) = &mut self.output else { return };
        let now = since_boot();
        if now < output.deadline() {
            return;
        }
        match output.look(now) {
            Ok(Look::Within) => {}
            Ok(Look::Dropped(end)) => self.status.log_dropped_bytes = end,
            Ok(Look::Unbounded(errno)) | Err(errno) => {
                self.status.log_unbounded = Some(crate::Errno::from(errno).to_string());
                self.output = None;
            }
        }
    }

    fn cgroup(&self) -> &Path {
        &self.order.launch.cgroup
    }
}

/// What to poll for: a file, or nothing in its place.
fn interest<'a>(
    fd: Option<BorrowedFd<'a>>,
    flags: PollFlags,
    place: BorrowedFd<'a>,
) -> (BorrowedFd<'a>, PollFlags) {
    fd.map_or((place, PollFlags::empty()), |fd| (fd, flags))
}

fn answer(request: &Request, status: &Status) -> Message {
    match request {
        Request::Status | Request::Subscribe => {
            Message::Status { status: Box::new(status.clone()) }
        }
        Request::UpdatePolicy { stop, .. } if signal::number(&stop.signal).is_none() => {
            let reason = LaunchError::NoSignal { name: stop.signal.clone() }.to_string();
            Message::Refused { reason }
        }
        _ if matches!(status.phase(), Phase::Down { .. }) => {
            Message::Refused { reason: "the workload is down; start it again".to_owned() }
        }
        _ => Message::Accepted,
    }
}

/// A stopped process must run to act on a signal.
fn send_stop(pidfd: BorrowedFd<'_>, signal: i32) {
    for signal in [signal, libc::SIGCONT] {
        // SAFETY: a null pointer asks for the usual information about the sender.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            );
        }
    }
}

fn take_signal(signals: &OwnedFd) -> bool {
    let mut buffer = [0; size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(signals, &mut buffer).is_ok()
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Early in boot there may be no randomness yet; then no jitter is added.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}
