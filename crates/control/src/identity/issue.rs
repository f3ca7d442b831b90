//! First certificates for tokens, and next ones for the ones before.

use std::collections::BTreeMap;

use sinew_identity::{Certificate, CertificateDer, Identity, Moment, Peer, Role, Token};
use sinew_model::{NodeName, ZoneName};

use super::{
    ATTEMPTS, Authority, Denied, Error, decode, encode, random,
    records::{HOSTS, StoredHolder, StoredToken, holder_key, token_key},
};
use crate::store::{Compare, Op, Range, Revision, Span, Transaction};

/// The answer to who joins or renews.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom to trust from now on.
    pub roots: Vec<CertificateDer<'static>>,
    /// What the leaf says.
    pub certificate: Certificate,
}

/// A peer that may have a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The one zone that its token let it into.
    pub zone: Option<ZoneName>,
}

impl StoredHolder {
    /// With the certificate of who has joined: none of before is good any more.
    fn joined(
        &self,
        token: &StoredToken,
        role: &Role,
        new: &Certificate,
        now: Moment,
    ) -> Result<Self, Denied> {
        let role = || role.clone();
        let again = token.was_used_by(&role(), new.key);
        // An answer may have been lost; but a token that was used is none to come back with, nor to
        // take a name from who has it since.
        if let Some(used) = token.used.last().filter(|_| again && self.key != Some(new.key)) {
            return Err(Denied::Used { id: token.id.clone(), by: used.by.clone(), at: used.at });
        }
        let names_one = token.purpose.names_one();
        match self.withdrawn {
            Some(at) if again || !names_one || token.made < at => {
                return Err(Denied::Withdrawn { role: role(), at });
            }
            _ => {}
        }
        let held = self.good.values().copied().filter(|end| now <= *end).max();
        if let Some(until) = held.filter(|_| !names_one && !again) {
            return Err(Denied::NameTaken { role: role(), until });
        }
        let good = [(new.serial.clone(), new.life.not_after)].into();
        let zone = token.purpose.zone().cloned();
        Ok(Self { good, key: Some(new.key), zone, withdrawn: None })
    }

    /// Whether a certificate is good.
    fn check(&self, peer: &Peer) -> Result<(), Denied> {
        if let Some(at) = self.withdrawn {
            return Err(Denied::Withdrawn { role: peer.identity.role.clone(), at });
        }
        if !self.good.contains_key(&peer.serial) {
            return Err(Denied::Replaced { identity: peer.identity.clone() });
        }
        Ok(())
    }

    /// With the next certificate; the one that it was asked for with stays good, since the answer may
    /// be lost.
    fn renewed(&self, peer: &Peer, new: &Certificate) -> Result<Self, Denied> {
        self.check(peer)?;
        let good =
            [(peer.serial.clone(), peer.life.not_after), (new.serial.clone(), new.life.not_after)];
        Ok(Self { good: good.into(), key: Some(new.key), ..self.clone() })
    }
}

/// How often joining is tried anew: all replicas write one token while a whole network joins with it,
/// and one that is far from the store loses to the others many times.
const JOIN_ATTEMPTS: u32 = 256;

impl Authority {
    /// Lets in who has a token, and gives it a certificate for the key that made `request`. Who asks
    /// again with the same token, name and key gets another: the answer may have been lost.
    ///
    /// # Errors
    /// [`Denied`], and as the store does.
    pub async fn join(
        &self,
        token: &Token,
        role: &Role,
        request: &[u8],
        now: Moment,
    ) -> Result<Issued, Error> {
        let (token_at, holder_at) = (token_key(&token.id), holder_key(role));
        // Who has no token takes no turn, and nothing is signed for it.
        self.recognized(token, &token_at).await?;
        let _turn = self.turn.lock().await;
        for _ in 0..JOIN_ATTEMPTS {
            let (issued, root_is) = self.sign(role, request, now).await?;
            // Read as late as can be: whoever writes between this and the commit wins.
            let stored = self.recognized(token, &token_at);
            let holder = self.get::<StoredHolder>(&holder_at);
            let ((stored, token_revision), (holder, holder_revision)) =
                tokio::try_join!(stored, holder)?;
            let taken = stored.take(token, role, issued.certificate.key, now)?;
            let holder = holder.unwrap_or_default();
            let holder = holder.joined(&stored, role, &issued.certificate, now)?;
            let write = Transaction::put(token_at.clone(), encode(&token_at, &taken)?)
                .then(Op::put(holder_at.clone(), encode(&holder_at, &holder)?))
                .when(Compare::unchanged(token_at.clone(), token_revision))
                .when(Compare::unchanged(holder_at.clone(), holder_revision))
                .when(root_is);
            if self.store.commit(write).await?.succeeded {
                return Ok(issued);
            }
        }
        Err(Error::Contended { key: token_at })
    }

    /// What is stored of a token that is what it says.
    async fn recognized(&self, token: &Token, key: &str) -> Result<(StoredToken, Revision), Error> {
        let (stored, revision) = self.get::<StoredToken>(key).await?;
        let stored = stored.ok_or_else(|| Denied::Unknown { id: token.id.clone() })?;
        stored.recognize(token)?;
        Ok((stored, revision))
    }

    /// Gives a peer, whose certificate was verified by the connection, its next one, under the same
    /// name.
    ///
    /// # Errors
    /// [`Denied`], and as the store does.
    pub async fn renew(&self, peer: &Peer, request: &[u8], now: Moment) -> Result<Issued, Error> {
        self.check_network(&peer.identity)?;
        let key = holder_key(&peer.identity.role);
        for _ in 0..ATTEMPTS {
            let (holder, revision) = self.holder(&key, peer).await?;
            holder.check(peer)?;
            let (issued, root_is) = self.sign(&peer.identity.role, request, now).await?;
            let holder = holder.renewed(peer, &issued.certificate)?;
            let write = Transaction::put(key.clone(), encode(&key, &holder)?)
                .when(Compare::unchanged(key.clone(), revision))
                .when(root_is);
            if self.store.commit(write).await?.succeeded {
                return Ok(issued);
            }
        }
        Err(Error::Contended { key })
    }

    /// Whether a peer whose certificate holds may have a session: withdrawn hosts and those whose name
    /// was given to another may not. A replica of control signs its own certificates and may.
    ///
    /// # Errors
    /// [`Denied`], and as the store does.
    pub async fn admit(&self, peer: &Peer) -> Result<Admitted, Error> {
        self.check_network(&peer.identity)?;
        if let Role::Control(_) = peer.identity.role {
            return Ok(Admitted { zone: None });
        }
        let (holder, _) = self.holder(&holder_key(&peer.identity.role), peer).await?;
        holder.check(peer)?;
        Ok(Admitted { zone: holder.zone })
    }

    /// Takes a host out: it is given no certificate and no session any more. To end the session that
    /// it may have is up to who holds it; this key of the store can be watched.
    ///
    /// # Errors
    /// As the store does.
    pub async fn withdraw(&self, node: &NodeName, now: Moment) -> Result<(), Error> {
        let key = holder_key(&Role::Node(node.clone()));
        for _ in 0..ATTEMPTS {
            let (holder, revision) = self.get::<StoredHolder>(&key).await?;
            let holder = holder.unwrap_or_default();
            let withdrawn = Some(holder.withdrawn.unwrap_or(now));
            let holder = StoredHolder { good: [].into(), withdrawn, ..holder };
            let write = Transaction::put(key.clone(), encode(&key, &holder)?)
                .when(Compare::unchanged(key.clone(), revision));
            if self.store.commit(write).await?.succeeded {
                return Ok(());
            }
        }
        Err(Error::Contended { key })
    }

    /// Hosts that were taken out, and when.
    ///
    /// # Errors
    /// As the store does.
    pub async fn withdrawn(&self) -> Result<BTreeMap<NodeName, Moment>, Error> {
        let entries = self.store.range(Range::of(Span::prefix(HOSTS))).await?.entries;
        let mut withdrawn = BTreeMap::new();
        for entry in entries {
            let key = String::from_utf8_lossy(&entry.key);
            let Some(Ok(node)) = key.strip_prefix(HOSTS).map(str::parse) else { continue };
            let holder: StoredHolder = decode(&key, &entry.value)?;
            withdrawn.extend(holder.withdrawn.map(|at| (node, at)));
        }
        Ok(withdrawn)
    }

    fn check_network(&self, identity: &Identity) -> Result<(), Denied> {
        if identity.network == self.network {
            return Ok(());
        }
        Err(Denied::OtherNetwork { identity: identity.clone(), ours: self.network.clone() })
    }

    async fn holder(&self, key: &str, peer: &Peer) -> Result<(StoredHolder, Revision), Error> {
        let (holder, revision) = self.get::<StoredHolder>(key).await?;
        let replaced = || Denied::Replaced { identity: peer.identity.clone() };
        Ok((holder.ok_or_else(replaced)?, revision))
    }

    /// Signs, and says what must still hold when that is written: the root is the same.
    async fn sign(
        &self,
        role: &Role,
        request: &[u8],
        now: Moment,
    ) -> Result<(Issued, Compare), Error> {
        let (roots, revision) = self.root().await?;
        let identity = Identity { network: self.network.clone(), role: role.clone() };
        let (leaf, certificate) =
            roots.signing.issue(&identity, request, now, self.lives.leaf, random()?)?;
        let issued =
            Issued { chain: roots.chain(leaf, now), roots: roots.trusted(now), certificate };
        Ok((issued, Compare::unchanged(super::records::ROOT, revision)))
    }
}
