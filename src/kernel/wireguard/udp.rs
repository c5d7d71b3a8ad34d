//! The UDP socket of a WireGuard device in a process: what cannot be sent to one peer is nobody else's loss.
//!
//! gotatun sends what is due to all peers with one call to the kernel, which ends at the first packet that it refuses: one to a peer that
//! there is no route to, or that a firewall of the node keeps back. The packets behind it, whomever they are for, would be dropped. So
//! each peer has a call of its own.

use std::io;
use std::net::SocketAddr;

use gotatun::packet::Packet;
use gotatun::udp::socket::{UdpSocket, UdpSocketFactory};
use gotatun::udp::{UdpSend, UdpTransportFactory, UdpTransportFactoryParams};

/// Binds such sockets.
pub struct Sockets(UdpSocketFactory);

impl Sockets {
    /// With buffers of `buffer` bytes each way, as far as the node lets them be.
    pub fn new(buffer: usize) -> Self {
        Self(UdpSocketFactory { recv_buffer_size: Some(buffer), send_buffer_size: Some(buffer) })
    }
}

impl UdpTransportFactory for Sockets {
    type Send = PeerByPeer<UdpSocket>;
    type Recv = UdpSocket;

    async fn bind(&mut self, params: &UdpTransportFactoryParams) -> io::Result<(Self::Send, Self::Recv)> {
        let (send, receive) = self.0.bind(params).await?;
        Ok((PeerByPeer(send), receive))
    }
}

/// Sends what is for one peer apart from what is for another.
#[derive(Clone)]
pub struct PeerByPeer<S>(S);

/// What it takes to send many packets.
#[derive(Default)]
pub struct Sending<B> {
    inner: B,
    /// Those for the peer whose turn it is.
    turn: Vec<(Packet, SocketAddr)>,
}

impl<S: UdpSend> UdpSend for PeerByPeer<S> {
    type SendManyBuf = Sending<S::SendManyBuf>;

    async fn send_to(&self, packet: Packet, destination: SocketAddr) -> io::Result<()> {
        self.0.send_to(packet, destination).await
    }

    fn max_number_of_packets_to_send(&self) -> usize {
        self.0.max_number_of_packets_to_send()
    }

    async fn send_many_to(
        &self,
        sending: &mut Self::SendManyBuf,
        packets: &mut Vec<(Packet, SocketAddr)>,
    ) -> io::Result<()> {
        let Sending { inner, turn } = sending;
        while let Some(peer) = packets.first().map(|(_, peer)| *peer) {
            if packets.iter().all(|(_, to)| *to == peer) {
                std::mem::swap(turn, packets);
            } else {
                turn.extend(packets.extract_if(.., |(_, to)| *to == peer));
            }
            // What it does not get it asks for again, as of every packet that is lost.
            if let Err(error) = self.0.send_many_to(inner, turn).await {
                tracing::trace!(%error, %peer, "not sent");
            }
            turn.clear();
        }
        Ok(())
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.0.local_addr()
    }

    fn set_fwmark(&self, mark: u32) -> io::Result<()> {
        self.0.set_fwmark(mark)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what it is given, up to the first that is for a peer that cannot be reached.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(u8, u16)>>>);

    const UNREACHED: u16 = 2;

    impl UdpSend for Kept {
        type SendManyBuf = ();

        async fn send_to(&self, packet: Packet, destination: SocketAddr) -> io::Result<()> {
            if destination.port() == UNREACHED {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            self.0.lock().unwrap().push((packet[0], destination.port()));
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_peer_that_cannot_be_reached_costs_the_others_no_packet_and_theirs_stay_in_order() {
        let kept = Kept::default();
        let sender = PeerByPeer(kept.clone());
        let packet = |(number, port): (u8, u16)| {
            (Packet::copy_from(&[number][..]), SocketAddr::from(([192, 0, 2, 1], port)))
        };
        let mut packets: Vec<_> =
            [(0, 1), (1, UNREACHED), (2, 3), (3, 1), (4, UNREACHED), (5, 3), (6, 1)].map(packet).into();
        sender.send_many_to(&mut Sending::default(), &mut packets).await.unwrap();
        assert!(packets.is_empty());
        assert_eq!(*kept.0.lock().unwrap(), [(0, 1), (3, 1), (6, 1), (2, 3), (5, 3)]);
    }
}
