//! The one question that the agent and the resolver ask the resolver: which zone it serves.

use std::{io, net::SocketAddrV4, time::Duration};

use tokio::{net::UdpSocket, time::timeout};

/// A resolver that takes longer over its own zone is not well.
const ANSWER_LIMIT: Duration = Duration::from_millis(150);

/// The serial of the zone of `domain` at `resolver`, asked over the very socket that members ask.
///
/// # Errors
/// When it does not say.
pub(super) async fn ask(resolver: SocketAddrV4, domain: &str, id: u16) -> io::Result<u32> {
    let socket = UdpSocket::bind((*resolver.ip(), 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&soa(id, domain)).await?;
    let receive = async {
        let mut answer = [0; 512];
        loop {
            let length = socket.recv(&mut answer).await?;
            if let Some(serial) = serial(id, &answer[..length]) {
                return Ok(serial);
            }
        }
    };
    timeout(ANSWER_LIMIT, receive).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A query for the SOA record of `domain`.
pub(super) fn soa(id: u16, domain: &str) -> Vec<u8> {
    let mut query = Vec::from(id.to_be_bytes());
    query.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in domain.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 6, 0, 1]);
    query
}

/// The serial in the answer to [`soa`]; `None`: it is another answer, or none.
pub(super) fn serial(id: u16, answer: &[u8]) -> Option<u32> {
    /// What follows the serial in the last record of such an answer: refresh, retry, expire, minimum.
    const BEHIND: usize = 4 * 4;
    let (head, _) = answer.split_at_checked(12)?;
    let is_answer = head[2] & 0x80 != 0 && head[3] & 0x0F == 0;
    let counts = &head[6..];
    // One record, and nothing behind it.
    if head[..2] != id.to_be_bytes() || !is_answer || *counts != [0, 1, 0, 0, 0, 0] {
        return None;
    }
    let at = answer.len().checked_sub(BEHIND + 4)?;
    answer.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_answers_tell_no_serial_or_any() {
        let mut answer = soa(3, "sinew.internal");
        (answer[2], answer[7]) = (0x84, 1);
        answer.extend([7; 40]);
        sinew_fuzz::each(&[&answer], |bytes| {
            if serial(3, bytes).is_some() {
                assert_eq!(bytes[..2], [0, 3]);
            }
        });
    }

    #[test]
    fn other_answers_tell_no_serial() {
        let mut answer = soa(3, "a.b");
        assert_eq!(serial(3, &answer), None, "a query is no answer");
        answer[2] = 0x84;
        assert_eq!(serial(3, &answer), None, "it says nothing");
        answer[7] = 1;
        answer.extend([0; 12]);
        answer.extend(9u32.to_be_bytes());
        answer.extend([0; 16]);
        assert_eq!(serial(3, &answer), Some(9));
        assert_eq!(serial(4, &answer), None, "it answers another");
        answer[3] = 2;
        assert_eq!(serial(3, &answer), None, "it failed");
        assert_eq!(serial(3, &answer[..11]), None);
    }
}
