//! Takes the debug information out of the object: the compiler needs it to write BTF, the loader
//! does not, and it is most of the bytes that would be committed.

use anyhow::{Context, Result};
use object::build::elf::Builder;

/// The object without its `.debug_*` sections and their relocations.
pub(super) fn debug_sections(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the built object is no ELF file")?;
    for section in &mut builder.sections {
        let name = section.name.to_vec();
        if name.starts_with(b".debug_") || name.starts_with(b".rel.debug_") {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("the object cannot be written without debug sections")?;
    Ok(stripped)
}
