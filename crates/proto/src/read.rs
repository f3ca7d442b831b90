//! Reading fields: each refusal names the field and what it holds.

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use bytes::Bytes;
use sinew_model::{MAX_DURATION, NameError, fleet::OutOfBounds};

/// What a field is read into.
pub(crate) type Read<T> = Result<T, OutOfBounds>;

/// A name: of a service, a host, a zone, a port.
pub(crate) fn name<T: TryFrom<String, Error = NameError>>(field: &str, text: String) -> Read<T> {
    T::try_from(text).map_err(|error| {
        let value = format!("{:?}", shortened(&error.value));
        OutOfBounds::new(field, value, format!("is a {}: a DNS label of 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends", error.what))
    })
}

/// At most so many of them.
pub(crate) fn count(field: &str, number: usize, most: usize) -> Read<()> {
    if number <= most {
        return Ok(());
    }
    Err(OutOfBounds::new(field, format_args!("{number} long"), format!("has at most {most}")))
}

/// At most so many bytes of text.
pub(crate) fn text(field: &str, text: String, most_bytes: usize) -> Read<String> {
    if text.len() <= most_bytes {
        return Ok(text);
    }
    let value = format_args!("{:?}, {} bytes long", shortened(&text), text.len()).to_string();
    Err(OutOfBounds::new(field, value, format!("has at most {most_bytes} bytes")))
}

/// At most so many bytes.
pub(crate) fn data(field: &str, data: Bytes, most_bytes: usize) -> Read<Bytes> {
    let rule = || format!("has from 1 to {most_bytes} bytes");
    if (1..=most_bytes).contains(&data.len()) {
        return Ok(data);
    }
    Err(OutOfBounds::new(field, format_args!("{} bytes long", data.len()), rule()))
}

/// A number that another type holds.
pub(crate) fn number<T: TryFrom<u32>>(field: &str, number: u32, most: impl Display) -> Read<T> {
    T::try_from(number).map_err(|_| OutOfBounds::new(field, number, format!("is at most {most}")))
}

/// A duration that a program may wait for.
pub(crate) fn duration(field: &str, ms: u64) -> Read<Duration> {
    let duration = Duration::from_millis(ms);
    if duration <= MAX_DURATION {
        return Ok(duration);
    }
    let rule = format!("is at most {} ms", MAX_DURATION.as_millis());
    Err(OutOfBounds::new(field, format_args!("{ms} ms"), rule))
}

/// One of a numbered list, from 1.
pub(crate) fn one_of<T: Copy>(field: &str, number: u32, list: &[T]) -> Read<T> {
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let found = index.and_then(|index| list.get(index)).copied();
    found.ok_or_else(|| OutOfBounds::new(field, number, format!("is from 1 to {}", list.len())))
}

/// The number of one of them, as [`one_of`] reads it.
pub(crate) fn number_of<T: PartialEq>(one: &T, list: &[T]) -> u32 {
    let index = list.iter().position(|other| other == one);
    index.and_then(|index| u32::try_from(index + 1).ok()).unwrap_or(0)
}

/// A message that has to be there.
pub(crate) fn there<T>(field: &str, message: Option<T>) -> Read<T> {
    message.ok_or_else(|| OutOfBounds::new(field, "missing", "is there"))
}

/// No bytes, or an IPv6 address.
pub(crate) fn address6(field: &str, bytes: &Bytes) -> Read<Option<Ipv6Addr>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    match address(field, bytes)? {
        IpAddr::V6(address) => Ok(Some(address)),
        IpAddr::V4(_) => Err(OutOfBounds::new(field, "4 bytes long", "has 16 bytes")),
    }
}

/// An address of either family.
pub(crate) fn address(field: &str, bytes: &Bytes) -> Read<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes.as_ref()).map(IpAddr::from);
    let either = four.or_else(|_| <[u8; 16]>::try_from(bytes.as_ref()).map(IpAddr::from));
    let value = format_args!("{} bytes long", bytes.len()).to_string();
    either.map_err(|_| OutOfBounds::new(field, value, "has 4 or 16 bytes"))
}

/// Reads each, and says which one was refused.
pub(crate) fn each<T, U>(field: &str, list: Vec<T>, read: impl Fn(T) -> Read<U>) -> Read<Vec<U>> {
    let read =
        |(index, one)| read(one).map_err(|error| error.within(format_args!("{field}[{index}]")));
    list.into_iter().enumerate().map(read).collect()
}

/// Reads a list of pairs whose keys differ.
pub(crate) fn map<T, K: Ord + Display, V>(
    field: &str,
    list: Vec<T>,
    read: impl Fn(T) -> Read<(K, V)>,
) -> Read<BTreeMap<K, V>> {
    let mut map = BTreeMap::new();
    for (key, value) in each(field, list, read)? {
        if map.contains_key(&key) {
            return Err(OutOfBounds::new(field, format_args!("{key} twice"), "has each once"));
        }
        map.insert(key, value);
    }
    Ok(map)
}

/// Names, as they stand in a list.
pub(crate) fn names<T: TryFrom<String, Error = NameError>>(
    field: &str,
    list: Vec<String>,
    most: usize,
) -> Read<Vec<T>> {
    count(field, list.len(), most)?;
    let one = |(index, text)| name(&format!("{field}[{index}]"), text);
    list.into_iter().enumerate().map(one).collect()
}

/// What of a text fits into a message.
fn shortened(text: &str) -> &str {
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= 64).last();
    if text.len() <= 64 { text } else { &text[..end.unwrap_or(0)] }
}
