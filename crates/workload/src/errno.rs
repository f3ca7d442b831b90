//! The kernel's reason in a form that can be stored, sent and read in a sentence.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

/// An error number of the kernel; displays as its text in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut letters = text.chars();
        if let Some(first) = letters.next() {
            write!(f, "{}{}", first.to_lowercase(), letters.as_str())?;
        }
        Ok(())
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.raw_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_sentence() {
        assert_eq!(Errno(libc::ENOENT).to_string(), "no such file or directory");
    }
}
