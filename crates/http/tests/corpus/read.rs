//! What is in the files beside this: of each case what is expected, why, and its bytes.

pub(crate) const REQUESTS: &str = include_str!("requests.txt");
pub(crate) const RESPONSES: &str = include_str!("responses.txt");

pub(crate) struct Case {
    pub(crate) expected: String,
    pub(crate) why: String,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(title) = line.strip_prefix("== ") {
            let (expected, why) = title.split_once(" | ").unwrap();
            cases.push(Case { expected: expected.into(), why: why.into(), bytes: vec![] });
        } else {
            cases.last_mut().unwrap().bytes.extend(bytes(line));
        }
    }
    cases
}

fn bytes(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
            byte => byte,
        });
    }
    bytes
}
