//! Waits until a server answers requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Options of `xtask internal probe`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT`, or the path of a socket, which only has to take connections
    target: String,
}

const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// Fails when there is no answer for a long time.
pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    // Foreign programs do not tell when they serve.
    while let Err(error) = ask(&args.target) {
        if start.elapsed() > DEADLINE {
            return Err(error).with_context(|| format!("{} does not answer", args.target));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn ask(target: &str) -> std::io::Result<()> {
    let Ok(target) = target.parse::<SocketAddr>() else {
        return UnixStream::connect(Path::new(target)).map(|_| ());
    };
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut message = [7; 8];
    stream.write_all(&message)?;
    stream.read_exact(&mut message)
}
