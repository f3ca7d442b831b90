//! The write that begins a session: the host's next epoch, what it says of itself, and a slice of the
//! instance networks where it has none yet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sinew_abi::capacity;
use sinew_model::{
    NodeName,
    fleet::{Network, is_hosts_own},
};
use sinew_proto::Hello;

use super::{Member, Now, Opening, Write, milliseconds};
use crate::{
    records::{Key, StoredNode, StoredSession, StoredSlice, write as encode},
    registry::Registry,
    store::Op,
};

/// Why a host cannot have a session as things are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    /// Everything is given out.
    #[error(
        "the instance network {network} has {number} slices, and all are given to hosts, or were \
         lately: no more hosts can have sessions; `sinew nodes forget` gives back that of a host that \
         is gone for good"
    )]
    Full {
        /// Of IPv4.
        network: Network,
        /// Of both networks.
        number: u64,
    },
    /// As many as are declared.
    #[error(
        "the network has {number} hosts, and no more are declared: `sinew limits set nodes=NUMBER` \
         allows more, up to {}, `sinew nodes withdraw` takes one out",
        capacity::NODES
    )]
    Hosts {
        /// There are so many.
        number: usize,
    },
    /// Two meanings of one address.
    #[error(
        "the host's own address {address} is one of the instance network {network}, which no host \
         may have: give the agent another with --address, or, while no host has joined, the network \
         another with `sinew control --instances4`"
    )]
    Overlap {
        /// The host's.
        address: IpAddr,
        /// The network's.
        network: Network,
    },
    /// Calls to its instances, and to the other's, would go to one of the two.
    #[error(
        "the host says that its own address is {address}, which is that of host {by}, and it connects \
         from {from}: give the agent its own with --address, or take the other out with `sinew nodes \
         withdraw {by}`"
    )]
    Taken {
        /// What it says.
        address: IpAddr,
        /// Whose it is.
        by: NodeName,
        /// Where it connects from.
        from: IpAddr,
    },
}

/// See the module.
pub(super) fn open(
    member: &Member,
    control: &str,
    hello: &Hello,
    now: Now,
    registry: &mut Registry,
) -> Result<(Write, Opening), NoPlace> {
    let node = &member.node;
    let (revision, before) = registry.session(node);
    if before.is_none() {
        // Those that were taken out have left their place.
        let number = registry.sessions().filter(|(.., session)| !session.withdrawn).count();
        let most = registry.config().limits().nodes;
        if number >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Err(NoPlace::Hosts { number });
        }
    }
    let epoch = before.map_or(0, |before| before.epoch).saturating_add(1);
    let session = StoredSession {
        control: control.to_owned(),
        epoch,
        since_ms: milliseconds(now.wall),
        lost_since_ms: None,
        silent_ms: 0,
        dead_since_ms: None,
        withdrawn: false,
    };
    let key = Key::Session(node.clone());
    let put = Op::put(key.bytes(), encode(&session));
    let mut write = Write::new(vec![put]).fenced(&key, revision);
    let (address4, address6) = addresses(member, hello, registry)?;
    let slices = give_slices(node, address4, address6, now, registry, &mut write)?;
    let (instances4, instances6) = (slices.map(|(four, _)| four), slices.map(|(_, six)| six));
    let (revision, before) = registry.node(node);
    let proven = |own: Option<IpAddr>| {
        own.is_some_and(|own| own == member.address || before.is_some_and(|it| it.has_proven(own)))
    };
    let stored = StoredNode {
        zone: hello.zone.clone(),
        labels: hello.labels.clone(),
        capacity: hello.capacity,
        version: hello.version.clone(),
        protocol: hello.protocol,
        boot_id: hello.boot_id.clone(),
        address4,
        address6,
        proven4: proven(address4.map(IpAddr::from)),
        proven6: proven(address6.map(IpAddr::from)),
        instances4,
        instances6,
        first_seen_ms: before.map_or_else(|| milliseconds(now.wall), |it| it.first_seen_ms),
    };
    if stored.has_proven(member.address) {
        take_over(member, registry, &mut write);
    }
    if before != Some(&stored) {
        let key = Key::Node(node.clone());
        write.compare(&key, revision);
        write.push(Op::put(key.bytes(), encode(&stored)));
    }
    let said = [hello.address4.map(IpAddr::from), hello.address6.map(IpAddr::from)];
    let has = [address4.map(IpAddr::from), address6.map(IpAddr::from)];
    let passed_over = said.into_iter().flatten().filter(|it| !has.contains(&Some(*it))).collect();
    let lineage = registry.lineage().cloned();
    Ok((write, Opening { epoch, passed_over, instances4, instances6, lineage }))
}

/// An address is that of the host that came from it last: when one of those before is dead, nothing
/// is closed there any more.
fn take_over(member: &Member, registry: &Registry, write: &mut Write) {
    let address = member.address;
    for (other, stored) in registry.proven_by(address, &member.node) {
        let mut stored = stored.clone();
        match address {
            IpAddr::V4(_) => stored.proven4 = false,
            IpAddr::V6(_) => stored.proven6 = false,
        }
        let key = Key::Node(other.clone());
        write.compare(&key, registry.node(other).0);
        write.push(Op::put(key.bytes(), encode(&stored)));
    }
}

/// Who tells none has the one that it connects from. A host may have several addresses, or be seen by
/// one that is none of its own; it may not have that of another, but who connects from an address has
/// it, whatever others say. What it cannot have is passed over when it has another.
fn addresses(
    member: &Member,
    hello: &Hello,
    registry: &Registry,
) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), NoPlace> {
    let from = member.address;
    let (address4, address6) = match (hello.address4, hello.address6, from) {
        (None, None, IpAddr::V4(four)) => (Some(four), None),
        (None, None, IpAddr::V6(six)) => (None, Some(six)),
        (four, six, _) => (four, six),
    };
    let mut taken = None;
    let mut may_have = |address: IpAddr| {
        let by = registry.who_has(address, &member.node).filter(|_| address != from);
        if let Some(by) = by {
            taken = Some(NoPlace::Taken { address, by: by.clone(), from });
        }
        is_hosts_own(address) && by.is_none()
    };
    let address4 = address4.filter(|four| may_have(IpAddr::V4(*four)));
    let address6 = address6.filter(|six| may_have(IpAddr::V6(*six)));
    match taken.filter(|_| address4.is_none() && address6.is_none()) {
        Some(taken) => Err(taken),
        None => Ok((address4, address6)),
    }
}

/// Says what is strange about where a host is; there may be a reason for it.
pub(super) fn notice_address(member: &Member, registry: &Registry) {
    let (node, from) = (&member.node, member.address);
    let Some(stored) = registry.node(node).1 else { return };
    let own = match from {
        IpAddr::V4(_) => stored.address4.map(IpAddr::from),
        IpAddr::V6(_) => stored.address6.map(IpAddr::from),
    };
    if let Some(address) = own.filter(|own| *own != from && !from.is_loopback()) {
        tracing::warn!(%node, %address, %from, "a host says that its own address is another than the one that it connects from: calls to it go where it says");
    }
    if let Some(by) = registry.who_has(from, node).filter(|_| !from.is_loopback()) {
        tracing::warn!(%node, %by, address = %from, "two hosts have one address: calls to them go to one of the two; give their agents their own with --address");
    }
}

/// The host's slices, which are written down where it has none yet.
fn give_slices(
    node: &NodeName,
    address4: Option<Ipv4Addr>,
    address6: Option<Ipv6Addr>,
    now: Now,
    registry: &mut Registry,
    write: &mut Write,
) -> Result<Option<(Network, Network)>, NoPlace> {
    let Some(&(revision, networks)) = registry.networks() else { return Ok(None) };
    let own = [address4.map(IpAddr::from), address6.map(IpAddr::from)];
    for address in own.into_iter().flatten() {
        if let Some(network) = networks.holding(address) {
            return Err(NoPlace::Overlap { address, network });
        }
    }
    let full = || NoPlace::Full { network: networks.instances4, number: networks.number() };
    let slice = registry.slice(node, milliseconds(now.wall)).ok_or_else(full)?;
    let Some(slices) = networks.slices(slice.index) else {
        registry.release_slice(node);
        return Err(full());
    };
    if !slice.given {
        let key = Key::Slice(slice.index);
        write.compare(&key, slice.revision);
        write.compare_only(&Key::Networks, revision);
        write.push(Op::put(key.bytes(), encode(&StoredSlice::Given(node.clone()))));
    }
    Ok(Some(slices))
}
