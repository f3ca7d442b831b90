//! The root: made once, shared by all replicas, replaced on request.

use sinew_identity::{
    CertificateDer, Fingerprint, Identity, Key, Moment, Role, Root,
    certificate::{from_pem, to_pem},
    tls::Credentials,
};
use sinew_model::ControlName;

use super::{
    Authority, Error, Grant, encode, random,
    records::{ROOT, StoredBefore, StoredKey, StoredRoot},
    seal::unseal,
};
use crate::store::{Compare, Revision, Transaction};

/// The root that signs, and whom to trust beside it.
pub(super) struct Roots {
    pub(super) signing: Root,
    /// The one before, and its word for this one.
    before: Option<(CertificateDer<'static>, CertificateDer<'static>, Moment)>,
}

impl Roots {
    /// What hosts are to trust.
    pub(super) fn trusted(&self, now: Moment) -> Vec<CertificateDer<'static>> {
        let before = self.before.iter().filter(|(.., until)| now <= *until);
        let before = before.map(|(certificate, ..)| certificate.clone());
        std::iter::once(self.signing.certificate().clone()).chain(before).collect()
    }

    /// What is shown with a leaf.
    pub(super) fn chain(
        &self,
        leaf: CertificateDer<'static>,
        now: Moment,
    ) -> Vec<CertificateDer<'static>> {
        let before = self.before.iter().filter(|(.., until)| now <= *until);
        std::iter::once(leaf).chain(before.map(|(_, vouched, _)| vouched.clone())).collect()
    }
}

impl Authority {
    /// Makes the root unless there is one, and checks that it can be used.
    pub(super) async fn open_root(&self, now: Moment) -> Result<(), Error> {
        let (stored, _) = self.get::<StoredRoot>(ROOT).await?;
        if stored.is_none() {
            let root = self.new_root(now)?;
            let put = Transaction::put(ROOT, self.encode_root(&root, None)?);
            // Where another replica was first, its root is the one.
            self.store.commit(put.when(Compare::absent(ROOT))).await?;
        }
        self.root().await.map(|_| ())
    }

    /// The root of now.
    pub(super) async fn root(&self) -> Result<(Roots, Revision), Error> {
        let (stored, revision) = self.get::<StoredRoot>(ROOT).await?;
        let stored = stored.ok_or(Error::NoRoot)?;
        if stored.network != self.network {
            return Err(Error::OtherNetwork {
                found: stored.network,
                wanted: self.network.clone(),
            });
        }
        let pem = unseal(&stored.key, &self.network, self.seal.as_ref())?;
        let signing = Root::new(from_pem(&stored.certificate)?, Key::from_pem(pem.reveal())?)?;
        let before = match &stored.before {
            None => None,
            Some(b) => Some((from_pem(&b.certificate)?, from_pem(&b.vouched)?, b.until)),
        };
        Ok((Roots { signing, before }, revision))
    }

    /// Replaces the root, on whose word the new one is believed until all have learnt of it. The old
    /// root's key is gone after this.
    ///
    /// # Errors
    /// While the root before is still trusted, and as the store does.
    pub async fn rotate(&self, now: Moment) -> Result<Fingerprint, Error> {
        let (roots, revision) = self.root().await?;
        if let Some((.., until)) = roots.before.as_ref().filter(|(.., until)| now <= *until) {
            return Err(Error::RotationUnderway { until: *until });
        }
        let old = roots.signing;
        let new = self.new_root(now)?;
        let expired = now > old.life().not_after;
        let before = if expired { None } else { Some(self.before(&old, &new, now)?) };
        let put = Transaction::put(ROOT, self.encode_root(&new, before)?);
        let done = self.store.commit(put.when(Compare::unchanged(ROOT, revision))).await?;
        if done.succeeded {
            Ok(new.fingerprint())
        } else {
            Err(Error::Contended { key: ROOT.to_owned() })
        }
    }

    fn before(&self, old: &Root, new: &Root, now: Moment) -> Result<StoredBefore, Error> {
        let vouched = old.vouch(new, now, random()?)?;
        let until = (now + self.lives.leaf.max(Grant::MAX_LIFE)).min(old.life().not_after);
        Ok(StoredBefore {
            certificate: to_pem(old.certificate()),
            vouched: to_pem(&vouched),
            until,
        })
    }

    fn new_root(&self, now: Moment) -> Result<Root, Error> {
        Ok(Root::generate(&self.network, Key::generate()?, now, self.lives.root, random()?)?)
    }

    fn encode_root(
        &self,
        root: &Root,
        before: Option<StoredBefore>,
    ) -> Result<bytes::Bytes, Error> {
        let key = match &self.seal {
            None => StoredKey::Plain(root.key().to_pem().reveal().to_owned()),
            Some(seal) => seal.seal(&self.network, root.key(), random()?)?,
        };
        let certificate = to_pem(root.certificate());
        encode(ROOT, &StoredRoot { network: self.network.clone(), certificate, key, before })
    }

    /// A key and certificate for this replica to serve with; made anew each time, so also what to do
    /// when they are to be renewed.
    ///
    /// # Errors
    /// When the root does not hold now, and as the store does.
    pub async fn credentials(&self, name: &ControlName, now: Moment) -> Result<Credentials, Error> {
        let (roots, _) = self.root().await?;
        let role = Role::Control(name.clone());
        let identity = Identity { network: self.network.clone(), role };
        let key = Key::generate()?;
        let issued =
            roots.signing.issue(&identity, &key.request()?, now, self.lives.leaf, random()?);
        let mut chain = roots.chain(issued?.0, now);
        let trusted = roots.trusted(now);
        // Who joins knows no more than a root's fingerprint: it has to see the root.
        chain.extend(trusted.iter().cloned());
        Ok(Credentials::new(&key, chain, trusted)?)
    }
}
