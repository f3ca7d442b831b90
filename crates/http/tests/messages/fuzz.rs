//! Broken input: nothing panics, the naive reader agrees, and cuts change nothing.

use sinew_http::Limits;
use sinew_http::framing::Asked;
use sinew_http::preface::{self, Preface};

use crate::corpus::{requests, responses};
use crate::judge::{Verdict, request, response};
use crate::naive::compare;

#[test]
fn broken_requests_are_refused_or_read_alike() {
    let cases = requests();
    let right: Vec<&[u8]> = cases.iter().map(|case| case.bytes.as_slice()).collect();
    sinew_fuzz::each(&right, |bytes| {
        compare(bytes);
        let (half, len) = (bytes.len() / 2, bytes.len());
        let limits = Limits::default();
        assert_eq!(request(bytes, &[half, len], limits), request(bytes, &[len], limits));
        // Who is told that it is something else is not read.
        let told = preface::tell(bytes);
        let taken = matches!(request(bytes, &[len], limits), Verdict::Taken(_));
        assert!(!taken || told == Preface::Http1, "{told:?}");
    });
}

#[test]
fn broken_responses_are_refused_or_read_alike() {
    let cases = responses();
    let right: Vec<&[u8]> = cases.iter().map(|(_, case)| case.bytes.as_slice()).collect();
    sinew_fuzz::each(&right, |bytes| {
        let (half, len) = (bytes.len() / 2, bytes.len());
        for asked in [Asked::Body, Asked::Head, Asked::Connect, Asked::Upgrade] {
            assert_eq!(response(bytes, &[half, len], asked), response(bytes, &[len], asked));
        }
    });
}
