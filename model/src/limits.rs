//! How much there may be of one thing: the same at the socket, where it is refused with a word, and in what nodes tell each
//! other, where what exceeds it is not believed.

/// The subnets of a network: with all that were added.
pub const SUBNETS: usize = 16;
/// The pools of a network, and its reservations.
pub const RANGES: usize = 4096;
/// The addresses of an endpoint, and of a service: one of each subnet.
pub const ADDRESSES: usize = SUBNETS;
/// The further names of an endpoint.
pub const ALIASES: usize = 64;
/// What an endpoint announces by DNS-SD.
pub const ADVERTISED: usize = 64;
/// The addresses that an endpoint may have beside its own.
pub const ALSO_ADDRESSES: usize = 16;
/// The MACs that an endpoint may have beside its own: of two routers of VRRP for each family, and some.
pub const ALSO_MACS: usize = 4;
