//! A proxy in front of a fixed list of backends: what the benches measure, and a way to try it.
//!
//! `proxy LISTEN THREADS BACKEND…`, until it is ended.
#![allow(clippy::unwrap_used, reason = "an example that cannot go on ends")]

use std::net::SocketAddr;
use std::sync::Arc;

use sinew_proxy::engine::{Engine, Options};
use sinew_proxy::route::{Fixed, Route};
use sinew_resilience::balance::OutlierSettings;
use sinew_resilience::retry::{Budget, BudgetSettings};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, threads, backends @ ..] = words.as_slice() else {
        eprintln!("usage: proxy LISTEN THREADS BACKEND...");
        std::process::exit(2);
    };
    let backends: Vec<SocketAddr> = backends.iter().map(|word| word.parse().unwrap()).collect();
    let fixed = Fixed::new(&backends, OutlierSettings::default()).unwrap();
    let budget = Budget::new(BudgetSettings::default()).unwrap();
    let route = Arc::new(Route::to(Arc::new(fixed), budget));
    let options =
        Options { threads: threads.parse().unwrap(), ..Options::at(listen.parse().unwrap()) };
    let engine = Engine::start(&options, route).unwrap();
    println!("listening at {}", engine.address());
    engine.join();
}
