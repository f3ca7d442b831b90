//! Upstreams as plain as can be: a thread a connection, blocking.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sinew_proxy::engine::{Engine, Options};
use sinew_proxy::route::{Fixed, Route};
use sinew_resilience::balance::OutlierSettings;
use sinew_resilience::retry::{Budget, BudgetSettings};

/// What a test waits for at most: far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
}

pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Upstream {
    /// Hands each connection to `serve`, on a thread of its own.
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, serve) = (Arc::<AtomicUsize>::default(), Arc::new(serve));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, serve) = (stream.unwrap(), Arc::clone(&serve));
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, connections }
    }

    /// Answers each request with what `answer` makes of it.
    pub(crate) fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            while let Some(request) = read(&mut reader) {
                if stream.write_all(&answer(&request)).is_err() {
                    return;
                }
            }
        })
    }
}

/// Head and fields of a message, and its body where it has a length.
pub(crate) fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: head.lines().next().unwrap().to_owned(), head, body })
}

pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) fn route(backends: &[SocketAddr], change: impl FnOnce(&mut Route)) -> Arc<Route> {
    let fixed = Fixed::new(backends, OutlierSettings::default()).unwrap();
    let mut route = Route::to(Arc::new(fixed), Budget::new(BudgetSettings::default()).unwrap());
    change(&mut route);
    Arc::new(route)
}

pub(crate) fn engine(route: Arc<Route>, change: impl FnOnce(&mut Options)) -> Engine {
    let mut options = Options::at(([127, 0, 0, 1], 0).into());
    change(&mut options);
    Engine::start(&options, route).unwrap()
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn of(engine: &Engine) -> Self {
        let stream = TcpStream::connect(engine.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn get(&mut self, path: &str) -> Request {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> Request {
        read(&mut self.reader).unwrap()
    }

    /// All up to the end; none where it was reset.
    pub(crate) fn rest(&mut self) -> Option<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).ok().map(|_| rest)
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}
