//! Other hosts that callers are led to are asked for signs of life from here, so that no call finds
//! out by itself that one is gone, and none has to try whether it is back.

use std::{
    collections::{HashMap, HashSet},
    io::ErrorKind,
    net::SocketAddr,
    panic::resume_unwind,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use sinew_datapath::{self as datapath, Callee};
use tokio::{
    net::TcpStream,
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};

use super::SharedDatapath;

/// From one round to the next.
const EVERY: Duration = Duration::from_millis(250);
/// A host of one network that is there answers in a tenth of it. Two tries and a round's time are
/// less than a second.
const PATIENCE: Duration = Duration::from_millis(200);
/// For so long in a row callers are kept from a host that leaves tries unanswered; then one of them
/// may try it, for there may be a way for calls where there is none for tries.
const KEPT_OFF: Duration = Duration::from_secs(12);
/// After which this begins anew: what was told last holds for two seconds, and a call takes its time.
const CYCLE: Duration = Duration::from_secs(16);
/// Hosts that are asked in a round beside those under suspicion: each within a second, of 256 that
/// are called; of more, callers find out as well.
const A_ROUND: usize = 64;
/// Tries at once.
const AT_ONCE: usize = 256;

/// The task, which ends with this.
pub(super) struct Asks(JoinHandle<()>);

impl Drop for Asks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks for as long as it is kept.
pub(super) fn ask_others(datapath: SharedDatapath) -> Asks {
    Asks(tokio::spawn(async move {
        let mut rounds = Rounds::default();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = round(&datapath, &mut rounds).await {
                // Callers find out, as they do without an agent.
                tracing::debug!("other hosts are not asked for signs of life: {error}");
            }
        }
    }))
}

/// What is remembered from round to round.
#[derive(Debug, Default)]
struct Rounds {
    /// The host that was asked last.
    last: u32,
    /// Hosts whose kernels answered where no program listens. What filters packets there may let pass
    /// what is meant for programs alone, so that the silence of any other host says nothing.
    answer: HashSet<u32>,
    /// Since when hosts leave tries unanswered.
    silent: HashMap<u32, Instant>,
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Somebody is there: who refuses is, too.
    Life,
    /// Nobody answered in time.
    Silence,
    /// It could not be tried: that is this host's own trouble.
    Nothing,
}

impl Rounds {
    /// Whom to try in a round: all suspects, and some of the others in turn.
    fn next(&mut self, mut callees: Vec<Callee>) -> Vec<Callee> {
        callees.sort_unstable_by_key(|callee| callee.node);
        let from = callees.partition_point(|callee| callee.node <= self.last);
        let (before, after) = callees.split_at(from);
        let in_turn = after.iter().chain(before);
        let trusted = in_turn.filter(|callee| !callee.suspect && callee.quiet.is_some());
        let mut tries: Vec<Callee> = trusted.take(A_ROUND).copied().collect();
        self.last = tries.last().map_or(self.last, |last| last.node);
        callees.retain(|callee| callee.suspect);
        self.silent.retain(|node, _| callees.iter().any(|suspect| suspect.node == *node));
        tries.extend(callees);
        tries
    }

    /// What to tell of a try, whether it answered; `None`: nothing that matters.
    fn heard(&mut self, of: &Callee, answer: Answer, now: Instant) -> Option<bool> {
        match (of.suspect, answer) {
            (_, Answer::Nothing) => None,
            (true, Answer::Life) => Some(true),
            (true, Answer::Silence) => {
                let since = *self.silent.entry(of.node).or_insert(now);
                let lasts = now.duration_since(since).as_millis() % CYCLE.as_millis();
                (lasts < KEPT_OFF.as_millis()).then_some(false)
            }
            (false, Answer::Life) => {
                self.answer.insert(of.node);
                None
            }
            (false, Answer::Silence) => self.answer.remove(&of.node).then_some(false),
        }
    }
}

async fn round(datapath: &SharedDatapath, rounds: &mut Rounds) -> Result<(), datapath::Error> {
    let callees = with(datapath, |datapath| datapath.callees()).await?;
    let mut tries = stream::iter(rounds.next(callees))
        .map(|of| async move { (of, ask(&of).await) })
        .buffer_unordered(AT_ONCE);
    while let Some((of, answer)) = tries.next().await {
        let Some(answered) = rounds.heard(&of, answer, Instant::now()) else { continue };
        with(datapath, move |datapath| datapath.tried(of.node, answered)).await?;
        match (of.suspect, answered) {
            (true, true) => tracing::info!("the host of {} answers again", of.endpoint.ip()),
            (false, _) => tracing::info!("the host of {} is silent", of.endpoint.ip()),
            (true, false) => {}
        }
    }
    Ok(())
}

/// No program is bothered while the kernel there answers.
async fn ask(of: &Callee) -> Answer {
    if let Some(quiet) = of.quiet.filter(|_| !of.suspect) {
        let first = answer(quiet).await;
        if first != Answer::Silence {
            return first;
        }
    }
    // One of both may be filtered on the way.
    let quiet = async {
        match of.quiet {
            Some(quiet) => answer(quiet).await,
            None => Answer::Silence,
        }
    };
    match tokio::join!(quiet, answer(of.endpoint)) {
        (Answer::Life, _) | (_, Answer::Life) => Answer::Life,
        (Answer::Silence, Answer::Silence) => Answer::Silence,
        _ => Answer::Nothing,
    }
}

async fn answer(at: SocketAddr) -> Answer {
    match timeout(PATIENCE, TcpStream::connect(at)).await {
        Ok(Ok(_)) => Answer::Life,
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Answer::Life,
            // The neighbour does not answer either.
            ErrorKind::HostUnreachable => Answer::Silence,
            _ => Answer::Nothing,
        },
        Err(_) => Answer::Silence,
    }
}

/// Apart from the other tasks: a change of many services holds the data path for a while.
async fn with<T: Send + 'static>(
    datapath: &SharedDatapath,
    work: impl FnOnce(&mut dyn datapath::Datapath) -> Result<T, datapath::Error> + Send + 'static,
) -> Result<T, datapath::Error> {
    let datapath = datapath.clone();
    match spawn_blocking(move || work(&mut **datapath.lock())).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panicked) => resume_unwind(panicked),
            // The agent ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use sinew_datapath::{Fake, FakeState};

    use super::*;

    const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    fn callee(node: u32, suspect: bool) -> Callee {
        Callee { node, suspect, endpoint: NOWHERE, quiet: Some(NOWHERE) }
    }

    async fn until(fake: &Fake, holds: impl Fn(&FakeState) -> bool) {
        while !holds(&fake.state()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn all_suspects_are_tried_and_the_others_in_turn() {
        let callees: Vec<_> = (1..=100).map(|node| callee(node, node % 10 == 0)).collect();
        let mut rounds = Rounds::default();
        let nodes = |tries: Vec<Callee>, suspect| {
            tries.iter().filter(|it| it.suspect == suspect).map(|it| it.node).collect::<Vec<_>>()
        };
        let trusted: Vec<u32> = (1..=100).filter(|node| node % 10 != 0).collect();
        let first = rounds.next(callees.clone());
        assert_eq!(nodes(first.clone(), true), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
        assert_eq!(nodes(first, false), trusted[..A_ROUND]);
        let second = nodes(rounds.next(callees), false);
        let around = trusted.iter().chain(&trusted).skip(A_ROUND).take(A_ROUND).copied();
        assert_eq!(second, around.collect::<Vec<_>>());
        assert_eq!(rounds.next(Vec::new()), []);
    }

    #[test]
    fn the_silence_of_who_never_answered_says_nothing() {
        let mut rounds = Rounds::default();
        let (trusted, suspect, now) = (callee(1, false), callee(1, true), Instant::now());
        let filtered = rounds.heard(&trusted, Answer::Silence, now);
        assert_eq!(filtered, None, "its packets may be filtered");
        assert_eq!(rounds.heard(&trusted, Answer::Life, now), None);
        assert_eq!(rounds.heard(&trusted, Answer::Nothing, now), None);
        assert_eq!(rounds.heard(&trusted, Answer::Silence, now), Some(false));
        assert_eq!(rounds.heard(&suspect, Answer::Life, now), Some(true), "calls are answered");
        let again = rounds.heard(&trusted, Answer::Silence, now);
        assert_eq!(again, None, "it is not suspected for ever anew");
    }

    #[test]
    fn a_host_that_is_silent_for_long_is_left_to_a_caller_now_and_then() {
        let (mut rounds, suspect, start) = (Rounds::default(), callee(1, true), Instant::now());
        let told = |rounds: &mut Rounds, at_s: u64| {
            rounds.heard(&suspect, Answer::Silence, start + Duration::from_secs(at_s))
        };
        let times: Vec<u64> = (0..40).filter(|at| told(&mut rounds, *at).is_none()).collect();
        assert_eq!(times, [12, 13, 14, 15, 28, 29, 30, 31]);
        rounds.next(vec![callee(1, false)]);
        assert_eq!(told(&mut rounds, 44), Some(false), "another silence begins anew");
    }

    #[tokio::test]
    async fn who_falls_silent_is_told_and_who_refuses_is_back() {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // A listener that takes nobody any more is as silent as a host that is away.
        let (full, other) = (bind(), bind());
        rustix::net::listen(&full, 0).unwrap();
        let silent = full.local_addr().unwrap();
        let _waits = std::net::TcpStream::connect(silent).unwrap();
        let suspect = Callee { endpoint: silent, ..callee(1, true) };
        let at = other.local_addr().unwrap();
        let trusted = Callee { quiet: Some(at), endpoint: at, ..callee(3, false) };
        let suspect = Callee { quiet: Some(silent), ..suspect };
        let fake = Fake::default();
        fake.state().callees = vec![suspect, callee(2, true), trusted];
        let asks = ask_others(SharedDatapath::new(Box::new(fake.clone())));
        until(&fake, |state| state.tried.iter().filter(|tried| **tried == (1, false)).count() > 1)
            .await;
        assert!(fake.state().tried.contains(&(2, true)));
        assert!(fake.state().tried.iter().all(|tried| *tried != (1, true) && tried.0 != 3));
        // What no longer listens refuses: a sign of life.
        drop(full);
        until(&fake, |state| state.callees.iter().all(|callee| !callee.suspect)).await;
        rustix::net::listen(&other, 0).unwrap();
        let _more: Vec<_> = (0..3)
            .map(|_| std::net::TcpStream::connect_timeout(&at, Duration::from_millis(50)))
            .collect();
        until(&fake, |state| state.tried.contains(&(3, false))).await;
        drop(asks);
    }
}
