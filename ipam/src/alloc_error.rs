//! Why an endpoint gets no address.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::{AddrRange, Block, Item};

/// Why an endpoint gets no address. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// The plan has fewer blocks than this node's index needs, and whatever it borrowed is in use.
    #[error(
        "{}; create the network with a smaller --block-size or a larger subnet",
        no_block(*index, subnet, (*blocks, *block_size), *borrowed)
    )]
    NoBlock {
        /// The node's index.
        index: u32,
        /// The subnet.
        subnet: IpNetwork,
        /// How many nodes have a block; their indexes are 0 to this less one.
        blocks: u64,
        /// Addresses per node.
        block_size: u64,
        /// Addresses that the node borrowed, which are all in use.
        borrowed: u64,
    },
    /// Every address of the node's block that it has itself is in use, and whatever it borrowed.
    #[error(
        "{}; detach endpoints here, attach on another node, or create the network with a larger --block-size",
        block_full(block, (*here, *elsewhere, *lent), *size, *borrowed)
    )]
    BlockFull {
        /// The block.
        block: Block,
        /// Its subnet.
        subnet: IpNetwork,
        /// Addresses of it in use on this node.
        here: u64,
        /// Addresses of it in use on other nodes.
        elsewhere: u64,
        /// Addresses of it that are lent to others.
        lent: u64,
        /// Addresses that it has.
        size: u64,
        /// Addresses of other blocks that the node borrowed, which are all in use.
        borrowed: u64,
    },
    /// Every address of the service's pool is in use.
    #[error(
        "the pool {service}={pool} is full: {size} of {size} slots in use; detach endpoints of {service}, or create the network with a larger --pool"
    )]
    PoolFull {
        /// The service.
        service: String,
        /// Its pool; several where it has one in each of several subnets, as no slot is free in all of them.
        pool: String,
        /// How many slots it has.
        size: u64,
    },
    /// The slot's address would lie behind the pool's last.
    #[error(
        "slot {slot} is beyond the pool {service}={range}, whose {size} slots count from 0: use a slot below {size}, or create the network with a larger --pool"
    )]
    SlotBeyondPool {
        /// The service.
        service: String,
        /// The slot that was asked for.
        slot: u32,
        /// The pool.
        range: AddrRange,
        /// How many slots it has.
        size: u64,
    },
    /// An asked address belongs to no subnet of the network.
    #[error("{address} is outside {subnet}: ask for an address inside, or for none")]
    Outside {
        /// The address.
        address: IpAddr,
        /// The subnet, or all subnets of the network.
        subnet: String,
    },
    /// Two addresses of one subnet were asked for.
    #[error("{first} and {second} are both of {subnet}: ask for at most one address of each subnet")]
    AskedTwice {
        /// The one asked for first.
        first: IpAddr,
        /// The other.
        second: IpAddr,
        /// Their subnet.
        subnet: IpNetwork,
    },
    /// An asked address is one that nobody gets.
    #[error("{address} cannot be handed out, it is {item}: ask for another address, or for none")]
    NotForEndpoints {
        /// The address.
        address: IpAddr,
        /// What it is, or what it is part of.
        item: Item,
    },
    /// An asked address is in the pool of a service that the endpoint is not of.
    #[error(
        "{address} is in the pool {service}={range}: attach with --service {service}, or ask for another address"
    )]
    OthersPool {
        /// The address.
        address: IpAddr,
        /// The service whose pool it is in.
        service: String,
        /// That pool.
        range: AddrRange,
    },
    /// An asked address is in the block of another node index.
    #[error(
        "{address} is in the block {block} of node index {}, and this node has index {index}: ask for an address of this node's block, attach on that node, or give the service a --pool",
        block.index
    )]
    OthersBlock {
        /// The address.
        address: IpAddr,
        /// The block that it is in.
        block: Block,
        /// This node's index.
        index: u32,
    },
    /// An asked address is of this node's block, and lent to another node.
    #[error("{address} is in a part of this node's block that is lent: ask for another address, or for none")]
    Lent {
        /// The address.
        address: IpAddr,
    },
    /// The address is in use on this node.
    #[error("{address} is in use on this node by {key:?}: detach that, or ask for another address or slot")]
    InUse {
        /// The address.
        address: IpAddr,
        /// The key that has it.
        key: String,
    },
    /// An asked address is in use on another node.
    #[error("{address} is in use on another node: detach it there, or ask for another address")]
    InUseElsewhere {
        /// The address.
        address: IpAddr,
    },
}

impl AllocError {
    /// The subnet in which this node has nothing left, where that is why, and what it has there, in a sentence: with more
    /// of it the request could be granted.
    pub fn exhausted(&self) -> Option<(IpNetwork, String)> {
        match self {
            Self::NoBlock { index, subnet, blocks, block_size, borrowed } => {
                Some((*subnet, no_block(*index, subnet, (*blocks, *block_size), *borrowed)))
            }
            Self::BlockFull { block, subnet, here, elsewhere, lent, size, borrowed } => {
                Some((*subnet, block_full(block, (*here, *elsewhere, *lent), *size, *borrowed)))
            }
            _ => None,
        }
    }
}

fn no_block(index: u32, subnet: &IpNetwork, (blocks, block_size): (u64, u64), borrowed: u64) -> String {
    format!(
        "node index {index} has no block in {subnet}: {blocks} nodes fit, with {block_size} addresses each{}",
        also(", and all", borrowed, "that it borrowed are in use")
    )
}

fn block_full(block: &Block, (here, elsewhere, lent): (u64, u64, u64), size: u64, borrowed: u64) -> String {
    format!(
        "the block {block} of node index {} is full: {here} of {size} addresses in use on this node, {elsewhere} on \
         others{}{}",
        block.index,
        also(",", lent, "lent"),
        also(", and all", borrowed, "that it borrowed are in use")
    )
}

/// A half sentence about a number of addresses, where there are any.
fn also(before: &str, count: u64, after: &str) -> String {
    if count == 0 { String::new() } else { format!("{before} {count} {after}") }
}
