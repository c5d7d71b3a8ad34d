//! What one allocation costs in a block of 65,536 addresses, against how full the block is.
//!
//! `fresh`: the free addresses were never used, so the search starts at the key's hash. `worn`: every free
//! address was used before, so the longest-freed is taken; here an iteration also releases it again. `refused`:
//! nothing is free.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lanmesh_ipam::{Allocator, Request, SubnetConfig, SubnetPlan};

const BLOCK: u32 = 65_536;

/// Allocations that are timed on one copy of a filled allocator: less than 1% of the block.
const ROUND: u64 = 512;

fn nowhere(_: IpAddr) -> bool {
    false
}

fn request(key: &str) -> Request<'_> {
    Request { key, ..Request::default() }
}

/// An allocator with `count` addresses in use, each by a key of its own.
fn filled(count: u32) -> Allocator {
    let config = SubnetConfig {
        subnet: "fd00::/64".parse().expect("is a subnet"),
        gateway: None,
        pools: Vec::new(),
        reserved: Vec::new(),
        block_size: Some(u64::from(BLOCK)),
    };
    let mut allocator = Allocator::new(SubnetPlan::new(&config).expect("fits"), 3);
    for n in 0..count {
        allocator.allocate(&request(&format!("endpoint-{n}")), nowhere).expect("has room");
    }
    allocator
}

fn fill(c: &mut Criterion) {
    let keys: Vec<String> = (0..ROUND).map(|n| format!("new-{n}")).collect();
    let mut group = c.benchmark_group("fill");
    // Copying a full allocator takes milliseconds and is not timed, so few iterations have to do.
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(200));
    for percent in [0, 50, 90, 99] {
        let base = filled(BLOCK / 100 * percent);
        group.bench_with_input(BenchmarkId::new("fresh", percent), &base, |b, base| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let mut allocator = base.clone();
                    let round = left.min(ROUND);
                    let start = Instant::now();
                    for key in &keys[..round as usize] {
                        black_box(allocator.allocate(&request(key), nowhere)).expect("has room");
                    }
                    spent += start.elapsed();
                    left -= round;
                }
                spent
            });
        });
    }
    for percent in [0, 50, 90, 99] {
        let mut allocator = filled(BLOCK);
        let held: Vec<IpAddr> = allocator.held().map(|(address, _)| address).collect();
        for address in held.iter().skip((BLOCK / 100 * percent) as usize) {
            allocator.release(*address);
        }
        let mut next = keys.iter().cycle();
        group.bench_function(BenchmarkId::new("worn", percent), |b| {
            b.iter(|| {
                let key = next.next().expect("never ends");
                let grant = allocator.allocate(&request(key), nowhere).expect("has room");
                allocator.release(black_box(grant).address.ip())
            });
        });
    }
    let mut full = filled(BLOCK);
    group.bench_function(BenchmarkId::new("refused", 100), |b| {
        b.iter(|| full.allocate(&request("new"), nowhere).expect_err("is full"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = fill
}
criterion_main!(benches);
