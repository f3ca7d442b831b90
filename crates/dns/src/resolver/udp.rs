//! Queries in datagrams. Our own answers go out at once; forwarded queries wait in tasks.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, task::JoinSet, time::sleep};
use tracing::debug;

use super::{Shared, Step};
use crate::{Decision, Transport};

/// Rest after an error of the socket, which might repeat for ever.
const REST: Duration = Duration::from_millis(20);

pub(super) async fn serve(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut forwards = JoinSet::new();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, client)) => {
                    handle(&shared, &socket, &buffer[..length], client, &mut forwards).await;
                }
                Err(error) => {
                    debug!(%error, "cannot receive");
                    sleep(REST).await;
                }
            },
            Some(_) = forwards.join_next() => {}
        }
    }
}

async fn handle(
    shared: &Arc<Shared>,
    socket: &Arc<UdpSocket>,
    query: &[u8],
    client: SocketAddr,
    forwards: &mut JoinSet<()>,
) {
    match shared.decide(query, Transport::Udp) {
        Step::Decided(Decision::Reply(reply)) => send(socket, &reply, client).await,
        Step::Decided(Decision::Drop) => {}
        Step::Held => {
            let (shared, socket, query) = (shared.clone(), socket.clone(), query.to_vec());
            forwards.spawn(async move {
                if let Some(reply) = shared.held(&query, Transport::Udp).await {
                    send(&socket, &reply, client).await;
                }
            });
        }
        Step::Decided(Decision::Forward) => {
            let (shared, socket, query) = (shared.clone(), socket.clone(), query.to_vec());
            forwards.spawn(async move {
                if let Some(reply) = shared.forward(&query, Transport::Udp).await {
                    send(&socket, &reply, client).await;
                }
            });
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(reply, client).await {
        debug!(%client, %error, "cannot reply");
    }
}
