//! Whole messages: the corpus, a naive reader beside ours, every cut, and there and back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod corpus;
mod cuts;
mod fuzz;
mod judge;
mod limits;
mod naive;
mod onward;
mod there_and_back;
