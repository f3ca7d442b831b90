//! How a message was cut on its way changes nothing of what is said about it.

use proptest::prelude::*;
use sinew_http::Limits;

use crate::corpus::{requests, responses};
use crate::judge::{request, response};
use crate::naive::message;

#[test]
fn each_request_is_the_same_in_two_pieces_and_byte_by_byte() {
    for case in requests() {
        let len = case.bytes.len();
        let whole = request(&case.bytes, &[len], Limits::default());
        for cut in 0..len {
            let cut = request(&case.bytes, &[cut, len], Limits::default());
            assert_eq!(cut, whole, "{}", case.why);
        }
        let bytes: Vec<usize> = (0..=len).collect();
        assert_eq!(request(&case.bytes, &bytes, Limits::default()), whole, "{}", case.why);
    }
}

#[test]
fn each_response_is_the_same_in_two_pieces_and_byte_by_byte() {
    for (asked, case) in responses() {
        let len = case.bytes.len();
        let whole = response(&case.bytes, &[len], asked);
        for cut in 0..len {
            assert_eq!(response(&case.bytes, &[cut, len], asked), whole, "{}", case.why);
        }
        let bytes: Vec<usize> = (0..=len).collect();
        assert_eq!(response(&case.bytes, &bytes, asked), whole, "{}", case.why);
    }
}

proptest! {
    #[test]
    fn any_cuts_give_the_same(
        bytes in message(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = bytes;
        let at = at.index(bytes.len());
        if byte < 128 {
            bytes[at] = byte;
        }
        let len = bytes.len();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(len)).collect();
        ends.sort_unstable();
        ends.push(len);
        // Small ones, so that some of them are met.
        let small = Limits { line_bytes: 20, field_bytes: 26, fields: 3, head_bytes: 80 };
        for limits in [Limits::default(), small] {
            prop_assert_eq!(request(&bytes, &ends, limits), request(&bytes, &[len], limits));
        }
    }
}
