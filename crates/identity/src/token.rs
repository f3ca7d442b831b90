//! Join tokens as people pass them on: one printable word that names a grant of control, proves that
//! its bearer may use it, and says which authority the bearer is to believe.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Fingerprint, Secret};

const PREFIX: &str = "sinew-join-v";
const VERSION: &str = "1";
const ID_BYTES: usize = 5;
const SECRET_BYTES: usize = 20;
const CHECK_BYTES: usize = 4;
/// Of all that is after the version, with the dots.
const BODY: usize = 2 * (ID_BYTES + SECRET_BYTES + Fingerprint::BYTES + CHECK_BYTES) + 3;

/// The bytes of randomness that a token is made of.
pub const RANDOM_BYTES: usize = ID_BYTES + SECRET_BYTES;

/// Names a token without telling its secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(String);

impl TokenId {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TokenId {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 2 * ID_BYTES && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TokenError::Id { digits: 2 * ID_BYTES })
        }
    }
}

/// A join token. Its text is [`Token::reveal`]ed to who is to join, and nobody else.
#[derive(Clone, Debug)]
pub struct Token {
    /// Which grant of control.
    pub id: TokenId,
    /// The root certificate to believe on first contact.
    pub root: Fingerprint,
    secret: Secret,
}

/// Why a text is not a token. The text itself is never told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error(
        "this is not a join token: one begins with {PREFIX}{VERSION}. and comes from `sinew token create`"
    )]
    NotAToken,
    /// From another version of Sinew.
    #[error(
        "the join token is of version {found:?}, and this sinew knows version {VERSION}: make the token and join with one version of sinew"
    )]
    Version {
        /// Which.
        found: String,
    },
    /// Cut off, or with something after it.
    #[error(
        "the join token has {found} characters and not {wanted}: copy the whole of it, as one word"
    )]
    Length {
        /// Of the text.
        found: usize,
        /// Of every token.
        wanted: usize,
    },
    /// Its check digits do not fit.
    #[error("the join token has a typing error: its check digits do not fit; copy it again")]
    Mistyped,
    /// Not the id of a token.
    #[error(
        "this is not the id of a token: one has {digits} digits of 0-9 and a-f, as `sinew token list` shows"
    )]
    Id {
        /// That an id has.
        digits: usize,
    },
}

impl Token {
    /// A token of these random bytes.
    #[must_use]
    pub fn new(random: [u8; RANDOM_BYTES], root: Fingerprint) -> Self {
        let (id, secret) = random.split_at(ID_BYTES);
        Self { id: TokenId(hex(id)), root, secret: Secret::new(hex(secret)) }
    }

    /// The text.
    #[must_use]
    pub fn reveal(&self) -> Secret {
        let body = format!("{PREFIX}{VERSION}.{}.{}.{}", self.id, self.secret.reveal(), self.root);
        let check = check_digits(&body);
        Secret::new(format!("{body}.{check}"))
    }

    /// What may be kept of the secret: it can be recognized by it, and not be found from it.
    #[must_use]
    pub fn hash(&self) -> Fingerprint {
        let input = ["sinew join token", self.id.as_str(), self.secret.reveal()].join("\0");
        Fingerprint::of(input)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        let (version, body) = rest.split_once('.').ok_or(TokenError::NotAToken)?;
        if version != VERSION {
            return Err(TokenError::Version { found: version.chars().take(8).collect() });
        }
        if body.len() != BODY {
            let around = text.chars().count() - body.chars().count();
            let found = text.chars().count();
            return Err(TokenError::Length { found, wanted: around + BODY });
        }
        let (checked, check) = text.rsplit_once('.').ok_or(TokenError::Mistyped)?;
        if check != check_digits(checked) {
            return Err(TokenError::Mistyped);
        }
        let mut parts = body.split('.');
        let (Some(id), Some(secret), Some(root)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Mistyped);
        };
        let root = root.parse().map_err(|_| TokenError::Mistyped)?;
        let id = id.parse().map_err(|_| TokenError::Mistyped)?;
        Ok(Self { id, root, secret: Secret::new(secret) })
    }
}

fn check_digits(text: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let mut digits = hex(&digest);
    digits.truncate(2 * CHECK_BYTES);
    digits
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token::new([7; RANDOM_BYTES], Fingerprint::of(b"root"))
    }

    #[test]
    fn a_token_is_one_word_and_comes_back() {
        let text = token().reveal();
        assert!(text.reveal().starts_with("sinew-join-v1.0707070707."), "{}", text.reveal());
        assert!(text.reveal().bytes().all(|b| b.is_ascii_graphic()));
        let read: Token = format!(" {}\n", text.reveal()).parse().unwrap();
        assert_eq!(
            (read.id.clone(), read.root, read.hash()),
            (token().id, token().root, token().hash())
        );
    }

    #[test]
    fn no_message_tells_the_secret() {
        let shown = format!("{:?} {:?}", token(), token().reveal());
        assert!(!shown.contains("07070707070707"), "{shown}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let text = token().reveal().reveal().to_owned();
        let refused = |text: &str| text.parse::<Token>().unwrap_err();
        assert_eq!(refused(""), TokenError::NotAToken);
        assert_eq!(refused("hello.world"), TokenError::NotAToken);
        let newer = text.replace("-v1.", "-v2.");
        assert_eq!(refused(&newer), TokenError::Version { found: "2".into() });
        let wanted = text.len();
        assert_eq!(refused(&text[..wanted - 9]), TokenError::Length { found: wanted - 9, wanted });
        assert_eq!(refused(&format!("{text}x")), TokenError::Length { found: wanted + 1, wanted });
        assert_eq!(refused(&text.replacen('7', "8", 1)), TokenError::Mistyped);
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(at in 14_usize..140, character in "[0-9a-z.]") {
            let text = token().reveal().reveal().to_owned();
            let at = at.min(text.len() - 1);
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, &character);
            prop_assume!(wrong != text);
            prop_assert!(wrong.parse::<Token>().is_err());
        }

        #[test]
        fn no_text_is_too_odd_to_refuse(text in "(sinew-join-v1\\.)?\\PC{0,200}") {
            prop_assert!(text.parse::<Token>().is_err());
        }
    }
}
