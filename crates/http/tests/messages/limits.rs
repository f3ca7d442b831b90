//! Bounds hold at their exact values, whatever is behind them.

use sinew_http::{Limits, Refused};

use crate::judge::{Verdict, request};

const SMALL: Limits = Limits { line_bytes: 20, field_bytes: 16, fields: 3, head_bytes: 64 };

fn read(text: &str) -> Result<bool, Refused> {
    let whole = request(text.as_bytes(), &[text.len()], SMALL);
    let bytes: Vec<usize> = (0..=text.len()).collect();
    assert_eq!(request(text.as_bytes(), &bytes, SMALL), whole, "{text}");
    match whole {
        Verdict::Taken(_) => Ok(true),
        Verdict::More => Ok(false),
        Verdict::Refused(refused) => Err(refused),
    }
}

#[test]
fn a_target() {
    let target = |len| read(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len)));
    assert_eq!(target(15), Ok(true));
    assert_eq!(target(16), Err(Refused::TargetTooLong));
    assert_eq!(read(&format!("GET /{}", "x".repeat(16))), Err(Refused::TargetTooLong));
}

#[test]
fn a_field() {
    let field = |len| read(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(len)));
    assert_eq!(field(13), Ok(true));
    assert_eq!(field(14), Err(Refused::FieldTooLong));
    assert_eq!(read("GET / HTTP/1.1\r\nXXXXXXXXXXXXXXXXX"), Err(Refused::FieldTooLong));
}

#[test]
fn how_many_fields() {
    let fields = |n| read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X:\r\n".repeat(n)));
    assert_eq!(fields(2), Ok(true));
    assert_eq!(fields(3), Err(Refused::TooManyFields));
}

#[test]
fn a_head() {
    let text = format!(
        "GET / HTTP/1.1\r\nHost: aaaaaaaa\r\nX: {}\r\nY: {}\r\n\r\n",
        "x".repeat(11),
        "y".repeat(9)
    );
    assert_eq!((text.len(), read(&text)), (64, Ok(true)));
    let text = text.replace("Y: ", "YY: ");
    assert_eq!(read(&text), Err(Refused::HeadTooLarge));
}

#[test]
fn chunk_extensions_of_a_whole_body() {
    let chunks = |n: usize| {
        let chunk = format!("1;{}\r\nx\r\n", "e".repeat(1023));
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let text = format!("{head}{}0\r\n\r\n", chunk.repeat(n));
        request(text.as_bytes(), &[text.len()], Limits::default())
    };
    assert!(matches!(chunks(4), Verdict::Taken(_)));
    assert_eq!(chunks(5), Verdict::Refused(Refused::ExtensionTooLong));
}
