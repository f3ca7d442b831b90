//! Join tokens: what they grant, and whether they grant it now.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use sinew_identity::{Fingerprint, Moment, Role, Token, token::TokenId};
use sinew_model::{NodeName, ZoneName};
use subtle::ConstantTimeEq as _;

use super::{
    ATTEMPTS, Authority, Denied, Error, GrantError, decode, encode, random,
    records::{StoredToken, TOKENS, Use, token_key},
};
use crate::store::{Compare, Op, Range, Span, Transaction};

/// Whom a token lets in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Purpose {
    /// A host.
    Node {
        /// Of that name alone. Such a token also lets a host set up anew take its old name, and one
        /// that was withdrawn come back.
        name: Option<NodeName>,
        /// In that zone alone: a session from another is to be refused.
        zone: Option<ZoneName>,
    },
    /// A replica of control.
    Control,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { name: Some(name), .. } => write!(f, "node/{name}"),
            Self::Node { name: None, .. } => f.write_str("hosts"),
            Self::Control => f.write_str("replicas of control"),
        }
    }
}

impl Purpose {
    fn admits(&self, role: &Role) -> bool {
        match (self, role) {
            (Self::Node { name, .. }, Role::Node(asked)) => {
                name.as_ref().is_none_or(|name| name == asked)
            }
            (Self::Control, Role::Control(_)) => true,
            _ => false,
        }
    }

    /// Whether it was made for that very holder.
    pub(super) const fn names_one(&self) -> bool {
        matches!(self, Self::Node { name: Some(_), .. })
    }

    pub(super) fn zone(&self) -> Option<&ZoneName> {
        if let Self::Node { zone, .. } = self { zone.as_ref() } else { None }
    }
}

/// What a new token is to allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whom it lets in.
    pub purpose: Purpose,
    /// For how long.
    pub life: Duration,
    /// How many.
    pub uses: u32,
}

impl Grant {
    /// A root is shown at least so long after it was replaced.
    pub const MAX_LIFE: Duration = Duration::from_secs(7 * 86_400);

    /// One host, of any name, within an hour.
    #[must_use]
    pub const fn one_host() -> Self {
        let purpose = Purpose::Node { name: None, zone: None };
        Self { purpose, life: Duration::from_secs(3600), uses: 1 }
    }

    fn check(&self) -> Result<(), GrantError> {
        if self.uses == 0 {
            return Err(GrantError::NoUses);
        }
        if self.life < Duration::from_secs(1) || self.life > Self::MAX_LIFE {
            return Err(GrantError::Life { given: self.life, most: Self::MAX_LIFE });
        }
        if self.purpose.names_one() && self.uses > 1 {
            return Err(GrantError::OneName { uses: self.uses });
        }
        Ok(())
    }
}

impl StoredToken {
    /// Refuses who knows a token's id alone: what else is wrong with it is not theirs to know.
    pub(super) fn recognize(&self, token: &Token) -> Result<(), Denied> {
        let same = token.hash().as_bytes().ct_eq(self.hash.as_bytes());
        if same.into() { Ok(()) } else { Err(Denied::WrongSecret { id: self.id.clone() }) }
    }

    /// Whether that holder of that key has joined with it.
    pub(super) fn was_used_by(&self, role: &Role, key: Fingerprint) -> bool {
        self.used.iter().any(|used| used.by == *role && used.key == key)
    }

    /// Itself after `role` with that key has joined with `token`; the same when it had before: the
    /// answer was lost.
    pub(super) fn take(
        &self,
        token: &Token,
        role: &Role,
        key: Fingerprint,
        now: Moment,
    ) -> Result<Self, Denied> {
        self.recognize(token)?;
        let id = || self.id.clone();
        if let Some(at) = self.revoked {
            return Err(Denied::Revoked { id: id(), at });
        }
        if now > self.expires {
            return Err(Denied::Expired { id: id(), at: self.expires, now });
        }
        if !self.purpose.admits(role) {
            let granted = self.purpose.clone();
            return Err(Denied::WrongPurpose { id: id(), granted, asked: role.clone() });
        }
        if self.was_used_by(role, key) {
            return Ok(self.clone());
        }
        match self.used.last() {
            Some(last) if self.used.len() >= usize::try_from(self.uses).unwrap_or(usize::MAX) => {
                Err(Denied::Used { id: id(), by: last.by.clone(), at: last.at })
            }
            _ => {
                let mut taken = self.clone();
                taken.used.push(Use { by: role.clone(), key, at: now });
                Ok(taken)
            }
        }
    }

    /// Nobody asks for it any more: its end is long past.
    fn is_old(&self, now: Moment) -> bool {
        now > self.expires + Grant::MAX_LIFE
    }
}

impl Authority {
    /// Makes a token. What is answered is all that there is of it: the store keeps a hash.
    ///
    /// # Errors
    /// For a grant of nothing or of too much, and as the store does.
    pub async fn create_token(&self, grant: Grant, now: Moment) -> Result<Token, Error> {
        grant.check()?;
        let old = self.tokens().await?;
        let old = old.iter().filter(|token| token.is_old(now)).take(100);
        let (root, _) = self.root().await?;
        let token = Token::new(random()?, root.signing.fingerprint());
        let stored = StoredToken {
            id: token.id.clone(),
            hash: token.hash(),
            purpose: grant.purpose,
            made: now,
            expires: now + grant.life,
            uses: grant.uses,
            used: Vec::new(),
            revoked: None,
        };
        let key = token_key(&token.id);
        let mut put = Transaction::put(key.clone(), encode(&key, &stored)?);
        put = put.when(Compare::absent(key.clone()));
        put = old.fold(put, |put, old| put.then(Op::delete(token_key(&old.id))));
        if self.store.commit(put).await?.succeeded {
            Ok(token)
        } else {
            Err(Error::Contended { key })
        }
    }

    /// All tokens that there are, with who used them.
    ///
    /// # Errors
    /// As the store does.
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, Error> {
        let entries = self.store.range(Range::of(Span::prefix(TOKENS))).await?.entries;
        let token = |key: &[u8], value: &[u8]| decode(&String::from_utf8_lossy(key), value);
        entries.iter().map(|entry| token(&entry.key, &entry.value)).collect()
    }

    /// Has nobody join with a token any more. Who has joined stays.
    ///
    /// # Errors
    /// When there is no such token, and as the store does.
    pub async fn revoke_token(&self, id: &TokenId, now: Moment) -> Result<(), Error> {
        let key = token_key(id);
        for _ in 0..ATTEMPTS {
            let (stored, revision) = self.get::<StoredToken>(&key).await?;
            let mut stored = stored.ok_or_else(|| Denied::Unknown { id: id.clone() })?;
            if stored.revoked.is_some() {
                return Ok(());
            }
            stored.revoked = Some(now);
            let put = Transaction::put(key.clone(), encode(&key, &stored)?);
            if self
                .store
                .commit(put.when(Compare::unchanged(key.clone(), revision)))
                .await?
                .succeeded
            {
                return Ok(());
            }
        }
        Err(Error::Contended { key })
    }
}
