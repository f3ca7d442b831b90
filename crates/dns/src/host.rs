//! The host's `resolv.conf`, read as glibc reads it, and read again when it changes.

use std::{fs, net::IpAddr, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{info, warn};

/// What the host says about name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The servers, first choice first. None named: 127.0.0.1, as for every resolver library.
    pub name_servers: Vec<IpAddr>,
    /// Domains in which short names are looked up.
    pub search: Vec<String>,
    /// How long a server has to answer; 1 to 30 s.
    pub timeout: Duration,
    /// Rounds over the servers; 1 to 5.
    pub attempts: u32,
    /// Whether the servers take turns at being the first.
    pub rotate: bool,
}

impl Default for HostConfig {
    fn default() -> Self {
        host_name_servers("")
    }
}

/// Reads the text of a `resolv.conf`. What is not understood is passed over, as resolver libraries
/// do; so are link-local servers (`fe80::1%eth0`), whose queries the kernel does not lead here.
#[must_use]
pub fn host_name_servers(resolv_conf: &str) -> HostConfig {
    let mut config = HostConfig {
        name_servers: Vec::new(),
        search: Vec::new(),
        timeout: Duration::from_secs(5),
        attempts: 2,
        rotate: false,
    };
    for line in resolv_conf.lines().filter(|l| !l.starts_with(['#', ';'])) {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                let server = words.next().and_then(|w| w.parse().ok());
                config.name_servers.extend(server.filter(|s| !config.name_servers.contains(s)));
            }
            Some("domain") => config.search = words.take(1).map(domain).collect(),
            Some("search") => config.search = words.map(domain).collect(),
            Some("options") => words.for_each(|word| option(&mut config, word)),
            _ => {}
        }
    }
    if config.name_servers.is_empty() {
        config.name_servers.push([127, 0, 0, 1].into());
    }
    config
}

fn domain(word: &str) -> String {
    word.trim_end_matches('.').to_owned()
}

fn option(config: &mut HostConfig, word: &str) {
    let number = |text: &str| text.parse::<u32>().ok();
    if let Some(seconds) = word.strip_prefix("timeout:").and_then(number) {
        config.timeout = Duration::from_secs(seconds.clamp(1, 30).into());
    } else if let Some(attempts) = word.strip_prefix("attempts:").and_then(number) {
        config.attempts = attempts.clamp(1, 5);
    } else if word == "rotate" {
        config.rotate = true;
    }
}

/// Tells two versions of a file apart, through symbolic links and replacement by rename.
#[derive(PartialEq, Eq)]
struct Version {
    file: (u64, u64),
    changed: (i64, i64),
    size_bytes: u64,
}

fn version(path: &Path) -> Option<Version> {
    let meta = fs::metadata(path).ok()?;
    Some(Version {
        file: (meta.dev(), meta.ino()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        size_bytes: meta.size(),
    })
}

fn read(path: &Path) -> HostConfig {
    match fs::read(path) {
        Ok(text) => host_name_servers(&String::from_utf8_lossy(&text)),
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot read, assuming a name server on 127.0.0.1");
            HostConfig::default()
        }
    }
}

/// Reads the `resolv.conf` at `path` now, and whenever it has changed; looks each `period`. Run the
/// future beside the resolver; it ends when nobody holds a receiver any more.
///
/// A look is one `stat`. Watching instead would need inotify on every directory along a chain of
/// symbolic links, some of which appear only later.
pub fn follow_host(
    path: &Path,
    period: Duration,
) -> (watch::Receiver<Arc<HostConfig>>, impl Future<Output = ()> + Send + use<>) {
    let path = path.to_owned();
    let mut seen = version(&path);
    let (sender, receiver) = watch::channel(Arc::new(read(&path)));
    let follow = async move {
        let mut ticks = tokio::time::interval(period);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return,
            }
            let now = version(&path);
            if now == seen {
                continue;
            }
            seen = now;
            let config = Arc::new(read(&path));
            sender.send_if_modified(|old| {
                let changed = **old != *config;
                if changed {
                    info!(servers = ?config.name_servers, "the host's name servers changed");
                    *old = config;
                }
                changed
            });
        }
    };
    (receiver, follow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_glibc_reads() {
        let config = host_name_servers(
            "# a comment\n; another\nnameserver 10.0.0.1\nnameserver\t2001:db8::1  # tail\n\
             nameserver fe80::1%eth0\nnameserver 10.0.0.1\nnameserver nonsense\n\
             domain old.example\nsearch corp.example. example\n\
             options timeout:2 attempts:9 rotate edns0 timeout:x\n",
        );
        let servers: Vec<IpAddr> =
            vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(config.name_servers, servers);
        assert_eq!(config.search, ["corp.example", "example"]);
        assert_eq!(config.timeout, Duration::from_secs(2));
        assert_eq!(config.attempts, 5);
        assert!(config.rotate);
    }

    #[test]
    fn defaults() {
        let config = host_name_servers("search a b\ndomain only.example\n");
        assert_eq!(config.name_servers, [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(config.search, ["only.example"]);
        assert_eq!((config.timeout, config.attempts), (Duration::from_secs(5), 2));
    }

    #[tokio::test]
    async fn follows_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (link, real) = (dir.path().join("resolv.conf"), dir.path().join("stub"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let (mut receiver, follow) = follow_host(&link, Duration::from_millis(1));
        let task = tokio::spawn(follow);
        assert_eq!(receiver.borrow().name_servers, [IpAddr::from([127, 0, 0, 1])]);
        for last in [1, 2] {
            let fresh = dir.path().join("fresh");
            fs::write(&fresh, format!("nameserver 10.0.0.{last}\n")).unwrap();
            fs::rename(&fresh, &real).unwrap();
            receiver.changed().await.unwrap();
            assert_eq!(receiver.borrow().name_servers, [IpAddr::from([10, 0, 0, last])]);
        }
        drop(receiver);
        task.await.unwrap();
    }
}
