//! A reader of the running kernel's BTF: offsets of structure members and ids of functions. The
//! programs are compiled without field relocations, so these are found here and written into them.
//!
//! Format: Documentation/bpf/btf.rst of the kernel.

use std::{collections::HashMap, path::Path};

use crate::Error;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_FUNC: u32 = 12;

/// The kernel's types, by name.
pub(crate) struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Offset of each type, by id.
    types: Vec<usize>,
    structs: HashMap<String, u32>,
    functions: HashMap<String, u32>,
}

impl Btf {
    /// Reads a kernel's own description.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let data = std::fs::read(path).map_err(|_| Error::Unsupported {
            what: format!("type information ({})", path.display()),
            remedy: "boot Linux 6.1 or later, built with CONFIG_DEBUG_INFO_BTF=y, as distributions \
                     build it",
        })?;
        Self::parse(data).ok_or(Error::Unsupported {
            what: format!("readable type information ({})", path.display()),
            remedy: "report the kernel's version",
        })
    }

    /// The running kernel's, with other names for some things.
    #[cfg(test)]
    pub(crate) fn of_kernel_without(names: &[&str]) -> Self {
        let mut data = std::fs::read(crate::TYPES).unwrap();
        for name in names {
            let text = [b"\0", name.as_bytes(), b"\0"].concat();
            let at = data.windows(text.len()).position(|found| found == text).unwrap();
            data[at + 1] = b'?';
        }
        Self::parse(data).unwrap()
    }

    fn parse(data: Vec<u8>) -> Option<Self> {
        if data.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let header = word(&data, 4)? as usize;
        let (types_at, types_len) = (header + word(&data, 8)? as usize, word(&data, 12)? as usize);
        let strings = header + word(&data, 16)? as usize;
        let mut btf = Self {
            data,
            strings,
            types: vec![0],
            structs: HashMap::new(),
            functions: HashMap::new(),
        };
        let mut at = types_at;
        while at < types_at + types_len {
            let info = btf.word(at + 4)?;
            let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let id = u32::try_from(btf.types.len()).ok()?;
            btf.types.push(at);
            if matches!(kind, KIND_STRUCT | KIND_UNION) {
                let name = btf.text(btf.word(at)?)?.to_owned();
                btf.structs.entry(name).or_insert(id);
            } else if kind == KIND_FUNC {
                let name = btf.text(btf.word(at)?)?.to_owned();
                btf.functions.entry(name).or_insert(id);
            }
            at += 12 + trailer(kind, members);
        }
        Some(btf)
    }

    fn word(&self, at: usize) -> Option<u32> {
        word(&self.data, at)
    }

    fn text(&self, offset: u32) -> Option<&str> {
        let tail = self.data.get(self.strings + offset as usize..)?;
        let end = tail.iter().position(|b| *b == 0)?;
        std::str::from_utf8(&tail[..end]).ok()
    }

    /// BTF id of a structure.
    pub(crate) fn structure(&self, name: &str) -> Option<u32> {
        self.structs.get(name).copied()
    }

    /// BTF id of a function.
    pub(crate) fn function(&self, name: &str) -> Option<u32> {
        self.functions.get(name).copied()
    }

    /// Offset in bits of a member of a structure, looked for in anonymous members too.
    pub(crate) fn bit_offset(&self, structure: &str, member: &str) -> Option<u32> {
        self.member(self.structure(structure)?, member)
    }

    /// Offset in bytes of a member of a structure.
    pub(crate) fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        self.bit_offset(structure, member).map(|bits| bits / 8)
    }

    fn member(&self, id: u32, wanted: &str) -> Option<u32> {
        let at = *self.types.get(id as usize)?;
        let info = self.word(at + 4)?;
        let (kind, members, bitfields) = (info >> 24 & 0x1f, info & 0xffff, info >> 31 == 1);
        if !matches!(kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for index in 0..members as usize {
            let at = at + 12 + 12 * index;
            let raw = self.word(at + 8)?;
            let bits = if bitfields { raw & 0xff_ffff } else { raw };
            match self.text(self.word(at)?)? {
                name if name == wanted => return Some(bits),
                "" => {
                    if let Some(inner) = self.member(self.word(at + 4)?, wanted) {
                        return Some(bits + inner);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes behind the common 12 of a type.
fn trailer(kind: u32, members: usize) -> usize {
    match kind {
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * members,
        6 | 13 => 8 * members,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_the_programs_read() {
        let btf = Btf::read(Path::new(crate::TYPES)).unwrap();
        assert_eq!(
            btf.offset("sock", "__sk_common"),
            Some(0),
            "a sock begins with its common part"
        );
        assert!(
            btf.offset("sock_common", "skc_rcv_saddr").unwrap() < 16,
            "inside an anonymous union"
        );
        assert!(btf.offset("tcp_sock", "bytes_received").is_some());
        assert!(btf.offset("tcp_sock", "no_such_member").is_none());
    }

    #[test]
    fn garbage_is_no_btf() {
        assert!(Btf::parse(vec![]).is_none());
        assert!(Btf::parse(vec![0xff; 64]).is_none());
    }
}
