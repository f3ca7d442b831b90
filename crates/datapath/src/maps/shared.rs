//! Array maps seen as memory: reads and writes need no system call. Places are used from the front
//! on, and what is beyond the last one used is not mapped: mapped memory of the kernel counts as the
//! process's own, whether or not anybody looks at it.

use std::{
    cell::Cell,
    io,
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use super::pinned;
use crate::{Error, sys};

/// A mapping grows by multiples of this, so that it is not made anew for each place.
const GROWTH_BYTES: usize = 256 * 1024;

/// An array map seen as memory, as far as it is used.
pub(crate) struct Shared<T> {
    fd: OwnedFd,
    name: &'static str,
    len: u32,
    view: Cell<View>,
    _kind: PhantomData<T>,
}

/// The first bytes of the map.
#[derive(Clone, Copy)]
struct View {
    at: *mut u8,
    bytes: usize,
}

impl View {
    const NOTHING: Self = Self { at: std::ptr::null_mut(), bytes: 0 };
}

// SAFETY: the memory is the kernel's and lives as long as the mapping; elements are plain values
// that both sides read and write whole or word by word, and every access here is volatile.
unsafe impl<T: aya::Pod> Send for Shared<T> {}

impl<T: aya::Pod> Shared<T> {
    pub(crate) fn open(maps: &Path, name: &'static str, len: u32) -> Result<Self, Error> {
        let fd = pinned(maps, name)?;
        let shared = Self { fd, name, len, view: Cell::new(View::NOTHING), _kind: PhantomData };
        // What cannot be mapped at all is better known now.
        let fail = |e| Error::system(format!("map {name} into memory"), e);
        shared.map(shared.reach_of(0)).map_err(fail)?;
        Ok(shared)
    }

    /// How much is mapped for the sake of an element.
    fn reach_of(&self, index: u32) -> usize {
        let wanted = (index as usize + 1) * Self::STRIDE;
        wanted.next_multiple_of(GROWTH_BYTES).min(self.len as usize * Self::STRIDE)
    }

    fn map(&self, bytes: usize) -> io::Result<()> {
        // SAFETY: a new mapping of a map that was created with BPF_F_MMAPABLE; nothing aliases it.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                &self.fd,
                0,
            )
        }?;
        self.unmap();
        self.view.set(View { at: at.cast(), bytes });
        Ok(())
    }

    /// A place in the mapping, valid until the next call; `None` beyond the end, or when there is no
    /// memory for page tables.
    fn at(&self, index: u32) -> Option<*mut T> {
        if index >= self.len {
            return None;
        }
        let offset = index as usize * Self::STRIDE;
        if offset + Self::STRIDE > self.view.get().bytes {
            self.map(self.reach_of(index)).ok()?;
        }
        // SAFETY: inside the mapping; the stride keeps the alignment of every value.
        Some(unsafe { self.view.get().at.add(offset).cast() })
    }

    /// Reads an element; `None` beyond the end.
    pub(crate) fn get(&self, index: u32) -> Option<T> {
        match self.at(index) {
            // SAFETY: inside the mapping, and any bytes are a valid value.
            Some(at) => Some(unsafe { at.read_volatile() }),
            None => self.ask(index),
        }
    }

    /// Writes an element; beyond the end nothing is written.
    pub(crate) fn set(&mut self, index: u32, value: &T) {
        match self.at(index) {
            // SAFETY: inside the mapping.
            Some(at) => unsafe { at.write_volatile(*value) },
            None => self.tell(index, value),
        }
    }

    /// A place in an element, for writing one field of it, valid until the next call; `None` as long
    /// as it cannot be mapped.
    pub(crate) fn place(&mut self, index: u32) -> Option<*mut T> {
        self.at(index)
    }
}

/// The same without a mapping.
impl<T: aya::Pod> Shared<T> {
    fn ask(&self, index: u32) -> Option<T> {
        if index >= self.len {
            return None;
        }
        // SAFETY: any bytes are a valid value.
        let mut value = [unsafe { MaybeUninit::<T>::zeroed().assume_init() }];
        match sys::map_lookup(self.fd.as_fd(), &index, &mut value) {
            Ok(_) => value.first().copied(),
            Err(error) => {
                tracing::error!(%error, "place {index} of map {} cannot be read", self.name);
                None
            }
        }
    }

    fn tell(&self, index: u32, value: &T) {
        if index < self.len
            && let Err(error) =
                sys::map_update(self.fd.as_fd(), &index, std::slice::from_ref(value))
        {
            tracing::error!(%error, "place {index} of map {} cannot be written", self.name);
        }
    }
}

impl<T> Shared<T> {
    /// The kernel rounds the size of array elements up to 8 bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Gives the mapping up until it is used again.
    pub(crate) fn unmap(&self) {
        let View { at, bytes } = self.view.replace(View::NOTHING);
        if !at.is_null() {
            // SAFETY: a mapping made by `map`; the view that told of it is gone.
            let _ = unsafe { rustix::mm::munmap(at.cast(), bytes) };
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        self.unmap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As when there is no memory for page tables.
    fn unmappable(len: u32) -> Shared<[u32; 3]> {
        let fd = sys::plain_array(12, len).unwrap();
        Shared { fd, name: "TEST", len, view: Cell::new(View::NOTHING), _kind: PhantomData }
    }

    #[test]
    fn what_cannot_be_mapped_is_read_and_written_all_the_same() {
        let mut shared = unmappable(4);
        shared.map(4096).unwrap_err();
        assert!(shared.place(0).is_none());
        assert_eq!(shared.get(3), Some([0; 3]));
        shared.set(3, &[7, 8, 9]);
        shared.set(0, &[1, 2, 3]);
        assert_eq!((shared.get(3), shared.get(0)), (Some([7, 8, 9]), Some([1, 2, 3])));
        assert_eq!(shared.get(1), Some([0; 3]), "others are left alone");
        shared.set(4, &[5; 3]);
        assert_eq!(shared.get(4), None, "there is no such place");
        shared.unmap();
        assert_eq!(shared.get(3), Some([7, 8, 9]));
    }
}
