//! The checks themselves, one after another, for as long as somebody wants to know.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use sinew_model::{Check, Health};
use sinew_workload::exec::{CheckOutcome, CheckSpec, run_check};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::Tracker;

/// Until there is a verdict, checks follow each other this closely.
const EARLY: Duration = Duration::from_millis(500);

/// A status line is no longer than this.
const STATUS_LINE_BYTES: usize = 256;

/// So much of an answer is read to its end: a server that is cut off writes so into its log.
const BODY_BYTES: u64 = 1 << 20;

/// What is checked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Address of the instance.
    pub address: IpAddr,
    /// How to check.
    pub health: Health,
    /// The command of an `exec` check.
    pub exec: Option<CheckSpec>,
}

/// Checks until it is dropped.
pub(crate) async fn run(target: Target, report: impl Fn(Result<(), String>)) {
    let mut tracker = Tracker::new(std::time::Instant::now());
    loop {
        let result = check(&target).await;
        tracker.record(std::time::Instant::now(), result.is_ok(), &target.health);
        report(result);
        let interval = target.health.interval;
        let pause = if tracker.is_settled() { interval } else { interval.min(EARLY) };
        tokio::time::sleep(jittered(pause, crate::random::unit())).await;
    }
}

/// Within a tenth around `pause`, so that the checks of many instances spread out.
fn jittered(pause: Duration, unit: f64) -> Duration {
    pause.mul_f64(0.9 + 0.2 * unit)
}

async fn check(target: &Target) -> Result<(), String> {
    let limit = target.health.timeout;
    let outcome = match (&target.health.check, &target.exec) {
        (Check::None, _) | (Check::Exec { .. }, None) => return Ok(()),
        (Check::Exec { .. }, Some(spec)) => {
            return match run_check(spec, limit).await {
                CheckOutcome::Passed => Ok(()),
                failed => Err(format!("health.exec: {failed}")),
            };
        }
        (Check::Tcp { port }, _) => {
            let socket = SocketAddr::new(target.address, *port);
            timeout(limit, async { TcpStream::connect(socket).await.map(drop) }).await.map(|done| {
                done.map_err(|error| format!("health.tcp: cannot connect to {socket}: {error}"))
            })
        }
        (Check::Http { port, path }, _) => {
            let socket = SocketAddr::new(target.address, *port);
            let deadline = Instant::now() + limit;
            timeout_at(deadline, get(socket, path, deadline)).await.map(|done| {
                done.map_err(|error| format!("health.http: GET http://{socket}{path}: {error}"))
            })
        }
    };
    outcome.unwrap_or_else(|_| Err(format!("health: no answer within {limit:?}")))
}

/// Why a GET did not do.
#[derive(Debug, thiserror::Error)]
enum GetError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the answer is not HTTP")]
    NotHttp,
    #[error("the status is {0}")]
    Status(u16),
}

async fn get(socket: SocketAddr, path: &str, deadline: Instant) -> Result<(), GetError> {
    let mut stream = TcpStream::connect(socket).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {socket}\r\nUser-Agent: sinew-health\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.contains(&b'\n') && head.len() < STATUS_LINE_BYTES {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let status = status(&head);
    read_rest(stream, deadline).await;
    match status {
        Some(200..=399) => Ok(()),
        Some(other) => Err(GetError::Status(other)),
        None => Err(GetError::NotHttp),
    }
}

/// The verdict is known: what comes, or does not come in half of the time that is left, changes
/// nothing.
async fn read_rest(stream: TcpStream, deadline: Instant) {
    let now = Instant::now();
    let half = now + deadline.saturating_duration_since(now) / 2;
    let (mut rest, mut nowhere) = (stream.take(BODY_BYTES), tokio::io::sink());
    let _ = timeout_at(half, tokio::io::copy(&mut rest, &mut nowhere)).await;
}

/// The status of an answer that begins with `head`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|code| code.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use sinew_model::Health;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nDate: x"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503 Service Unavailable\r\n"), Some(503));
        assert_eq!(status(b"HTTP/1.1 20"), None);
        assert_eq!(status(b"SSH-2.0-OpenSSH\r\n"), None);
        assert_eq!(status(b"\xff\xfe\r\n"), None);
        assert_eq!(status(b""), None);
    }

    #[test]
    fn pauses_stay_near_the_interval() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 0.0), Duration::from_millis(900));
        assert_eq!(jittered(second, 1.0), Duration::from_millis(1_100));
    }

    async fn answered(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let health = Health {
            check: Check::Http { port, path: "/live?x=1".into() },
            timeout: Duration::from_secs(30),
            ..Health::default()
        };
        let target = Target { address: [127, 0, 0, 1].into(), health, exec: None };
        let result = check(&target).await;
        let request = serve.await.unwrap();
        assert!(request.starts_with("GET /live?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        result
    }

    #[tokio::test]
    async fn an_answer_is_judged_by_its_status() {
        assert_eq!(answered(b"HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        let error = answered(b"HTTP/1.1 500 Oops\r\n\r\n").await.unwrap_err();
        assert!(error.ends_with("the status is 500"), "{error}");
        let error = answered(b"").await.unwrap_err();
        assert!(error.ends_with("the answer is not HTTP"), "{error}");
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_not_well() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let health = Health { check: Check::Tcp { port: free }, ..Health::default() };
        let target = Target { address: [127, 0, 0, 1].into(), health, exec: None };
        let error = check(&target).await.unwrap_err();
        assert!(error.contains("cannot connect"), "{error}");
    }
}
