//! Takes the debug information out of the object: the compiler needs it to write BTF, the loader
//! does not, and it is most of the bytes that would be committed.
//!
//! The linker's objects keep section names and symbol names in one string table, which strip tools
//! and libraries refuse or lay out by version; so the few tables of a 64-bit little-endian
//! relocatable file are rewritten here, the same bytes every time.

use anyhow::{Context, Result, ensure};

const HEADER: usize = 64;
const SECTION: usize = 64;
const SYMBOL: usize = 24;
const SYMTAB: u32 = 2;
const NOBITS: u32 = 8;
const REL: u32 = 9;

/// A section header and its bytes.
struct Section<'a> {
    header: [u8; SECTION],
    name: &'a [u8],
    body: Vec<u8>,
}

impl Section<'_> {
    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.header[at..at + 4].try_into().unwrap_or_default())
    }

    fn kind(&self) -> u32 {
        self.word(4)
    }

    fn is_debug(&self) -> bool {
        self.name.starts_with(b".debug_") || self.name.starts_with(b".rel.debug_")
    }
}

fn bytes(object: &[u8], at: u64, len: u64) -> Result<&[u8]> {
    let at = usize::try_from(at)?;
    object.get(at..at + usize::try_from(len)?).context("the object ends too soon")
}

fn long(object: &[u8], at: u64) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes(object, at, 8)?.try_into()?))
}

fn short(object: &[u8], at: u64) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes(object, at, 2)?.try_into()?))
}

fn sections(object: &[u8]) -> Result<Vec<Section<'_>>> {
    let (table, count, names) = (long(object, 40)?, short(object, 60)?, short(object, 62)?);
    let header =
        |index: u16| bytes(object, table + u64::from(index) * SECTION as u64, SECTION as u64);
    let name_table = header(names)?;
    let (names_at, names_len) = (long(name_table, 24)?, long(name_table, 32)?);
    let names = bytes(object, names_at, names_len)?;
    (0..count)
        .map(|index| {
            let header: [u8; SECTION] = header(index)?.try_into()?;
            let name = &names[u32::from_le_bytes(header[..4].try_into()?) as usize..];
            let name = &name[..name.iter().position(|b| *b == 0).unwrap_or(name.len())];
            let kind = u32::from_le_bytes(header[4..8].try_into()?);
            let len = if kind == NOBITS { 0 } else { long(&header, 32)? };
            let body = bytes(object, long(&header, 24)?, len)?.to_vec();
            Ok(Section { header, name, body })
        })
        .collect()
}

/// The object without its `.debug_*` sections and their relocations.
pub(super) fn debug_sections(object: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        object.starts_with(b"\x7fELF\x02\x01"),
        "the built object is no 64-bit little-endian ELF"
    );
    let mut all = sections(object)?;
    // New number of each section; 0, the null section, for those that go.
    let mut next = 0u16;
    let numbers: Vec<u16> = all
        .iter()
        .map(|section| {
            if section.is_debug() {
                return 0;
            }
            next += 1;
            next - 1
        })
        .collect();
    let renumber = |old: u32| numbers.get(old as usize).copied().unwrap_or_default();
    for section in &mut all {
        let link = u32::from(renumber(section.word(40)));
        section.header[40..44].copy_from_slice(&link.to_le_bytes());
        if section.kind() == REL {
            let target = u32::from(renumber(section.word(44)));
            section.header[44..48].copy_from_slice(&target.to_le_bytes());
        }
        if section.kind() == SYMTAB {
            renumber_symbols(&mut section.body, &numbers);
        }
    }
    let names = short(object, 62)?;
    all.retain(|section| !section.is_debug());
    Ok(write(&object[..HEADER], all, numbers.get(usize::from(names)).copied().unwrap_or_default()))
}

/// Symbols keep their places, since relocations name them by number; those of sections that go
/// become null.
fn renumber_symbols(symbols: &mut [u8], numbers: &[u16]) {
    for symbol in symbols.chunks_exact_mut(SYMBOL) {
        let section = u16::from_le_bytes([symbol[6], symbol[7]]);
        match numbers.get(usize::from(section)) {
            Some(0) if section != 0 => symbol.fill(0),
            Some(new) => symbol[6..8].copy_from_slice(&new.to_le_bytes()),
            // A reserved number, as of absolute symbols.
            None => {}
        }
    }
}

fn write(header: &[u8], sections: Vec<Section<'_>>, names: u16) -> Vec<u8> {
    let mut out = header.to_vec();
    let mut headers = Vec::new();
    let count = sections.len() as u16;
    for mut section in sections {
        out.resize(out.len().next_multiple_of(8), 0);
        section.header[24..32].copy_from_slice(&(out.len() as u64).to_le_bytes());
        out.extend(&section.body);
        headers.extend(section.header);
    }
    out.resize(out.len().next_multiple_of(8), 0);
    let table = out.len() as u64;
    out.extend(headers);
    out[40..48].copy_from_slice(&table.to_le_bytes());
    out[60..62].copy_from_slice(&count.to_le_bytes());
    out[62..64].copy_from_slice(&names.to_le_bytes());
    out
}
