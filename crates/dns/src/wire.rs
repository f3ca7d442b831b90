//! Just enough of a message to decide about it, so that what is forwarded need not be understood.

use std::io;

use hickory_proto::{
    op::{Header, MessageType, Metadata, OpCode, Query, ResponseCode},
    serialize::binary::{BinDecodable, BinDecoder},
};

/// Bytes of a message's header.
pub(crate) const HEADER_BYTES: usize = 12;

/// The head of a query.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) metadata: Metadata,
    /// The first entry of the question section; that of an update names its zone.
    pub(crate) question: Query,
}

/// Why bytes are not a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Too short to be answered, or itself an answer: an answer to it could go round for ever.
    Silence,
    /// The header is fine, what follows is not.
    Refuse(Metadata, ResponseCode),
}

pub(crate) fn head(bytes: &[u8]) -> Result<Head, Unreadable> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).map_err(|_| Unreadable::Silence)?;
    let metadata = header.metadata;
    if metadata.message_type == MessageType::Response {
        return Err(Unreadable::Silence);
    }
    match (header.counts.queries, metadata.op_code) {
        (1, _) => {}
        (_, OpCode::Query) => return Err(Unreadable::Refuse(metadata, ResponseCode::FormErr)),
        _ => return Err(Unreadable::Refuse(metadata, ResponseCode::NotImp)),
    }
    let question = Query::read(&mut decoder)
        .map_err(|_| Unreadable::Refuse(metadata, ResponseCode::FormErr))?;
    Ok(Head { metadata, question })
}

/// The id of a message.
pub(crate) fn id(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|id| u16::from_be_bytes(*id))
}

/// Gives a message another id.
pub(crate) fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

/// A message as it goes over TCP: its length in front.
pub(crate) fn framed(message: &[u8]) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "longer than 65535 bytes");
    let length = u16::try_from(message.len()).map_err(too_long)?;
    Ok([&length.to_be_bytes(), message].concat())
}

/// Takes the first whole message off what came over TCP.
pub(crate) fn unframe(stream: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = 2 + usize::from(u16::from_be_bytes(*stream.first_chunk()?));
    let message = stream.get(2..end)?.to_vec();
    stream.drain(..end);
    Some(message)
}

/// Whether `reply` is an answer to `query`: id, kind of message and question agree.
pub(crate) fn is_reply(query: &[u8], reply: &[u8]) -> bool {
    let read = |bytes| {
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder).ok()?;
        let question = (header.counts.queries > 0).then(|| Query::read(&mut decoder).ok());
        Some((header, question))
    };
    let (Some((asked, question)), Some((answer, echoed))) = (read(query), read(reply)) else {
        return false;
    };
    let same = match echoed {
        Some(echoed) => echoed.is_some() && Some(echoed) == question,
        // Servers leave the question out of refusals and of answers to updates.
        None => answer.response_code != ResponseCode::NoError || asked.op_code != OpCode::Query,
    };
    answer.message_type == MessageType::Response
        && answer.id == asked.id
        && answer.op_code == asked.op_code
        && answer.counts.queries <= 1
        && same
}

/// The code in the header of a reply.
pub(crate) fn response_code(reply: &[u8]) -> ResponseCode {
    ResponseCode::from_low(reply.get(3).map_or(0, |flags| flags & 15))
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::Message,
        rr::{Name, RecordType},
    };

    use super::*;

    fn message(id: u16, kind: MessageType, name: &str, code: ResponseCode) -> Vec<u8> {
        let mut message = Message::new(id, kind, OpCode::Query);
        message.metadata.response_code = code;
        if !name.is_empty() {
            message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn frames() {
        let mut stream = framed(b"one").unwrap();
        stream.extend(framed(b"").unwrap());
        stream.extend(&framed(b"two").unwrap()[..4]);
        assert_eq!(unframe(&mut stream).unwrap(), b"one");
        assert_eq!(unframe(&mut stream).unwrap(), b"");
        assert_eq!(unframe(&mut stream), None);
        stream.push(b'o');
        assert_eq!(unframe(&mut stream).unwrap(), b"two");
        assert!(stream.is_empty());
        assert!(framed(&[0; 65_536]).is_err());
    }

    #[test]
    fn replies() {
        use MessageType::{Query as Q, Response as R};
        use ResponseCode::{NoError, ServFail};
        let query = message(7, Q, "example.com.", NoError);
        for (reply, is) in [
            (message(7, R, "example.com.", NoError), true),
            (message(7, R, "EXAMPLE.com.", NoError), true),
            (message(7, R, "", ServFail), true),
            (message(7, R, "", NoError), false),
            (message(8, R, "example.com.", NoError), false),
            (message(7, Q, "example.com.", NoError), false),
            (message(7, R, "example.org.", NoError), false),
            (b"\0\x07".to_vec(), false),
        ] {
            assert_eq!(is_reply(&query, &reply), is, "{reply:?}");
        }
    }
}
